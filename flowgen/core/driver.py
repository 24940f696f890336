"""The loop over send, throw and close: drives the branches of one run over the outcomes that are delivered.

It knows no command by name and no time; what a command means is asked of `flowgen.core.semantics`. A branch is driven
only by a delivered outcome, by the end of its composite or by a cancellation: its state is a function of the history.
"""

from __future__ import annotations

from typing import Any

from flowgen.core import semantics
from flowgen.core.branches import Branch, Composite, Ended, Leaf, Opened, heard_also
from flowgen.core.changes import NO_CHANGES
from flowgen.core.closing import close_branch, swallowed, untie
from flowgen.core.commands import Command
from flowgen.core.commands.command import CompositeCommand
from flowgen.core.composing import compose, misplaced, opened
from flowgen.core.context import RunFacts, View
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.frames import FlowObject, dispose, location
from flowgen.core.history import History
from flowgen.core.mistakes import explained, no_command
from flowgen.core.recorded import Recorded
from flowgen.core.sagas import NO_LEDGER, Undo
from flowgen.core.scopes import innermost, reopened
from flowgen.errors import Cancelled, CodecError, DefinitionError, StepInterrupted

__all__ = ["Driver"]


class Driver:
    """The tree of branches of one run."""

    __slots__ = (
        "_driving", "_facts", "_held", "_history", "_prologue_scopes", "_root", "_segment", "_undo", "_yielded",
        "cancel_reason", "changes", "cut", "failed", "fresh", "interrupted", "leaves", "ledger", "prologue", "recorded",
        "root_end", "view", "warnings",
    )  # fmt: skip

    def __init__(
        self, view: View, history: History, facts: RunFacts, *, determinism: str, yielded: list[Command[Any]] | None
    ) -> None:
        self.view = view
        self.leaves: dict[str, Leaf] = {}
        self.fresh: list[Leaf] = []
        """Leaves that are new, or whose state or time has moved."""
        self.prologue: int | None = None
        self.root_end: Ended | None = None
        self.cancel_reason: str | None = None
        self.failed: dict[str, tuple[Leaf, tuple[int, ...]]] = {}
        """Commands that failed for good, by key, with the indexes of their entries."""
        self.interrupted: frozenset[int] = frozenset()
        """Indexes of failures that no policy may retry: whether the call took effect is not known."""
        self.cut: list[Leaf] = []
        """The leaves that were cut off since the interpreter looked."""
        self.warnings: list[str] = []
        self.ledger = NO_LEDGER
        """What is undone when the run fails."""
        self.changes = NO_CHANGES
        self._facts = facts
        self._history = history
        self.recorded = Recorded(history, facts, determinism, self.warnings)
        self._yielded = yielded
        self._prologue_scopes: list[Opened] = []
        self._segment: list[Entry] = []
        self._root: Branch | None = None
        self._undo: Branch | None = None
        self._held: list[tuple[Composite | None, Undo]] = []
        self._driving: Branch | None = None
        view.checkpoint_was_read = self._checkpoint_was_read

    # what the interpreter asks

    @property
    def last_failed(self) -> tuple[int, ...]:
        """Indexes of what a retry sets aside: the failures that were last in their branches, and what was undone."""
        return tuple(index for each in (self._root, self._undo) if each is not None for index in each.last_failed)

    @property
    def cancelled(self) -> bool:
        """Whether Cancelled was thrown into the handler before it ended."""
        return self._root is not None and self._root.cancelled

    @property
    def joins_all(self) -> bool:
        """Whether the run goes on only when every command that it waits for has its outcome."""
        waiting = self._root.waiting if self._root is not None else None
        return isinstance(waiting, Composite) and waiting.plain and waiting.join.needs_all

    @property
    def undone(self) -> bool:
        """Whether everything was undone, as far as it could be, since `undo`."""
        return self._undo is not None and self._undo.end is not None

    # events

    def begin(self, flow: FlowObject) -> None:
        """Start the handler."""
        self._root = Branch("", flow, heard=self._history.heard)
        self._drive(self._root, Ended())

    def outcome(self, entry: Entry, before: tuple[int, ...] = ()) -> None:
        """Deliver an outcome; `before` are the other entries of its command. Raises Divergence and CodecError."""
        leaf = self.leaves.get(entry.key) or self._unblocked(entry)
        if leaf is None:
            self.changes = self.changes.begun(self._history)
            self.changes.heard(entry, self._segment)
            if not (self.ledger.awaited and self.arrived(entry, before)):
                self.recorded.unasked(entry, self.leaves.values(), ended=self.root_end is not None)
            return
        if entry.fingerprint != leaf.fingerprint:
            self.recorded.check(leaf, entry)
        del self.leaves[entry.key]
        if self.fresh and self.fresh[-1] is leaf:
            self.fresh.pop()  # a replay answers what nobody will ask for
        branch = leaf.branch
        branch.waiting = None
        end = self._answer(leaf, entry, before)
        if branch.flow is None:
            self._ended(branch, end)
        else:
            self._drive(branch, end)

    def noted(self, entry: Entry) -> Leaf | None:
        """The leaf that an entry without an outcome belongs to; None when nobody waits. Raises Divergence."""
        leaf = self.leaves.get(entry.key) or self._unblocked(entry)
        if leaf is None:
            self.arrived(entry)
        elif entry.fingerprint is not None and entry.fingerprint != leaf.fingerprint:
            self.recorded.check_kind(leaf, entry)
        return leaf

    def _unblocked(self, entry: Entry) -> Leaf | None:
        if not self.changes.pending or entry.key in self.recorded.dead:
            return None
        return self.changes.unblocked(entry, self.leaves, self._resume)

    def close_segment(self, entry: Entry) -> None:
        """A Checkpoint with data was committed: forget what the segment named by itself, and go on."""
        leaf = self.leaves.pop(entry.key)
        branch = leaf.branch
        self.recorded.close_segment(self._segment, self.prologue)
        self.ledger.close_segment(self.prologue)
        for each in self._segment:
            self.view.results.pop(each.key, None)
            self.failed.pop(each.key, None)
        self._segment.clear()
        self.changes.close_segment()
        branch.scopes = reopened(branch.scopes, self._prologue_scopes)
        branch.waiting = None
        self._resume(branch, Ended())

    def cancel(self, reason: str | None) -> None:
        """Throw Cancelled into the handler, innermost branches first."""
        self.cancel_reason = reason
        assert self._root is not None
        self._cancel(self._root)

    def undo(self, since: int) -> None:
        """The run has failed or was cancelled, says the entry `since`: close its handler, and undo what stands."""
        root = self._root
        if root is not None and root.end is None:
            self.cut_all()
            root.end = self.root_end = Ended()
        self._begin_undo(None, Undo("", since=since))

    def cut_all(self) -> None:
        """Nothing is waited for any more: the run is over, whatever its handler would do."""
        for leaf in list(self.leaves.values()):
            self._cut_leaf(leaf)
        self.close()

    def close(self) -> None:
        """Close every flow; one that cannot be closed is left behind."""
        # What finally blocks do now is no part of the run.
        replaying, self.view.replaying = self.view.replaying, True
        for branch in (self._root, self._undo):
            if branch is not None and branch.end is None:
                self.warnings.extend(close_branch(branch))
        self.view.replaying = replaying

    def untie(self) -> None:
        """Nothing is asked any more."""
        self._root = self._undo = self._driving = None
        if self.leaves:
            untie(self.leaves.values())
        self.leaves, self.fresh, self.failed = {}, [], {}
        self.view.checkpoint_was_read = lambda: None

    # outcomes and branches

    def _answer(self, leaf: Leaf, entry: Entry, before: tuple[int, ...] = ()) -> Ended:
        try:
            end = semantics.answer(leaf, entry)
        except CodecError:
            self.recorded.refused = entry
            raise
        if self.ledger is not NO_LEDGER:
            self.ledger.answered(leaf, entry, before, failed=end.error is not None)
        if end.error is None:
            leaf.branch.last_failed = ()
            if leaf.command.guards:
                self.changes.answered(leaf, end.value)
        else:
            leaf.branch.last_failed = (*before, entry.index)
            self.failed[leaf.key] = leaf, leaf.branch.last_failed
            if isinstance(end.error, StepInterrupted):
                self.interrupted |= frozenset(leaf.branch.last_failed)
        if entry.status == OutcomeKind.VALUE and entry.value is not None:
            self.view.results[entry.key] = entry.value
        if entry.due_at is not None and leaf.command.listens:
            leaf.branch.heard = heard_also(leaf.branch.heard, {leaf.fingerprint: entry.due_at})
        if self.prologue is not None and entry.index >= self.prologue:
            self._segment.append(entry)
        return end

    def _resume(self, branch: Branch, end: Ended) -> None:
        if branch.flow is None:
            self._ended(branch, end)
        else:
            self._drive(branch, end)

    def _drive(self, branch: Branch, end: Ended) -> None:
        """Send an end into a branch and go on until it waits or ends itself."""
        flow = branch.flow
        assert flow is not None
        outer, self._driving = self._driving, branch
        answer: Ended | None = end
        while answer is not None:
            try:
                yielded = flow.send(answer.value) if answer.error is None else flow.throw(answer.error)
            except StopIteration as stop:
                answer, end = None, Ended(stop.value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                answer, end = None, Ended(error=explained(error))
            else:
                if branch.cancelled and (warning := swallowed(branch, yielded)):
                    self.warnings.append(warning)
                    end = Ended(error=Cancelled(self.cancel_reason))
                    break
                answer = self._place(branch, yielded)
                if answer is None:
                    self._driving = outer
                    return
        self._driving = outer
        self._ended(branch, end)

    # commands

    def _place(self, branch: Branch, yielded: object) -> Ended | None:
        """Put what was yielded into the tree; its end when that is known at once, such as a mistake of the author's."""
        self.view.yields += 1
        try:
            if not isinstance(yielded, Command):
                raise no_command(yielded, location(branch.author))
            if self._yielded is not None and branch.flow is not None and not self.view.replaying:
                self._yielded.append(yielded)
            if (options := yielded.options).after or options.when or options.join:
                raise misplaced(yielded)
            names = innermost(branch)
            composite = compose(branch, yielded, names) if isinstance(yielded, CompositeCommand) else None
            if composite is None:
                text = None
                if yielded.stores:
                    at: Any = {"prologue": self.prologue, "cancelled": self.cancelled, "heard": branch.heard}
                    at["lost"] = self.recorded.lost and self.recorded.lost_now(self._segment)
                    text = semantics.prepare(yielded, self._facts, in_branch=branch is not self._root, **at)
                named = yielded.options.name is not None and names.authored
                leaf = Leaf(names.key(yielded), yielded, branch, yielded.fingerprint(), named, text)
                if yielded.compensate is not None:
                    self.ledger = self.ledger.begun()
        except (DefinitionError, CodecError, TypeError) as error:
            error.add_note(f"yielded at {location(branch.author)}")
            return Ended(error=error)
        if composite is not None:
            return self._open(composite)
        recorded = self.recorded
        if (recorded.kept or recorded.early) and (entry := recorded.known(leaf)) is not None:
            return self._answer(leaf, entry)
        if yielded.guards:
            self.changes = self.changes.begun(self._history)
            known = self.changes.known(leaf, recorded.dead, self.view.next_sequence, in_prologue=self.prologue is None)
            if known is not None:
                return Ended(known)
        self.leaves[leaf.key] = leaf
        self.fresh.append(leaf)
        branch.waiting = leaf
        return None

    def _checkpoint_was_read(self) -> None:
        # A branch may look, but where it stands says nothing of the handler's own place.
        if self.prologue is not None or self._driving is not self._root:
            return
        history, view = self._history, self.view
        self.prologue = history.prologue or view.next_sequence
        if history.base and history.saved_at is not None:
            view.now = history.saved_at
            view.next_sequence = max(view.next_sequence, history.base + 1)
        self.changes.end_prologue()
        if self._root is not None:
            self._prologue_scopes = [each.copy() for each in self._root.scopes]

    # composites

    def _open(self, composite: Composite) -> Ended | None:
        composite.branch.waiting = composite
        self._fill(composite)
        if composite.children:
            return None
        composite.branch.waiting = None
        return self._joined(composite)

    def _fill(self, composite: Composite) -> None:
        """Open the branches that can be."""
        composite.filling = True
        while not composite.decided and (parts := composite.join.ready()):
            for part in parts:
                child = opened(composite, part)
                if isinstance(part[2], Ended):
                    self._ended(child, part[2])
                elif child.flow is not None:
                    self._drive(child, Ended())
                else:
                    answer = self._place(child, child.command)
                    if answer is not None:
                        self._ended(child, answer)
        if composite.decided:
            self._cancel_children(composite)
        composite.filling = False

    def _ended(self, branch: Branch, end: Ended) -> None:
        if branch.cancelled and end.error is None:
            end = Ended(error=Cancelled(self.cancel_reason))
        branch.end = end
        if branch.undoes and isinstance(undo := branch.scopes[0].names, Undo):
            branch.last_failed = undo.forgotten
        composite = branch.parent
        if composite is None:
            if branch is self._root:
                self.root_end = end
            return
        del composite.children[branch.position]
        if branch.last_failed and not composite.join.goes_on(branch.position):
            composite.failed += branch.last_failed
        composite.heard = heard_also(composite.heard, branch.heard)
        if not (composite.decided or branch.undoes):
            composite.decided = composite.join.ended(branch.position, end)
            if not composite.filling:
                if composite.decided:
                    self._cancel_children(composite)
                else:
                    self._fill(composite)
        if composite.command.undoes and end.error is not None and not branch.undoes:
            self._begin_undo(composite, Undo(f"{composite.key}/", within=branch, error=end.error))
        elif not composite.children and not composite.filling and composite.branch.waiting is composite:
            composite.branch.waiting = None
            self._resume(composite.branch, self._joined(composite))

    def _joined(self, composite: Composite) -> Ended:
        if composite.decided:
            dispose(composite.command)  # what was not opened
        composite.branch.heard = heard_also(composite.branch.heard, composite.heard)
        if composite.cancelling:
            return Ended(error=Cancelled(self.cancel_reason))
        composite.branch.last_failed = composite.failed
        return composite.join.result()

    # cancellation

    def _cancel_children(self, composite: Composite) -> None:
        for child in list(composite.children.values()):
            self._cancel(child)

    def _cancel(self, branch: Branch) -> None:
        if branch.end is not None or branch.cancelled or branch.undoes:
            return
        branch.cancelled = True
        waiting = branch.waiting
        if isinstance(waiting, Composite):
            waiting.cancelling = waiting.decided = True
            self._cancel_children(waiting)
            return
        if waiting is not None:
            self._cut_leaf(waiting)
            branch.waiting = None
        self._resume(branch, Ended(error=Cancelled(self.cancel_reason)))

    def _cut_leaf(self, leaf: Leaf) -> None:
        del self.leaves[leaf.key]
        self.recorded.bury(leaf)
        if leaf.command.compensate is not None:
            self.ledger.cut(leaf, self._history.ordered, self.view.next_sequence)
        self.cut.append(leaf)

    # what is undone

    def _begin_undo(self, composite: Composite | None, undo: Undo) -> None:
        """Undo what succeeded, as soon as all of that is known; then `composite` goes on, which is None for the run."""
        self.ledger = self.ledger.begun()
        if self.ledger.awaits(undo.within):
            self._held.append((composite, undo))
            return
        branch = self.ledger.branch(undo, composite)
        if composite is None:
            self._undo = branch
        self._drive(branch, Ended())

    def arrived(self, entry: Entry, before: tuple[int, ...] = ()) -> bool:
        """An entry of a command without a leaf; whether somebody waits for it to be able to undo."""
        if not self.ledger.arrived(entry, before):
            return False
        held, self._held = self._held, []
        for composite, undo in held:
            self._begin_undo(composite, undo)
        return True
