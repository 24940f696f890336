"""Transaction: the user's writes and the outcome are one commit."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from flowgen import App, CodecError, Flow, Gather, Retry, RunFailed, Step, StepFailed, Transaction
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]
QUICK = Retry(3, initial=0.01, jitter=0)


@pytest.fixture(autouse=True)
def ledger(db: Db) -> None:
    db.execute("create table ledger (who text)")


def rows(db: Db) -> list[str]:
    return [row[0] for row in db.execute("select who from ledger order by who").fetchall()]


def pay(conn: Db, who: str) -> str:
    conn.execute("insert into ledger values (%s)", (who,))
    return f"paid {who}"


async def pay_async(conn: psycopg.AsyncConnection[Any], who: str) -> str:
    await conn.execute("insert into ledger values (%s)", (who,))
    return f"paid {who}"


def test_writes_and_outcome_are_there_once(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def both() -> Flow[list[str]]:
        one = yield from Transaction(pay, "sync")
        two = yield from Transaction(pay_async, "async")
        more = yield from Gather(*[Transaction(pay, f"many {n}") for n in range(5)])
        return [one, two, *more]

    flowgen_worker(app)
    assert flowgen_client.start(both).result(timeout=15)[:2] == ["paid sync", "paid async"]
    assert rows(db) == ["async", *[f"many {n}" for n in range(5)], "sync"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_function_that_raises_writes_nothing_and_is_tried_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, flavour: str
) -> None:
    tries: list[int] = []

    def broken(conn: Db) -> str:
        conn.execute("insert into ledger values ('ghost')")
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "third"

    async def broken_async(conn: psycopg.AsyncConnection[Any]) -> str:
        await conn.execute("insert into ledger values ('ghost')")
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "third"

    @app.workflow
    def once() -> Flow[str]:
        if flavour == "sync":
            return (yield from Transaction(broken).opts(retry=QUICK))
        return (yield from Transaction(broken_async).opts(retry=QUICK))

    flowgen_worker(app)
    run = flowgen_client.start(once)
    assert run.result(timeout=15) == "third"
    assert rows(db) == ["ghost"]
    assert [item.kind for item in flowgen_client.history(run.id)] == ["attempt", "attempt", "outcome"]


def test_an_error_of_the_users_statement_is_the_steps_failure(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    def wrong(conn: Db) -> None:
        conn.execute("insert into ledger values ('ghost')")
        conn.execute("select 1 / 0")

    @app.workflow
    def once() -> Flow[str]:
        try:
            yield Transaction(wrong).opts(retry=Retry(2, initial=0.01))
        except StepFailed as error:
            return f"{error.failure.type} {error.attempts}"
        return ""

    flowgen_worker(app)
    assert flowgen_client.start(once).result(timeout=15) == "DivisionByZero 2"
    assert rows(db) == []


@pytest.mark.bad_input("B52")
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_function_that_ends_the_transaction_by_itself_is_refused(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, end: str, flavour: str
) -> None:
    def ends(conn: Db) -> str:
        conn.execute("insert into ledger values ('early')")
        getattr(conn, end)()
        conn.execute("insert into ledger values ('late')")
        return "never"

    async def ends_async(conn: psycopg.AsyncConnection[Any]) -> str:
        await conn.execute("insert into ledger values ('early')")
        await getattr(conn, end)()
        await conn.execute("insert into ledger values ('late')")
        return "never"

    @app.workflow
    def once() -> Flow[str]:
        if flavour == "sync":
            return (yield from Transaction(ends))
        return (yield from Transaction(ends_async))

    flowgen_worker(app)
    with pytest.raises(RunFailed, match=r"(?i)transaction"):
        flowgen_client.start(once).result(timeout=15)
    assert "late" not in rows(db)
    assert rows(db) == (["early"] if end == "commit" else [])


@pytest.mark.bad_input("B1", "B52")
def test_a_result_that_cannot_be_stored_takes_the_writes_back(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    def gives_an_object(conn: Db) -> Any:
        conn.execute("insert into ledger values ('ghost')")
        return object()

    @app.workflow
    def once() -> Flow[None]:
        yield Transaction(gives_an_object)

    flowgen_worker(app)
    run = flowgen_client.start(once)
    with pytest.raises(RunFailed, match="gives_an_object"):
        run.result(timeout=15)
    assert rows(db) == []
    assert [item.outcome for item in flowgen_client.history(run.id)] == ["failure"]
    assert CodecError.__name__ in str(flowgen_client.history(run.id)[0].error)


@pytest.mark.bad_input("B52")
@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_what_a_function_sets_in_its_session_is_gone_for_the_next(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, flavour: str
) -> None:
    spoil = (
        "set statement_timeout = '7s'",
        "set search_path = 'nowhere'",
        "create temp table leftover (n int)",
        "select pg_advisory_lock(4711)",
        "listen gossip",
    )
    look = (
        "select current_setting('statement_timeout'), current_setting('search_path'), to_regclass('pg_temp.leftover'), "
        "(select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and pid = pg_backend_pid()), "
        "(select count(*) from pg_listening_channels())"
    )

    def sets(conn: Db) -> int:
        conn.row_factory = dict_row
        for each in spoil:
            conn.execute(each.encode())
        return conn.info.backend_pid

    def looks(conn: Db) -> list[Any]:
        return [conn.info.backend_pid, *(conn.execute(look.encode()).fetchone() or ())]

    async def sets_async(conn: psycopg.AsyncConnection[Any]) -> int:
        conn.row_factory = dict_row
        for each in spoil:
            await conn.execute(each.encode())
        return conn.info.backend_pid

    async def looks_async(conn: psycopg.AsyncConnection[Any]) -> list[Any]:
        return [conn.info.backend_pid, *(await (await conn.execute(look.encode())).fetchone() or ())]

    @app.workflow
    def dirty() -> Flow[int]:
        return (yield from Transaction(sets if flavour == "sync" else sets_async))

    @app.workflow
    def clean() -> Flow[list[Any]]:
        return (yield from Transaction(looks if flavour == "sync" else looks_async))

    untouched = [db.execute(f"show {name}").fetchone()[0] for name in ("statement_timeout", "search_path")]  # type: ignore[index]
    flowgen_worker(app)
    used = flowgen_client.start(dirty).result(timeout=15)
    pid, *found = eventually(lambda: flowgen_client.start(clean).result(timeout=15))
    assert pid == used
    assert found == [*untouched, None, 0, 0]


def test_a_connection_that_is_terminated_is_no_attempt_of_the_function(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    tries: list[int] = []

    def shot(conn: Db) -> int:
        tries.append(1)
        conn.execute("insert into ledger values ('once')")
        if len(tries) == 1:
            db.execute("select pg_terminate_backend(%s)", conn.execute("select pg_backend_pid()").fetchone())
            conn.execute("select 1")
        return len(tries)

    def after(n: int) -> int:
        return n

    @app.workflow
    def once() -> Flow[int]:
        n = yield from Transaction(shot).opts(retry=Retry(1))
        return (yield from Step(after, n))

    flowgen_worker(app)
    run = flowgen_client.start(once)
    assert run.result(timeout=15) == 2
    assert rows(db) == ["once"]
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome", "outcome"]
