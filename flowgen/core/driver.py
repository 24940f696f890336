"""The loop over send, throw and close: drives the branches of one run over the outcomes that are delivered.

It knows no command by name and no time; what a command means is asked of `flowgen.core.semantics`. A branch is driven
only by a delivered outcome, by the end of its composite or by a cancellation, so its state is a function of the history.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from flowgen.core import fingerprint, semantics
from flowgen.core.branches import Branch, Composite, Ended, Leaf, Names, is_flow
from flowgen.core.commands import Command, Flow, Step
from flowgen.core.context import Context, View
from flowgen.core.definitions import Definition
from flowgen.core.divergence import Trail
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.frames import FlowObject, inline_definitions, location
from flowgen.core.functions import ContextKind
from flowgen.core.inputs import decode_input
from flowgen.core.mistakes import explain, no_command
from flowgen.errors import Cancelled, CodecError, DefinitionError

__all__ = ["Driver", "open_handler"]


def open_handler(definition: Definition[..., Any, Any], context: Context[Any], text: str) -> tuple[dict[str, Any], FlowObject]:
    """The raw input, and the flow to drive. A plain task is a flow of one step. Raises CodecError for a bad input."""
    raw, arguments = decode_input(definition, text)
    args, kwargs = definition.function.binder.unbind(arguments)
    if not definition.is_handler:
        return raw, _single(definition, args, kwargs)
    if definition.function.context is not ContextKind.NONE:
        args = (context, *args)
    flow: FlowObject = definition.fn(*args, **kwargs)
    return raw, flow


def _single(task: Definition[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    return (yield Step(task, *args, **kwargs))


class Driver:
    """The tree of branches of one run."""

    def __init__(self, view: View, *, determinism: str, strict: bool, prologue: int | None, kept: list[Entry]) -> None:
        """`strict`: no checkpoint with data was saved, so every recorded outcome must be asked for in order."""
        self.view = view
        self.leaves: dict[str, Leaf] = {}
        self.fresh: deque[Leaf] = deque()
        self.prologue: int | None = None
        self.root_end: Ended | None = None
        self.cancel_reason: str | None = None
        self._determinism = determinism
        self._strict = strict
        self._known_prologue = prologue
        self._prologue_scopes: list[tuple[object, Names]] = []
        self._kept: dict[str, Entry] = {entry.key: entry for entry in kept}
        self._early: dict[str, Entry] = {}
        self._segment: list[Entry] = []
        self._dead: set[str] = set()
        self._cut: list[Leaf] = []
        self._warnings: list[str] = []
        self._trail = Trail()
        self._root: Branch | None = None
        view.checkpoint_was_read = self._checkpoint_was_read

    # what the interpreter asks

    @property
    def last_failed(self) -> tuple[int, ...]:
        """Indexes of the failures that were last in their branches when the handler ended."""
        return self._root.last_failed if self._root is not None else ()

    @property
    def joins_all(self) -> bool:
        """Whether the run goes on only when every command that it waits for has its outcome."""
        waiting = self._root.waiting if self._root is not None else None
        return isinstance(waiting, Composite) and all(child.flow is None for child in waiting.children)

    def take_cut(self) -> list[Leaf]:
        """The leaves that were cut off since the last call."""
        cut, self._cut = self._cut, []
        return cut

    def take_warnings(self) -> list[str]:
        warnings, self._warnings = self._warnings, []
        return warnings

    # events

    def begin(self, flow: FlowObject, *, drive: bool) -> None:
        """Start the handler; without `drive` it is left unstarted, for a run that was cancelled before."""
        self._root = Branch("", flow)
        if drive:
            self._drive(self._root, Ended())

    def outcome(self, entry: Entry) -> None:
        """Deliver an outcome. Raises Divergence when the code does not ask for it here."""
        leaf = self.leaves.get(entry.key)
        if leaf is None:
            self._unasked(entry)
            return
        self._check(leaf, entry)
        self._trail.delivered(entry)
        del self.leaves[entry.key]
        branch = leaf.branch
        branch.waiting = None
        self._resume(branch, self._answer(leaf, entry))

    def close_segment(self, entry: Entry) -> None:
        """A Checkpoint with data was committed: forget what the segment named by itself, and go on."""
        leaf = self.leaves.pop(entry.key)
        self._strict = False
        self._known_prologue = self.prologue
        for each in self._segment:
            if each.named:
                self._kept[each.key] = each
            self.view.results.pop(each.key, None)
        self._segment.clear()
        self._early.clear()
        self._dead.clear()
        branch = leaf.branch
        saved = {id(flow): names for flow, names in self._prologue_scopes}
        branch.scopes = [
            (flow, saved[id(flow)].copy() if id(flow) in saved else Names(names.path)) for flow, names in branch.scopes
        ]
        branch.waiting = None
        self._resume(branch, Ended())

    def cancel(self, reason: str | None) -> None:
        """Throw Cancelled into the handler, innermost branches first."""
        self.cancel_reason = reason
        if self._root is not None:
            self._cancel(self._root)

    def cut_all(self) -> None:
        """Nothing is waited for any more: the run is over, whatever its handler would do."""
        for leaf in list(self.leaves.values()):
            self._cut_leaf(leaf)
        self.close()

    def close(self) -> None:
        """Close every flow; a handler that yields in `finally` or swallows GeneratorExit is left behind."""
        if self._root is not None:
            self._close(self._root)

    def _close(self, branch: Branch) -> None:
        if isinstance(branch.waiting, Composite):
            for child in branch.waiting.children:
                self._close(child)
        if branch.flow is not None and branch.end is None:
            try:
                branch.flow.close()
            except BaseException as error:
                self._warnings.append(f"a handler could not be closed ({explain(error)})")

    # outcomes and branches

    def _unasked(self, entry: Entry) -> None:
        kind = fingerprint.parse(entry.fingerprint)[0] if entry.fingerprint else ""
        if entry.key in self._dead or kind in semantics.SKIPPABLE:
            return
        if not self._strict and entry.index >= (self._known_prologue or 0):
            self._early[entry.key] = entry
            return
        raise self._trail.divergence(entry, list(self.leaves.values()), ended=self.root_end is not None)

    def _check(self, leaf: Leaf, entry: Entry) -> None:
        if entry.fingerprint is None or entry.fingerprint == leaf.fingerprint:
            return
        recorded = fingerprint.parse(entry.fingerprint)
        if recorded[:2] != fingerprint.parse(leaf.fingerprint)[:2] or self._determinism == "strict":
            raise self._trail.divergence(entry, [leaf], ended=False)
        self._warnings.append(
            f"{leaf.key} was recorded with other arguments than {leaf.command!r} at {location(leaf.branch.flow)} has "
            'now; the recorded outcome is used (determinism="strict" would park the run)'
        )

    def _answer(self, leaf: Leaf, entry: Entry) -> Ended:
        end = semantics.answer(leaf, entry)
        leaf.branch.last_failed = (entry.index,) if end.error is not None else ()
        if entry.status == OutcomeKind.VALUE and entry.value is not None:
            self.view.results[entry.key] = entry.value
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
        branch.started = True
        answer: Ended | None = end
        while answer is not None:
            try:
                yielded = flow.send(answer.value) if answer.error is None else flow.throw(answer.error)
            except StopIteration as stop:
                self._ended(branch, Ended(stop.value))
                return
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._ended(branch, Ended(error=explained(error)))
                return
            try:
                answer = self._place(branch, yielded)
            except (DefinitionError, CodecError, TypeError) as error:
                error.add_note(f"yielded at {location(flow)}")
                answer = Ended(error=error)

    def _place(self, branch: Branch, yielded: object) -> Ended | None:
        """Put a yielded command into the tree; its end when that is known at once."""
        if not isinstance(yielded, Command):
            raise no_command(yielded, location(branch.flow))
        names = self._scope(branch)
        if semantics.is_composite(yielded):
            return self._open(branch, yielded, names.key(yielded))
        text = semantics.prepare(yielded, in_branch=branch is not self._root, prologue=self.prologue)
        leaf = Leaf(names.key(yielded), yielded, branch, yielded.fingerprint(), text)
        entry = self._early.pop(leaf.key, None) or self._kept.get(leaf.key)
        if entry is not None:
            self._check(leaf, entry)
            return self._answer(leaf, entry)
        self.leaves[leaf.key] = leaf
        self.fresh.append(leaf)
        branch.waiting = leaf
        return None

    def _scope(self, branch: Branch) -> Names:
        scopes = branch.scopes
        depth = 1
        for flow, name in inline_definitions(branch.flow):
            if depth >= len(scopes) or scopes[depth][0] is not flow:
                del scopes[depth:]
                outer = scopes[-1][1]
                scopes.append((flow, Names(f"{outer.path}{outer.numbered(name)}/")))
            depth += 1
        del scopes[depth:]
        return scopes[-1][1]

    # composites

    def _open(self, branch: Branch, command: Command[Any], key: str) -> Ended | None:
        join, parts = semantics.open_composite(command)
        composite = Composite(command, join, branch)
        for position, (part, flow) in enumerate(parts):
            path = f"{key}/{part}/" if part else f"{key}/"
            composite.children.append(_child(composite, position, path, flow))
        composite.open = len(composite.children)
        branch.waiting = composite
        for child in composite.children:
            if child.flow is not None:
                self._drive(child, Ended())
            else:
                answer = self._place(child, child.command)
                if answer is not None:
                    self._ended(child, answer)
        composite.opening = False
        if composite.decided:
            self._cancel_children(composite)
        if composite.open:
            return None
        branch.waiting = None
        return self._joined(composite)

    def _ended(self, branch: Branch, end: Ended) -> None:
        if branch.cancelled and not isinstance(end.error, Cancelled) and end.error is None:
            end = Ended(error=Cancelled(self.cancel_reason))
        branch.end = end
        composite = branch.parent
        if composite is None:
            self.root_end = end
            return
        composite.open -= 1
        decided = composite.decided or composite.join.ended(branch.position, end)
        if decided and not composite.decided:
            composite.decided = True
            if not composite.opening:
                self._cancel_children(composite)
        if composite.open == 0 and not composite.opening and composite.branch.waiting is composite:
            composite.branch.waiting = None
            self._resume(composite.branch, self._joined(composite))

    def _joined(self, composite: Composite) -> Ended:
        if composite.cancelling:
            return Ended(error=Cancelled(self.cancel_reason))
        end = composite.join.result()
        failed = [index for child in composite.children for index in child.last_failed]
        composite.branch.last_failed = tuple(failed) if end.error is not None else ()
        return end

    # cancellation

    def _cancel_children(self, composite: Composite) -> None:
        for child in composite.children:
            self._cancel(child)

    def _cancel(self, branch: Branch) -> None:
        if branch.end is not None or branch.cancelled:
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
        if branch.flow is None or not branch.started:
            if branch.flow is not None:
                branch.flow.close()
            self._ended(branch, Ended(error=Cancelled(self.cancel_reason)))
        else:
            self._drive(branch, Ended(error=Cancelled(self.cancel_reason)))

    def _cut_leaf(self, leaf: Leaf) -> None:
        if self.leaves.pop(leaf.key, None) is not None:
            self._dead.add(leaf.key)
            self._cut.append(leaf)

    def _checkpoint_was_read(self) -> None:
        if self.prologue is None:
            self.prologue = self._known_prologue or self.view.next_sequence
            if self._root is not None:
                self._prologue_scopes = [(flow, names.copy()) for flow, names in self._root.scopes]


def explained(error: BaseException) -> BaseException:
    """The author's error; an asyncio call in a handler is told what to use instead."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        told = DefinitionError(
            "asyncio was called in a handler, which runs without an event loop: use Sleep for a wait, Step for I/O and "
            "Gather for several things at once"
        )
        told.__cause__ = error
        return told
    return error


def _child(composite: Composite, position: int, path: str, flow: Any) -> Branch:
    if isinstance(flow, Command):
        return Branch(path, None, flow, composite, position)
    if not is_flow(flow):
        raise DefinitionError(
            f"{composite.command.kind} takes commands and flows, not {flow!r} of type {type(flow).__name__}"
        )
    frame = getattr(flow, "gi_frame", None) or getattr(flow, "cr_frame", None)
    if frame is None or getattr(flow, "gi_suspended", False) or getattr(flow, "cr_suspended", False):
        raise DefinitionError(f"the flow {flow.__qualname__} was given to a {composite.command.kind} a second time")
    return Branch(path, flow, None, composite, position)
