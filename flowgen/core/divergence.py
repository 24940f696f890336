"""The trail of what a replay was given, and the diff that it shows when the code does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from flowgen.core import fingerprint
from flowgen.core.branches import Leaf
from flowgen.core.entries import Entry
from flowgen.core.frames import location
from flowgen.errors import Divergence

__all__ = ["Trail"]

AROUND = 4
"""How many commands before the divergence its diff shows."""


class Trail:
    """The last few outcomes that were delivered."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: list[Entry] = []

    def delivered(self, entry: Entry) -> None:
        self._last.append(entry)
        if len(self._last) > 8 * AROUND:
            del self._last[:-AROUND]

    def divergence(self, entry: Entry, leaves: Sequence[Leaf], *, ended: bool) -> Divergence:
        """The error for a recorded outcome that the code does not ask for here."""
        leaf = _nearest(entry.key, leaves)
        recorded = _shown(entry.key, entry.fingerprint)
        if leaf is not None:
            where = location(leaf.branch.author)
            yields = f"{_shown(leaf.key, leaf.fingerprint)} at {where}"
        else:
            where = ""
            yields = "nothing: the handler has ended" if ended else "nothing"
        lines = [f"    {each.index:>4}  {_shown(each.key, each.fingerprint)}" for each in self._last[-AROUND:]]
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
