"""Operators' verbs on a step, wherever it stands and whatever its worker does; who and why can be read."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

import flowgen
from flowgen import (
    App,
    Flow,
    FlowgenError,
    Gather,
    Graph,
    Invoke,
    Map,
    PermanentError,
    Retry,
    RunFailed,
    RunNotFound,
    Start,
    Step,
    StepContext,
    StepFailed,
    Wait,
    WaitSignal,
    call,
)
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

VERBS = ["retry", "skip", "complete"]
NEVER = Retry(3, initial=3600, maximum=3600)


def decide(client: Client, verb: str, run_id: Any, key: str, value: Any) -> None:
    given = () if verb == "retry" else (value,)
    getattr(client.steps, verb)(run_id, key, *given, by="ann", reason=f"because of {key}")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("waits", [False, True], ids=["failed", "asleep"])
def test_steps_in_every_kind_of_branch_are_decided_about(
    app: App, flowgen_client: Client, flowgen_worker: Workers, verb: str, waits: bool
) -> None:
    broken = threading.Event()
    broken.set()
    calls: list[str] = []

    def work(name: str) -> str:
        calls.append(name)
        if broken.is_set() and not name.startswith("fine"):
            raise ValueError(name)
        return f"called {name}"

    policy = NEVER if waits else Retry(1)

    @app.workflow
    def gathers() -> Flow[Any]:
        return (yield from Gather(Step(work, "fine 1"), Step(work, "a").opts(retry=policy)))

    @app.workflow
    def maps() -> Flow[Any]:
        return (yield from Map(work, ["fine 2", "b"], limit=1).opts(retry=policy))

    @app.workflow
    def graphs() -> Flow[Any]:
        first = Step(work, "fine 3").opts(name="first")
        found = yield from Graph(first, Step(work, "c").opts(name="second", after="first", retry=policy))
        return [found["first"], found["second"]]

    keys = {gathers: "gather/1/work", maps: "map/1/work", graphs: "graph/second"}
    flowgen_worker(app)
    runs = {flow: flowgen_client.start(flow) for flow in keys}
    for run in runs.values():
        eventually(lambda run=run: run.refresh().status == ("waiting" if waits else "failed"), timeout=20)  # type: ignore[misc]
    broken.clear()
    for flow, run in runs.items():
        decide(flowgen_client, verb, run.id, keys[flow], "by hand")
    for (flow, run), name in zip(runs.items(), "abc", strict=True):
        wanted = f"called {name}" if verb == "retry" else "by hand"
        assert run.result(timeout=20)[1] == wanted, flow.name
        (said,) = flowgen_client.audit(run.id)
        assert (said.action, said.subject, said.who, said.reason) == (
            verb,
            keys[flow],
            "ann",
            f"because of {keys[flow]}",
        )
    assert [calls.count(f"fine {n}") for n in (1, 2, 3)] == [1, 1, 1], "what had succeeded is not called again"


@pytest.mark.parametrize("verb", VERBS)
def test_the_step_of_a_child_task_is_decided_about_under_the_childs_id(
    app: App, flowgen_client: Client, flowgen_worker: Workers, verb: str
) -> None:
    broken = threading.Event()
    broken.set()

    @app.task(retry=NEVER)
    def asleep() -> str:
        if broken.is_set():
            raise ValueError("no")
        return "called"

    @app.task(retry=Retry(1))
    def failed() -> str:
        return asleep.fn()

    @app.workflow
    def parent() -> Flow[list[str]]:
        ref = yield from Start(failed).opts(id="child-1")
        one = yield from Invoke(asleep)
        two = yield from Wait(ref)
        return [one, two]

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    other = eventually(lambda: [*flowgen_client.list(RunQuery(name="asleep", status="waiting"))], timeout=20)[0]
    eventually(lambda: flowgen_client.get("child-1").status == "failed", timeout=20)
    broken.clear()
    decide(flowgen_client, verb, "child-1", "failed", "by hand")
    wanted = "called" if verb == "retry" else "by hand"
    assert flowgen_client.get("child-1").result(timeout=20) == wanted
    decide(flowgen_client, verb, other.id, "asleep", "by hand")
    with pytest.raises(RunFailed, match="Child run failed"):  # that child had told its parent of its failure before
        run.result(timeout=20)
    flowgen_client.steps.complete(run.id, "wait:failed", wanted, by="ann")
    assert run.result(timeout=20) == [wanted, wanted]


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_whose_function_is_being_called_is_decided_about(
    app: App, flowgen_client: Client, flowgen_worker: Workers, verb: str
) -> None:
    begun = threading.Event()
    aborted: list[bool] = []

    def work(ctx: StepContext) -> str:
        if ctx.attempt == 1:
            raise ValueError("once")
        begun.set()
        aborted.append(ctx.signal.wait(2 if verb == "retry" else 20))
        return "called"

    @app.workflow
    def flow() -> Flow[str]:
        return (yield from Step(work).opts(retry=Retry(3, initial=0.01)))

    flowgen_worker(app)
    run = flowgen_client.start(flow)
    assert begun.wait(20)
    decide(flowgen_client, verb, run.id, "work", "by hand")
    assert run.result(timeout=20) == ("called" if verb == "retry" else "by hand")
    eventually(lambda: aborted == [verb != "retry"], timeout=20)
    assert [item.action for item in flowgen_client.audit(run.id)] == [verb]


@pytest.mark.parametrize("verb", VERBS)
def test_a_decision_outlives_a_killed_worker_and_waits_for_the_next(
    program: Program, flowgen_client: Client, verb: str
) -> None:
    program.write("""
def work(name):
    note(name)
    if not os.path.exists(os.environ["NOTES"] + ".fixed"):
        raise ValueError(name)
    return "called"

@workflow
def flow() -> Flow[list]:
    return [(yield from Step(work, "a").opts(retry=Retry(3, initial=3600, maximum=3600)))]
""")
    first = program.start()
    run = flowgen_client.start(call("flow"))
    eventually(lambda: run.refresh().status == "waiting", timeout=20)
    first.kill()
    decide(flowgen_client, verb, run.id, "work", "by hand")
    assert run.refresh().status == "pending"
    program.open("fixed")
    program.start()
    assert run.result(timeout=20) == ["called" if verb == "retry" else "by hand"]
    aside = [item.value for item in flowgen_client.history(run.id) if item.kind == "set_aside"]
    assert [(each["who"], each["why"]) for each in aside] == [("ann", f"{verb}: because of work")]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("waits", [False, True], ids=["failed", "asleep"])
def test_what_could_not_be_undone_is_decided_about_and_the_rest_stays_undone(
    app: App, flowgen_client: Client, flowgen_worker: Workers, verb: str, waits: bool
) -> None:
    closed = threading.Event()
    undone: list[str] = []

    def book(what: str) -> str:
        return what

    def cancel(what: str) -> str:
        if what == "flight" and not closed.is_set():
            raise ValueError("closed")
        undone.append(what)
        return what

    def no() -> None:
        raise PermanentError("no")

    @app.workflow
    def trip() -> Flow[None]:
        policy = NEVER if waits else Retry(1)
        for what in ("hotel", "flight"):
            yield Step(book, what).opts(compensate=Step(cancel, what).opts(retry=policy))
        yield Step(no)

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    if waits:
        eventually(lambda: "book#2#undo" in {item.path for item in flowgen_client.history(run.id)})
    else:
        with pytest.raises(RunFailed):
            run.result(timeout=20)
        assert [each["key"] for each in run.refresh().error.details["not_undone"]] == ["book#2"]  # type: ignore[union-attr]
    closed.set()
    decide(flowgen_client, verb, run.id, "book#2#undo", "by hand")
    ended = eventually(lambda: (now := run.refresh()).error and "not_undone" not in now.error.details and now)
    assert (ended.status, str(ended.error)) == ("failed", "StepFailed: no failed after 1 attempt: PermanentError: no")
    assert sorted(undone) == (["flight", "hotel"] if verb == "retry" else ["hotel"])


def test_what_cannot_be_decided_is_refused_with_the_reason_and_leaves_no_trace(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    def no() -> int:
        raise PermanentError("no")

    def yes() -> int:
        return 1

    @app.workflow
    def flow(fails: bool) -> Flow[int]:
        yield Step(yes)
        return (yield from Step(no if fails else yes))

    @app.workflow
    def goes_on() -> Flow[None]:
        with suppress(StepFailed):
            yield Step(no)
        yield WaitSignal("enough")

    flowgen_worker(app)
    on = flowgen_client.start(goes_on.call().opts(id="on"))
    failed = flowgen_client.start(flow.call(True).opts(id="f"))
    done = flowgen_client.start(flow.call(False).opts(id="d"))
    with pytest.raises(RunFailed):
        failed.result(timeout=20)
    assert done.result(timeout=20) == 1
    eventually(lambda: on.refresh().status == "waiting")
    for verb, run_id, key, said in (
        ("retry", "on", "no", "retry of 'no' in run on: it failed, and the handler was told; the run is waiting, and"),
        ("retry", "f", "yes", "retry of 'yes' in run f: it has not failed, its outcome is value; these .* about: no"),
        ("skip", "f", "yes#2", "skip of 'yes#2' in run f: it has not failed, there is no such command; these .*: no"),
        ("complete", "d", "yes", "run d is completed: only what failed can be decided about"),
        ("retry", "f", "a\0b", "the key of a command .* is not a key"),
    ):
        with pytest.raises(FlowgenError, match=said):
            decide(flowgen_client, verb, run_id, key, 1)
    with pytest.raises(RunNotFound, match="no run has the id 'nobody'"):
        flowgen_client.steps.retry("nobody", "no")
    with pytest.raises(RunNotFound, match="no run has the id 'nobody'"):
        flowgen_client.audit("nobody")
    with pytest.raises(flowgen.CodecError, match="the value cannot be stored at"):
        flowgen_client.steps.complete("f", "no", object())
    with pytest.raises(flowgen.DefinitionError, match="by is 7 of type int: give a string"):
        flowgen_client.steps.retry("f", "no", by=7)  # type: ignore[arg-type]
    assert flowgen_client.audit("f") == flowgen_client.audit("d") == []

    async def by_hand() -> list[flowgen.AuditItem]:
        async with flowgen.connect_async(flowgen_database) as client:
            await client.steps.complete("f", "no", 7, by="bob")
            return await client.audit("f")

    (item,) = asyncio.run(by_hand())
    assert (item.action, item.subject, item.who, item.reason, item.at.tzinfo is not None) == (
        "complete", "no", "bob", None, True,
    )  # fmt: skip
    assert failed.result(timeout=20) == 7
