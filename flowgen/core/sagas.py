"""What succeeded and can be undone, and the flow of commands that undoes it, the latest success first.

A command with `compensate=` stands in the ledger of its run from its success on. A flow is undone by a branch of its
own: when the flow of a `Saga` fails, and when the run does for good. It is made from the history alone, so a replay
undoes in the same order under the same keys. The invariant: what was undone once is never undone again, and a success
that is recorded while its branch is being cut off is undone with the others: whoever undoes waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from typing import Any, Final

import attrs

from flowgen.core import semantics
from flowgen.core.branches import Branch, Composite, Leaf, Names, Opened, Phase
from flowgen.core.commands import Command
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.failures import failure_from
from flowgen.errors import DefinitionError, Failure, OutcomeError

__all__ = ["NO_LEDGER", "UNDO", "Ledger", "Undo", "Undoable"]

UNDO: Final = "#undo"
"""What the key of a command that undoes has behind the key of what it undoes. No author's name holds it."""


@attrs.define(eq=False)
class Undoable:
    """One success that can be undone."""

    leaf: Leaf
    entry: Entry
    indexes: tuple[int, ...]
    """Of all entries of the command that succeeded."""
    begun: bool = False
    undone: bool = False
    failure: Failure | None = None
    """Why it could not be undone."""
    undoing: tuple[int, ...] = ()
    """Indexes of the entries of the command that undoes it."""

    def command(self) -> Command[Any] | None:
        """What undoes it; None when there is nothing to undo. Raises what the author's function raises."""
        given = self.leaf.command.compensate
        if given is None or isinstance(given, Command):
            return given  # pyright: ignore[reportUnknownVariableType] - its type is not known here
        made = given(semantics.answer(self.leaf, self.entry).value)
        if made is not None and not isinstance(made, Command):
            raise DefinitionError(
                f"the compensate= of {self.leaf.key} gave {made!r}: give a command, such as Step(release, id), or None"
            )
        return made

    def forgotten(self) -> tuple[int, ...]:
        """What a retry sets aside: what was undone is done again, what could not be undone still stands."""
        return (*self.indexes, *self.undoing) if self.undone else self.undoing


@attrs.define(eq=False)
class Undo(Names):
    """The names of a branch that undoes: each is that of the command that is being undone."""

    within: Branch | None = attrs.field(default=None, kw_only=True)
    """Whose successes are undone; None: the whole run's."""
    current: str = attrs.field(default="", kw_only=True)
    since: int | None = attrs.field(default=None, kw_only=True)
    """Index of the entry that says that the run is undone."""
    error: BaseException | None = attrs.field(default=None, kw_only=True)
    """Why; what cannot be undone is told with it."""
    taken_on: list[Undoable] = attrs.field(factory=list, kw_only=True)

    def key(self, command: Command[Any]) -> str:
        return self.current + UNDO

    @property
    def forgotten(self) -> tuple[int, ...]:
        """What a retry sets aside of it."""
        indexes = [] if self.since is None else [self.since]
        return (*indexes, *(index for each in self.taken_on for index in each.forgotten()))

    def tell(self) -> None:
        """Everything is undone that could be: note with the error what could not."""
        failed = [f"{each.leaf.key} ({each.failure})" for each in self.taken_on if each.failure is not None]
        if failed and self.error is not None:
            self.error.add_note(f"not undone: {', '.join(failed)}")


class Ledger:
    """The successes of one run that can be undone."""

    __slots__ = ("_items", "_undos", "awaited", "open")

    def __init__(self) -> None:
        self._items: list[Undoable] = []
        self._undos: list[Undo] = []
        self.awaited: dict[str, Leaf] = {}
        """Commands that were cut off while an entry of them was on its way into the history, by key. Read only."""
        self.open: dict[str, Undoable] = {}
        """What is being undone now, by key. Read only."""

    def begun(self) -> Ledger:
        """The ledger of a run from now on."""
        return Ledger() if self is NO_LEDGER else self

    def answered(self, leaf: Leaf, entry: Entry, before: tuple[int, ...], *, failed: bool) -> None:
        """An outcome was recorded; `before` are the other entries of its command."""
        if self.open:
            self.note_undoing(entry.key, (*before, entry.index))
        if not failed and leaf.command.compensate is not None:
            self.note(leaf, entry, before)

    def note(self, leaf: Leaf, entry: Entry, before: tuple[int, ...]) -> None:
        """A command with `compensate=` succeeded; `before` are the other entries of it."""
        if UNDO not in leaf.key:
            self._items.append(Undoable(leaf, entry, (*before, entry.index)))

    def note_undoing(self, key: str, indexes: tuple[int, ...]) -> None:
        """An outcome was recorded while something is being undone."""
        step, mark, _ = key.partition(UNDO)
        if mark and step in self.open:
            self.open[step].undoing += indexes

    def cut(self, leaf: Leaf, recorded: Iterable[Entry], next_index: int) -> None:
        """A command with `compensate=` was cut off. A replay has still to deliver what is `recorded` from there on."""
        left = (each.key for each in recorded if each.index >= next_index)
        if UNDO not in leaf.key and (leaf.phase is Phase.COMMITTING or leaf.key in left):
            self.awaited[leaf.key] = leaf

    def arrived(self, entry: Entry, before: tuple[int, ...]) -> bool:
        """An entry of a command that was cut off came; whether it was awaited."""
        leaf = self.awaited.pop(entry.key, None)
        if leaf is not None and entry.status == OutcomeKind.VALUE and entry.fingerprint == leaf.fingerprint:
            self.note(leaf, entry, before)
        return leaf is not None

    def awaits(self, within: Branch | None) -> bool:
        """Whether an entry of a command in there, which was cut off, is on its way."""
        return any(_is_inside(leaf, within) for leaf in self.awaited.values())

    def stands(self, leaves: Collection[Leaf]) -> bool:
        """Whether there is something to undo; the success of one of these leaves may be on its way."""
        if not (self._items or self.awaited or leaves):
            return False
        return (
            bool(self.awaited)
            or any(not each.begun for each in self._items)
            or any(leaf.phase is Phase.COMMITTING and leaf.command.compensate is not None for leaf in leaves)
        )

    def close_segment(self, prologue: int | None) -> None:
        """What succeeded in the segment is not undone any more."""
        if self._items:
            self._items = [each for each in self._items if prologue is None or each.entry.index < prologue]

    def forgotten_with(self, leaf: Leaf) -> list[int]:
        """Indexes of what is set aside with a failed command, so that it is done again: what its failure undid."""
        if UNDO in leaf.key:
            return []
        return [index for undo in self._undos if _is_inside(leaf, undo.within) for index in undo.forgotten]

    @property
    def not_undone(self) -> list[dict[str, Any]]:
        """What could not be undone, in the order of history, as data."""
        failed = sorted((each for each in self._items if each.failure is not None), key=lambda each: each.entry.index)
        return [
            {"key": each.leaf.key, "failure": {"type": each.failure.type, "message": each.failure.message}}
            for each in failed
            if each.failure is not None
        ]

    def branch(self, undo: Undo, composite: Composite | None) -> Branch:
        """The branch that undoes, not driven yet; for `composite`, counted as open there, or for the run."""
        self._undos.append(undo)
        branch = Branch(undo.path, self._undoing(undo), None, composite, 1, undoes=True)
        branch.scopes = [Opened(branch.flow, "", undo)]
        if composite is not None:
            composite.children[1] = branch
        return branch

    def _undoing(self, undo: Undo) -> Generator[Command[Any], Any, None]:
        """The commands that undo what stands, one after the other; what cannot be undone does not stop the others."""
        while (each := self._latest(undo.within)) is not None:
            each.begun = True
            undo.current = each.leaf.key
            undo.taken_on.append(each)
            self.open[each.leaf.key] = each
            try:
                command = each.command()
                if command is not None:
                    yield command
                each.undone = True
            except GeneratorExit:
                each.begun = False
                raise
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                each.failure = error.failure if isinstance(error, OutcomeError) else failure_from(error)
            finally:
                del self.open[each.leaf.key]
        undo.tell()

    def _latest(self, within: Branch | None) -> Undoable | None:
        standing = (each for each in self._items if not each.begun and _is_inside(each.leaf, within))
        return max(standing, key=lambda each: each.entry.index, default=None)


NO_LEDGER: Final = Ledger()
"""Of every run that has nothing to undo, as most have. Nothing is written here."""


def _is_inside(leaf: Leaf, within: Branch | None) -> bool:
    branch: Branch | None = leaf.branch
    while within is not None and branch is not within:
        if branch is None:
            return False
        branch = branch.parent.branch if branch.parent is not None else None
    return True
