"""A run's history grows in one order: one commit is on its way at a time, and outcomes are told by their index."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from typing import Any

import psycopg
import pytest

from flowgen import App, Client, Failure, Flow, FlowgenError, Gather, Invoke, Retry, Step, StepFailed, Transaction
from flowgen.testing.workers import Workers
from flowgen.worker import committer
from flowgen.worker.committer import Committer


def pay(conn: Any, n: int) -> int:
    return int(conn.execute("select %s::int from pg_sleep(%s)", (n, 0.001 * n)).fetchone()[0])


async def count(n: int) -> int:
    """Outcomes come one by one, all the time."""
    loop = asyncio.get_running_loop()
    counted: asyncio.Future[int] = loop.create_future()
    loop.call_later(0.001 * n, counted.set_result, n)
    return await counted


def test_a_run_has_one_commit_on_its_way_beside_transactions(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    @app.workflow
    def busy(n: int) -> Flow[int]:
        total = 0
        for _ in range(6):
            parts = yield from Gather(
                *[Transaction(pay, each) for each in range(6)], *[Step(count, each) for each in range(16)]
            )
            total += sum(parts)
        return total

    flowgen_worker(app)
    runs = flowgen_client.start_many([busy.call(n) for n in range(8)])
    for run in runs:
        assert run.result(timeout=15) == 6 * (15 + 120)
        found = db.execute("select array_agg(index order by index) from flowgen.entry where run_id = %s", (run.uuid,))
        assert found.fetchone() == ([*range(1, 133)],)


def without(method: str, rule: str) -> Any:
    """The same method of the committer with the text of a rule taken out."""
    source = textwrap.dedent(inspect.getsource(getattr(Committer, method)))
    assert rule in source
    space: dict[str, Any] = dict(vars(committer))
    exec(source.replace(rule, ""), space)
    return space[method]


SLOW_COMMIT = """
    create table slow (n int);
    create function slow_commit() returns trigger language plpgsql as
        'begin perform pg_sleep(0.5); return null; end';
    create constraint trigger slow_commit after insert on slow deferrable initially deferred
        for each row execute function slow_commit();
"""


def an_outcome_meets_a_slow_commit(app: App, client: Client, workers: Workers, db: psycopg.Connection[Any]) -> None:
    """A step ends while the Transaction beside it is still at its COMMIT."""
    db.execute(SLOW_COMMIT)

    def buy(conn: Any) -> str:
        conn.execute("insert into slow values (1)")
        return "bought"

    async def later() -> str:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[str] = loop.create_future()
        loop.call_later(0.2, told.set_result, "later")
        return await told

    @app.workflow
    def both() -> Flow[list[str]]:
        return [*(yield from Gather(Transaction(buy), Step(later)))]

    workers(app)
    run = client.start(both)
    assert run.result(timeout=8) == ["bought", "later"]
    found = db.execute("select index, key from flowgen.entry where run_id = %s order by index", (run.uuid,)).fetchall()
    assert found == [(1, "gather/0/buy"), (2, "gather/1/later")]


def test_an_outcome_waits_for_the_commit_that_is_on_its_way(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    an_outcome_meets_a_slow_commit(app, flowgen_client, flowgen_worker, db)


def test_two_commits_at_a_time_would_give_two_outcomes_one_index(
    app: App,
    flowgen_client: Client,
    flowgen_worker: Workers,
    db: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Committer, "mark", without("mark", "not run.sending and "))
    monkeypatch.setattr(Committer, "_take", without("_take", "run.sending or "))
    with pytest.raises((FlowgenError, AssertionError)) as seen:
        an_outcome_meets_a_slow_commit(app, flowgen_client, flowgen_worker, db)
    print(f"without the rule: {type(seen.value).__name__}: {seen.value}"[:200])  # shown by pytest -s


def test_which_failure_ends_a_gather_is_the_same_on_every_replay(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    """The handler writes down which failure it was told of; a replay that told it of another one would diverge."""

    @app.task
    def fail(n: int) -> int:
        raise LookupError(str(n))

    @app.task
    def note(which: str) -> str:
        return which

    @app.workflow
    def child(n: int) -> Flow[int]:
        return n
        yield

    @app.workflow(determinism="strict")
    def race(n: int) -> Flow[str]:
        told = []
        for _ in range(3):
            try:
                yield from Gather(*[Step(fail, each).opts(retry=Retry(1)) for each in range(6)])
            except StepFailed as error:
                failure: Failure = error.failure
                told.append((yield from Step(note, failure.message)))
            yield from Invoke(child, n)
        return ",".join(told)

    flowgen_worker(app, cache=0)
    runs = flowgen_client.start_many([race.call(n) for n in range(10)])
    for run in runs:
        first = run.result(timeout=15).split(",")
        recorded = db.execute(
            "select value::json #>> '{}' from flowgen.entry where run_id = %s and key like 'note%%' order by index",
            (run.uuid,),
        ).fetchall()
        assert [row[0] for row in recorded] == first
