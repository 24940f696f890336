"""UUIDs of runs: made from time and entropy that the caller passes in, or derived from an author's id.

Never reads a clock and never draws randomness. The invariant: `uuid_of_id` gives the same UUID in every process, in
every release and in the SQL function `run_id_for`, so that a primary key is what makes an author's id unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

__all__ = ["ENTROPY", "candidates", "uuid7", "uuid7s", "uuid_of_id"]

ENTROPY = 10
"""Bytes of randomness that `uuid7` takes."""

_RANDOM_A = (1 << 12) - 1
_RANDOM_B = (1 << 62) - 1
_MILLISECONDS = (1 << 48) - 1
_SEPARATOR = b"\x1f"
_UUID_TEXT = 36


def uuid7(milliseconds: int, entropy: bytes) -> UUID:
    """A UUIDv7 (RFC 9562) of Unix time in milliseconds and `ENTROPY` random bytes; sorts by time.

    Raises ValueError for a time out of 48 bits or too few bytes.
    """
    if not 0 <= milliseconds <= _MILLISECONDS or len(entropy) < ENTROPY:
        raise ValueError(
            f"uuid7 takes 0 to 2**48-1 ms and {ENTROPY} bytes, not {milliseconds} ms, {len(entropy)} bytes"
        )
    random = int.from_bytes(entropy[:ENTROPY], "big")
    return UUID(
        int=milliseconds << 80
        | 0x7 << 76
        | (random >> 62 & _RANDOM_A) << 64
        | 0x2 << 62
        | random & _RANDOM_B
    )  # fmt: skip


def uuid7s(milliseconds: int, words: Sequence[int]) -> list[UUID]:
    """UUIDv7s of one time, one for each 64-bit word of randomness, that sort in the order of the list.

    A counter stands in the bits between the time and the randomness, and carries into the time.
    """
    fixed = milliseconds << 80 | 0x7 << 76 | 0x2 << 62
    return [UUID(int=fixed + ((at >> 12) << 80 | (at & _RANDOM_A) << 64 | word >> 2)) for at, word in enumerate(words)]


def uuid_of_id(schema: str, id: str) -> UUID:
    """The UUIDv8 of a run with an author's id: the first 128 bits of sha256(schema, 0x1f, id), version 8, RFC variant.

    Two schemas of one database do not share ids. `id` must be storable text (`names.check_id`).
    """
    digest = int.from_bytes(sha256(schema.encode() + _SEPARATOR + id.encode()).digest()[:16], "big")
    return UUID(int=digest & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)


def candidates(schema: str, id: str | UUID) -> tuple[UUID, ...]:
    """The UUIDs that an id may mean, the likeliest first: an author's id may look like a UUID."""
    if isinstance(id, UUID):
        return (id,)
    derived = uuid_of_id(schema, id)
    if len(id) == _UUID_TEXT:
        try:
            return derived, UUID(id)
        except ValueError:
            pass
    return (derived,)
