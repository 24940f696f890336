"""WaitSignal and Signal: which wait takes which signal, as the history tells it."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core import codec
from flowgen.core.commands import Checkpoint, Flow, Gather, Race, Signal, Sleep, Step, WaitSignal
from flowgen.core.context import Context
from flowgen.core.decision import Parked, Returned, Waits
from flowgen.core.entries import Message, MessageKind, OutcomeKind
from flowgen.core.interpreter import Execution
from flowgen.errors import CodecError, StepFailed, WaitFailed, WaitTimedOut
from flowgen.testing.bench import Bench

from .running import begun, gives, keys, kinds, over, replayed, result, statuses


def work(n: int) -> int:
    raise NotImplementedError


def signal(number: int, name: str, payload: Any) -> Message:
    return Message(number, MessageKind.SIGNAL, name, codec.encode(payload))


def hangs_up(bench: Bench) -> Waits | None:
    return bench.execution.advance(bench.now).hang_up


def test_a_wait_takes_the_first_signal_of_its_name() -> None:
    def handler() -> Flow[Any]:
        return [(yield from WaitSignal("go", int)), (yield from WaitSignal("go", int))]

    bench = begun(handler)
    assert hangs_up(bench) == Waits(None, 1)
    bench.signalled("other", 0)
    bench.signalled("go", 1)
    bench.signalled("go", 2)
    assert result(bench) == [1, 2]
    assert keys(bench) == ["signal:go", "signal:go#2"]
    assert [message.key for message in bench.letters] == ["other"]


def test_signals_of_before_the_wait_are_kept() -> None:
    def handler() -> Flow[Any]:
        yield Step(work, 1)
        return list((yield from Gather(WaitSignal("go"), WaitSignal("go"))))

    bench = begun(handler)
    for n in range(3):
        bench.signalled("go", n)
    gives(bench, "work", 1)
    assert result(bench) == [0, 1]
    assert len(bench.letters) == 1


def test_a_signal_is_consumed_when_its_outcome_has_reached_the_handler_and_not_before() -> None:
    def handler() -> Flow[Any]:
        yield from WaitSignal("go")
        yield Step(work, 1)

    bench = begun(handler)
    bench.execution.post([signal(7, "go", 1)])
    decision = bench.execution.advance(bench.now)
    assert (len(decision.entries), decision.consumed) == (1, ())
    decision = bench.execution.advance(bench.now, [bench._commit(decision.entries[0])])
    assert list(decision.consumed) == [7]


def fresh_over(bench: Bench, *messages: Message) -> Execution:
    execution = over(bench)
    execution.post(messages)
    return execution


def test_a_replay_takes_a_signal_once_that_is_in_the_history_and_in_the_inbox() -> None:
    def handler() -> Flow[Any]:
        first = yield from WaitSignal("go")
        return [first, (yield from WaitSignal("go"))]

    bench = begun(handler)
    bench.signalled("go", 1)
    execution = fresh_over(bench, signal(1, "go", 1), signal(2, "go", 2))
    decision = execution.advance(bench.now)
    assert [entry.value for entry in decision.entries] == ["2"]
    assert list(decision.consumed) == [1]


def test_the_wait_that_loses_gives_back_what_it_had_taken() -> None:
    def handler() -> Flow[Any]:
        first = yield from Race(a=WaitSignal("a"), b=WaitSignal("b"))
        return [first.value, (yield from WaitSignal("b"))]

    bench = begun(handler)
    bench.execution.post([signal(1, "a", "one"), signal(2, "b", "two")])
    bench._inbox |= {each.id: each for each in [signal(1, "a", "one"), signal(2, "b", "two")]}
    bench.go()
    assert result(bench) == ["one", "two"]
    assert statuses(bench) == {"race/a/signal:a": "VALUE", "race/b/signal:b": "VALUE", "signal:b": "VALUE"}
    assert not bench.letters
    execution, decision = replayed(bench)
    assert decision.finish == bench.finish


def test_what_is_given_back_goes_to_who_waits_already() -> None:
    def loses() -> Flow[Any]:
        return (yield from Race(now=Step(work, 1), b=WaitSignal("b"))).tag

    def handler() -> Flow[Any]:
        return list((yield from Gather(loses(), WaitSignal("b"))))

    bench = begun(handler)
    execution = bench.execution
    settled = execution.settle("gather/0/race/now/work", Returned(1))
    assert settled is not None
    execution.post([signal(1, "b", "two")])
    taken = execution.advance(bench.now)
    (entry,) = taken.entries
    assert entry.key == "gather/0/race/b/signal:b"
    bench.go([bench._commit(settled), bench._commit(entry)])
    assert result(bench) == ["now", "two"]


def test_a_payload_that_does_not_fit_is_a_failure_that_takes_it() -> None:
    def handler() -> Flow[Any]:
        try:
            yield from WaitSignal("go", list[int])
        except WaitFailed as error:
            return [str(error), error.name, (yield from WaitSignal("go"))]

    bench = begun(handler)
    bench.signalled("go", [1, "x"])
    bench.signalled("go", "next")
    said = "the signal go failed: CodecError: the signal go cannot be read at $[1]: found str, allowed: int"
    assert result(bench) == [said, "signal:go", "next"]
    assert not bench.letters


def test_a_timeout_is_armed_once_and_a_signal_that_is_there_wins() -> None:
    def handler() -> Flow[Any]:
        try:
            yield from WaitSignal("go", timeout=5)
        except WaitTimedOut as error:
            return [str(error), (yield from WaitSignal("go", timeout=5))]

    bench = begun(handler)
    assert bench.execution.due_at is not None
    bench.move_to(bench.execution.due_at)
    assert kinds(bench) == ["ARMED", "OUTCOME", "ARMED"]
    due_at = bench.execution.due_at
    assert due_at is not None
    bench.now = due_at
    bench.signalled("go", "in time")
    assert result(bench) == ["the signal go did not come within 5 s", "in time"]


def test_a_signal_that_is_there_needs_no_timer() -> None:
    def handler() -> Flow[Any]:
        yield Sleep(1)
        return (yield from WaitSignal("go", timeout=5))

    bench = begun(handler)
    bench.signalled("go", 1)
    bench.move_to(bench.due_at or bench.now)
    assert result(bench) == 1
    assert kinds(bench) == ["ARMED", "OUTCOME", "OUTCOME"]


def test_a_new_segment_reads_on_where_the_last_one_ended() -> None:
    def handler(ctx: Context) -> Flow[Any]:
        total = ctx.accumulated_results or 0
        for n in range(ctx.checkpoint_cursor or 0, 3):
            total += yield from WaitSignal("add", int)
            yield Checkpoint(n + 1, n + 1, total)
        return total

    bench = begun(handler)
    for n in (1, 2):
        bench.signalled("add", n)
        bench.restart()
        bench.go()
    bench.signalled("add", 3)
    assert result(bench) == 6
    assert not bench.letters


def test_a_request_to_send_stands_in_the_decision_of_its_outcome() -> None:
    def handler() -> Flow[Any]:
        yield Signal("order-1", "go", {"n": 1})
        return "sent"

    bench = begun(handler)
    assert result(bench) == "sent"
    decision = over(bench, items=[]).advance(bench.now)
    (request,) = decision.signals
    assert (request.key, request.payload) == ("send:go", '{"n":1}')
    assert [entry.key for entry in decision.entries] == ["send:go"]
    _, again = replayed(bench)
    assert not again.signals


def test_a_signal_that_could_not_be_sent_is_thrown() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Signal("order-1", "go")
        except StepFailed as error:
            return [str(error), error.failure.type]

    bench = begun(handler)
    (entry,) = [each for each in bench.items if each.key == "send:go"]
    failure = '{"type":"RunNotFound","message":"no run has the id \'order-1\'"}'
    entry.status, entry.value = OutcomeKind.FAILURE, failure
    execution = over(bench, items=[entry])
    decision = execution.advance(bench.now)
    assert decision.finish is not None
    assert getattr(decision.finish, "output", None) == codec.encode(
        ["send:go was not sent: no run has the id 'order-1'", "RunNotFound"]
    )


@pytest.mark.parametrize("command", [lambda: Signal("o", "go", object()), lambda: WaitSignal("go", complex)])
def test_what_cannot_be_stored_is_refused_at_the_yield(command: Any) -> None:
    def handler() -> Flow[Any]:
        try:
            yield command()
        except CodecError as error:
            return str(error)

    bench = begun(handler)
    assert " go " in result(bench)
    assert not bench.items


def test_a_sealed_signal_waits_for_a_worker_that_can_read_it() -> None:
    def handler() -> Flow[Any]:
        return (yield from WaitSignal("go"))

    bench = begun(handler)
    bench.execution.post([Message(1, MessageKind.SIGNAL, "go", '"\u2400crot13:frperg"')])
    decision = bench.execution.advance(bench.now)
    assert decision.finish == Parked(
        "undecodable", "the signal go is encoded with the codec 'rot13', and this worker cannot read it"
    )
    assert not decision.consumed
