"""What starting a run guarantees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import CodecError, DefinitionError, Flow, RunExists
from flowgen.client import starting
from flowgen.client.plans import Do, Pause
from flowgen.client.sync import Client, connect
from flowgen.core.ids import uuid_of_id
from flowgen.core.settings import Settings
from flowgen.core.states import RunKind, RunStatus
from flowgen.errors import DatabaseError
from flowgen.postgres import database
from tests.waiting import eventually

Checkout = flowgen.Workflow[..., Any, str]
HOSTILE = [
    "'; DROP TABLE run; --",
    '"',
    "%s %b %(x)s",
    "{} {schema}",
    "$1",
    "\\",
    "ر تل",
    "🦀",
    "x" * 512,
    "a" * 64,
    "<script>",
]


def test_a_started_run_is_what_is_read_back(verbs: Any, checkout: Checkout) -> None:
    run = verbs.start(checkout.call("o-1").opts(id="order-o-1"))
    assert run.id == "order-o-1"
    assert run.uuid == uuid_of_id("flowgen", "order-o-1")
    assert (run.name, run.kind, run.status, run.attached) == ("checkout", RunKind.WORKFLOW, RunStatus.PENDING, False)
    assert run.input == {"order_id": "o-1"}
    assert verbs.get("order-o-1") == run


def test_the_short_form_takes_the_arguments_of_the_function(verbs: Any, checkout: Checkout) -> None:
    run = verbs.start(checkout, "o-1", cents=7)
    assert run.input == {"order_id": "o-1", "cents": 7}
    assert run.id == str(run.uuid)
    assert run.uuid.version == 7


def test_options_of_the_call_win_over_those_of_the_definition(verbs: Any, app: flowgen.App) -> None:
    @app.task(queue="slow", priority=3)
    def job(n: int) -> int:
        return n

    plain = verbs.start(job, 1)
    assert (plain.kind, plain.queue, plain.priority) == (RunKind.TASK, "slow", 3)
    given = job.call(1).opts(queue="fast", priority=-1, tags=["a", 'b"\\,{}'], correlation_id="c-1", deadline="1h")
    run = verbs.start(given)
    assert (run.queue, run.priority, run.tags, run.correlation_id) == ("fast", -1, ("a", 'b"\\,{}'), "c-1")
    assert run.deadline == run.created_at + timedelta(hours=1)
    assert verbs.get(run.id) == run


def test_the_deadline_of_a_workflow_counts_from_its_start(client: Client, app: flowgen.App) -> None:
    @app.workflow(deadline="10m")
    def flow() -> Flow[None]:
        yield from ()

    run = client.start(flow)
    assert run.deadline == run.created_at + timedelta(minutes=10)


def test_a_delayed_start_is_due_later_and_not_before(
    verbs: Any, checkout: Checkout, db: psycopg.Connection[Any]
) -> None:
    delayed = verbs.start(checkout.call().opts(delay="1h"))
    when = datetime(2100, 1, 1, tzinfo=UTC)
    at = verbs.start(checkout.call().opts(at=when, deadline="1h"))
    past = verbs.start(checkout.call().opts(at=datetime(2000, 1, 1, tzinfo=UTC)))
    assert delayed.due_at == delayed.created_at + timedelta(hours=1)
    assert at.due_at == at.deadline, "it wakes at its deadline, to fail"
    assert past.due_at == past.created_at
    for run in (delayed, at, past):
        assert verbs.get(run.id) == run
    assert db.execute("SELECT status FROM flowgen.run ORDER BY created_at").fetchall() == [(1,), (1,), (0,)]


# --- the same id again


def test_the_same_id_with_an_equal_input_attaches_in_any_state(verbs: Any, checkout: Checkout, store: Any) -> None:
    call = checkout.call("o-1", cents=5).opts(id="x")
    first = verbs.start(call)
    for change in (store.begin, store.wait, store.complete):
        change(first.uuid)
        again = verbs.start(checkout.call(cents=5, order_id="o-1").opts(id="x"))
        assert again.attached
        assert again.uuid == first.uuid
        assert again.status is not RunStatus.PENDING
    assert verbs.count() == 1


def test_an_input_is_equal_whatever_its_spelling(
    client: Client, checkout: Checkout, db: psycopg.Connection[Any]
) -> None:
    db.execute("""SELECT flowgen.start('checkout', '{ "cents" : 5, "order_id": "\\u006f"}', 'x')""")
    assert client.start(checkout.call("o", 5).opts(id="x")).attached


def test_another_input_or_definition_under_an_id_is_refused_and_both_are_named(
    verbs: Any, checkout: Checkout, app: flowgen.App
) -> None:
    @app.workflow
    def refund(order_id: str) -> Flow[None]:
        yield from ()

    verbs.start(checkout.call("o-1").opts(id="x"))
    with pytest.raises(RunExists, match=r"'x' exists: it is checkout with .*o-1.*checkout with .*o-2"):
        verbs.start(checkout.call("o-2").opts(id="x"))
    with pytest.raises(RunExists, match=r"it is checkout .*refund"):
        verbs.start(refund.call("o-1").opts(id="x"))
    assert verbs.count() == 1


def test_one_and_true_are_not_equal_inputs(client: Client) -> None:
    client.start(flowgen.call("any", n=1).opts(id="x"))
    with pytest.raises(RunExists):
        client.start(flowgen.call("any", n=True).opts(id="x"))


def test_racing_starters_of_one_id_make_one_run(client: Client, checkout: Checkout) -> None:
    rounds, threads = 20, 8
    barrier = threading.Barrier(threads)
    seen: list[list[bool]] = [[] for _ in range(rounds)]
    errors: list[BaseException] = []

    def race() -> None:
        try:
            for number in range(rounds):
                barrier.wait(30)
                seen[number].append(client.start(checkout.call("o").opts(id=f"x-{number}")).attached)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    running = [threading.Thread(target=race) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not errors
    assert [sorted(each) for each in seen] == [[False] + [True] * (threads - 1)] * rounds
    assert client.count() == rounds


def test_opposite_bulk_starts_of_the_same_ids_do_not_deadlock(client: Client, checkout: Checkout) -> None:
    calls = [checkout.call("o").opts(id=f"x-{number}") for number in range(300)]
    barrier = threading.Barrier(4)
    new: list[int] = []

    def start(mine: list[Any]) -> None:
        barrier.wait(30)
        new.append(sum(not run.attached for run in client.start_many(mine)))

    threads = [threading.Thread(target=start, args=(calls if n % 2 else calls[::-1],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == 300
    assert len(new) == 4
    assert client.count() == 300


# --- many at once


def test_ten_thousand_runs_start_in_one_go(verbs: Any, checkout: Checkout) -> None:
    runs = verbs.start_many(
        checkout.call(f"o-{number}").opts(id=f"x-{number}" if number % 2 else None) for number in range(10_000)
    )
    assert len(runs) == 10_000
    assert verbs.count() == 10_000
    assert [runs[number].input for number in (0, 1, 9_999)] == [{"order_id": f"o-{n}"} for n in (0, 1, 9_999)]
    assert verbs.get(runs[4].id) == runs[4]
    assert verbs.get("x-9999") == runs[9_999]
    plain = [run.uuid for run in runs[::2]]
    assert plain == sorted(plain), "they sort as they were given"
    assert verbs.start_many([]) == []


def test_a_bulk_start_with_one_conflict_starts_nothing(verbs: Any, checkout: Checkout) -> None:
    verbs.start(checkout.call("o-1").opts(id="x"))
    with pytest.raises(RunExists):
        verbs.start_many([checkout.call("a"), checkout.call("b").opts(id="y"), checkout.call("other").opts(id="x")])
    assert verbs.count() == 1


def test_an_id_twice_in_one_bulk_start_is_one_run(verbs: Any, checkout: Checkout) -> None:
    call = checkout.call("o").opts(id="x")
    runs = verbs.start_many([call, checkout.call("p"), call])
    assert sorted(run.attached for run in runs) == [False, False, True]
    assert runs[0].uuid == runs[2].uuid
    with pytest.raises(RunExists):
        verbs.start_many([checkout.call("q").opts(id="z"), checkout.call("r").opts(id="z")])
    assert verbs.count() == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_start_whose_answer_was_lost_is_sent_again_and_makes_no_second_run(
    client: Client, checkout: Checkout, db: psycopg.Connection[Any], app: flowgen.App, count: int
) -> None:
    schema, settings = database.Schema("flowgen"), Settings()
    plan = starting.start(starting.new_runs([checkout.call("o")] * count, settings, app), own=True)
    first = next(plan)
    assert isinstance(first, Do)
    database.run(db, first.make(), schema)
    assert isinstance(plan.throw(DatabaseError("the connection is lost", transient=True)), Pause)
    second = plan.send(None)
    assert isinstance(second, Do)
    begun = database.run(db, second.make(), schema)
    assert [existed for _, existed in begun.runs] == [False] * count
    assert client.count() == count


# --- by name, and what is refused


def test_a_call_by_name_is_checked_when_the_app_knows_it(client: Client, checkout: Checkout) -> None:
    run = client.start(flowgen.call("checkout", order_id="o-1"))
    assert run.input == {"order_id": "o-1"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
        client.start(flowgen.call("checkout", nope=1))
    unknown = client.start(flowgen.call("elsewhere", nope=[1, {"a": None}]))
    assert unknown.input == {"nope": [1, {"a": None}]}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_names_and_values_are_only_values(verbs: Any, text: str) -> None:
    name = text.replace("/", "_").replace("#", "_")[:190]
    call = flowgen.call(name, **{"value": text, text: 1}).opts(id=text, queue=name, tags=[name], correlation_id=text)
    run = verbs.start(call)
    assert (run.id, run.name, run.queue, run.tags, run.correlation_id) == (text, name, name, (name,), text)
    assert run.input == {"value": text, text: 1}
    assert verbs.get(text) == run
    assert verbs.start(call).attached


def test_an_id_that_looks_like_a_uuid_is_the_callers_own(verbs: Any, checkout: Checkout) -> None:
    other = verbs.start(checkout)
    mine = verbs.start(checkout.call("mine").opts(id=other.id))
    assert mine.uuid != other.uuid
    assert verbs.get(other.id).uuid == mine.uuid
    assert verbs.get(other.uuid).uuid == other.uuid
    assert verbs.get(str(mine.uuid)) == mine


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (lambda: "checkout", r"flowgen.call\('checkout'"),
        (lambda: len, "not len: decorate it"),
        (lambda: 7, "not 7"),
    ],
)
def test_what_cannot_be_started_is_refused_with_what_to_do(verbs: Any, target: Callable[[], Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        verbs.start(target())


def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(verbs: Any, checkout: Checkout) -> None:
    with pytest.raises(TypeError, match="takes from 0 to 2 positional"):
        verbs.start(checkout, 1, 2, 3)
    with pytest.raises(TypeError, match="conn= and nothing else"):
        verbs.start(checkout.call(), order_id="x")
    with pytest.raises(CodecError, match="order_id"):
        verbs.start(checkout, float("nan"))
    assert verbs.count() == 0


def test_an_input_over_the_limit_is_refused_with_both_sizes(flowgen_database: str, checkout: Checkout) -> None:
    with connect(flowgen_database, settings=Settings(max_payload=1_000_000)) as client:
        with pytest.raises(CodecError, match="limit of 1000000"):
            client.start(checkout, "x" * 1_000_001)
        assert client.count() == 0


def test_a_schema_of_any_name_keeps_its_own_ids(flowgen_database: str, checkout: Checkout) -> None:
    with connect(flowgen_database) as one, connect(flowgen_database, settings=Settings(schema='my "own" %s')) as two:
        assert one.start(checkout.call().opts(id="x")).uuid != two.start(checkout.call("other").opts(id="x")).uuid
        assert two.get("x").input == {"order_id": "other"}
        assert (one.count(), two.count()) == (1, 1)
        assert isinstance(two.get("x").uuid, UUID)


# --- hints


def test_an_idle_worker_is_told_after_a_start_and_a_busy_one_is_not(
    verbs: Any, checkout: Checkout, store: Any, db: psycopg.Connection[Any]
) -> None:
    db.execute('LISTEN "flowgen.flowgen"')
    worker = store.worker(["checkout"])
    verbs.start(checkout)
    db.execute("UPDATE flowgen.worker SET idle = true WHERE worker_id = %s", (worker,))
    for change in (
        lambda: verbs.start(checkout.call().opts(id="x")),
        lambda: verbs.start_many([checkout.call(), checkout.call()]),
        lambda: verbs.pause("x"),
        lambda: verbs.resume("x"),
        lambda: verbs.cancel("x"),
    ):
        change()
        assert len(list(db.notifies(timeout=30, stop_after=1))) == 1
    verbs.start(checkout.call().opts(id="x"))
    db.execute("SELECT pg_notify('flowgen.flowgen', 'last')")
    assert [each.payload for each in db.notifies(timeout=30, stop_after=1)] == ["last"], (
        "an attached start tells nobody"
    )


def test_a_start_sees_a_run_that_commits_while_it_waits_and_one_statement_would_not(
    flowgen_database: str, direct_database: str, checkout: Checkout
) -> None:
    """Two starters of one id: the second waits for the first; the snapshot of its statement is older than the run."""
    uuid = uuid_of_id("flowgen", "twice")
    with psycopg.connect(flowgen_database) as first, connect(flowgen_database) as client:
        began = client.start(checkout.call("o-1").opts(id="twice"), conn=first)
        seen: dict[str, Any] = {}

        def start() -> None:
            seen["run"] = client.start(checkout.call("o-1").opts(id="twice"))

        def start_in_one_statement() -> None:
            with psycopg.connect(flowgen_database) as second:
                seen["rows"] = second.execute(
                    """
                    with made as (
                        insert into flowgen.run (run_id, created_at, status, queue, name, kind, input)
                        select run_id, created_at, status, queue, name, kind, input
                        from (values (%(id)s::uuid, now(), 0, 'default', 'checkout', 'workflow', '{}'::json))
                            as v(run_id, created_at, status, queue, name, kind, input)
                        on conflict do nothing returning run_id
                    )
                    select run_id from made union all select run_id from flowgen.run where run_id = %(id)s::uuid
                    """,
                    {"id": uuid},
                ).fetchall()

        waiting = [threading.Thread(target=start), threading.Thread(target=start_in_one_statement)]
        for thread in waiting:
            thread.start()
        with psycopg.connect(direct_database, autocommit=True) as watcher:
            blocked = (
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            eventually(lambda: watcher.execute(blocked).fetchone() == (2,))
        first.commit()
        for thread in waiting:
            thread.join()
        assert seen["run"].attached
        assert seen["run"].uuid == began.uuid
        assert seen["rows"] == []
