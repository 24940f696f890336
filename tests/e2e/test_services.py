"""Services live as long as their worker: opened before it claims, closed when its last call has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import psycopg
import pytest

import flowgen
from flowgen import App, Context, Flow, Invoke, Step, StepContext
from flowgen.client.sync import Client
from flowgen.testing import context, drive
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@attrs.define
class Mail:
    """What a function of a user sends mails with."""

    said: list[str]
    name: str = "mail"
    open: bool = True

    def send(self, to: str) -> str:
        assert self.open, "the service was closed"
        self.said.append(f"to {to}")
        return f"{self.name} to {to}"


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_services_are_open_before_the_first_call_and_until_the_last_has_ended(
    flowgen_client: Client, flowgen_worker: Workers, db: Db, flavour: str
) -> None:
    said: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def sessions() -> int:
        row = db.execute("select count(*) from flowgen.worker where not dead").fetchone()
        assert row is not None
        return int(row[0])

    @contextmanager
    def services() -> Iterator[Mail]:
        mail = Mail(said)
        said.append(f"opened, {sessions()} workers")
        yield mail
        mail.open = False
        said.append(f"closed, {sessions()} workers")

    @asynccontextmanager
    async def services_of_the_loop() -> AsyncIterator[Mail]:
        loop = asyncio.get_running_loop()
        with services() as mail:
            yield mail
            assert asyncio.get_running_loop() is loop

    app = App(services=services if flavour == "sync" else services_of_the_loop)

    @app.task
    def last(ctx: StepContext[Mail], to: str) -> str:
        begun.set()
        assert go.wait(20)
        return ctx.services.send(to)

    @app.task
    async def first(ctx: StepContext[Mail]) -> str:
        return ctx.services.send("first")

    @app.workflow
    def flow(ctx: Context[Mail]) -> Flow[list[str]]:
        one = yield from Invoke(first)
        return [one, (yield from Step(last, "last")), ctx.services.name]

    run = flowgen_client.start(flow)
    worker = flowgen_worker(app)
    assert begun.wait(20)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    stopping.join(0.2)
    assert said == ["opened, 0 workers", "to first"], "a stop waits for the call"
    go.set()
    stopping.join(20)
    assert said == ["opened, 0 workers", "to first", "to last", "closed, 0 workers"]
    following = flowgen_worker(app)
    assert run.result(timeout=20) == ["mail to first", "mail to last", "mail"]
    assert said.count("to last") == 1
    following.stop()


def test_services_that_fail_to_open_take_no_run_and_leave_no_session(
    flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def services() -> AsyncIterator[str]:
        with first_part():
            raise ConnectionError("no mail server")
        yield "never"

    @contextmanager
    def first_part() -> Iterator[None]:
        try:
            yield
        finally:
            closed.append("first part")

    app = App(services=services)

    @app.task
    def uses(ctx: StepContext[str]) -> str:
        return ctx.services

    run = flowgen_client.start(uses)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="no mail server"):
            flowgen_worker(app)
    assert closed == ["first part"] * 2
    assert run.refresh().status == "pending"
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (0,)
    app.services = "another one"
    flowgen_worker(app)
    assert run.result(timeout=20) == "another one"


def test_services_of_a_generator_without_a_decorator_are_refused_with_what_is_missing(flowgen_worker: Workers) -> None:
    def plain() -> Iterator[Mail]:
        yield Mail([])

    async def of_the_loop() -> AsyncIterator[Mail]:
        yield Mail([])

    for services, missing in ((plain, "with @contextmanager"), (of_the_loop, "with @asynccontextmanager")):
        with pytest.raises(flowgen.DefinitionError, match=f"gave the generator {services.__name__}: .* {missing} of "):
            flowgen_worker(App(services=services))


def test_services_that_fail_to_close_are_told_after_the_worker_has_left(
    flowgen_client: Client, flowgen_database: str, db: Db
) -> None:
    @contextmanager
    def services() -> Iterator[str]:
        yield "open"
        raise OSError("the mail server hung up")

    app = App(services=services)

    @app.task
    def uses(ctx: StepContext[str]) -> str:
        return ctx.services

    with pytest.raises(OSError, match="the mail server hung up"), flowgen.worker(flowgen_database, app=app):
        assert flowgen_client.start(uses).result(timeout=20) == "open"
    assert db.execute("select count(*) from flowgen.worker where not dead").fetchone() == (0,)


def test_a_program_whose_services_fail_ends_with_their_error_and_each_process_has_its_own(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
from contextlib import contextmanager

@contextmanager
def services():
    if "BROKEN" in os.environ:
        raise ConnectionError("no mail server")
    note(f"opened by {os.getpid()}")
    yield os.getpid()
    note(f"closed by {os.getpid()}")

app = App(services=services)

@app.task
def uses(ctx: StepContext) -> bool:
    return ctx.services == os.getpid()
""",
        more="app=app, processes=int(os.environ.get('PROCESSES', 1))",
    )
    broken = program.start(workers=0, BROKEN="1")
    assert broken.ended() == 1
    assert "ConnectionError: no mail server" in program.errors()
    process = program.start(workers=2, PROCESSES="2")
    pids = sorted(process.children())
    runs = flowgen_client.start_many([flowgen.call("uses") for _ in range(20)])
    assert [run.result(timeout=20) for run in runs] == [True] * 20
    process.signal(15)
    assert process.ended() == 0
    assert sorted(program.notes()) == sorted(f"{what} by {pid}" for pid in pids for what in ("opened", "closed"))


def test_services_are_replaced_for_a_test(flowgen_client: Client, flowgen_worker: Workers) -> None:
    def real() -> Any:
        raise AssertionError("a test opens no real service")

    app = App(services=real)
    fake = Mail([], "fake")

    @app.task
    def greet(ctx: StepContext[Mail], to: str) -> str:
        return ctx.services.send(to)

    @app.workflow
    def flow(ctx: Context[Mail]) -> Flow[list[str]]:
        return [ctx.services.name, (yield from Step(greet, "ann"))]

    assert greet.fn(context(services=fake), "eve") == "fake to eve"
    assert drive(flow.call(), services=fake, run=True).result == ["fake", "fake to ann"]
    app.services = fake
    flowgen_worker(app)
    assert flowgen_client.start(flow).result(timeout=20) == ["fake", "fake to ann"]
    assert fake.said == ["to eve", "to ann", "to ann"]
    eventually(lambda: fake.open)
