"""Functions of steps and transactions that do what they must not: change arguments, end transactions, never end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Retry, RunFailed, Sleep, Step, StepContext, StepTimedOut, Transaction
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]
QUICK = Retry(3, initial=0, jitter=0)


@pytest.mark.bad_input("B20", "B42")
def test_what_a_function_changes_in_its_arguments_nobody_else_sees(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    seen: list[list[int]] = []

    def adds(items: list[int], *, table: dict[str, int] | None = None) -> list[int]:
        seen.append(list(items))
        items.append(2)
        if table is not None:
            table["changed"] = 1
        if len(seen) == 1:
            raise ValueError("again")
        return items

    def adds_in_a_transaction(conn: Db, items: list[int]) -> list[int]:
        return adds(items)

    @app.workflow
    def mutates() -> Flow[list[Any]]:
        items, table = [1], {"a": 1}
        first = yield from Step(adds, items, table=table).opts(retry=QUICK)
        first.append(3)
        second = yield from Step(adds, first)
        third = yield from Transaction(adds_in_a_transaction, first)
        yield Sleep(0.01)
        return [items, table, first, second, third]

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(mutates)
    expected = [[1], {"a": 1}, [1, 2, 3], [1, 2, 3, 2], [1, 2, 3, 2]]
    assert run.result(timeout=15) == expected
    assert seen == [[1], [1], [1, 2, 3], [1, 2, 3]]


@pytest.mark.bad_input("B51")
def test_a_step_may_use_a_client_and_call_definitions_as_functions(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    def asks(n: int) -> list[int]:
        made = flowgen_client.start(double.call(n).opts(id="asked"))
        assert flowgen.current().run_id == "asker"
        Step(double, n)  # a value like any other: nothing happens
        return [made.result(timeout=10), double(n + 1)]

    @app.workflow
    def asker() -> Flow[list[int]]:
        return (yield from Step(asks, 4))

    flowgen_worker(app)
    run = flowgen_client.start(asker.call().opts(id="asker"))
    assert run.result(timeout=15) == [8, 10]
    assert flowgen_client.get("asked").parent_id is None
    assert [item.name for item in flowgen_client.history("asker")] == ["asks"], "its history knows only its own step"


def commits_in_sql(conn: Db) -> None:
    conn.execute("insert into ledger values ('early')")
    conn.execute("commit")


def rolls_back_in_sql(conn: Db) -> None:
    conn.execute("rollback")


def leaves_its_connection(conn: Db) -> None:
    with conn:
        conn.execute("insert into ledger values ('early')")


def leaves_its_connection_and_goes_on(conn: Db) -> None:
    with conn:
        conn.execute("insert into ledger values ('early')")
    conn.execute("insert into ledger values ('late')")


def catches_the_error_of_a_statement(conn: Db) -> None:
    try:
        conn.execute("select 1 / 0")
    except psycopg.Error:
        conn.execute  # noqa: B018 - goes on as if nothing had happened


ENDS = "DefinitionError: The function of a Transaction ended the transaction by itself (COMMIT or ROLLBACK); its writes"
CLOSES = "DefinitionError: The function of a Transaction closed its connection, as `with conn:` does at its end after a"
ABORTED = (
    "caught the error of a statement and went on, but the transaction is aborted and nothing of it can be committed"
)


@pytest.mark.bad_input("B52")
def test_a_function_that_ends_its_transaction_fails_at_once_with_clear_words(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    functions: dict[Callable[[Db], None], str] = {
        commits_in_sql: ENDS,
        rolls_back_in_sql: ENDS,
        leaves_its_connection: CLOSES,
        leaves_its_connection_and_goes_on: CLOSES,
        catches_the_error_of_a_statement: ABORTED,
    }
    db.execute("create table ledger (who text)")

    @app.workflow
    def pays(which: int) -> Flow[None]:
        yield Transaction([*functions][which]).opts(retry=QUICK)

    flowgen_worker(app)
    runs = flowgen_client.start_many([pays.call(n) for n in range(len(functions))])
    for run, said in zip(runs, functions.values(), strict=True):
        with pytest.raises(RunFailed) as failed:
            run.result(timeout=20)
        assert said in str(failed.value)
        attempts = 3 if said is ABORTED else 1
        assert f"failed after {attempts} attempt" in str(failed.value)
    rows = db.execute("select who from ledger").fetchall()
    assert rows == [("early",)] * 3, "what a function commits by itself is there, once"


@pytest.mark.bad_input("B52")
def test_ddl_copy_set_savepoints_and_other_connections_are_the_functions_own(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, flowgen_database: str
) -> None:
    def everything(conn: Db) -> list[Any]:
        conn.execute("create table made (n int)")
        conn.execute("set local statement_timeout = '5s'")
        conn.execute("listen gossip")
        with conn.cursor() as cursor, cursor.copy("copy made from stdin") as copy:
            copy.write_row((1,))
        with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
            conn.execute("select 1 / 0")
        with psycopg.connect(flowgen_database) as other:
            seen = other.execute("select to_regclass('made')").fetchone()
        return [seen, conn.execute("select n from made").fetchall()]

    @app.workflow
    def migrates() -> Flow[list[Any]]:
        return (yield from Transaction(everything))

    flowgen_worker(app)
    assert flowgen_client.start(migrates).result(timeout=15) == [[None], [[1]]]
    assert db.execute("select n from made").fetchall() == [(1,)]


@pytest.mark.bad_input("B54")
def test_a_step_that_never_returns_times_out_and_its_late_result_is_nobodys(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    release, ended = threading.Event(), threading.Event()

    def never() -> str:
        release.wait(30)
        ended.set()
        return "late"

    def threads_on(ctx: StepContext) -> str:
        def goes_on() -> None:
            release.wait(30)
            ctx.progress(1, 2)

        thread = threading.Thread(target=goes_on)
        thread.start()
        started.append(thread)
        return "early"

    started: list[threading.Thread] = []

    def after() -> str:
        return "after"

    @app.workflow
    def waits() -> Flow[list[str]]:
        said = []
        try:
            yield Step(never).opts(timeout=0.2, retry=Retry(1))
        except StepTimedOut as error:
            said.append(str(error))
        said.append((yield from Step(threads_on)))
        return [*said, (yield from Step(after))]

    flowgen_worker(app, concurrency=1)
    run = flowgen_client.start(waits)
    timed_out, *rest = run.result(timeout=15)
    assert timed_out.startswith("never failed after 1 attempt: StepTimedOut: never was still running after its timeout")
    assert rest == ["early", "after"]
    before = flowgen_client.history(run.id)
    release.set()
    assert ended.wait(10)
    started[0].join(10)
    later = flowgen_client.start(waits)
    eventually(lambda: later.refresh().status == "completed")
    assert flowgen_client.history(run.id) == before
    assert run.refresh().output == [timed_out, *rest]
