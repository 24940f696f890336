"""Apps, services, schemas and names."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Context, Flow, Gather, Invoke, Now, Retry, Settings, Sleep, Step, StepContext, Uuid
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client, connect
from flowgen.testing.workers import Workers


def test_two_apps_in_one_process_know_nothing_of_each_other(flowgen_client: Client, flowgen_worker: Workers) -> None:
    apps = {name: App(services=name) for name in ("one", "two")}

    def define(name: str, app: App) -> None:
        @app.task(name=f"task-{name}")
        def named(ctx: StepContext[str]) -> str:
            return ctx.services

        @app.workflow(name=f"flow-{name}", queue=name)
        def flow(ctx: Context[str]) -> Flow[list[str]]:
            mine: str = yield Invoke(named)
            return [mine, ctx.services]

    for name, app in apps.items():
        define(name, app)
        flowgen_worker(app)
    runs = {name: flowgen_client.start(app.definition(f"flow-{name}").call()) for name, app in apps.items()}
    assert {name: run.result(timeout=10) for name, run in runs.items()} == {
        "one": ["one", "one"],
        "two": ["two", "two"],
    }


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_services_live_as_long_as_their_worker(flowgen_client: Client, flowgen_worker: Workers, kind: str) -> None:
    said: list[str] = []

    @contextmanager
    def services() -> Iterator[dict[str, int]]:
        said.append("open")
        yield {"n": 7}
        said.append("closed")

    @asynccontextmanager
    async def async_services() -> AsyncIterator[dict[str, int]]:
        said.append("open")
        yield {"n": 7}
        said.append("closed")

    app = App(services=services if kind == "sync" else async_services)

    @app.task
    def uses(ctx: StepContext[dict[str, int]]) -> int:
        return ctx.services["n"]

    worker = flowgen_worker(app)
    assert flowgen_client.start(uses).result(timeout=10) == 7
    assert said == ["open"]
    worker.stop()
    assert said == ["open", "closed"]


def test_services_that_cannot_be_opened_keep_the_worker_from_starting(flowgen_worker: Workers) -> None:
    def services() -> Any:
        raise ConnectionError("no mail server")

    with pytest.raises(ConnectionError, match="no mail server"):
        flowgen_worker(App(services=services))


@pytest.mark.parametrize("schema", ["Mine", 'a"b', "select", "s" * 63, "schlüssel", "with space"])
def test_any_schema_name_works(app: App, flowgen_database: str, flowgen_worker: Workers, schema: str) -> None:
    @app.task
    def child(n: int) -> int:
        return n

    @app.workflow
    def flow(n: int) -> Flow[int]:
        yield Sleep(0.01)
        return sum((yield from Gather(Invoke(child, n), Invoke(child, n).opts(id=f"child {n}"))))

    with connect(flowgen_database, settings=Settings(schema=schema)) as client:
        flowgen_worker(app, schema=schema)
        assert client.start(flow, 2).result(timeout=15) == 4
    with psycopg.connect(flowgen_database) as conn:
        assert conn.execute("select count(*) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F73")
def test_two_schemas_of_one_database_are_apart(flowgen_database: str, flowgen_worker: Workers) -> None:
    said: list[str] = []

    def make(name: str) -> App:
        app = App()

        @app.task
        def who(n: int) -> str:
            said.append(name)
            return name

        return app

    flowgen_worker(make("one"), schema="one")
    flowgen_worker(make("two"), schema="two")
    for name in ("one", "two"):
        with connect(flowgen_database, settings=Settings(schema=name)) as client:
            call = flowgen.call("who", n=1).opts(id="same")
            assert client.start(call).result(timeout=10) == name
    assert said == ["one", "two"]


HOSTILE = [
    "'; DROP TABLE run; --", '"', "%s", "%(x)s", "{}", "{schema}", "$1", "\\", "\\x00", "\u202egnp", "\U0001f9e8" * 20,
    "a" * 150, "<script>alert(1)</script>", "null", "0", "true", ".", "..", "é", "e\u0301", "a b",
]  # fmt: skip


def test_hostile_names_ids_tags_and_queues_are_only_text(flowgen_client: Client, flowgen_worker: Workers) -> None:
    app = App()

    def step(text: str) -> str:
        return text

    def define(name: str) -> None:
        @app.workflow(name=name, queue=name)
        def flow(text: str) -> Flow[str]:
            yield Step(step, text).opts(name=name)
            yield Sleep(0.001)
            return (yield from Step(step, text))

    runs = []
    for name in HOSTILE:
        if "/" in name or "#" in name:
            continue
        define(name)
        call = app.definition(name).call(name).opts(id=f"id {name}", tags=[name], correlation_id=name)
        runs.append((name, flowgen_client.start(call)))
    flowgen_worker(app, cache=0)
    for name, run in runs:
        assert run.result(timeout=20) == name
        assert flowgen_client.get(f"id {name}").name == name
        assert [each.id for each in flowgen_client.list(RunQuery(name=name, queue=name, tags=[name]))] == [f"id {name}"]


@pytest.mark.parametrize("cache", [0, 1, 1_000])
def test_the_cache_changes_no_result(app: App, flowgen_client: Client, flowgen_worker: Workers, cache: int) -> None:
    tries: dict[str, int] = {}
    lock = threading.Lock()

    def flaky(key: str) -> int:
        with lock:
            tries[key] = tries.get(key, 0) + 1
            if tries[key] == 1:
                raise ValueError(key)
            return tries[key]

    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    def child(n: int) -> Flow[int]:
        yield Sleep(0.01 * (n % 3))
        return (yield from Step(double, n))

    def helper(key: str) -> Flow[int]:
        yield Sleep(0.005)
        return (yield from Step(flaky, key).opts(retry=Retry(2, initial=0.01)))

    @app.workflow
    def mixed(n: int) -> Flow[list[Any]]:
        when = yield from Now()
        ident = yield from Uuid()
        tried = yield from helper(f"{n}")
        both = yield from Gather(Invoke(child, n), helper(f"{n} again"), Invoke(child, n + 1))
        yield Sleep(0.01)
        again = yield from Now()
        return [tried, *both, again > when, ident.version]

    flowgen_worker(app, cache=cache)
    runs = flowgen_client.start_many([mixed.call(n) for n in range(30)])
    assert [run.result(timeout=30) for run in runs] == [[2, 2 * n, 2, 2 * n + 2, True, 4] for n in range(30)]


@pytest.mark.parametrize("cache", [0, 1_000])
def test_the_time_of_a_context_is_utc_whatever_the_time_zone_of_the_database(
    app: App, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers, cache: int
) -> None:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET timezone TO 'Asia/Tokyo'").format(psycopg.sql.Identifier(name))
        )
    told: list[list[str]] = []

    @app.workflow
    def clocked(ctx: Context) -> Flow[list[str]]:
        seen: list[str] = []
        told.append(seen)
        for _ in range(3):
            assert ctx.now is not None
            seen.append(ctx.now.isoformat())
            yield Sleep(0.005)
        return seen

    flowgen_worker(app, cache=cache)
    end = flowgen_client.start(clocked).result(timeout=20)
    assert all(each.endswith("+00:00") for each in end)
    assert all(seen == end[: len(seen)] for seen in told)
