"""Sagas: what succeeded is undone, the latest first, when the run fails for good or is cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Checkpoint, Flow, Gather, Invoke, Race, Saga, Scope, Sleep, Start, Step, Transaction
from flowgen.core.context import Context
from flowgen.core.decision import Cancelled as CancelledRun
from flowgen.core.decision import Completed, Failed, Returned
from flowgen.core.entries import MessageKind
from flowgen.core.retry import Retry
from flowgen.errors import Cancelled, DefinitionError, PermanentError, StepFailed
from flowgen.flows import saga

from .running import begun, fails, gives, keys, kinds, order, replayed, result, task, workflow


def book(what: str) -> str:
    raise NotImplementedError


def cancel(booking: str) -> None:
    raise NotImplementedError


def booked(what: str) -> Step[str]:
    return Step(book, what).opts(compensate=lambda booking: Step(cancel, booking))


def trip() -> Flow[str]:
    yield booked("hotel")
    yield booked("flight")
    yield Step(book, "dinner")
    raise ValueError("no visa")


def unbooked(bench: Any) -> None:
    """Everything that waits to be undone is."""
    while bench.finish is None:
        (key,) = bench.calls
        assert key.endswith("#undo")
        gives(bench, key, None)


def shown(bench: Any) -> list[str]:
    return [command.kwargs or command.args for command in bench.commands]


def test_what_succeeded_is_undone_in_reverse_when_the_run_fails() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    assert list(bench.calls) == ["book#2#undo"]
    assert bench.calls["book#2#undo"].command == Step(cancel, "F")
    gives(bench, "book#2#undo", None)
    assert bench.calls["book#undo"].command == Step(cancel, "H")
    assert bench.finish is None
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)
    assert str(bench.finish.failure) == "ValueError: no visa"
    assert "not_undone" not in bench.finish.failure.details
    assert keys(bench) == ["book", "book#2", "book#3", "book#2#undo", "book#undo"]


def test_nothing_is_undone_when_the_run_completes() -> None:
    def fine() -> Flow[str]:
        yield booked("hotel")
        return "fine"

    bench = begun(fine)
    gives(bench, "book", "H")
    assert result(bench) == "fine"
    assert kinds(bench) == ["OUTCOME"]


def test_a_failure_that_the_handler_catches_undoes_nothing() -> None:
    def careful() -> Flow[str]:
        yield booked("hotel")
        try:
            yield Step(book, "flight").opts(retry=Retry(1))
        except StepFailed:
            return "by train"
        return "by air"

    bench = begun(careful)
    gives(bench, "book", "H")
    fails(bench, "book#2", PermanentError("full"))
    assert result(bench) == "by train"


def test_a_failed_step_is_not_undone_itself() -> None:
    def one() -> Flow[None]:
        yield booked("hotel")

    bench = begun(one)
    fails(bench, "book", PermanentError("full"))
    assert isinstance(bench.finish, Failed)
    assert kinds(bench) == ["OUTCOME"]


def test_what_could_not_be_undone_is_told_and_does_not_stop_the_others() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    fails(bench, "book#2#undo", PermanentError("the airline is closed"))
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "ValueError"
    failure = {"type": "PermanentError", "message": "the airline is closed"}
    assert bench.finish.failure.details["not_undone"] == [{"key": "book#2", "failure": failure}]


def test_a_command_that_undoes_has_its_own_retries() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    fails(bench, "book#2#undo", ValueError("busy"))
    assert bench.calls["book#2#undo"].attempt == 2
    gives(bench, "book#2#undo", None)
    unbooked(bench)
    assert isinstance(bench.finish, Failed)
    assert not bench.finish.failure.details


@pytest.mark.parametrize("given", ["a string", None])
def test_a_function_that_gives_no_command(given: Any) -> None:
    def one() -> Flow[None]:
        yield Step(book, "hotel").opts(compensate=lambda _: given)
        raise ValueError("boom")

    bench = begun(one)
    gives(bench, "book", "H")
    assert isinstance(bench.finish, Failed)
    told = bench.finish.failure.details.get("not_undone", [])
    assert [each["failure"]["type"] for each in told] == (["DefinitionError"] if given else [])


def test_a_function_that_raises_leaves_its_step_standing_and_the_others_are_undone() -> None:
    def two() -> Flow[None]:
        yield booked("hotel")
        yield Step(book, "flight").opts(compensate=lambda _: Step(cancel, {}["nothing"]))
        raise ValueError("boom")

    bench = begun(two)
    gives(bench, "book", "H")
    gives(bench, "book#2", "F")
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)
    (told,) = bench.finish.failure.details["not_undone"]
    assert (told["key"], told["failure"]["type"]) == ("book#2", "KeyError")


def test_a_cancelled_run_is_undone_after_its_clean_up() -> None:
    def waits() -> Flow[None]:
        yield booked("hotel")
        try:
            yield Sleep(hours=1)
        finally:
            yield Step(book, "taxi home")

    bench = begun(waits)
    gives(bench, "book", "H")
    bench.cancel("no time")
    gives(bench, "book#2", "T")
    assert list(bench.calls) == ["book#undo"]
    assert bench.execution.unwinding
    bench.cancel("again")  # does nothing
    fails(bench, "book#undo", PermanentError("closed"))
    failure = {"type": "PermanentError", "message": "closed"}
    assert bench.finish == CancelledRun("no time", ({"key": "book", "failure": failure},))


def test_a_run_is_undone_past_its_deadline_and_has_timed_out() -> None:
    def waits() -> Flow[None]:
        yield booked("hotel")
        yield Sleep(hours=1)

    bench = begun(workflow(waits, deadline=timedelta(minutes=1)))
    gives(bench, "book", "H")
    bench.move_to(bench.now + timedelta(minutes=2))
    fails(bench, "book#undo", ValueError("busy"))
    assert bench.execution.limit is None
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "RunTimedOut"
    assert kinds(bench) == ["OUTCOME", "ARMED", "ENDING", "ATTEMPT", "OUTCOME"]


def test_a_run_is_undone_after_its_last_attempt_only() -> None:
    bench = begun(workflow(trip, retry=Retry(2, initial=1)))
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    # The second attempt is answered from the history and fails at once, for good.
    assert bench.attempt == 2
    unbooked(bench)
    assert keys(bench)[-2:] == ["book#2#undo", "book#undo"]


def test_branches_count_in_the_order_of_history() -> None:
    def inner() -> Flow[None]:
        yield booked("inner")

    def wide() -> Flow[None]:
        yield Gather(booked("a"), inner(), Scope("s", inner()))
        yield Race(x=booked("x"), late=Sleep(hours=1))
        raise ValueError("boom")

    bench = begun(wide)
    made = ["gather/2/s/book", "gather/0/book", "gather/1/book", "race/x/book"]
    for key in made:
        gives(bench, key, key)
    unbooked(bench)
    assert keys(bench)[4:] == [f"{key}#undo" for key in reversed(made)]


@pytest.mark.parametrize("crash_after", range(9))
def test_a_restart_anywhere_goes_on_with_what_is_left(crash_after: int) -> None:
    bench = begun(trip)
    outcomes = {"book": "H", "book#2": "F", "book#3": "D", "book#2#undo": None, "book#undo": None}
    while bench.finish is None:
        if len(bench.items) == crash_after:
            bench.restart()
            bench.go()
            crash_after = -1
        (key,) = bench.calls
        gives(bench, key, outcomes[key])
    assert keys(bench) == list(outcomes)
    assert kinds(bench).count("ENDING") == 1


def test_a_replay_of_a_run_that_was_undone_comes_to_the_same_end() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    fails(bench, "book#2#undo", PermanentError("closed"))
    gives(bench, "book#undo", None)
    execution, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert not decision.calls
    assert not decision.entries
    assert execution.finish == bench.finish


def test_what_it_ends_as_does_not_depend_on_code_that_came_later() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)

    def longer() -> Flow[str]:
        yield booked("hotel")
        yield booked("flight")
        yield Step(book, "dinner")
        yield Sleep(hours=1)
        return "with a visa"

    bench.definition = workflow(longer)
    bench.restart()
    bench.go()
    unbooked(bench)
    assert isinstance(bench.finish, Failed)
    assert str(bench.finish.failure) == "ValueError: no visa"


def test_a_retry_does_again_what_was_undone_and_keeps_what_still_stands() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    fails(bench, "book#2#undo", PermanentError("closed"))
    gives(bench, "book#undo", None)
    execution, _ = replayed(bench)
    execution.post([order(MessageKind.RETRY)])
    for entry in execution.advance(bench.now).entries:
        bench.record(entry)
    bench.finish = None
    bench.restart()
    bench.go()
    # The flight still stands; the hotel is booked again.
    gives(bench, "book", "H2")
    # It fails as before, and both are undone.
    assert bench.calls["book#undo"].command == Step(cancel, "H2")
    gives(bench, "book#undo", None)
    gives(bench, "book#2#undo", None)
    assert isinstance(bench.finish, Failed)
    assert "not_undone" not in bench.finish.failure.details


def ordered(bench: Any, key: str, verb: str, **said: Any) -> None:
    """An operator decides about one command of the run that has failed."""
    execution, _ = replayed(bench)
    execution.post([order(MessageKind.RETRY, step={"key": key, "verb": verb, **said})])
    decision = execution.advance(bench.now)
    bench.finish = None
    for entry in decision.entries:
        bench._commit(entry)
    bench.restart()
    bench.go()


def test_what_could_not_be_undone_can_be_tried_again_by_itself() -> None:
    bench = begun(trip)
    for key, value in (("book", "H"), ("book#2", "F"), ("book#3", "D")):
        gives(bench, key, value)
    fails(bench, "book#2#undo", PermanentError("closed"))
    gives(bench, "book#undo", None)
    ordered(bench, "book#2#undo", "retry")
    assert list(bench.calls) == ["book#2#undo"]
    gives(bench, "book#2#undo", None)
    assert isinstance(bench.finish, Failed)
    assert "not_undone" not in bench.finish.failure.details


@pytest.mark.parametrize("scoped", [True, False])
def test_an_operator_who_completes_the_step_that_failed_has_what_was_undone_done_again(scoped: bool) -> None:
    def flow() -> Flow[str]:
        hotel = yield from booked("hotel")
        flight = yield from Step(book, "flight").opts(retry=Retry(1))
        return f"{hotel} {flight}"

    def outer() -> Flow[str]:
        return (yield from Saga(flow()) if scoped else flow())

    prefix = "saga/" if scoped else ""
    bench = begun(outer)
    gives(bench, f"{prefix}book", "H")
    fails(bench, f"{prefix}book#2", ValueError("full"))
    gives(bench, f"{prefix}book#undo", None)
    assert isinstance(bench.finish, Failed)
    ordered(bench, f"{prefix}book#2", "complete", value='"F"')
    gives(bench, f"{prefix}book", "H2")
    assert result(bench) == "H2 F"


def test_what_stands_before_a_checkpoint_with_data_is_settled() -> None:
    def pages(ctx: Context[Any]) -> Flow[None]:
        yield booked("prologue")
        for page in range(ctx.checkpoint_cursor or 0, 3):
            yield booked(f"page {page}")
            if page == 1:
                raise ValueError("boom")
            yield Checkpoint(page + 1)

    for restarts in (False, True):
        bench = begun(pages)
        gives(bench, "book", "P")
        gives(bench, "book#2", "0")
        if restarts:
            bench.restart()
            bench.go()
        gives(bench, "book#2", "1")
        assert bench.calls["book#2#undo"].command == Step(cancel, "1")
        gives(bench, "book#2#undo", None)
        assert bench.calls["book#undo"].command == Step(cancel, "P")
        gives(bench, "book#undo", None)
        assert isinstance(bench.finish, Failed)


def test_other_commands_can_be_undone_and_undo() -> None:
    def child() -> str:
        raise NotImplementedError

    CHILD = task(child)

    def save(conn: Any, what: str) -> str:
        raise NotImplementedError

    def all_kinds() -> Flow[None]:
        yield Invoke(CHILD).opts(compensate=lambda got: Gather(Step(cancel, got), Start(CHILD)))
        yield Transaction(save, "x").opts(compensate=Transaction(save, "undone"))
        raise ValueError("boom")

    bench = begun(all_kinds)
    (run_id,) = bench.children
    bench.child_ended("child", run_id, {"status": "completed", "output": "C"})
    gives(bench, "save", "X")
    assert bench.calls["save#undo"].command == Transaction(save, "undone")
    gives(bench, "save#undo", "Y")
    gives(bench, "child#undo/0/cancel", None)
    assert isinstance(bench.finish, Failed)
    assert keys(bench)[2:] == ["save#undo", "child#undo/1/child", "child#undo/0/cancel"]


# saga scopes


def part(fail: bool = True) -> Flow[str]:
    yield booked("hotel")
    yield booked("flight")
    if fail:
        raise ValueError("no visa")
    return "booked"


def test_a_saga_that_fails_undoes_its_part_and_rethrows() -> None:
    def two_ways() -> Flow[str]:
        yield booked("insurance")
        try:
            return (yield from Saga(part()))
        except ValueError as error:
            yield Step(book, f"instead of {error}")
        return (yield from Saga(part(fail=False)))

    bench = begun(two_ways)
    for key, value in (("book", "I"), ("saga/book", "H"), ("saga/book#2", "F")):
        gives(bench, key, value)
    gives(bench, "saga/book#2#undo", None)
    gives(bench, "saga/book#undo", None)
    gives(bench, "book#2", "N")
    gives(bench, "saga#2/book", "H2")
    gives(bench, "saga#2/book#2", "F2")
    assert result(bench) == "booked"
    assert kinds(bench).count("ENDING") == 0


def test_what_a_saga_has_undone_is_not_undone_again_when_the_run_fails() -> None:
    def outer() -> Flow[None]:
        yield booked("insurance")
        yield from saga(part(), name="saga")

    bench = begun(outer)
    for key, value in (("book", "I"), ("saga/book", "H"), ("saga/book#2", "F")):
        gives(bench, key, value)
    fails(bench, "saga/book#2#undo", PermanentError("closed"))
    gives(bench, "saga/book#undo", None)
    assert list(bench.calls) == ["book#undo"]
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)
    assert [each["key"] for each in bench.finish.failure.details["not_undone"]] == ["saga/book#2"]
    assert bench.finish.failure.details["notes"] == ["not undone: saga/book#2 (PermanentError: closed)"]


def test_a_retry_of_the_run_begins_a_saga_that_was_undone_anew() -> None:
    def flow() -> Flow[str]:
        yield booked("hotel")
        return (yield from Step(book, "flight").opts(retry=Retry(1)))

    def outer() -> Flow[str]:
        return (yield from Saga(flow()))

    bench = begun(workflow(outer, retry=Retry(2, initial=1)))
    gives(bench, "saga/book", "H")
    fails(bench, "saga/book#2", ValueError("full"))
    gives(bench, "saga/book#undo", None)
    assert bench.attempt == 2
    gives(bench, "saga/book", "H2")
    gives(bench, "saga/book#2", "F")
    assert result(bench) == "F"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_cancellation_lets_a_saga_undo_first(restarts: bool) -> None:
    seen: list[str] = []

    def outer() -> Flow[None]:
        yield booked("insurance")
        try:
            yield from Saga(part())
        except (Cancelled, ValueError) as error:
            seen.append(type(error).__name__)
            raise

    bench = begun(outer)
    for key, value in (("book", "I"), ("saga/book", "H"), ("saga/book#2", "F")):
        gives(bench, key, value)
    bench.cancel("enough")  # while the first is being undone
    if restarts:
        seen.clear()
        bench.restart()
        bench.go()
    for key in ("saga/book#2", "saga/book", "book"):
        gives(bench, f"{key}#undo", None)
    assert bench.finish == CancelledRun("enough")
    assert seen == ["Cancelled"]


def test_the_loser_of_a_race_undoes_its_saga() -> None:
    def slow() -> Flow[str]:
        yield booked("hotel")
        yield Sleep(hours=1)
        return "slow"

    def outer() -> Flow[str]:
        won = yield from Race(slow=Saga(slow()), fast=Step(book, "fast"))
        return won.tag

    bench = begun(outer)
    gives(bench, "race/slow/saga/book", "H")
    gives(bench, "race/fast/book", "F")
    gives(bench, "race/slow/saga/book#undo", None)
    assert result(bench) == "fast"


def test_a_deadline_waits_for_a_saga_that_undoes() -> None:
    def outer() -> Flow[None]:
        yield booked("insurance")
        try:
            yield from Saga(part())
        except ValueError:
            yield Sleep(hours=1)

    bench = begun(workflow(outer, deadline=timedelta(minutes=1)))
    for key, value in (("book", "I"), ("saga/book", "H"), ("saga/book#2", "F")):
        gives(bench, key, value)
    bench.move_to(bench.now + timedelta(minutes=2))
    for key in ("saga/book#2", "saga/book", "book"):
        gives(bench, f"{key}#undo", None)
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "RunTimedOut"


# a success that is recorded while its branch is cut off


@pytest.mark.parametrize("scoped", [True, False])
def test_a_success_that_comes_with_the_failure_of_its_neighbour_is_undone(scoped: bool) -> None:
    def both() -> Flow[None]:
        yield Gather(booked("hotel"), Step(book, "flight").opts(retry=Retry(1)))

    def outer() -> Flow[str]:
        try:
            yield from Saga(both()) if scoped else both()
        except StepFailed:
            if not scoped:
                raise
        return "went on"

    bench = begun(outer)
    prefix = "saga/gather" if scoped else "gather"
    late = bench.execution.settle(f"{prefix}/0/book", Returned("H"))
    assert late is not None
    del bench.calls[f"{prefix}/0/book"]
    fails(bench, f"{prefix}/1/book", ValueError("full"))
    assert not bench.calls  # it waits for what is on its way
    assert bench.finish is None
    bench.record(late)
    for restarts in (False, True):
        if restarts:
            bench.restart()
            bench.go()
        assert bench.calls[f"{prefix}/0/book#undo"].command == Step(cancel, "H")
    gives(bench, f"{prefix}/0/book#undo", None)
    assert isinstance(bench.finish, Completed if scoped else Failed)
    execution, decision = replayed(bench)
    assert execution.finish == bench.finish
    assert not decision.calls


def test_a_call_that_is_cut_off_before_its_outcome_is_not_waited_for() -> None:
    def both() -> Flow[None]:
        yield Gather(booked("hotel"), Step(book, "flight").opts(retry=Retry(1)))

    bench = begun(both)
    fails(bench, "gather/1/book", ValueError("full"))
    assert isinstance(bench.finish, Failed)
    assert bench.execution.settle("gather/0/book", Returned("H")) is None


def test_a_call_that_is_cut_off_after_a_failed_attempt_is_not_waited_for_on_a_replay() -> None:
    def both() -> Flow[None]:
        yield Gather(booked("hotel"), Step(book, "flight").opts(retry=Retry(1)))

    bench = begun(both)
    fails(bench, "gather/0/book", ValueError("once"))
    fails(bench, "gather/1/book", ValueError("full"))
    assert isinstance(bench.finish, Failed)
    execution, _ = replayed(bench)
    assert execution.finish == bench.finish


def test_an_outcome_that_is_not_recorded_after_all_is_waited_for_no_longer() -> None:
    def both() -> Flow[None]:
        yield booked("insurance")
        yield Gather(booked("hotel"), Step(book, "flight").opts(retry=Retry(1)))

    bench = begun(both)
    gives(bench, "book", "I")
    assert bench.execution.settle("gather/0/book", Returned("H")) is not None
    del bench.calls["gather/0/book"]
    fails(bench, "gather/1/book", ValueError("full"))
    assert not bench.calls
    bench.execution.retract("gather/0/book")
    bench.go()
    gives(bench, "book#undo", None)
    assert isinstance(bench.finish, Failed)


def test_a_child_that_was_cut_off_with_its_parent_is_not_waited_for_in_a_replay() -> None:
    def child() -> str:
        raise NotImplementedError

    def outer() -> Flow[None]:
        yield booked("hotel")
        yield Invoke(task(child)).opts(compensate=Sleep(1))

    bench = begun(outer)
    gives(bench, "book", "H")
    bench.cancel("enough")
    for restarts in (False, True):
        if restarts:
            bench.restart()
            bench.go()
        assert list(bench.calls) == ["book#undo"]
    gives(bench, "book#undo", None)
    assert bench.finish == CancelledRun("enough")


# mistakes


@pytest.mark.parametrize("wrong", [3, "release", task(cancel)])
def test_what_cannot_undo_is_refused_where_it_is_given(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="compensate= takes a command, or a function of the outcome"):
        Step(book, "hotel").opts(compensate=wrong)


def test_a_flow_that_undoes_is_to_be_made_by_a_function() -> None:
    with pytest.raises(DefinitionError, match="which can run once only"):
        Step(book, "hotel").opts(compensate=Scope("undo", trip()))
