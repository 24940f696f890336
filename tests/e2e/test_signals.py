"""Signals: buffered, read once in the order of their sending, never lost and never twice, whoever sends them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs
import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Cancelled,
    Checkpoint,
    Context,
    ContinueAsNew,
    Flow,
    FlowgenError,
    Gather,
    Race,
    Retry,
    RunFailed,
    RunNotFound,
    Signal,
    Sleep,
    Start,
    Step,
    StepFailed,
    WaitFailed,
    WaitSignal,
    WaitTimedOut,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@attrs.frozen
class Approval:
    by: str
    cents: int = 0


def inbox(db: Db) -> int:
    row = db.execute("select count(*) from flowgen.inbox").fetchone()
    assert row is not None
    return int(row[0])


def test_a_signal_wakes_a_run_that_waits(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def waits() -> Flow[str]:
        approval = yield from WaitSignal("approve", Approval)
        return f"{approval.by} {approval.cents}"

    flowgen_worker(app, poll=30)
    run = flowgen_client.start(waits.call().opts(id="order-1"))
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.signal("order-1", "approve", Approval("ann", 5))
    assert run.result(timeout=20) == "ann 5"
    assert inbox(db) == 0
    entry = flowgen_client.history("order-1")[0]
    assert (entry.path, entry.value) == ("signal:approve", {"by": "ann", "cents": 5})


def test_signals_that_come_before_the_wait_are_read_in_order_and_others_stay(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def reads() -> Flow[list[Any]]:
        found = []
        for _ in range(3):
            found.append((yield from WaitSignal("go")))
        two = yield from Gather(WaitSignal("go", int), WaitSignal("go", int))
        try:
            yield from WaitSignal("never", timeout=0.05)
        except WaitTimedOut as error:
            found.append(str(error))
        return [*found, sorted(two)]

    run = flowgen_client.start(reads)
    for n in range(3):
        flowgen_client.signal(run.id, "go", n)
    flowgen_client.signal(run.uuid, "other", "not read")
    flowgen_client.signal(run.id, "go", 3)
    flowgen_worker(app, poll=0.1)
    eventually(lambda: inbox(db) == 1 and run.refresh().status == "waiting")
    flowgen_client.signal(run.id, "go", 4)
    assert run.result(timeout=20) == [0, 1, 2, "the signal never did not come within 0.05 s", [3, 4]]
    assert inbox(db) == 0


def test_a_signal_to_nobody_is_an_error_of_the_caller(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def ends() -> Flow[None]:
        yield Sleep(0)

    flowgen_worker(app)
    run = flowgen_client.start(ends.call().opts(id="done"))
    run.result(timeout=20)
    with pytest.raises(RunNotFound, match="no run has the id 'nobody'"):
        flowgen_client.signal("nobody", "go")
    with pytest.raises(FlowgenError, match=r"^run done \(ends\) is completed: it cannot be sent the signal 'go' any"):
        flowgen_client.signal("done", "go")
    with pytest.raises(flowgen.DefinitionError, match="the name of a signal 'a/b' is not a name"):
        flowgen_client.signal("done", "a/b")
    with pytest.raises(flowgen.CodecError, match="the payload of the signal go cannot be stored at "):
        flowgen_client.signal("done", "go", {"at": [object()]})


def test_a_handler_sends_to_other_runs_and_hears_when_there_is_nobody(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def receiver() -> Flow[list[Any]]:
        found = []
        for _ in range(4):
            found.append((yield from WaitSignal("go")))
        return found

    @app.workflow
    def ends() -> Flow[None]:
        yield Sleep(0)

    @app.workflow
    def sender(ctx: Context, uuid: str) -> Flow[list[Any]]:
        ref = yield from Start(receiver)
        yield Signal("r-1", "go", 1)
        yield Signal(ref, "go", {"to": "a child"})
        sent = yield from Gather(Signal("r-1", "go", 2), Signal(uuid, "go", 3))
        yield Signal("r-1", "go")
        yield Signal(ctx.run_id, "self", "to itself")
        said = [list(sent), (yield from WaitSignal("self", str))]
        for target in ("nobody", "done"):
            try:
                yield Signal(target, "go")
            except StepFailed as error:
                said.append([str(error), error.failure.type])
        return said

    flowgen_worker(app, poll=30)
    flowgen_client.start(ends.call().opts(id="done")).result(timeout=20)
    received = flowgen_client.start(receiver.call().opts(id="r-1"))
    run = flowgen_client.start(sender.call(str(received.uuid)))
    assert run.result(timeout=20) == [
        [None, None],
        "to itself",
        ["send:go#4 was not sent: no run has the id 'nobody'", "RunNotFound"],
        ["send:go#5 was not sent: the run 'done' (ends) is completed", "RunEnded"],
    ]
    assert received.result(timeout=20) == [1, 2, 3, None]


def test_a_payload_that_does_not_fit_fails_the_wait_once_and_names_the_path(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def careful() -> Flow[list[str]]:
        refused = []
        while True:
            try:
                approval = yield from WaitSignal("approve", Approval)
                return [*refused, approval.by]
            except WaitFailed as error:
                refused.append(str(error))

    @app.workflow(retry=Retry(3, initial=0.01))
    def careless() -> Flow[Approval]:
        return (yield from WaitSignal("approve", Approval))

    run, other = flowgen_client.start(careful), flowgen_client.start(careless)
    for each in (run, other):
        flowgen_client.signal(each.id, "approve", {"by": "ann", "cents": "5"})
    flowgen_client.signal(other.id, "approve", Approval("eve"))
    flowgen_client.signal(run.id, "approve", 7)
    flowgen_client.signal(run.id, "approve", {"by": "bob"})
    flowgen_worker(app)
    expected = "the signal approve failed: CodecError: the signal approve cannot be read at "
    first, second, name = run.result(timeout=20)
    assert first == expected + "$.cents: found str, allowed: int", first
    assert second.startswith(expected + "$: "), second
    assert name == "bob"
    with pytest.raises(RunFailed, match=r"WaitFailed: the signal approve failed: .* at \$.cents"):
        other.result(timeout=20)
    assert other.refresh().attempt == 1  # it is permanent
    flowgen_client.retry(other.id)
    assert other.result(timeout=20) == Approval("eve")
    assert inbox(db) == 0


def test_a_wait_that_loses_takes_nothing_away(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    """Both branches of each race have what they wait for when it begins: only the first takes it."""

    @app.workflow
    def races() -> Flow[list[Any]]:
        won = []
        for _ in range(3):
            won.append((yield from Race(a=WaitSignal("a", int), b=WaitSignal("b", int))))
        rest = yield from Gather(WaitSignal("b", int), WaitSignal("b", int), WaitSignal("b", int))
        return [[each.value for each in won], list(rest)]

    run = flowgen_client.start(races)
    for n in range(3):
        flowgen_client.signal(run.id, "b", 10 + n)
    for n in range(3):
        flowgen_client.signal(run.id, "a", n)
    flowgen_worker(app)
    assert run.result(timeout=20) == [[0, 1, 2], [10, 11, 12]]
    assert inbox(db) == 0


def test_a_loop_of_segments_reads_every_signal_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def sums(ctx: Context, count: int) -> Flow[int]:
        total = ctx.accumulated_results or 0
        for n in range(ctx.checkpoint_cursor or 0, count):
            total += yield from WaitSignal("add", int)
            yield Checkpoint(n + 1, n + 1, total)
        return total

    workers = flowgen_worker(app, poll=0.1)
    run = flowgen_client.start(sums, 40)
    for n in range(20):
        flowgen_client.signal(run.id, "add", n)
    eventually(lambda: run.refresh().status == "waiting")
    workers.stop()
    for n in range(20, 40):
        flowgen_client.signal(run.id, "add", n)
    flowgen_worker(app, poll=0.1)
    assert run.result(timeout=20) == sum(range(40))
    assert inbox(db) == 0


def test_a_run_that_goes_on_as_new_reads_on(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def sums(left: int, total: int) -> Flow[int]:
        total += yield from WaitSignal("add", int)
        if left == 1:
            return total
        return (yield from ContinueAsNew(left - 1, total))

    run = flowgen_client.start(sums, 4, 0)
    for n in (1, 2, 4):
        flowgen_client.signal(run.id, "add", n)
    flowgen_worker(app)
    eventually(lambda: inbox(db) == 0 and run.refresh().status == "waiting")
    flowgen_client.signal(run.id, "add", 8)
    assert run.result(timeout=20) == 15


def test_a_retried_run_reads_what_was_sent_before_it_failed(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    broken = threading.Event()
    broken.set()

    def work() -> None:
        if broken.is_set():
            raise flowgen.PermanentError("broken")

    @app.workflow
    def tries() -> Flow[list[int]]:
        one = yield from WaitSignal("n", int)
        yield from Step(work)
        two = yield from WaitSignal("n", int)
        return [one, two]

    run = flowgen_client.start(tries)
    for n in (1, 2, 3):
        flowgen_client.signal(run.id, "n", n)
    flowgen_worker(app)
    with pytest.raises(RunFailed):
        run.result(timeout=20)
    with pytest.raises(FlowgenError, match="is failed: it cannot be sent the signal 'n' any more"):
        flowgen_client.signal(run.id, "n", 4)
    broken.clear()
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == [1, 2]
    assert inbox(db) == 0


def test_a_paused_run_and_a_cancelled_one_keep_what_is_sent(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    told: list[Any] = []

    def tell(value: Any) -> None:
        told.append(value)

    @app.workflow
    def waits() -> Flow[int]:
        return (yield from WaitSignal("n", int))

    @app.workflow
    def cleans() -> Flow[None]:
        try:
            yield from WaitSignal("never")
        except Cancelled:
            yield Step(tell, (yield from WaitSignal("last words", str)))
            raise

    flowgen_worker(app)
    paused, cancelled = flowgen_client.start(waits), flowgen_client.start(cleans)
    for run in (paused, cancelled):
        eventually(lambda run=run: run.refresh().status == "waiting")
    flowgen_client.pause(paused.id)
    flowgen_client.cancel(cancelled.id)
    flowgen_client.signal(paused.id, "n", 5)
    assert paused.refresh().status == "paused"
    flowgen_client.signal(cancelled.id, "last words", "goodbye")
    flowgen_client.resume(paused.id)
    assert paused.result(timeout=20) == 5
    eventually(lambda: cancelled.refresh().status == "cancelled")
    assert told == ["goodbye"]


def test_a_signal_in_the_callers_transaction_is_there_when_that_commits(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db
) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        return (yield from WaitSignal("n", int))

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    eventually(lambda: run.refresh().status == "waiting")
    with psycopg.connect(flowgen_database) as conn:
        flowgen_client.signal(run.id, "n", 1, conn=conn)
        conn.rollback()
        flowgen_client.signal(run.id, "n", 2, conn=conn)
        assert inbox(db) == 0
        new = flowgen_client.start(waits.call().opts(id="new"), conn=conn)
        flowgen_client.signal("new", "n", 3, conn=conn)
        conn.commit()
    assert run.result(timeout=20) == 2
    assert new.result(timeout=20) == 3


def test_sql_sends_a_signal(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def waits() -> Flow[list[Any]]:
        one = yield from WaitSignal("go", dict[str, Any])
        two = yield from WaitSignal("go")
        return [one, two]

    flowgen_worker(app, poll=0.1)
    run = flowgen_client.start(waits.call().opts(id="o-1"))
    db.execute("""select flowgen.signal('o-1', 'go', '{"json": 1, "escaped": "␀c"}')""")
    db.execute("select flowgen.signal(%s, 'go')", (str(run.uuid),))
    assert run.result(timeout=20) == [{"json": 1, "escaped": "␀c"}, None]
    with pytest.raises(psycopg.errors.NoDataFound, match="flowgen: no run has the id 'nobody'"):
        db.execute("select flowgen.signal('nobody', 'go')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"the run 'o-1' \(waits\) is completed"):
        db.execute("select flowgen.signal('o-1', 'go')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="'a/b' is not the name of a signal"):
        db.execute("select flowgen.signal('o-1', 'a/b')")


def test_many_senders_at_once_lose_nothing(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    @app.workflow
    def collects(count: int) -> Flow[list[int]]:
        found = []
        for _ in range(count):
            found.append((yield from WaitSignal("n", int)))
        return found

    @app.workflow
    def sends(first: int) -> Flow[None]:
        for n in range(first, first + 20):
            yield Signal("all", "n", n)

    for _ in range(2):
        flowgen_worker(app, lease=10, poll=0.05)
    run = flowgen_client.start(collects.call(140).opts(id="all"))
    flowgen_client.start_many([sends.call(100 + 20 * n) for n in range(4)])

    def send(first: int) -> None:
        for n in range(first, first + 20):
            flowgen_client.signal("all", "n", n)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, [0, 20, 40]))
    found = run.result(timeout=60)
    assert sorted(found) == [*range(60), *range(100, 180)]
    for first in [0, 20, 40, 100, 120, 140, 160]:
        each = [n for n in found if first <= n < first + 20]
        assert each == sorted(each)


def test_a_killed_worker_reads_a_signal_neither_twice_nor_never(program: Program, flowgen_client: Client) -> None:
    program.write("""
def wait(n):
    note(f"has {n}")
    gate(f"goes on {n}")

@workflow
def collects() -> Flow[list]:
    found = []
    for n in range(3):
        found.append((yield from WaitSignal("n", int)))
        yield from Step(wait, n)
    return found
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("collects"))
    for n in (7, 8, 9):
        flowgen_client.signal(run.id, "n", n)
    program.noted("has 0")
    first.kill()
    program.start()
    for n in range(3):
        program.open(f"goes on {n}")
    assert run.result(timeout=30) == [7, 8, 9]


def test_a_timeout_is_a_time_of_the_database(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def waits() -> Flow[str]:
        try:
            return str((yield from WaitSignal("n", timeout=timedelta(seconds=1))))
        except WaitTimedOut:
            return "late"

    workers = flowgen_worker(app, poll=0.1)
    run = flowgen_client.start(waits)
    eventually(lambda: run.refresh().status == "waiting")
    workers.stop()
    assert [item.kind for item in flowgen_client.history(run.id)] == ["armed"]
    flowgen_worker(app, poll=0.1)
    assert run.result(timeout=20) == "late"
