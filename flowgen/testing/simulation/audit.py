"""The audit: looks at what one schedule has left, when everything has ended.

It trusts the histories and the witness's notes, and asks the code again by a replay. Each check raises Violated with
the id of its invariant.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from flowgen.core import codec
from flowgen.core.context import RunFacts
from flowgen.core.decision import Cancelled, Completed, Failed
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_from_json
from flowgen.core.history import History, saved_of
from flowgen.core.interpreter import Execution
from flowgen.core.states import FINAL, Status
from flowgen.testing.simulation.witness import Violated

if TYPE_CHECKING:
    from flowgen.testing.simulation.row import Row
    from flowgen.testing.simulation.world import World

__all__ = ["audit"]

_OUTSIDE: Final = frozenset({"RunTimedOut", "PoisonRun"})
"""Failures that are no handler's."""
_ENDS: Final = {
    OutcomeKind.VALUE: Status.COMPLETED,
    OutcomeKind.FAILURE: Status.FAILED,
    OutcomeKind.CANCELLATION: Status.CANCELLED,
}


def audit(world: World) -> None:
    """Every check of every run. Raises Violated."""
    for row in list(world.store.runs.values()):
        if row.run_id in world.calling.children:
            continue
        check_end(row)
        check_memo(world, row)
        check_calls(world, row)
        check_effects(world, row)
        check_children(world, row)
        check_replay(world, row)


def check_end(row: Row) -> None:
    """I2: it has ended, and stands nowhere for a person to look at."""
    if row.status == Status.PARKED:
        said: Any = codec.decode(row.error or "{}")
        raise Violated("I18", f"{row.new.name} was parked as {said.get('reason')}: {said.get('detail')}")
    if row.status not in FINAL:
        raise Violated("I2", f"{row.new.name} is {row.status.name.lower()} in the end")


def check_memo(world: World, row: Row) -> None:
    """I4: one outcome for each command, as it was written."""
    world.witness.check_unchanged(row)
    answered: dict[str, Entry] = {}
    floors = row.floors[1:]
    prologue = row.prologues.get(row.floors[0], 0)
    for entry in row.entries:
        while floors and entry.index >= floors[0]:
            answered.clear()
            prologue = row.prologues.get(floors.pop(0), 0)
        if entry.kind == EntryKind.CHECKPOINT:
            lost = saved_of(entry).lost
            answered = {
                key: each for key, each in answered.items() if (each.named and key not in lost) or each.index < prologue
            }
        elif entry.kind == EntryKind.SET_ASIDE:
            said: Any = codec.decode(entry.value or "{}")
            aside, below = set(said.get("indexes", ())), said.get("below", 0)
            answered = {key: each for key, each in answered.items() if each.index not in aside and each.index >= below}
        elif entry.kind == EntryKind.OUTCOME and entry.key:
            if entry.key in answered:
                raise Violated("I4", f"{entry.key!r} of {row.new.name} has two outcomes")
            answered[entry.key] = entry


def check_calls(world: World, row: Row) -> None:
    """I7: what a function returned was returned by a call."""
    called = {each.key for each in world.witness.calls if each.run_id == row.run_id}
    for entry in row.entries:
        called_for = (entry.fingerprint or "").startswith(("step:", "transaction:"))
        if called_for and entry.status == OutcomeKind.VALUE and entry.key not in called:
            raise Violated("I7", f"{entry.key!r} of {row.new.name} has a result and was never called")


def check_effects(world: World, row: Row) -> None:
    """I6: as many effects of a Transaction as outcomes."""
    effects = Counter(key for run_id, key in world.witness.effects if run_id == row.run_id)
    outcomes = Counter(
        entry.key
        for entry in row.entries
        if entry.status == OutcomeKind.VALUE and (entry.fingerprint or "").startswith("transaction:")
    )
    if effects != outcomes:
        raise Violated(
            "I6", f"{row.new.name} has {dict(outcomes)} outcomes of Transactions and {dict(effects)} effects"
        )


def check_children(world: World, row: Row) -> None:
    """I13: a child for each command that starts one, and what its parent was told of it."""
    runs = world.store.runs
    made = {str(run_id) for run_id, child in runs.items() if child.new.parent_id == row.run_id}
    asked: set[str] = set()
    current: dict[str, str] = {}
    for entry in row.entries:
        kind = (entry.fingerprint or "").partition(":")[0]
        if entry.kind == EntryKind.CHILD:
            child = current[entry.key] = (entry.value or "").strip('"')
            asked.add(child)
        elif entry.kind == EntryKind.OUTCOME and kind == "start" and entry.status == OutcomeKind.VALUE:
            asked.add(codec.decode(entry.value or "{}")["run_id"])
        elif entry.kind == EntryKind.OUTCOME and kind == "invoke" and entry.key in current:
            _check_told(world, row, entry, current[entry.key])
    if made - asked:
        raise Violated("I13", f"{row.new.name} has a child that no command of it has started")
    missing = [child for child in asked if not any(str(run_id) == child for run_id in runs)]
    if missing:
        raise Violated("I13", f"{row.new.name} waits for a child that does not exist")


def _check_told(world: World, row: Row, entry: Entry, child_id: str) -> None:
    child = next((each for each in world.store.runs.values() if str(each.run_id) == child_id), None)
    if child is None or entry.status == OutcomeKind.TIMEOUT:
        return
    came = child.output if child.status == Status.COMPLETED else child.error
    if child.status != _ENDS[OutcomeKind(entry.status or 0)] or (entry.value or "null") != (came or "null"):
        raise Violated("I13", f"{entry.key!r} of {row.new.name} is not what its child came to")


def check_replay(world: World, row: Row) -> None:
    """I18: the code of today, over the history, ends where the run ended."""
    failure = failure_from_json(row.error) if row.status == Status.FAILED and row.error else None
    if not row.started or (failure is not None and failure.type in _OUTSIDE):
        return
    definition = world.plan.definitions[row.new.name]
    facts = RunFacts(
        run_id=row.new.id,
        uuid=row.run_id,
        name=row.new.name,
        attempt=row.attempt,
        max_attempts=definition.options.retry.max_attempts,
        services=world.plan.services(),
    )
    history = History.of(row.current, base=row.base, prologue=row.prologue)
    execution = Execution(
        definition, facts, row.new.input, history, entropy=world.entropy, created_at=row.created_at
    )  # fmt: skip
    finish = execution.advance(max([row.created_at, *(e.recorded_at for e in row.current if e.recorded_at)])).finish
    execution.close()
    match finish:
        case Completed(output):
            same = row.status == Status.COMPLETED and output == row.output
        case Failed(again):
            same = failure is not None and (again.type, again.message) == (failure.type, failure.message)
        case Cancelled():
            same = row.status == Status.CANCELLED
        case None:  # a deadline, which is not known here, ends a run that cleans up as what it was to come to
            same = row.status == Status.CANCELLED and execution.unwinding and row.deadline is not None
        case _:
            same = False
    if not same:
        raise Violated("I18", f"{row.new.name} ended as {row.status.name.lower()}, and its replay as {finish}")
