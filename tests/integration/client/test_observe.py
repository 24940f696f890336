"""What reading runs guarantees."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import CodecError, DefinitionError, Flow, RunNotFound
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.core.entries import EntryKind, OutcomeKind
from flowgen.core.states import RunStatus
from flowgen.core.trace import Trace

Checkout = flowgen.Workflow[..., Any, str]
SORTS = ["created_at", "started_at", "finished_at", "name", "status"]


def ids(page: Any) -> list[str]:
    return [run.id for run in page]


@pytest.fixture
def zoo(client: Client, app: flowgen.App, store: Any) -> list[str]:
    """One run in each state a client sees, and a child."""

    @app.task(queue="slow")
    def job(n: int) -> int:
        return n

    @app.workflow
    def flow(n: int) -> Flow[int]:
        yield from ()
        return n

    calls = [
        (flow if number % 2 else job)
        .call(number)
        .opts(id=f"r{number}", tags=["even"] if number % 2 == 0 else ["odd", "x"])
        for number in range(8)
    ]
    runs = [client.start(call) for call in calls]
    store.begin(runs[1].uuid)
    store.wait(runs[2].uuid)
    store.complete(runs[3].uuid, "3")
    store.fail(runs[4].uuid)
    client.cancel("r5")
    client.pause("r6")
    store.park(runs[7].uuid, '{"reason":"diverged","detail":"- a\\n+ b"}')
    store.child(runs[1].uuid)
    return [run.id for run in runs]


STATES = ["pending", "running", "waiting", "completed", "failed", "cancelled", "paused", "parked"]


def test_every_status_can_be_asked_for(verbs: Any, zoo: list[str]) -> None:
    for id, status in zip(zoo, STATES, strict=True):
        query = RunQuery(status=status, name=["flow", "job"])
        assert ids(verbs.list(query)) == [id]
        assert verbs.count(query) == 1
        assert verbs.get(id).status == status
    live = RunQuery(status=[RunStatus.PENDING, "running", "waiting"], name=["flow", "job"])
    assert sorted(ids(verbs.list(live))) == ["r0", "r1", "r2"]
    assert verbs.count(live) == 3
    assert verbs.count() == 9


def test_filters_name_kind_queue_tags_parent_and_root_only(verbs: Any, zoo: list[str], app: flowgen.App) -> None:
    def found(**query: Any) -> set[str]:
        page = verbs.list(RunQuery(**query))
        assert verbs.count(RunQuery(**query)) == len(page)
        return set(ids(page))

    even, odd = {"r0", "r2", "r4", "r6"}, {"r1", "r3", "r5", "r7"}
    assert found(name="job") == even == found(kind="task") == found(queue="slow") == found(tags="even")
    assert found(name=app.definition("flow")) == odd == found(tags=["x", "odd"]) == found(tags="x")
    assert found(name=["job", app.definition("flow")]) == even | odd == found(root_only=True)
    assert found(tags=["even", "odd"]) == set() == found(name="nope") == found(parent="nope") == found(queue="nope")
    [child] = verbs.list(RunQuery(parent="r1"))
    assert child.parent_id == child.root_id == verbs.get("r1").uuid
    assert found(parent=child.parent_id) == found(parent=str(child.parent_id)) == {child.id}
    assert found(parent="r1", status="pending", kind="workflow", queue="default", name="child") == {child.id}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("key", SORTS)
def test_pages_by_cursor_and_by_offset_show_every_run_once(verbs: Any, zoo: list[str], key: str, down: bool) -> None:
    sort: Any = ("-" if down else "") + key
    whole = list(verbs.list(RunQuery(sort=sort)))
    assert len({run.uuid for run in whole}) == 9
    values = [getattr(run, key) if key != "status" else run.row.status for run in whole]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=down)
    assert values == known + [None] * (9 - len(known)), "what has no time sorts last"
    for size in (1, 2, 4, 9):
        paged, cursor = [], None
        while True:
            page = verbs.list(RunQuery(sort=sort, limit=size, after=cursor))
            assert len(page) <= size
            paged += list(page)
            cursor = page.cursor
            if cursor is None:
                break
        assert paged == whole
        offset = [
            run for start in range(0, 9, size) for run in verbs.list(RunQuery(sort=sort, limit=size, offset=start))
        ]
        assert offset == whole


def test_a_cursor_stays_where_it_was_while_runs_are_added(client: Client, checkout: Checkout) -> None:
    client.start_many(checkout.call(str(number)).opts(id=f"a{number}") for number in range(10))
    first = client.list(RunQuery(limit=5))
    client.start_many(checkout.call(str(number)).opts(id=f"b{number}") for number in range(10))
    second = client.list(RunQuery(limit=50, after=first.cursor))
    assert set(ids(first)) | set(ids(second)) == {f"a{number}" for number in range(10)}
    assert second.cursor is None
    assert (len(first), first[0].id, len(first[1:])) == (5, ids(first)[0], 4)


@pytest.mark.parametrize(
    "query",
    [
        {"status": "done"}, {"kind": "saga"}, {"sort": "id"}, {"limit": 0}, {"limit": 10**6}, {"limit": True},
        {"offset": -1}, {"after": "x"}, {"after": "é"}, {"after": "W10"}, {"name": ""}, {"queue": "\0"}, {"tags": [1]},
        {"parent": 1}, {"parent": "\ud800"}, {"after": "W251bGwsbnVsbCxudWxsXQ"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(verbs: Any, query: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        verbs.list(RunQuery(**query))


def test_a_cursor_of_another_sort_is_refused(client: Client, zoo: list[str]) -> None:
    cursor = client.list(RunQuery(sort="name", limit=1)).cursor
    with pytest.raises(DefinitionError, match="cursor of sort 'name'"):
        client.list(RunQuery(sort="-name", after=cursor))


@pytest.mark.parametrize("missing", ["nope", str(UUID(int=1)), UUID(int=2), "'; DROP TABLE flowgen.run; --", ""])
def test_every_verb_says_that_a_run_is_missing(verbs: Any, missing: Any) -> None:
    error = DefinitionError if missing == "" else RunNotFound
    for verb in ("get", "cancel", "pause", "resume", "retry", "accept", "history", "trace", "why", "result"):
        with pytest.raises(error):
            getattr(verbs, verb)(missing)
    with pytest.raises(error):
        verbs.set_deadline(missing, "1h")


def test_every_verb_takes_the_id_the_uuid_and_its_text(verbs: Any, checkout: Checkout) -> None:
    named, plain = verbs.start(checkout.call().opts(id="x")), verbs.start(checkout)
    for run, ways in ((named, ["x", named.uuid, str(named.uuid)]), (plain, [plain.id, plain.uuid, plain.id.upper()])):
        for way in ways:
            assert verbs.get(way).uuid == run.uuid
            assert verbs.why(way).run_id == run.id
            assert verbs.history(way) == []
            assert verbs.pause(way).status == "paused"
            assert verbs.resume(way).status == "pending"


@pytest.mark.bad_input("B22")
def test_a_run_that_cannot_be_decoded_is_still_listed(
    verbs: Any, checkout: Checkout, db: psycopg.Connection[Any]
) -> None:
    run = verbs.start(checkout.call("o").opts(id="x"))
    db.execute(
        'UPDATE flowgen.run SET input = \'{"a": 1, "a": "\\u0000"}\', status = 7, finished_at = now(), output = \'7\''
    )
    [listed] = verbs.list()
    assert listed.uuid == run.uuid
    typed = verbs.get("x", checkout)
    with pytest.raises(CodecError, match="the result of x"):
        _ = typed.output
    assert "x" in repr(typed)


def test_a_run_is_typed_by_its_own_definition_only(
    verbs: Any, checkout: Checkout, app: flowgen.App, store: Any
) -> None:
    @app.task
    def other() -> bytes:
        return b""

    run = verbs.start(other.call().opts(id="x"))
    store.complete(run.uuid, '"AAE="')
    assert verbs.get("x", other).output == b"\x00\x01"
    with pytest.raises(DefinitionError, match="is a run of 'other', not of 'checkout'"):
        verbs.get("x", checkout)


# --- history and trace


@pytest.fixture
def recorded(client: Client, checkout: Checkout, store: Any) -> UUID:
    uuid = client.start(checkout.call("o").opts(id="x")).uuid
    store.begin(uuid)
    store.entry(uuid, 1, EntryKind.ATTEMPT, "charge", attempt=1, value='{"type":"OSError","message":"down"}')
    store.entry(
        uuid,
        2,
        EntryKind.OUTCOME,
        "charge",
        fingerprint="step:charge:00",
        status=OutcomeKind.VALUE,
        attempt=2,
        value='"c"',
    )
    store.entry(
        uuid, 4, EntryKind.OUTCOME, "all/1/ship#2", fingerprint="step:ship:00", status=OutcomeKind.FAILURE,
        value='{"type":"ValueError","message":"boom"}', named=True,
    )  # fmt: skip
    store.entry(uuid, 5, EntryKind.SET_ASIDE, "", value='{"indexes":[4],"why":"retry","who":"ann"}')
    store.complete(uuid, '"c"')
    return uuid


def test_the_history_shows_all_that_is_recorded_and_what_was_set_aside(verbs: Any, recorded: UUID) -> None:
    items = verbs.history("x")
    assert [(item.index, item.kind, item.path, item.name) for item in items] == [
        (1, "attempt", "charge", "charge"),
        (2, "outcome", "charge", "charge"),
        (4, "outcome", "all/1/ship#2", "ship#2"),
        (5, "set_aside", "", ""),
    ]
    assert [item.outcome for item in items] == [None, "value", "failure", None]
    assert [item.aside for item in items] == [False, False, True, False]
    assert [item.command for item in items] == [None, "step", "step", None]
    assert (items[1].value, items[1].attempt, items[1].error) == ("c", 2, None)
    assert (str(items[0].error), str(items[2].error), items[2].value) == ("OSError: down", "ValueError: boom", None)
    assert items[3].value == {"indexes": [4], "why": "retry", "who": "ann"}
    assert all(item.recorded_at.tzinfo is not None for item in items)


def test_a_closed_segment_answers_no_longer_but_for_named_outcomes(
    verbs: Any, recorded: UUID, db: psycopg.Connection[Any]
) -> None:
    db.execute("UPDATE flowgen.run SET base = 5, prologue = 2 WHERE run_id = %s", (recorded,))
    assert [item.aside for item in verbs.history("x")] == [False, True, True, False]


def test_a_trace_is_the_history_as_it_is_stored(verbs: Any, recorded: UUID) -> None:
    trace = verbs.trace("x")
    assert (trace.name, trace.kind, trace.run_id, trace.status) == ("checkout", "workflow", "x", "completed")
    assert trace.result == "c"
    assert [item.index for item in trace.items] == [1, 2, 4, 5]
    assert Trace.from_json(trace.to_json()) == trace
