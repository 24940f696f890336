"""What a run knows of the changes of its code: which Patch is True, which is False, which is not known yet.

A Patch that is yielded for the first time is recorded as True, also when its branch is cancelled before it is answered.
So one that is not recorded, although the history goes on behind its place, was not in the code that made this history:
it is False, and nothing is recorded of it. The answer depends only on what stands behind its place, which never goes.
Behind a place is what its own branch recorded later, and what could be recorded only when that branch had ended; what
other branches record meanwhile says nothing of it.

A change has one answer. True is kept for the life of the run; False until the segment is closed, or, when it was
answered in the prologue, for the life of the run too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from typing import Final

from flowgen.core import fingerprint
from flowgen.core.branches import Branch, Composite, Ended, Leaf, Phase
from flowgen.core.entries import Entry
from flowgen.core.history import History

__all__ = ["NO_CHANGES", "Changes"]


class Changes:
    """Of one run."""

    __slots__ = (
        "_begun", "_clean", "_ended", "_history", "_keys", "_prologue", "_recorded", "_under", "answers", "pending",
    )  # fmt: skip

    def __init__(self, history: History) -> None:
        self.answers: dict[str, bool] = {}
        """What is known, by the id of the change."""
        self.pending: dict[str, Leaf] = {}
        """Those that wait for an answer, in the order of their yields."""
        self._history: History | None = history
        """Until the first Patch is yielded: most runs have none."""
        self._begun = bool(history.base)
        self._ended = history.ended

    def begun(self, history: History) -> Changes:
        """What is known in a run from now on."""
        return Changes(history) if self is NO_CHANGES else self

    def _read(self, history: History) -> None:
        self._history = None
        self._recorded: set[str] = set()
        self._prologue: Mapping[str, bool] = {}
        self._keys: dict[int, str] = {}
        """Of what may stand behind a place, by index."""
        self._under: dict[str, list[int]] = {}
        """The indexes of what has a key under a path."""
        self._clean: set[Composite] = set()
        """Nothing stands behind these."""
        for entry in history.kept:
            if _is_patch(entry) and entry.value == "true":
                self.answers.setdefault(fingerprint.parse(entry.fingerprint or "").target, True)
        for entry in history.ordered:
            if _is_patch(entry):
                self._recorded.add(entry.key)
            elif entry.key:
                self._note(entry)

    def _note(self, entry: Entry) -> None:
        self._keys[entry.index] = entry.key
        self._under.setdefault("", []).append(entry.index)
        end = entry.key.find("/") + 1
        while end:
            self._under.setdefault(entry.key[:end], []).append(entry.index)
            end = entry.key.find("/", end) + 1

    def known(self, leaf: Leaf, dead: Collection[str], first: int, *, in_prologue: bool) -> bool | None:
        """The answer of a Patch that is yielded now, unless the history gives it, or nobody has given it yet.

        `first` is the index from which on the history has not been delivered; outcomes of `dead` keys say nothing.
        """
        if self._history is not None:
            self._read(self._history)
        change = leaf.command.target
        if change in self.answers:
            return self.answers[change]
        if self.is_recorded(leaf):
            return None
        if self._ended or (in_prologue and self._begun) or self._is_past(leaf.branch, dead, first):
            self.answers[change] = False
            return False
        self.pending[leaf.key] = leaf
        return None

    def unblocked(self, entry: Entry, leaves: dict[str, Leaf], resume: Callable[[Branch, Ended], None]) -> Leaf | None:
        """The command of an entry that nobody asks for, if one does when places are passed that hold its branch up.

        The branch of such a place has ended, and recorded nothing behind it; another one was opened for that.
        """
        while entry.key not in leaves and not _is_patch(entry) and self.pending:
            held = self.pending.pop(next(iter(self.pending)))
            if leaves.get(held.key) is held and held.phase is Phase.NEW:
                self.answers[held.command.target] = False
                del leaves[held.key]
                held.branch.waiting = None
                resume(held.branch, Ended(False))
        return leaves.get(entry.key)

    def is_recorded(self, leaf: Leaf) -> bool:
        """Whether the history has its answer."""
        return leaf.key in self._recorded

    def is_new(self, leaf: Leaf) -> bool:
        """Whether nothing is recorded of a Patch that is cut off: who comes here later is to know of it."""
        return leaf.command.guards and leaf.phase is Phase.NEW and not self.is_recorded(leaf)

    def answered(self, leaf: Leaf, answer: object) -> None:
        """The history says so."""
        self.answers[leaf.command.target] = answer is True
        self.pending.pop(leaf.key, None)

    def heard(self, entry: Entry, segment: list[Entry]) -> None:
        """An outcome came that nobody waits for; of a Patch that was cut off it is the answer all the same."""
        if _is_patch(entry) and entry.value == "true":
            self.answers.setdefault(fingerprint.parse(entry.fingerprint or "").target, True)
            segment.append(entry)

    def end_prologue(self) -> None:
        """What is False by now stays so."""
        if self._history is not None:
            return
        self._prologue = {change: False for change, answer in self.answers.items() if not answer}

    def close_segment(self) -> None:
        """The next segment is run by the code of today."""
        if self._history is not None:
            return
        kept = {change: True for change, answer in self.answers.items() if answer}
        self.answers.clear()
        self.answers.update({**kept, **self._prologue})
        self._recorded.clear()

    def _is_past(self, branch: Branch, dead: Collection[str], first: int) -> bool:
        """Whether the run has been past what `branch` stands at."""
        if self._any(branch.path, None, dead, first):
            return True
        seen: list[Composite] = []
        composite = branch.parent
        while composite is not None and composite not in self._clean:
            if self._any(composite.branch.path, f"{composite.key}/", dead, first):
                return True
            seen.append(composite)
            composite = composite.branch.parent
        self._clean.update(seen)
        return False

    def _any(self, path: str, beside: str | None, dead: Collection[str], first: int) -> bool:
        """Whether something under `path` that is not `beside` is still to come."""
        found = self._under.get(path, [])
        for index in found[bisect_left(found, first) :]:
            key = self._keys[index]
            if key not in dead and (beside is None or not key.startswith(beside)):
                return True
        return False


def _is_patch(entry: Entry) -> bool:
    return entry.fingerprint is not None and entry.fingerprint.startswith("patch:")


NO_CHANGES: Final = Changes(History.of([]))
"""Of every run that no Patch is known of, as most are. Nothing is asked of it, and nothing told."""
