"""The author's mistakes: told at the yield, with what to do; never a hang, never a crash of the engine."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest

from flowgen.core.commands import Command, Flow, Sleep, Step
from flowgen.core.decision import Completed, Failed
from flowgen.core.definitions import DefinitionOptions, Workflow
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError, DuplicateNameError

from .running import begun, gives, keys, replayed, result, workflow


def charge(order: str) -> str:
    raise NotImplementedError


def sub() -> Flow[Any]:
    yield Sleep(1)


async def coroutine() -> None:
    raise NotImplementedError


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.bad_input("B29")
@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: None, "None of type NoneType"),
        (lambda: 42, "a handler yields Step, Sleep, Invoke"),
        (lambda: {"a": 1}, "of type dict"),
        (lambda: "x" * 200, "..."),
        (lambda: Broken(), "an object of type Broken"),
        (lambda: sub(), 'use "yield from sub(...)"'),
        (lambda: coroutine(), 'use "await coroutine(...)"'),
        (lambda: Step, "yield an instance, Step(...)"),
        (lambda: charge, "use Step(function, ...)"),
        (lambda: workflow(sub), "use Step(sub, ...) or Invoke(sub, ...)"),
        (lambda: workflow(sub).call(), "use Invoke(sub, ...) to run it as a child"),
        (lambda: asyncio.Future(loop=asyncio.new_event_loop()), "asyncio cannot be awaited in a handler"),
    ],
)
def test_what_is_no_command_is_told_at_the_yield(make: Callable[[], Any], hint: str) -> None:
    made: list[Any] = []

    def handler() -> Flow[Any]:
        made.append(make())
        try:
            yield made[0]
        except DefinitionError as error:
            return [str(error), error.__notes__]

    said, notes = result(begun(handler))
    assert "which is not a command" in said
    assert hint in said
    assert "test_mistakes.py:" in said
    assert "test_mistakes.py:" in notes[0]
    if isinstance(made[0], asyncio.Future):
        made[0].get_loop().close()
    made.clear()
    gc.collect()


def test_a_command_of_the_authors_own_is_refused() -> None:
    class Mine(Step[Any]):
        kind = "mine"

    class Other(Command[None]):
        kind = "other"
        options = Sleep(0).options

    def handler() -> Flow[Any]:
        try:
            yield Other()
        except DefinitionError as error:
            return str(error)

    assert "a command of your own" in result(begun(handler))
    assert Mine


class TestNamesGivenTwice:
    @pytest.mark.bad_input("B32")
    def test_two_explicit_ones(self) -> None:
        def handler() -> Flow[Any]:
            yield Step(charge, "a").opts(name="x")
            try:
                yield Step(charge, "b").opts(name="x")
            except DuplicateNameError as error:
                return str(error)

        bench = begun(handler)
        gives(bench, "x", "1")
        assert "the name 'x' is given twice in this run" in result(bench)
        assert keys(bench) == ["x"]
        assert replayed(bench)[1].finish == bench.finish

    @pytest.mark.bad_input("B32")
    def test_one_that_is_taken_by_an_automatic_name(self) -> None:
        def handler() -> Flow[Any]:
            yield Step(charge, "a")
            yield Step(charge, "b").opts(name="charge")

        bench = begun(handler)
        gives(bench, "charge", "1")
        assert isinstance(bench.finish, Failed)
        assert bench.finish.failure.type == "DuplicateNameError"


def test_wrong_arguments_are_told_at_the_yield() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(charge, 1, 2, 3)
        except TypeError as error:
            return [str(error), error.__notes__]

    said, notes = result(begun(handler))
    assert "takes 1 positional argument but 3 were given" in said
    assert "test_mistakes.py:" in notes[0]


@pytest.mark.bad_input("B26")
def test_a_handler_that_returns_before_its_first_yield_completes() -> None:
    def handler() -> Flow[Any]:
        return 7
        yield

    bench = begun(handler)
    assert bench.finish == Completed("7")
    assert bench.items == []


def test_a_handler_that_raises_before_its_first_yield_fails() -> None:
    def handler() -> Flow[Any]:
        raise ValueError("boom")
        yield

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert (bench.finish.failure.type, bench.finish.failure.message) == ("ValueError", "boom")
    assert isinstance(bench.execution.error, ValueError)


@pytest.mark.bad_input("B36")
def test_stop_iteration_inside_is_the_authors_error_and_no_success() -> None:
    def handler() -> Flow[Any]:
        next(iter([]))
        yield

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "RuntimeError"


@pytest.mark.bad_input("B39")
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, MemoryError])
def test_any_error_of_the_body_fails_the_run_only(error: type[BaseException]) -> None:
    def handler() -> Flow[Any]:
        yield Sleep(0)
        raise error

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == error.__name__


@pytest.mark.bad_input("B39")
def test_a_keyboard_interrupt_is_not_the_runs() -> None:
    def handler() -> Flow[Any]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        begun(handler)


@pytest.mark.bad_input("B38")
def test_recursion_thousands_deep_fails_the_run() -> None:
    def deeper(n: int) -> Flow[Any]:
        yield Sleep(0)
        yield from deeper(n + 1)

    bench = begun(lambda_(deeper))
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "RecursionError"


def lambda_(deeper: Any) -> Any:
    def handler() -> Flow[Any]:
        yield from deeper(0)

    return workflow(handler)


def test_recursion_hundreds_deep_works() -> None:
    def deeper(n: int) -> Flow[Any]:
        if n == 0:
            return (yield Step(charge, "x"))
        return (yield from deeper(n - 1))

    def handler() -> Flow[Any]:
        return (yield from deeper(300))

    bench = begun(handler)
    gives(bench, "charge", "ch")
    assert result(bench) == "ch"


@pytest.mark.bad_input("B37")
def test_a_handler_that_drives_itself_is_told_so() -> None:
    flows: list[Any] = []

    def handler() -> Flow[Any]:
        flows.append(inner())
        try:
            yield from flows[0]
        except ValueError as error:
            return str(error)

    def inner() -> Flow[Any]:
        next(flows[0])
        yield

    assert result(begun(handler)) == "generator already executing"


@pytest.mark.bad_input("B35")
def test_yields_in_finally_do_not_keep_a_handler_from_being_closed() -> None:
    ended: list[str] = []

    def inner() -> Flow[Any]:
        try:
            yield Step(charge, "a")
        finally:
            yield Step(charge, "b")
            ended.append("inner")

    def handler() -> Flow[Any]:
        try:
            yield from inner()
        finally:
            yield Step(charge, "c")
            ended.append("outer")

    bench = begun(handler)
    bench.execution.close()
    assert ended == []
    gc.collect()


@pytest.mark.bad_input("B35")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python says it once more
def test_a_handler_that_swallows_generator_exit_is_reported() -> None:
    def handler() -> Flow[Any]:
        while True:
            try:
                yield Step(charge, "a")
            except GeneratorExit:
                pass

    bench = begun(handler)
    (warning,) = bench.execution.close()
    assert "swallows GeneratorExit at " in warning


def test_asyncio_in_a_handler_is_told_what_to_use() -> None:
    async def handler() -> None:
        await asyncio.sleep(1)

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "DefinitionError"
    assert "use Sleep for a wait" in bench.finish.failure.message


class TestInput:
    @pytest.mark.bad_input("B45")
    def test_that_does_not_fit_fails_the_run(self) -> None:
        def handler(n: int) -> Flow[Any]:
            yield Sleep(n)

        for arguments in ({"n": "x"}, {}, {"m": 1}):
            bench = begun(workflow(handler, retry=Retry(3)), **arguments)
            assert isinstance(bench.finish, Failed)
            assert bench.finish.failure.type == "CodecError"
            assert bench.attempt == 1

    def test_by_position_or_as_one_value_is_taken(self) -> None:
        from flowgen.testing.bench import Bench

        def handler(a: int, b: int = 2) -> Flow[Any]:
            return [a, b]
            yield

        for text, expected in (("[[1], {}]", "[1,2]"), ('[[1], {"b": 3}]', "[1,3]"), ("5", "[5,2]")):
            bench = Bench(definition=workflow(handler), input=text)
            bench.go()
            assert bench.output == expected


class TestWrappers:
    @staticmethod
    def wrapped(wrapper: Callable[..., Any]) -> Any:
        def handler() -> Flow[Any]:
            yield Sleep(0)
            return 1

        return Workflow(functools.wraps(handler)(wrapper), None, DefinitionOptions(retry=Retry(1)))

    def test_one_that_raises_fails_the_run(self) -> None:
        def wrapper() -> Any:
            raise ValueError("in the wrapper")

        bench = begun(self.wrapped(wrapper))
        assert isinstance(bench.finish, Failed)
        assert bench.finish.failure.message == "in the wrapper"

    def test_one_that_gives_no_flow_is_told_so(self) -> None:
        bench = begun(self.wrapped(lambda: 5))
        assert isinstance(bench.finish, Failed)
        assert "must return what the function returns" in bench.finish.failure.message

    def test_a_keyboard_interrupt_passes(self) -> None:
        def wrapper() -> Any:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begun(self.wrapped(wrapper))


@pytest.mark.bad_input("B1")
def test_a_result_that_cannot_be_stored_fails_the_run() -> None:
    def handler() -> Flow[Any]:
        yield Sleep(0)
        return object()

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.message.startswith("the result cannot be stored")
