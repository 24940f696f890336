"""Bad inputs: each gives its own clear error to its own run, while a neighbour completes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Checkpoint, Context, Flow, Invoke, Retry, RunFailed, RunNotFinished, Sleep, Step
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

ONCE = Retry(1)


@pytest.fixture
def neighbours(app: App, flowgen_client: Client, flowgen_worker: Workers) -> Iterator[None]:
    """Runs that are live beside what the test does, and complete after it, by the workers of the test."""

    def fine(n: int) -> int:
        return n

    @app.workflow
    def neighbour(n: int) -> Flow[int]:
        for _ in range(3):
            yield Step(fine, n)
            yield Sleep(0.05)
        return n

    runs = flowgen_client.start_many([neighbour.call(n) for n in range(20)])
    yield
    more = flowgen_client.start_many([neighbour.call(n) for n in range(20)])
    assert [run.result(timeout=15) for run in (*runs, *more)] == [*range(20), *range(20)]
    assert {run.refresh().recoveries for run in (*runs, *more)} == {0}


def raises_system_exit() -> None:
    raise SystemExit(3)


def raises_memory_error() -> None:
    raise MemoryError


def gives_a_lambda() -> Any:
    return lambda: None


def gives_nan() -> float:
    return float("nan")


def gives_a_generator() -> Any:
    return (n for n in range(3))


async def raises_system_exit_async() -> None:
    raise SystemExit(3)


class Nasty(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises_nastily() -> None:
    raise Nasty(1, 2)


def raises_a_group() -> None:
    raise ExceptionGroup("many", [ValueError("a"), TypeError("b\0c\ud800")])


def takes_one(n: int) -> int:
    return n


def stops() -> None:
    raise StopIteration(3)


def raises_loudly() -> None:
    raise ValueError("x" * 5_000_000)


BAD_STEPS = [
    (raises_system_exit, "SystemExit: 3"),
    (raises_system_exit_async, "SystemExit: 3"),
    (raises_memory_error, "MemoryError"),
    (gives_a_lambda, "the result of gives_a_lambda"),
    (gives_nan, "the result of gives_nan"),
    (gives_a_generator, "the result of gives_a_generator"),
    (raises_nastily, "Nasty"),
    (raises_a_group, "many"),
    (stops, "StopIteration"),
    (raises_loudly, "ValueError: x"),
]


@pytest.mark.bad_input("B1", "B2", "B18", "B19", "B39")
@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(("step", "said"), BAD_STEPS, ids=[step.__name__ for step, _ in BAD_STEPS])
def test_a_bad_step_fails_its_own_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers, step: Any, said: str
) -> None:
    @app.workflow
    def bad() -> Flow[None]:
        yield Step(step).opts(retry=ONCE)

    flowgen_worker(app)
    run = flowgen_client.start(bad)
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=10)
    assert said in str(failed.value)
    assert len(str(failed.value)) < 200_000


def yields_none() -> Flow[Any]:
    return (yield None)  # type: ignore[misc]


def yields_a_number() -> Flow[Any]:
    yield 42  # type: ignore[misc]


def helper() -> Flow[int]:
    yield Sleep(0)
    return 1


def yields_a_generator() -> Flow[Any]:
    yield helper()  # type: ignore[misc]


def yields_a_class() -> Flow[Any]:
    yield Step  # type: ignore[misc]


def gives_one_name_twice() -> Flow[Any]:
    yield Step(takes_one, 1).opts(name="same")
    yield Step(takes_one, 2).opts(name="same")


def calls_asyncio() -> Flow[Any]:
    asyncio.get_running_loop()
    yield Sleep(0)


def creates_a_task() -> Flow[Any]:
    waits = asyncio.sleep(0)
    try:
        asyncio.create_task(waits)  # noqa: RUF006
    finally:
        waits.close()
    yield Sleep(0)


def saves_unread() -> Flow[Any]:
    yield Checkpoint(cursor=3)


def recurses() -> Flow[Any]:
    def deeper(n: int) -> Flow[int]:
        return (yield from deeper(n + 1))

    yield from deeper(0)


def raises_stop_iteration() -> Flow[Any]:
    yield Sleep(0)
    raise StopIteration(3)


def exits() -> Flow[Any]:
    yield Sleep(0)
    raise SystemExit(4)


def gives_what_cannot_be_stored() -> Flow[Any]:
    yield Sleep(0)
    return {"deep": [{"er": object()}]}


def wrong_arguments() -> Flow[Any]:
    yield Step(takes_one, 1, 2, 3)  # type: ignore[call-overload]


def unstorable_arguments() -> Flow[Any]:
    yield Invoke("child", what=float("inf"))


BAD_HANDLERS = [
    (yields_none, "None"),
    (yields_a_number, "42"),
    (yields_a_generator, "yield from"),
    (yields_a_class, "Step"),
    (gives_one_name_twice, "DuplicateNameError"),
    (calls_asyncio, "Step"),
    (creates_a_task, "Step"),
    (saves_unread, "ctx.checkpoint_cursor or 0"),
    (recurses, "RecursionError"),
    (raises_stop_iteration, "StopIteration"),
    (exits, "SystemExit"),
    (gives_what_cannot_be_stored, "$.deep[0].er"),
    (wrong_arguments, "takes_one"),
    (unstorable_arguments, "inf"),
]


@pytest.mark.bad_input("B1", "B2", "B29", "B32", "B36", "B38", "B39")
@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(("handler", "said"), BAD_HANDLERS, ids=[handler.__name__ for handler, _ in BAD_HANDLERS])
def test_a_bad_handler_fails_its_own_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers, handler: Any, said: str
) -> None:
    app.workflow(handler)
    flowgen_worker(app)
    run = flowgen_client.start(flowgen.call(handler.__name__))
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=10)
    assert said in str(failed.value)
    error = run.refresh().error
    assert error is not None
    assert error.type != "AssertionError"


@pytest.mark.bad_input("B45")
@pytest.mark.usefixtures("neighbours")
def test_an_input_that_does_not_fit_fails_at_once(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    calls: list[Any] = []

    @app.task(retry=Retry(5))
    def typed(n: int) -> None:
        calls.append(n)

    flowgen_worker(app)
    for arguments, said in (({"n": "text"}, "n"), ({}, "n"), ({"n": 1, "m": 2}, "m")):
        run = flowgen_client.start(flowgen.call("typed", **arguments))
        with pytest.raises(RunFailed, match=said):
            run.result(timeout=10)
        error = run.refresh().error
        assert error is not None
        assert "typed" in str(error)
    assert calls == []


@pytest.mark.bad_input("B22")
@pytest.mark.usefixtures("neighbours")
def test_rows_that_nobody_can_read_are_parked_and_block_nobody(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    def number() -> int:
        return 1

    @app.workflow
    def reads() -> Flow[int]:
        n = yield from Step(number)
        yield Sleep(0.2)
        return n

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(reads)
    eventually(lambda: run.refresh().status == "waiting")
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        conn.execute("""update flowgen.entry set value = '"text"' where run_id = %s and key = 'number'""", (run.uuid,))
    eventually(lambda: run.refresh().status == "parked")
    error = run.refresh().error
    assert error is not None
    assert "number" in str(error.details)


@pytest.mark.bad_input("B43")
@pytest.mark.usefixtures("neighbours")
@pytest.mark.fault("F70")
def test_a_run_that_nobody_knows_stays_and_why_says_so(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    flowgen_worker(app)
    run = flowgen_client.start(flowgen.call("unheard_of", n=1))
    with pytest.raises(RunNotFinished, match="unheard_of"):
        run.result(timeout=0.5)
    assert run.refresh().status == "pending"
    why = str(flowgen_client.why(run.id))
    assert "no live worker" in why
    other = App()

    @other.task
    def unheard_of(n: int) -> int:
        return n

    flowgen_worker(other)
    assert run.result(timeout=10) == 1


@pytest.mark.bad_input("B41")
@pytest.mark.usefixtures("neighbours")
def test_changed_code_parks_the_run_until_it_fits(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return 2

    def define(step: Any) -> App:
        version = App()

        @version.workflow
        def versioned() -> Flow[int]:
            n: int = yield Step(step)
            yield Sleep(0.5)
            return n

        return version

    flowgen_worker(app)
    old = flowgen_worker(define(one))
    run = flowgen_client.start(flowgen.call("versioned"))
    eventually(lambda: run.refresh().status == "waiting")
    old.stop()
    new = flowgen_worker(define(two))
    eventually(lambda: run.refresh().status == "parked")
    error = run.refresh().error
    assert error is not None
    for part in ("one", "two", os.path.basename(__file__)):
        assert part in str(error.details)
    new.stop()
    flowgen_worker(define(one))
    flowgen_client.resume(run.id)
    assert run.result(timeout=10) == 1


@pytest.mark.bad_input("B39")
def test_a_keyboard_interrupt_in_a_step_stops_the_worker_and_is_no_attempt(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    tries: list[int] = []

    def interrupted() -> int:
        tries.append(flowgen.current().attempt)
        if len(tries) == 1:
            raise KeyboardInterrupt
        return len(tries)

    @app.workflow
    def work() -> Flow[int]:
        return (yield from Step(interrupted).opts(retry=ONCE))

    first = flowgen_worker(app)
    run = flowgen_client.start(work)
    assert first.join(timeout=10)
    flowgen_worker(app)
    assert run.result(timeout=10) == 2
    assert tries == [1, 1]


@pytest.mark.bad_input("B35")
def test_a_swallowed_generator_exit_does_not_hurt_the_worker(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    clung: list[int] = []

    @app.workflow
    def clings(ctx: Context) -> Flow[str]:
        for _ in range(2):
            try:
                yield Sleep(0.1)
                return "done"
            except GeneratorExit:
                clung.append(1)
        return "closed at the second time"

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(clings)
    assert run.result(timeout=10) == "done"
    assert clung
