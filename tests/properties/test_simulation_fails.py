"""The simulator can fail: seeded bugs of an engine, each of which it must find and name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from flowgen import Flow, Gather, Invoke, Retry, Sleep, Start, Step, Transaction, Wait
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.inputs import encode_input
from flowgen.core.semantics import sleeps
from flowgen.core.semantics.asking import outcome
from flowgen.core.states import Status
from flowgen.failpoints import EVICT
from flowgen.postgres import entries as entries_room
from flowgen.postgres.rows import FlushResult, RunAction
from flowgen.testing.simulation import store as store_room
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.requests import Link, Request
from flowgen.testing.simulation.schedules import by_list, by_number
from flowgen.testing.simulation.store import Store
from flowgen.worker import committer, transactor
from flowgen.worker.cache import Cache

SCHEDULES = 3000
"""Within which each bug is found; most are within the first hundred."""

ONCE = DefinitionOptions(retry=Retry(1))


def plan_of(definition: Any, **given: Any) -> Plan:
    counted = iter(range(1, 10**9))

    def draw(*args: Any) -> int:
        return next(counted)

    return Plan(
        definition=definition,
        input=encode_input(definition, definition.name, {}),
        outcomes={"charge": draw, "save": draw},
        **given,
    )


def charge(place: int) -> int:
    raise NotImplementedError


def save(connection: Any, place: int) -> int:
    raise NotImplementedError


def trip_child() -> Flow[int]:
    first = yield from Step(charge, 5)
    yield Sleep(1)
    return first


CHILD: Task[..., Any, Any] = Task(trip_child, None, ONCE)


def trip() -> Flow[list[int]]:
    found = [(yield from Step(charge, 1))]
    yield Sleep(2)
    found.append((yield from Transaction(save, 2)))
    found.append((yield from Invoke(CHILD)))
    found.extend((yield from Gather(Step(charge, 3), Transaction(save, 4))))
    ref = yield from Start(CHILD)
    yield from Step(charge, 6).opts(at_most_once=True)
    found.append((yield from Wait(ref)))
    return found


TRIP: Workflow[..., Any, Any] = Workflow(trip, None, ONCE)


def found(definition: Any = TRIP, schedules: int = SCHEDULES, **given: Any) -> str | None:
    """The id of the first invariant that a schedule violates."""
    for number in range(schedules):
        failing = by_number(plan_of(definition, **given), lambda world: None, number)
        if failing is not None:
            return failing.violated.id
    return None


def steps() -> Flow[list[int]]:
    found = []
    for place in range(3):
        found.append((yield from Step(charge, place)))
    return found


def family() -> Flow[Any]:
    return (yield from Gather(Invoke(CHILD), Step(charge, 1), Invoke(CHILD)))


STEPS: Workflow[..., Any, Any] = Workflow(steps, None, ONCE)
FAMILY: Workflow[..., Any, Any] = Workflow(family, None, ONCE)


Bug = Callable[[pytest.MonkeyPatch], None]


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """The insert of entries does not look whether the lease still holds."""
    patch.setattr(Store, "holds", lambda self, session: True)


def on_conflict_do_update(patch: pytest.MonkeyPatch) -> None:
    """An entry that is there is replaced, when a flush comes late: the fence does not look at the epoch."""
    insert, flush = Store.insert, Store.flush

    def flushed(self: Store, session: Any, batch: Any) -> FlushResult:
        return flush(self, attrs.evolve(session, epoch=self.leases[session.id].epoch), batch)

    patch.setattr(Store, "flush", flushed)

    def inserted(self: Store, session: Any, entries: Any) -> Any:
        for run_id, entry in entries:
            row = self.runs[run_id]
            if entry.index in row.indexes:
                row.entries[:] = [each for each in row.entries if each.index != entry.index]
                row.indexes.discard(entry.index)
        return insert(self, session, entries)

    patch.setattr(Store, "insert", inserted)


def on_conflict_do_nothing(patch: pytest.MonkeyPatch) -> None:
    """A loser is not told that its entries were not taken, and goes on with them."""
    flush = Store.flush

    def flushed(self: Store, session: Any, batch: Any) -> FlushResult:
        if batch.entries and not batch.updates and all(e.index in self.runs[run].indexes for run, e in batch.entries):
            due = {(run, e.index): self.now + e.delay for run, e in batch.entries if e.delay is not None}
            return FlushResult(fenced=False, skipped=frozenset(), due=due, landed={}, now=self.now)
        return flush(self, session, batch)

    patch.setattr(Store, "flush", flushed)


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A flush of entries alone is answered at once, and sent afterwards."""
    call = Link.call

    async def called(self: Link, op: Any) -> Any:
        if op.gi_code.co_name != "flush":
            return await call(self, op)
        session, batch = op.gi_frame.f_locals["session"], op.gi_frame.f_locals["batch"]
        if batch.updates or batch.children:
            return await call(self, op)
        store = self._store
        self._requests.append(Request("flush", lambda: store.flush(session, batch), print_nothing, print_nothing))
        due = {(run, e.index): store.now + e.delay for run, e in batch.entries if e.delay is not None}
        return FlushResult(fenced=False, skipped=frozenset(), due=due, landed={}, now=store.now)

    patch.setattr(Link, "call", called)


def print_nothing(_: object) -> None:
    pass


def due_from_the_replay(patch: pytest.MonkeyPatch) -> None:
    """A sleep is as long as it is asked for, from whenever it is asked."""

    def ask(leaf: Any, command: Sleep, asking: Any) -> None:
        assert command.duration is not None
        if asking.state.armed_at is None:
            asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.duration))
        elif leaf.due_at is None:
            asking.wait(leaf, asking.now + command.duration)
        elif leaf.due_at > asking.now:
            asking.wait(leaf, leaf.due_at)
        else:
            asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))

    patch.setattr(sleeps, "ask", ask)


def a_sleep_that_ends_early(patch: pytest.MonkeyPatch) -> None:
    """A sleep ends as soon as it is not much too early."""
    ask = sleeps.ask

    def asked(leaf: Any, command: Sleep, asking: Any) -> None:
        armed_at = asking.state.armed_at
        if armed_at is not None and armed_at - asking.now < timedelta(seconds=1.8):
            asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))
        else:
            ask(leaf, command, asking)

    patch.setattr(sleeps, "ask", asked)


def no_reading_back(patch: pytest.MonkeyPatch) -> None:
    """A commit of a Transaction whose answer is lost counts as none."""

    async def landed(self: Any, run: Any, entry: Any) -> bool:
        if await self._session.renew(self._link) is None:
            return False
        stored = await self._link.call(entries_room.read_back([run.run_id]))
        run.next_index = stored[run.run_id].last_index + 1
        return False

    patch.setattr(transactor.Transactor, "_landed", landed)


def a_lost_connection_is_the_functions_error(patch: pytest.MonkeyPatch) -> None:
    """The engine's trouble is recorded as a failed attempt."""

    async def transact(self: Any, run: Any, running: Any) -> None:
        try:
            await self._once(run, running)
        except transactor._Broken as broken:
            raise broken.error from None

    patch.setattr(transactor.Transactor, "_transact", transact)


def the_parent_is_woken_later(patch: pytest.MonkeyPatch) -> None:
    """The end of a child and the letter to its parent are two commits; a crash between them loses the second."""
    tell_all, claim, reap = Store.tell_all, Store.claim, Store.reap
    later: list[Any] = []

    def told(self: Store, row: Any, status: Status) -> None:
        later.append((row, status))

    def claimed(self: Store, *given: Any) -> Any:
        while later:
            tell_all(self, *later.pop())
        return claim(self, *given)

    def reaped(self: Store) -> int:
        later.clear()
        return reap(self)

    patch.setattr(Store, "tell_all", told)
    patch.setattr(Store, "claim", claimed)
    patch.setattr(Store, "reap", reaped)


def no_sweep(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for sessions whose lease is over."""
    patch.setattr(Store, "expired", lambda self: False)


def no_recovery_is_counted(patch: pytest.MonkeyPatch) -> None:
    """A run whose worker died is claimed as if nothing had been."""

    def lose(self: Store, row: Any) -> None:
        self.witness.lost(row)
        self.move(row, Status.READY, None)

    patch.setattr(Store, "lose", lose)


def a_sweep_takes_what_lives(patch: pytest.MonkeyPatch) -> None:
    """The sweep takes every running run, also those that were claimed just now."""

    def reap(self: Store) -> int:
        for lease in self.leases.values():
            if not lease.dead and lease.until < self.now:
                lease.dead = True
                self.witness.died(lease.id)
        for row in self.runs.values():
            if row.status == Status.RUNNING:
                self.lose(row)
        return 0

    patch.setattr(Store, "reap", reap)


def a_claim_of_what_is_owned(patch: pytest.MonkeyPatch) -> None:
    """A sweep frees a run without a word, and its owner lives."""
    promote = Store.promote

    def promoted(self: Store) -> None:
        for row in self.runs.values():
            if row.status == Status.RUNNING:
                row.status = Status.READY
        promote(self)

    patch.setattr(Store, "promote", promoted)


def a_hang_up_does_not_look_for_mail(patch: pytest.MonkeyPatch) -> None:
    """What came while the run was live wakes nobody when it hangs up."""
    update = store_room.apply

    def updated(store: Store, row: Any, change: Any) -> None:
        if change.action == RunAction.HANG_UP:
            change = attrs.evolve(change, mail_read=row.mail)
        update(store, row, change)

    patch.setattr(store_room, "apply", updated)


def a_cache_that_never_looks(patch: pytest.MonkeyPatch) -> None:
    """A cached execution goes on, whoever else has gone on with the run meanwhile."""

    def revived(self: Any, claimed: Any) -> Any:
        _, run = self._runs.pop(claimed.run_id, (0, None))
        if run is not None:
            run.claimed_again(claimed)
        return run

    patch.setattr(Cache, "revived", revived)


def no_new_epoch(patch: pytest.MonkeyPatch) -> None:
    """After a lost answer the store is read back, and what is under way may still land."""
    patch.setattr(Store, "resolve_unknown", lambda self, session: session if self.holds(session) else None)


def what_did_not_land_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A part that was not committed is not sent again."""

    async def settle(self: Any, parts: Any) -> Any:
        await self._session.renew(self._link)
        return []

    patch.setattr(committer.Committer, "_settle_unknown", settle)


def at_most_once_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A call that was begun by a lost worker is made again."""
    from flowgen.core.history import CommandState

    note = CommandState.note

    def noted(self: Any, entry: Any, replayed: bool) -> None:
        note(self, entry, replayed=False)

    patch.setattr(CommandState, "note", noted)


@pytest.mark.parametrize(
    ("bug", "ids", "flow"),
    [
        (no_fence, {"I11", "I5"}, STEPS),
        (on_conflict_do_update, {"I4"}, STEPS),
        (on_conflict_do_nothing, {"I5"}, STEPS),
        (acknowledged_before_the_commit, {"I5"}, STEPS),
        (due_from_the_replay, {"I9"}, TRIP),
        (a_sleep_that_ends_early, {"I9"}, TRIP),
        (no_reading_back, {"I6", "I4"}, TRIP),
        (a_lost_connection_is_the_functions_error, {"I3"}, TRIP),
        (the_parent_is_woken_later, {"I2", "I13"}, FAMILY),
        (no_sweep, {"I2"}, STEPS),
        (no_recovery_is_counted, {"I14"}, STEPS),
        (a_sweep_takes_what_lives, {"I12"}, STEPS),
        (a_claim_of_what_is_owned, {"I12"}, TRIP),
        (a_hang_up_does_not_look_for_mail, {"I2"}, FAMILY),
        (a_cache_that_never_looks, {"I4", "I5", "I18", "I19", "I12"}, TRIP),
        (no_new_epoch, {"I2", "I4", "I18"}, STEPS),
        (what_did_not_land_is_forgotten, {"I2"}, STEPS),
        (at_most_once_is_forgotten, {"I8"}, TRIP),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_seeded_bug_is_found_and_named(bug: Bug, ids: set[str], flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EVICT, raising=False)  # some are of a generator that goes on, or of the cache
    bug(monkeypatch)
    assert found(flow) in ids


def test_without_a_bug_nothing_is_found() -> None:
    for flow in (TRIP, STEPS, FAMILY):
        assert by_list(plan_of(flow), lambda world: None, []).root.status == Status.COMPLETED
        assert found(flow, schedules=50) is None
        assert found(flow, schedules=50, cancels=True) is None
