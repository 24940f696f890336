"""Events: told once to everybody who waits, whatever the order of commits, and removed when nobody waits any more."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Checkpoint,
    Context,
    Emit,
    Flow,
    Gather,
    Race,
    RunCancelled,
    RunFailed,
    Settings,
    Sleep,
    Step,
    WaitEvent,
    WaitTimedOut,
)
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def registered(db: Db) -> int:
    """Waits that were looked at, and wait."""
    row = db.execute("select count(*) from flowgen.event_wait where not fresh").fetchone()
    assert row is not None
    return int(row[0])


def all_gone(db: Db) -> bool:
    return db.execute("select count(*) from flowgen.event_wait").fetchone() == (0,)


def test_an_event_before_during_and_after_the_registration_is_delivered_once(
    app: App, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(30)

    @app.workflow
    def listens() -> Flow[list[int]]:
        yield Step(work)
        heard: list[int] = []
        for _ in range(4):
            heard.append((yield from WaitEvent("news", {"kind": "x"}))["n"])
        return heard

    flowgen_worker(app)
    run = flowgen_client.start(listens)
    assert begun.wait(20)
    with psycopg.connect(flowgen_database) as one, psycopg.connect(flowgen_database) as two:
        # Two emitters are open over the registration, and commit in the other order.
        flowgen_client.emit("news", {"kind": "x", "n": 2}, conn=one)
        flowgen_client.emit("news", {"kind": "x", "n": 1}, conn=two)
        flowgen_client.emit("news", {"kind": "y", "n": 0})
        go.set()
        eventually(lambda: registered(db) == 1, 20)
        two.commit()
        eventually(lambda: len([each for each in flowgen_client.history(run.id) if each.kind == "armed"]) == 2, 20)
        one.commit()
    flowgen_client.emit("news", {"kind": "x", "n": 3})
    flowgen_client.emit("news", {"kind": "x", "n": 4})
    assert run.result(timeout=30) == [1, 2, 3, 4]
    assert all_gone(db)
    assert db.execute("select count(*) from flowgen.inbox").fetchone() == (0,)


def test_what_a_transaction_takes_back_was_never_emitted(
    app: App, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def listens() -> Flow[Any]:
        return (yield from WaitEvent("news"))

    flowgen_worker(app)
    run = flowgen_client.start(listens)
    eventually(lambda: registered(db) == 1, 20)
    with psycopg.connect(flowgen_database) as conn:
        flowgen_client.emit("news", "taken back", conn=conn)
        conn.rollback()
    event_id = db.execute("select flowgen.emit('news', '\"kept\"')").fetchone()
    assert run.result(timeout=20) == "kept"
    assert db.execute("select event_id::text from flowgen.event").fetchall() == [event_id]


def test_two_waiters_both_get_it_and_in_one_run_too(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def one(n: int) -> Flow[Any]:
        return (yield from WaitEvent("news", {"to": {"in": [n, 0]}}))

    @app.workflow
    def both() -> Flow[list[Any]]:
        found = yield from Gather(WaitEvent("news"), WaitEvent("news"))
        return [each["to"] for each in found]

    flowgen_worker(app)
    flowgen_worker(app)
    runs = [flowgen_client.start(one, n) for n in (1, 2, 3)]
    pair = flowgen_client.start(both)
    eventually(lambda: registered(db) == 5, 20)
    flowgen_client.emit("news", {"to": 2})
    assert runs[1].result(timeout=20) == {"to": 2}
    assert pair.result(timeout=20) == [2, 2]
    flowgen_client.emit("news", {"to": 0})
    assert [run.result(timeout=20) for run in runs] == [{"to": 0}, {"to": 2}, {"to": 0}]
    assert all_gone(db)


def test_a_run_is_not_given_what_was_emitted_before_it_was_started(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def listens() -> Flow[Any]:
        return (yield from WaitEvent("news"))

    flowgen_client.emit("news", "old")
    flowgen_worker(app)
    run = flowgen_client.start(listens)
    eventually(lambda: registered(db) == 1, 20)
    flowgen_client.emit("news", "new")
    assert run.result(timeout=20) == "new"


def test_a_wait_that_times_out_loses_a_race_or_is_cancelled_leaves_nothing_behind(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def times_out() -> Flow[str]:
        try:
            yield from WaitEvent("never", timeout=0.05)
        except WaitTimedOut as error:
            return str(error)
        return "?"

    @app.workflow
    def races() -> Flow[list[str]]:
        first = yield from Race(event=WaitEvent("never"), time=Sleep(0.05))
        second = yield from Race(event=WaitEvent("never"), time=Sleep(0.05))
        yield WaitEvent("now")
        return [first.tag, second.tag]

    @app.workflow
    def waits() -> Flow[None]:
        yield WaitEvent("never")

    @app.workflow
    def fails() -> Flow[None]:
        yield Gather(WaitEvent("never"), Step(failing))

    def failing() -> None:
        raise flowgen.PermanentError("no")

    flowgen_worker(app)
    late = flowgen_client.start(times_out)
    racing = flowgen_client.start(races)
    cancelled = flowgen_client.start(waits)
    failed = flowgen_client.start(fails)
    assert late.result(timeout=20) == "never: no event 'never' came within 0.05 s"
    with pytest.raises(RunFailed, match="no"):
        failed.result(timeout=20)
    # The run goes on, and its lost races have left no registration.
    eventually(lambda: registered(db) == 2, 20)
    flowgen_client.cancel(cancelled.id)
    with pytest.raises(RunCancelled):
        cancelled.result(timeout=20)
    flowgen_client.emit("now")
    assert racing.result(timeout=20) == ["time", "time"]
    assert all_gone(db)


def test_a_timeout_is_of_the_databases_clock_and_survives(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock, db: Db
) -> None:
    @app.workflow
    def waits() -> Flow[str]:
        try:
            yield from WaitEvent("never", timeout="3d")
        except WaitTimedOut:
            return "timed out"
        return "?"

    with flowgen_worker(app):
        run = flowgen_client.start(waits)
        eventually(lambda: registered(db) == 1, 20)
    flowgen_clock.advance("73h")
    flowgen_worker(app)
    assert run.result(timeout=20) == "timed out"
    assert all_gone(db)


def test_a_loop_is_given_each_event_once_through_races_checkpoints_and_restarts(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def collects(ctx: Context) -> Flow[list[int]]:
        done: list[int] = ctx.accumulated_results or []
        while len(done) < 6:
            won = yield from Race(event=WaitEvent("n"), other=WaitEvent("other"))
            done = [*done, won.value]
            if len(done) % 2:
                yield Checkpoint(len(done), None, done)
        return done

    def saved() -> list[Any]:
        return [each.value for each in flowgen_client.history(run.id) if each.kind == "checkpoint"]

    run = flowgen_client.start(collects)
    for n in range(3):
        flowgen_client.emit("n", n)
    with flowgen_worker(app, cache=0):
        eventually(lambda: "[0, 1, 2]" in str(saved()), 30)
    for n in range(3, 6):
        flowgen_client.emit("n", n)
    flowgen_worker(app, cache=0)
    assert run.result(timeout=30) == [0, 1, 2, 3, 4, 5]


def test_an_emit_of_a_run_is_told_once_and_gives_the_events_id(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def listens() -> Flow[Any]:
        return (yield from WaitEvent("news"))

    @app.workflow
    def emits() -> Flow[str]:
        return (yield from Emit("news", {"big": 1e22, "␀": "\0", "n": -0.0}))

    flowgen_worker(app)
    run = flowgen_client.start(listens)
    eventually(lambda: registered(db) == 1, 20)
    emitting = flowgen_client.start(flowgen.Call(emits, "emits", {}).opts(correlation_id="c-1"))
    event_id = emitting.result(timeout=20)
    assert repr(run.result(timeout=20)) == repr({"big": 1e22, "␀": "\0", "n": -0.0})
    found = db.execute("select event_id, correlation_id from flowgen.event").fetchall()
    assert found == [(UUID(event_id), "c-1")]


def test_an_event_is_delivered_once_though_workers_are_killed(program: Program, flowgen_client: Client, db: Db) -> None:
    program.write(
        """
        from flowgen import Emit, WaitEvent

        @workflow
        def listens(n: int) -> Flow[list[int]]:
            note(f"begun {n}")
            first = yield from WaitEvent("n")
            note(f"first {n}")
            yield Step(gate, "on")
            second = yield from WaitEvent("n")
            return [first, second]

        @workflow
        def emits() -> Flow[None]:
            yield Emit("n", 1)
            yield Step(gate, "never", 60)
        """.replace("\n        ", "\n")
    )
    first = program.start()
    runs = [flowgen_client.start(flowgen.call("listens", n=n)) for n in range(3)]
    eventually(lambda: registered(db) == 3, 20)
    first.kill()
    second = program.start()
    flowgen_client.start(flowgen.call("emits"))
    program.noted("first 0", timeout=30)
    second.kill()
    program.open("on")
    flowgen_client.emit("n", 2)
    program.start()
    assert [run.result(timeout=40) for run in runs] == [[1, 2]] * 3
    assert db.execute("select count(*) from flowgen.event where payload = '1'").fetchone() == (1,)
    assert db.execute("select count(*) from flowgen.event_wait").fetchone() == (0,)


def test_a_failed_run_that_is_retried_waits_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    attempts: list[int] = []

    def flaky() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise flowgen.PermanentError("once")

    @app.workflow
    def waits() -> Flow[Any]:
        return (yield from Gather(WaitEvent("news"), Step(flaky)))[0]

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    with pytest.raises(RunFailed):
        run.result(timeout=20)
    assert all_gone(db)
    flowgen_client.emit("news", "while it had failed")
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == "while it had failed"


def test_a_parked_or_ended_run_is_not_woken_and_its_registration_is_swept(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def waits() -> Flow[None]:
        yield WaitEvent("never")

    with flowgen_worker(app):
        run = flowgen_client.start(waits)
        eventually(lambda: registered(db) == 1, 20)
    # As a run ends that nobody can drive any more.
    db.execute(
        "update flowgen.run set status = 8, owner = null, finished_at = now(), error = '{}' where run_id = %s",
        (run.uuid,),
    )
    db.execute(
        "insert into flowgen.event (event_id, emitted_at, known_at, name, payload) values"
        " (gen_random_uuid(), now(), now() - interval '8 days', 'old', '1'),"
        " (gen_random_uuid(), now(), now() - interval '6 days', 'young', '1')"
    )
    nothing = "00000000-0000-0000-0000-000000000000"
    swept = db.execute("select events, after from flowgen.sweep_events('7 days', %s, 10)", (nothing,)).fetchone()
    assert swept == (1, None)
    assert all_gone(db)
    assert db.execute("select name from flowgen.event").fetchall() == [("young",)]


def test_both_clients_emit_and_refuse_what_cannot_be_told(
    app: App, flowgen_database: str, flowgen_client: Client, db: Db
) -> None:
    async def emit() -> str:
        async with flowgen.connect_async(flowgen_database) as client:
            return await client.emit("news", {"at": 1})

    event_id = asyncio.run(emit())
    assert db.execute("select event_id::text, name, payload from flowgen.event").fetchall() == [
        (event_id, "news", '{"at":1}')
    ]
    with pytest.raises(flowgen.DefinitionError, match="the name of an event 'a/b'"):
        flowgen_client.emit("a/b")
    with pytest.raises(flowgen.CodecError, match="the payload of the event news cannot be stored at"):
        flowgen_client.emit("news", {"x": float("nan")})
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="'a/b' is not the name of an event"):
        db.execute("select flowgen.emit('a/b')")
    assert db.execute("select count(*) from flowgen.event").fetchone() == (1,)


class Reversed:
    """A codec that keeps nothing readable."""

    name = "reversed"

    def encode(self, text: str) -> str:
        return json.dumps(text)[::-1]

    def decode(self, text: str) -> str:
        plain: str = json.loads(text[::-1])
        return plain


def test_payloads_pass_through_the_codec(app: App, flowgen_database: str, flowgen_worker: Workers, db: Db) -> None:
    settings = Settings(codec=Reversed(), poll=0.1)
    seen: list[Any] = []

    @app.workflow
    def listens() -> Flow[Any]:
        payload = yield from WaitEvent("news")
        yield Emit("more", {"secret": payload})
        return payload

    @app.task(on="more")
    def triggered(secret: str) -> None:
        seen.append((secret, flowgen.current().trigger.payload))

    flowgen_worker(app, codec=settings.codec)
    with flowgen.connect(flowgen_database, settings=settings, app=app) as client:
        run = client.start(listens)
        eventually(lambda: registered(db) == 1, 20)
        client.emit("news", "hidden")
        assert run.result(timeout=20) == "hidden"
    eventually(lambda: seen == [("hidden", {"secret": "hidden"})], 20)
    stored = db.execute("select payload from flowgen.event union all select value from flowgen.entry").fetchall()
    assert not any("hidden" in (text or "") for (text,) in stored)
