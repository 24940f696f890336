"""Fingerprints: what replay compares a command with its recorded outcome by.

Never decides what a difference means. The invariant: equal arguments give equal hashes, in every process and on every
version of Python.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from flowgen.core.canonical import canonical

__all__ = ["Fingerprint", "args_hash", "fingerprint", "parse", "text_hash"]


class Fingerprint(NamedTuple):
    """The parts of a fingerprint: the command's kind, what it calls, and the hash of its bound arguments."""

    kind: str
    target: str
    args: str


def args_hash(bound: object) -> str:
    """A short hash (16 hex digits) of the canonical JSON of bound arguments."""
    return text_hash(canonical(bound))


def text_hash(text: str) -> str:
    """The hash of a canonical JSON text."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def fingerprint(kind: str, target: str, args: str) -> str:
    """The stored form: "kind:target:hash". A kind and a hash hold no colon; a target may."""
    return f"{kind}:{target}:{args}"


def parse(text: str) -> Fingerprint:
    """Take a stored fingerprint apart. Raises ValueError when it is none."""
    kind, first, rest = text.partition(":")
    target, last, args = rest.rpartition(":")
    if not (first and last):
        raise ValueError(f"{text[:80]!r} is no fingerprint: kind:target:hash was expected")
    return Fingerprint(kind, target, args)
