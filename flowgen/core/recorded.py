"""What the history holds for the commands of a run: whether a recorded outcome fits the command that asks for it.

Delivered outcomes are compared here; those that come before their command does, and those that the author named in a
closed segment, wait here until they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from flowgen.core import fingerprint, semantics
from flowgen.core.branches import Leaf
from flowgen.core.divergence import divergence
from flowgen.core.entries import Entry
from flowgen.core.facts import RunFacts
from flowgen.core.frames import location
from flowgen.core.history import History
from flowgen.errors import Divergence

__all__ = ["Recorded"]

NOTHING: Final[frozenset[str]] = frozenset()
_LOOP: Final = ". What has a name is kept over every Checkpoint: in a loop give no name, or each round its own"


class Recorded:
    """The recorded outcomes of one run, against the code that asks for them."""

    __slots__ = (
        "_determinism",
        "_facts",
        "_history",
        "_strict_until",
        "_warnings",
        "dead",
        "early",
        "kept",
        "lost",
        "refused",
    )

    def __init__(self, history: History, facts: RunFacts, determinism: str, warnings: list[str]) -> None:
        """What the author is to be told is appended to `warnings`."""
        self._warnings = warnings
        self._history = history
        self._facts = facts
        self._determinism = determinism
        self._strict_until = history.strict_until
        self.kept = {entry.key: entry for entry in history.kept} if history.kept else {}
        """Outcomes that the author named, of closed segments, by key."""
        self.early: dict[str, Entry] = {}
        """Outcomes of this segment that nobody has asked for yet, by key."""
        self.dead: set[str] | frozenset[str] = NOTHING
        """Keys of commands that were cut off with their branches. Read only."""
        self.lost: frozenset[str] = NOTHING if history.saved is None else frozenset(history.saved.lost)
        """Keys that the author named, of those; an outcome that came nevertheless is not kept for a later segment."""
        self.refused: Entry | None = None
        """The entry that does not fit the code, or cannot be read."""

    def bury(self, leaf: Leaf) -> None:
        """This command was cut off with its branch."""
        if isinstance(self.dead, set):
            self.dead.add(leaf.key)
        else:
            self.dead = {leaf.key}
        if leaf.named:
            self.lost |= {leaf.key}

    def lost_now(self, segment: Sequence[Entry]) -> frozenset[str]:
        """The keys of `lost` that have no outcome in this segment either."""
        return self.lost.difference(entry.key for entry in segment)

    def is_strict(self, entry: Entry) -> bool:
        """Whether it is a divergence when nobody asks for this entry."""
        return self._strict_until is None or entry.index < self._strict_until

    def diverged(self, entry: Entry, leaves: Collection[Leaf], *, ended: bool) -> Divergence:
        """The error that shows what is recorded and what the code asks for; `ended`: the handler has."""
        self.refused = entry
        return divergence(self._history.ordered, entry, list(leaves), ended=ended)

    def unasked(self, entry: Entry, leaves: Collection[Leaf], *, ended: bool) -> None:
        """Take an outcome that nobody waits for. Raises Divergence."""
        if entry.key in self.dead:
            return
        kind = fingerprint.parse(entry.fingerprint).kind if entry.fingerprint else ""
        if not self.is_strict(entry):
            self.early[entry.key] = entry
        elif kind not in semantics.SKIPPABLE:
            raise self.diverged(entry, leaves, ended=ended)

    def unasked_child(self, entry: Entry, leaves: Collection[Leaf], *, ended: bool) -> None:
        """A child was made for a command that is not asked for. Raises Divergence, unless that is no divergence."""
        if self.is_strict(entry):
            raise self.diverged(entry, leaves, ended=ended)

    def check(self, leaf: Leaf, entry: Entry) -> None:
        """Compare a recorded outcome with the command that it is for; other arguments are warned of.

        Raises Divergence.
        """
        if entry.fingerprint is None or entry.fingerprint == leaf.fingerprint:
            return
        self.check_kind(leaf, entry)
        if self._determinism == "strict":
            raise self.diverged(entry, [leaf], ended=False)
        self._warnings.append(
            f"{leaf.key} was recorded with other arguments than {self._facts.shown(leaf.command)} has now, at "
            f'{location(leaf.branch.author)}; the recorded outcome is used (determinism="strict" would park the run)'
            + (_LOOP if self.kept.get(leaf.key) is entry else "")
        )

    def check_kind(self, leaf: Leaf, entry: Entry) -> None:
        """Compare the kind and the target only. Raises Divergence."""
        assert entry.fingerprint is not None
        recorded, ours = fingerprint.parse(entry.fingerprint), fingerprint.parse(leaf.fingerprint)
        if recorded[:2] != ours[:2]:
            raise self.diverged(entry, [leaf], ended=False)

    def known(self, leaf: Leaf) -> Entry | None:
        """The outcome that is known before it is asked for. Raises Divergence."""
        entry = self.early.pop(leaf.key, None)
        if entry is not None and entry.fingerprint is not None:
            if entry.fingerprint == leaf.fingerprint:
                return entry
            # The same key with other arguments belongs to another pass of the loop.
            self.check_kind(leaf, entry)
        entry = self.kept.get(leaf.key) if leaf.command.kind not in semantics.UNKEPT else None
        if entry is not None:
            self.check(leaf, entry)
        return entry

    def close_segment(self, closed: Sequence[Entry], prologue: int | None) -> None:
        """A segment was closed, with these outcomes: what its author named is kept."""
        self._strict_until = prologue if self._strict_until is None else min(self._strict_until, prologue or 0)
        self.lost = self.lost and self.lost_now(closed)
        for entry in closed:
            if entry.named:
                self.kept[entry.key] = entry
        self.early.clear()
        self.dead = NOTHING
