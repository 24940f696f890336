"""A batch on real workers: each range in a child run with checkpoints of its own, and a worker that is killed."""

from __future__ import annotations

import flowgen
from flowgen import App, Flow, PermanentError, RunQuery, Sleep
from flowgen.client.sync import Client
from flowgen.flows import BatchResult, Range, batch, poll
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

KILLED = """
from flowgen.flows import BatchResult, Range, batch

@task
def count(source: str) -> int:
    note("count")
    return 20

def load(source: str, n: int) -> int:
    note(f"load {n}")
    if n in (5, 18):
        gate("go on")
    return n

@workflow
def load_range(ctx: Context, part: Range, source: str) -> Flow[int]:
    total = ctx.accumulated_results or 0
    for n in range(ctx.checkpoint_cursor or part.start, part.end):
        total += yield from Step(load, source, n)
        yield Checkpoint(n + 1, n + 1 - part.start, total)
    return total

@task
def report(done: BatchResult[int], source: str) -> list[float]:
    note("report")
    return [*done.results, done.worker_count, done.success_rate]

@workflow
def nightly(source: str) -> Flow[list[float]]:
    return (yield from batch(count, load_range, report, source, workers=3))
"""


def test_each_range_goes_on_from_its_own_checkpoint_after_a_crash(program: Program, flowgen_client: Client) -> None:
    program.write(KILLED)
    first = program.start()
    run = flowgen_client.start(flowgen.call("nightly", source="orders"))
    for note in ("load 5", "load 13", "load 18"):
        program.noted(note)
    eventually(lambda: flowgen_client.count(RunQuery(name="load_range", status="completed")) == 1)
    first.kill()
    program.open("go on")
    program.start()
    assert run.result(timeout=30) == [sum(range(7)), sum(range(7, 14)), sum(range(14, 20)), 3, 1.0]
    notes = program.notes()
    assert {n: notes.count(f"load {n}") for n in range(20)} == {n: 2 if n in (5, 18) else 1 for n in range(20)}
    assert (notes.count("count"), notes.count("report")) == (1, 1)


def test_a_batch_goes_on_without_what_failed_or_ends_with_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def cursors() -> list[str]:
        return ["a", "c", "f", "k", "x"]

    @app.workflow
    def work(part: Range[str]) -> Flow[str]:
        yield Sleep(0.01)
        if part.start == "f":
            raise PermanentError("f is broken")
        if part.start == "x" and not lenient:
            yield Sleep(3600)
        return part.start + part.end

    lenient: list[bool] = []

    @app.task
    def report(done: BatchResult[str]) -> list[object]:
        (failure,) = done.failures
        return [done.results, failure.part.start, failure.part.end, failure.failure.type, round(done.success_rate, 2)]

    @app.workflow
    def goes_on() -> Flow[list[object]]:
        return (yield from batch(cursors, work, report, size=2, on_failure="continue", limit=2))

    @app.workflow
    def ends() -> Flow[str]:
        try:
            yield from batch(cursors, work, report, size=2)
        except flowgen.ChildFailed as error:
            return str(error.failure)
        return "no failure"

    flowgen_worker(app)
    assert flowgen_client.start(ends).result(timeout=20) == "PermanentError: f is broken"
    eventually(lambda: flowgen_client.count(RunQuery(name="work", status="cancelled")) == 1)
    lenient.append(True)
    run = flowgen_client.start(goes_on)
    assert run.result(timeout=20) == [["ac", "xx"], "f", "k", "PermanentError", 0.67]


def test_a_poll_sleeps_between_its_calls(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    states = iter(["new", "running", "done"])

    @app.task
    def state_of(job: str) -> str:
        return f"{job} {next(states)}"

    @app.workflow
    def waits() -> Flow[str]:
        return (
            yield from poll(state_of, "j", until=lambda state: state == "j done", every=0.05, backoff=2, timeout=60)
        )

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    assert run.result(timeout=20) == "j done"
    paths = [each.path for each in flowgen_client.history(run.id) if each.kind == "outcome"]
    prefix = "race/poll/"
    assert paths == [prefix + name for name in ("state_of", "sleep", "state_of#2", "sleep#2", "state_of#3")]


def test_a_thousand_items_by_three_and_none_at_all(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    done: list[int] = []

    @app.task
    def count(total: int) -> int:
        return total

    @app.workflow
    def work(part: Range, total: int) -> Flow[int]:
        yield Sleep(0)
        done.extend(range(part.start, part.end))
        return part.end - part.start

    @app.task
    def report(found: BatchResult[int], total: int) -> list[object]:
        return [found.results, found.worker_count, found.success_rate, found.failures]

    @app.workflow
    def load(total: int) -> Flow[list[object]]:
        return (yield from batch(count, work, report, total, workers=3))

    flowgen_worker(app)
    thousand, nothing = flowgen_client.start(load, 1000), flowgen_client.start(load, 0)
    assert thousand.result(timeout=20) == [[334, 334, 332], 3, 1.0, []]
    cuts = sorted(each.input["part"]["start"] for each in flowgen_client.list(RunQuery(parent=thousand.uuid)))
    assert cuts == [0, 334, 668]
    assert set(done) == set(range(1000))
    assert nothing.result(timeout=20) == [[], 0, 1.0, []]
    assert flowgen_client.count(RunQuery(parent=nothing.uuid)) == 0
    assert [item.path for item in flowgen_client.history(nothing.id)] == ["count", "report"]
    two = flowgen_client.start(load, 2)
    assert two.result(timeout=20) == [[1, 1], 2, 1.0, []]
