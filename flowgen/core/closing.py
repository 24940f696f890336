"""Letting go of a tree of branches: its flows are closed, and what knows each other is untied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from flowgen.core.branches import Branch, Composite, Leaf
from flowgen.core.frames import close_flow, dispose, location

__all__ = ["MAX_CLEANUPS", "close_branch", "swallowed", "untie"]

MAX_CLEANUPS: Final = 1000
"""Commands that a branch may yield after Cancelled was thrown in; then it is closed as one that swallowed it."""


def close_branch(branch: Branch) -> Iterator[str]:
    """Close the flows of a branch, innermost first; warnings of those that cannot be closed and are left behind."""
    if isinstance(branch.waiting, Composite):
        for child in branch.waiting.children.values():
            yield from close_branch(child)
        dispose(branch.waiting.command)
    if branch.flow is not None and branch.end is None and not close_flow(branch.flow):
        yield f"a handler swallows GeneratorExit at {location(branch.flow)} and cannot be closed"


def swallowed(branch: Branch, yielded: object) -> str | None:
    """Count what a cancelled branch has yielded; it is closed, with a warning, when that was the last too many."""
    branch.cleanups += 1
    if branch.cleanups <= MAX_CLEANUPS or branch.flow is None:
        return None
    warning = (
        f"a handler went on for {MAX_CLEANUPS} commands after Cancelled was thrown in, at {location(branch.flow)}: "
        "it swallows Cancelled, and was closed. Let it pass: use except Exception, or raise again"
    )
    dispose(yielded)
    close_flow(branch.flow)
    return warning


def untie(leaves: Iterable[Leaf]) -> None:
    """Nothing is asked any more: what knows each other here goes at once, not when the collector finds it."""
    for leaf in leaves:
        branch: Branch | None = leaf.branch
        while branch is not None:
            branch.waiting = None
            composite, branch.parent = branch.parent, None
            branch = composite.branch if composite is not None else None
