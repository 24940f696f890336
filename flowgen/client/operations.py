"""What each verb of the client does, written once: plans that the sync and the async client carry out.

Never connects, waits or wraps what it found in a `Run`. The invariants: what may be repeated after a lost answer is
repeated, and nothing is on a connection that the caller lends; whether a verb did what it was asked is read from the
row afterwards, never guessed from before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

import attrs

from flowgen.app import App
from flowgen.client import emitting, messages, results, starting
from flowgen.client.audit import AuditItem
from flowgen.client.clock import monotonic
from flowgen.client.orders import Order, check, send
from flowgen.client.plans import Bell, Do, Plan, ask
from flowgen.client.queries import RunId, RunQuery, candidates, cursor_of
from flowgen.client.runs import HistoryItem, Reading, Snapshot, history_items
from flowgen.client.sealing import opened_entries, opened_row
from flowgen.client.waiters import Waiters
from flowgen.client.why import Why
from flowgen.core.commands import Token
from flowgen.core.definitions import Call, Definition
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.sealing import Seal
from flowgen.core.settings import Settings
from flowgen.core.states import FINAL, Request, Status, public
from flowgen.core.trace import Trace
from flowgen.errors import DatabaseError, DefinitionError, Failure, FlowgenError
from flowgen.postgres import notifications, observe, runs
from flowgen.postgres.database import Op, Schema
from flowgen.postgres.rows import RunRow

__all__ = ["Operations"]

Rows = list[tuple[Reading, bool]]
Items = list[HistoryItem]
Audit = list[AuditItem]
Found = tuple[list[RunRow], str | None]

_SOONEST = 0.001
"""Seconds within which no run that was ready has ended: a look would only take the time from who is to run it."""


@attrs.frozen
class Operations:
    """The verbs of one client."""

    settings: Settings
    app: App
    schema: Schema
    clock: Callable[[], float] = monotonic
    waiters: Waiters = attrs.field(factory=Waiters)
    seal: Seal | None = attrs.field(init=False)

    @seal.default
    def _seal_of_settings(self) -> Seal | None:
        return Seal.of(self.settings)

    # starting and waiting

    def start(self, calls: Iterable[Call[Any]], *, own: bool) -> Plan[Rows]:
        """Start runs; each row, and whether it existed. `own` is False on a connection that the caller lends."""
        rows = starting.new_runs(calls, self.settings, self.app)
        begun = yield from starting.start(rows, own=own, seal=self.seal)
        if begun.tell:
            yield from self._hint(own=own)
        return begun.runs

    def _hint(self, *, own: bool = True) -> Plan[None]:
        """Tell idle workers that there is something to do. Polling is the truth, so a hint that fails is no failure."""
        try:
            yield Do(lambda: notifications.notify(self.schema))
        except DatabaseError:
            if not own:  # the caller's transaction is aborted now, and has to know
                raise

    def emit(self, name: str, payload: object, *, own: bool) -> Plan[str]:
        """Emit an event; its id. Raises DefinitionError, CodecError."""
        event_id = yield from emitting.emit(name, payload, self.settings, self.schema, self.seal, own=own)
        return str(event_id)

    def result(self, run: RunId | Snapshot[Any], timeout: Duration | None, bell: Bell) -> Plan[Any]:
        """Wait for a run to end and give its result. Raises RunFailed, RunCancelled, RunNotFinished, RunNotFound."""
        first = 0.0
        if isinstance(run, Snapshot):
            first = _SOONEST if run.row.status == Status.READY else 0.0
            uuid, shown, definition = run.uuid, run.id, run.definition
        else:
            row = yield from self.get(run)
            uuid, shown = row.run_id, _id(row)
            definition = self.definition(row)
        annotation = Any if definition is None else definition.function.result_type
        missing = results.no_run(self.settings.schema, shown)
        awaited = results.Awaited(
            run_id=uuid, shown=shown, annotation=annotation, missing=missing, first=first, seal=self.seal
        )
        return (yield from results.result(awaited, self.waiters, bell, timeout, self.clock))

    # reading

    def definition(self, row: RunRow, of: Definition[..., Any, Any] | None = None) -> Definition[..., Any, Any] | None:
        """Of the run: `of`, else what the app knows by its name. Raises DefinitionError when `of` has another name."""
        if of is None:
            return self.app.definitions.get(row.name)
        if of.name != row.name:
            raise DefinitionError(f"run {_id(row)} is a run of {row.name!r}, not of {of.name!r}")
        return of

    def get(self, run_id: RunId) -> Plan[RunRow]:
        """Raises RunNotFound."""
        asked = candidates(self.settings.schema, run_id)
        found = yield from ask(lambda: observe.get(asked))
        for uuid in asked:
            if uuid in found:
                return opened_row(self.seal, found[uuid])
        raise results.no_run(self.settings.schema, run_id)

    def list(self, query: RunQuery) -> Plan[Found]:
        """A page, and the cursor that continues after it."""
        which, order = query.filter(self.settings.schema), query.order()
        limit, offset = query.window()
        found = [*(yield from ask(lambda: observe.page(which, order, limit=limit + 1, offset=offset)))]
        more = len(found) > limit
        rows = [opened_row(self.seal, row) for row in found[:limit]]
        return rows, cursor_of(found[limit - 1], query.sort) if more else None

    def count(self, query: RunQuery) -> Plan[int]:
        which = query.filter(self.settings.schema)
        return (yield from ask(lambda: observe.count(which)))

    def history(self, run_id: RunId) -> Plan[Items]:
        uuid = yield from self._resolve(run_id)
        found = yield from ask(lambda: observe.history(uuid))
        if found is None:
            raise results.no_run(self.settings.schema, run_id)
        return history_items(opened_entries(self.seal, found.entries), found.base, found.prologue)

    def audit(self, run_id: RunId) -> Plan[Audit]:
        row = yield from self.get(run_id)
        found = yield from ask(lambda: observe.audit(row.run_id))
        return [AuditItem(*each) for each in found]

    def trace(self, run_id: RunId) -> Plan[Trace[Any]]:
        uuid = yield from self._resolve(run_id)
        row = yield from self.get(uuid)
        found = yield from ask(lambda: observe.history(uuid))
        if found is None:
            raise results.no_run(self.settings.schema, run_id)
        return Trace(
            name=row.name,
            kind=row.kind,
            input=row.input,
            items=opened_entries(self.seal, found.entries),
            base=found.base,
            prologue=found.prologue,
            output=row.output,
            error=row.error,
            status=public(row.status).value,
            run_id=_id(row),
        )

    def why(self, run_id: RunId) -> Plan[Why]:
        uuid = yield from self._resolve(run_id)
        why = yield from results.explained(uuid, self.seal)
        if why is None:
            raise results.no_run(self.settings.schema, run_id)
        return why

    # changing

    def cancel(self, run_id: RunId, reason: str | None, by: str | None) -> Plan[RunRow]:
        """Cancel a run and its live descendants. Raises FlowgenError for one that completed or failed."""
        reason, who = _text(reason, "reason"), _text(by, "by")
        error = json.dumps({"reason": reason}, ensure_ascii=False, separators=(",", ":"))
        payload = f'{{"status":"cancelled","error":{error}}}'
        cancelled = partial(runs.cancel, reason=reason, error=error, payload=payload, who=who)
        row = yield from self._change(run_id, cancelled)
        if row.status in (Status.COMPLETED, Status.FAILED):
            _refuse(row, "it cannot be cancelled")
        return row

    def pause(self, run_id: RunId, reason: str | None, by: str | None) -> Plan[RunRow]:
        """Pause a run and its live descendants. Raises FlowgenError for one that has ended, is parked or cancelling."""
        reason, who = _text(reason, "reason"), _text(by, "by")
        row = yield from self._change(run_id, lambda uuid: runs.pause(uuid, reason, who=who))
        if row.status in FINAL:
            _refuse(row, "it cannot be paused")
        if row.status == Status.PARKED:
            _refuse(row, "it stands already; resume it when code that fits is deployed, or accept the code as it is")
        if row.request == Request.CANCEL:
            _refuse(row, "it is being cancelled, so it cannot be paused")
        return row

    def resume(self, run_id: RunId, by: str | None) -> Plan[RunRow]:
        """Resume a paused or parked run, and its paused descendants. Raises FlowgenError for one that has ended."""
        who = _text(by, "by")
        ended = False

        def resumed(uuid: UUID) -> Op[RunRow | None]:
            nonlocal ended
            row, ended = yield from runs.resume(uuid, who=who)
            return row

        row = yield from self._change(run_id, resumed)
        if ended:
            hint = "; retry makes a failed run go on" if row.status == Status.FAILED else ""
            _refuse(row, f"it cannot be resumed{hint}")
        return row

    def set_deadline(self, run_id: RunId, duration: Duration, by: str | None) -> Plan[RunRow]:
        """A new deadline, from now by the database's clock. Raises FlowgenError for a run that has ended."""
        lasts, who = as_timedelta(duration, what="deadline"), _text(by, "by")
        uuid = yield from self._resolve(run_id)
        done = yield from ask(lambda: runs.set_deadline(uuid, lasts, who=who))
        row = yield from self._after(uuid, run_id)
        if not done:
            _refuse(row, "its deadline means nothing any more")
        return row

    def retry(self, run_id: RunId, from_scratch: bool, by: str | None) -> Plan[RunRow]:
        """A failed run goes on from what it has, or from scratch. Raises FlowgenError for one that has not failed."""
        who = _text(by, "by")
        payload = json.dumps({"from_scratch": bool(from_scratch), "who": who}, ensure_ascii=False)
        uuid = yield from self._resolve(run_id)
        # A second try after a lost answer could be told that the run is not failed, though this retry was what did it.
        done = yield from ask(lambda: runs.retry(uuid, payload=payload, who=who), again=False)
        row = yield from self._after(uuid, run_id)
        if not done:
            final = "; cancelled is final, start a new run" if row.status == Status.CANCELLED else ""
            _refuse(row, f"only a failed run can be retried{final}")
        return row

    def order(self, run_id: RunId, order: Order) -> Plan[RunRow]:
        """What an operator decides about one command. Raises FlowgenError for one that neither failed nor waits."""
        order = attrs.evolve(order, by=_text(order.by, "by"), reason=_text(order.reason, "reason"))
        row = yield from self.get(run_id)
        history = yield from self.history(row.run_id)
        check(order, _id(row), public(row.status), history)
        done = yield from send(order, row.run_id, row, self.seal)
        after = yield from self._after(row.run_id, run_id)
        if not done:
            _refuse(after, f"{order.verb} of {order.key!r} came too late")
        return after

    def accept(self, run_id: RunId, by: str | None, reason: str | None) -> Plan[RunRow]:
        """A parked run goes on with the code as it is. Raises FlowgenError for one that is not parked."""
        who, why = _text(by, "by"), _text(reason, "reason")
        payload = json.dumps({"by": who, "reason": why}, ensure_ascii=False)
        uuid = yield from self._resolve(run_id)
        done = yield from ask(lambda: runs.accept(uuid, payload=payload, who=who, reason=why), again=False)
        row = yield from self._after(uuid, run_id)
        if not done:
            _refuse(row, "only a parked run can be accepted")
        return row

    def signal(self, run_id: RunId, name: str, payload: object, *, own: bool) -> Plan[None]:
        """A message to one run. `own` is False on a connection that the caller lends."""
        yield from messages.signal(run_id, name, payload, self.settings, self.seal)
        yield from self._hint(own=own)

    def complete(self, token: str | Token[Any], value: object, *, own: bool) -> Plan[None]:
        """What a token stands for was done."""
        yield from messages.complete(token, value, self.settings, self.seal)
        yield from self._hint(own=own)

    def fail(self, token: str | Token[Any], error: str | BaseException | Failure, *, own: bool) -> Plan[None]:
        """What a token stands for cannot be done."""
        yield from messages.fail(token, error, self.seal)
        yield from self._hint(own=own)

    def _resolve(self, run_id: RunId) -> Plan[UUID]:
        asked = candidates(self.settings.schema, run_id)
        if len(asked) == 1:
            return asked[0]
        return (yield from self.get(run_id)).run_id

    def _change(self, run_id: RunId, make: Callable[[UUID], Op[RunRow | None]]) -> Plan[RunRow]:
        uuid = yield from self._resolve(run_id)
        row = yield from ask(lambda: make(uuid))
        if row is None:
            raise results.no_run(self.settings.schema, run_id)
        yield from self._hint()
        return opened_row(self.seal, row)

    def _after(self, uuid: UUID, run_id: RunId) -> Plan[RunRow]:
        row = (yield from ask(lambda: observe.get([uuid]))).get(uuid)
        if row is None:
            raise results.no_run(self.settings.schema, run_id)
        yield from self._hint()
        return opened_row(self.seal, row)


def _id(row: RunRow) -> str:
    return row.id if row.id is not None else str(row.run_id)


def _refuse(row: RunRow, what: str) -> NoReturn:
    raise FlowgenError(f"run {_id(row)} ({row.name}) is {public(row.status)}: {what}")


def _text(value: object, what: str) -> str | None:
    """Words of a person, to be stored. Raises DefinitionError."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise DefinitionError(f"{what} is {value!r} of type {type(value).__name__}: give a string")
    if "\0" in value:
        raise DefinitionError(f"{what} holds a NUL character, which cannot be stored")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DefinitionError(f"{what} has lone surrogates, which cannot be stored") from None
    return value
