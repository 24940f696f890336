"""Child runs: Invoke, Start and Wait, and what the ends of children mean to their parents."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Cancelled,
    ChildCancelled,
    ChildFailed,
    ChildTimedOut,
    DatabaseError,
    Flow,
    Gather,
    Invoke,
    Retry,
    RunFailed,
    Settings,
    Sleep,
    Start,
    Step,
    StepFailed,
    Wait,
)
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.workers import QUICK, Workers
from flowgen.worker.claimer import LIVE
from tests.waiting import eventually


def fails() -> None:
    raise ValueError("at the bottom")


def test_a_child_gives_its_result_to_its_parent(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.workflow
    def child(n: int) -> Flow[int]:
        yield Sleep(0.01)
        return (yield from Step(double, n))

    @app.workflow
    def parent() -> Flow[list[int]]:
        one = yield from Invoke(child, 1)
        two = yield from Invoke(double, 2)
        ref = yield from Start(child, 3)
        three = yield from Wait(ref)
        again = yield from Wait(ref)
        many = yield from Gather(*[Invoke(child, n) for n in range(4)])
        return [one, two, three, again, *many]

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    assert run.result(timeout=20) == [2, 4, 6, 6, 0, 2, 4, 6]
    children = flowgen_client.list(RunQuery(parent=run.uuid))
    assert len(children) == 7
    assert {each.root_id for each in children} == {run.uuid}


REFUSED_CANCEL = """
    create sequence refusals;
    create table refused ();
    insert into refused default values;
    create function refuse() returns trigger language plpgsql as
        'begin
            if exists (select from public.refused) then
                perform nextval(''public.refusals'');
                raise exception ''not now'' using errcode = ''40P01'';
            end if;
            return new;
        end';
    create trigger refuse before update on flowgen.run
        for each row when (new.request is distinct from old.request) execute function refuse();
"""


def test_a_child_that_ends_while_another_is_cancelled_is_not_overlooked(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    db.execute(REFUSED_CANCEL)
    may_fail, may_end = threading.Event(), threading.Event()

    @app.workflow
    def loser() -> Flow[None]:
        yield Sleep(hours=1)

    @app.task
    def last() -> str:
        assert may_end.wait(20)
        return "the last"

    def fails_late() -> None:
        assert may_fail.wait(20)
        raise ValueError("the race is over")

    def race() -> Flow[str]:
        try:
            yield from Gather(Invoke(loser), Step(fails_late).opts(retry=Retry(1)))
        except StepFailed:
            return "over"
        return "won"

    @app.workflow
    def parent() -> Flow[list[str]]:
        return list((yield from Gather(race(), Invoke(last))))

    def has(name: str, status: str) -> bool:
        return any(each.name == name and each.status == status for each in flowgen_client.list())

    def refusals() -> int:
        row = db.execute("select last_value from refusals where is_called").fetchone()
        return row[0] if row else 0

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    eventually(lambda: has("loser", "waiting"))
    may_fail.set()
    eventually(refusals)
    may_end.set()
    eventually(lambda: has("last", "completed"))
    before = refusals()
    eventually(lambda: refusals() > before + 1)
    db.execute("delete from refused")
    assert run.result(timeout=10) == ["over", "the last"]


def test_a_cancel_that_the_database_never_takes_ends_the_worker_with_its_error(
    app: App, flowgen_client: Client, flowgen_database: str, db: psycopg.Connection[Any]
) -> None:
    db.execute(REFUSED_CANCEL.replace("40P01", "P0001").replace("not now", "not ever"))

    @app.workflow
    def loser() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[None]:
        yield Invoke(loser).opts(timeout=0.2)

    flowgen_client.start(parent)
    settings = Settings(**QUICK)
    with (
        pytest.raises(DatabaseError, match="not ever"),
        flowgen.worker(flowgen_database, app=app, settings=settings) as worker,
    ):
        assert worker.join(20)


@pytest.mark.parametrize("how", ["fail", "cancel", "time out"])
def test_an_end_at_depth_five_is_thrown_and_can_be_caught_there(
    app: App, flowgen_client: Client, flowgen_worker: Workers, how: str
) -> None:
    @app.workflow
    def bottom() -> Flow[None]:
        if how == "fail":
            yield Step(fails).opts(retry=Retry(1))
        yield Sleep(hours=1)

    @app.workflow
    def level(depth: int) -> Flow[str]:
        if depth == 5:
            try:
                yield from Invoke(bottom).opts(timeout=0.3 if how == "time out" else 3600)
            except (ChildFailed, ChildCancelled, ChildTimedOut) as error:
                return f"{type(error).__name__}: {error.failure.message}"
        return (yield from Invoke(level, depth + 1))

    flowgen_worker(app)
    run = flowgen_client.start(level, 1)
    if how == "cancel":
        deepest = eventually(lambda: [*flowgen_client.list(RunQuery(name="bottom", status="waiting"))])[0]
        flowgen_client.cancel(deepest.id, reason="enough")
    caught = run.result(timeout=20)
    assert caught.split(":")[0] == {"fail": "ChildFailed", "cancel": "ChildCancelled", "time out": "ChildTimedOut"}[how]
    if how != "time out":
        assert {"fail": "at the bottom", "cancel": "enough"}[how] in caught
    else:
        eventually(lambda: flowgen_client.count(RunQuery(name="bottom", status="cancelled")) == 1)


def test_an_uncaught_failure_at_depth_five_fails_every_ancestor(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def level(depth: int) -> Flow[None]:
        if depth == 5:
            yield Step(fails).opts(retry=Retry(1))
        yield Invoke(level, depth + 1)

    flowgen_worker(app)
    with pytest.raises(RunFailed, match=r"Child run failed: .*at the bottom"):
        flowgen_client.start(level, 1).result(timeout=20)
    assert flowgen_client.count(RunQuery(status="failed")) == 5


def test_an_abandoned_child_goes_on_after_its_timeout(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    go_on = threading.Event()

    @app.task
    def slow() -> str:
        go_on.wait(20)
        return "late"

    @app.workflow
    def parent() -> Flow[str]:
        try:
            return (yield from Invoke(slow).opts(timeout=0.2, on_timeout="abandon"))
        except ChildTimedOut:
            return "went on"

    flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=10) == "went on"
    go_on.set()
    eventually(lambda: flowgen_client.count(RunQuery(name="slow", status="completed")) == 1)


def test_a_child_runs_on_its_own_queue_by_a_worker_of_that_queue(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    other = App()
    threads: dict[str, str] = {}

    @other.task(queue="mail", name="send")
    def send(to: str) -> str:
        threads["send"] = threading.current_thread().name
        return f"sent to {to}"

    @app.workflow
    def parent() -> Flow[Any]:
        by_name = yield Invoke("send", to="a").opts(queue="mail")
        ref = yield Start("send", to="b").opts(queue="mail")
        return [by_name, (yield Wait(ref))]

    flowgen_worker(app, queues=["default"])
    run = flowgen_client.start(parent)
    eventually(lambda: run.refresh().status == "waiting")
    assert not threads
    flowgen_worker(other, queues=["mail"])
    assert run.result(timeout=15) == ["sent to a", "sent to b"]


def test_a_parent_may_end_before_the_children_that_it_only_started(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    go_on = threading.Event()

    @app.task
    def child() -> str:
        go_on.wait(20)
        return "after"

    @app.workflow
    def parent() -> Flow[str]:
        ref = yield from Start(child)
        return ref.id

    flowgen_worker(app)
    child_id = flowgen_client.start(parent).result(timeout=10)
    go_on.set()
    assert flowgen_client.result(child_id, timeout=10) == "after"


def test_a_failed_gather_cancels_the_rest_and_rethrows_the_first(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    aborted = threading.Event()

    def endless() -> None:
        import flowgen

        if flowgen.current().signal.wait(20):
            aborted.set()

    def broken() -> None:
        raise ValueError("first")

    @app.workflow
    def child() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[str]:
        try:
            yield Gather(
                Invoke(child), Step(endless), Sleep(hours=1), Step(broken).opts(retry=Retry(2, initial=0.2, jitter=0))
            )
        except Exception as error:
            return str(error)
        return ""

    flowgen_worker(app)
    assert "ValueError: first" in flowgen_client.start(parent).result(timeout=10)
    assert aborted.wait(5)
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="cancelled")) == 1)


def test_a_gather_can_hand_over_failures(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.task(retry=Retry(1))
    def maybe(n: int) -> int:
        if n == 1:
            raise ValueError("odd")
        return n

    @app.workflow
    def parent() -> Flow[list[str]]:
        items = yield from Gather(*[Invoke(maybe, n) for n in range(3)], return_exceptions=True)
        return [str(item) for item in items]

    flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=10) == ["0", "ValueError: odd", "2"]


def test_cancelling_a_parent_cancels_its_children_but_detached_ones(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    cleaned: list[str] = []

    @app.workflow
    def child(name: str) -> Flow[None]:
        try:
            yield Sleep(hours=1)
        except Cancelled:
            cleaned.append(name)
            raise

    @app.workflow
    def parent() -> Flow[None]:
        yield Start(child, "attached")
        yield Start(child, "detached").opts(detached=True)
        yield Invoke(child, "awaited")

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    eventually(lambda: flowgen_client.count(RunQuery(status="waiting")) == 4)
    flowgen_client.cancel(run.id, reason="stop")
    eventually(lambda: flowgen_client.count(RunQuery(status="cancelled")) == 3)
    assert sorted(cleaned) == ["attached", "awaited"]
    assert [each.input for each in flowgen_client.list(RunQuery(status="waiting"))] == [{"name": "detached"}]


@pytest.mark.bad_input("B48")
def test_a_thousand_children_of_one_parent_are_joined(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def square(n: int) -> int:
        return n * n

    @app.workflow
    def parent(n: int) -> Flow[int]:
        squares = yield from Gather(*[Invoke(square, i) for i in range(n)])
        return sum(squares)

    flowgen_worker(app)
    assert flowgen_client.start(parent, 1000).result(timeout=60) == sum(n * n for n in range(1000))


def test_a_worker_adopts_children_of_each_commit_for_half_of_its_room_and_no_more(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Any
) -> None:
    @app.workflow
    def child(n: int) -> Flow[int]:
        yield from ()
        return n

    @app.workflow
    def parent(count: int) -> Flow[int]:
        return len((yield from Gather(*[Invoke(child, n) for n in range(count)])))

    flowgen_worker(app)
    assert flowgen_client.start(parent, 5000).result(timeout=60) == 5000
    adopted = db.execute(
        "select sum(n), max(n), sum(made) from (select count(*) filter (where started_at = created_at) as n, "
        "count(*) as made from flowgen.run where name = 'child' group by created_at)"
    ).fetchone()
    assert adopted[0] > LIVE // 2  # when the first have ended there is room again
    assert adopted[1] <= LIVE // 2
    assert adopted[2] == 5000


def test_a_child_of_a_queue_or_definition_that_its_worker_does_not_serve_is_not_adopted(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Any
) -> None:
    other = App()

    def child(n: int) -> Flow[int]:
        yield from ()
        return n

    here = app.workflow(name="here", queue="elsewhere")(child)
    other.workflow(name="here", queue="elsewhere")(child)
    other.workflow(name="there")(child)

    @app.workflow
    def parent() -> Flow[list[int]]:
        return list((yield from Gather(Invoke(here, 1), Invoke("there", 2))))

    run = flowgen_client.start(parent)
    flowgen_worker(app, queues=["default"])
    eventually(lambda: db.execute("select count(*) from flowgen.run where parent_id is not null").fetchone()[0] == 2)
    owners = db.execute("select count(*) from flowgen.run where parent_id is not null and claim > 0").fetchone()
    assert owners == (0,)
    flowgen_worker(other)
    assert run.result(timeout=20) == [1, 2]
