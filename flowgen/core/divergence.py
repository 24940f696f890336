"""The diff of a history and the code that it does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from flowgen.core import fingerprint
from flowgen.core.branches import Leaf
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.frames import location
from flowgen.errors import Divergence

__all__ = ["divergence"]

AROUND = 4
"""How many commands before the divergence its diff shows."""


def divergence(history: Sequence[Entry], entry: Entry, leaves: Sequence[Leaf], *, ended: bool) -> Divergence:
    """The error for a recorded outcome, an entry of `history`, that the code does not ask for here."""
    leaf = _nearest(entry.key, leaves)
    recorded = _shown(entry.key, entry.fingerprint)
    if leaf is not None:
        where = location(leaf.branch.author)
        yields = f"{_shown(leaf.key, leaf.fingerprint)} at {where}"
    else:
        where = ""
        yields = "nothing: the handler has ended" if ended else "nothing"
    before = [each for each in history if each.index < entry.index and each.kind == EntryKind.OUTCOME]
    lines = [f"    {each.index:>4}  {_shown(each.key, each.fingerprint)}" for each in before[-AROUND:]]
    lines.append(f"  - {entry.index:>4}  {recorded}    (recorded)")
    lines.append(f"  +       {yields}    (the code now)")
    summary = (
        f"the history does not fit the code: entry {entry.index} is the outcome of {recorded}, and the code now "
        f"yields {yields}. Deploy code that fits and resume the run, or accept, or fork it"
    )
    return Divergence(summary, diff="\n".join(lines), location=where)


def _shown(key: str, mark: str | None) -> str:
    if not mark:
        return repr(key)
    kind, target, _ = fingerprint.parse(mark)
    return f"{kind} {target} as {key!r}" if target else f"{kind} as {key!r}"


def _nearest(key: str, leaves: Sequence[Leaf]) -> Leaf | None:
    """The leaf that shares the longest path with the key."""

    def shared(leaf: Leaf) -> int:
        count = 0
        for ours, theirs in zip(leaf.key.split("/"), key.split("/"), strict=False):
            if ours != theirs:
                break
            count += 1
        return count

    return max(leaves, key=shared, default=None)
