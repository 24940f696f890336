"""drive, drive.manual, replay and context: workflows are tested without a database and without waiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flowgen import (
    App,
    Cancelled,
    Checkpoint,
    ChildCancelled,
    ChildFailed,
    ChildTimedOut,
    CompletionToken,
    Context,
    Divergence,
    Failure,
    Flow,
    Gather,
    Invoke,
    NotRegisteredError,
    Now,
    PermanentError,
    Random,
    Retry,
    RunCancelled,
    RunFailed,
    RunRef,
    Schedule,
    Signal,
    Sleep,
    Start,
    Step,
    StepContext,
    StepFailed,
    StepTimedOut,
    Transaction,
    Uuid,
    Wait,
    WaitFailed,
    WaitSignal,
    WaitTimedOut,
    call,
)
from flowgen.core.trace import Trace
from flowgen.testing import Driven, context, drive, replay

app = App(name="driven")


@app.task
def charge(order_id: str, cents: int) -> str:
    return f"ch_{order_id}_{cents}"


@app.workflow
def checkout(order_id: str) -> Flow[str]:
    receipt = yield from Step(charge, order_id, cents=500)
    yield Sleep(seconds=2)
    return receipt


class TestTheExamples:
    def test_checkout(self) -> None:
        trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
        assert trace.result == "ch_1"
        assert trace.commands == [Step(charge, "o-1", cents=500), Sleep(seconds=2)]

    def test_step_by_step(self) -> None:
        with drive.manual(checkout.call("o-1")) as d:
            assert d.command == Step(charge, "o-1", cents=500)
            d.send("ch_1")
            assert d.command == Sleep(seconds=2)
            d.throw(Cancelled())

    def test_production_histories_still_fit(self, tmp_path: Path) -> None:
        drive(checkout.call("o-1"), outcomes={charge: "ch_1"}).save(tmp_path / "order-o-1.json")
        assert replay(checkout, Trace.load(tmp_path / "order-o-1.json")) == "ch_1"


def test_neither_psycopg_nor_pytest_is_imported() -> None:
    code = "import flowgen.testing, sys; assert not {'psycopg', 'pytest'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# drive


def test_time_is_virtual() -> None:
    @App().workflow
    def nap() -> Flow[list[datetime]]:
        first = yield from Now()
        yield Sleep(days=400)
        return [first, (yield from Now())]

    began = datetime(2030, 1, 1, tzinfo=UTC)
    assert drive(nap.call(), now=began).result == [began, began + timedelta(days=400)]


def test_what_is_not_scripted_is_named() -> None:
    with pytest.raises(AssertionError, match=r"waits for Step\(charge, 'o-1', cents=500\) as 'charge'.*run=True"):
        drive(checkout.call("o-1"))


def test_with_run_the_function_is_called() -> None:
    assert drive(checkout.call("o-1"), run=True).result == "ch_o-1_500"


@pytest.mark.parametrize(
    "key", [charge, charge.fn, "charge", Step(charge, "o-1", 500)], ids=["task", "function", "name", "command"]
)
def test_a_step_is_found_by(key: object) -> None:
    assert drive(checkout.call("o-1"), outcomes={key: "ch"}).result == "ch"


def twice(order_id: str) -> Flow[Any]:
    first = yield Step(charge, order_id, 1)
    second = yield Step(charge, order_id, 2).opts(name="second")
    found = yield Gather(Step(charge, order_id, 3))
    return [first, second, *found]


TWICE = app.workflow(twice)


def test_a_key_comes_before_a_function() -> None:
    outcomes = {charge: "any", "second": "named", "gather/0/charge": "keyed"}
    trace = drive(TWICE.call("o"), outcomes=outcomes)
    assert trace.result == ["any", "named", "keyed"]
    assert trace.outcomes == {"charge": "any", "second": "named", "gather/0/charge": "keyed"}


def test_a_list_is_for_successive_calls() -> None:
    assert drive(TWICE.call("o"), outcomes={charge: ["a", "b", "c"]}).result == ["a", "b", "c"]
    with pytest.raises(AssertionError, match=r"call number 3 of charge, and its list in outcomes= has 2"):
        drive(TWICE.call("o"), outcomes={charge: ["a", "b"]})


def test_a_callable_is_called_with_the_arguments() -> None:
    assert drive(TWICE.call("o"), outcomes={charge: lambda order_id, cents: cents and str(cents)}).result == list("123")


def test_what_a_callable_raises_is_an_attempt() -> None:
    attempts: list[int] = []

    def flaky(ctx: StepContext, order_id: str, cents: int) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError
        return "ch"

    assert drive(checkout.call("o"), outcomes={charge: flaky}).result == "ch"
    assert attempts == [1, 2, 3]


def test_a_coroutine_function_is_run() -> None:
    async def fake(order_id: str, cents: int) -> str:
        await asyncio.sleep(0)
        return "ch"

    assert drive(checkout.call("o"), outcomes={charge: fake}).result == "ch"

    async def test() -> str:
        return drive(checkout.call("o"), outcomes={charge: fake}).result

    assert asyncio.run(test()) == "ch"


def test_what_a_fake_asserts_fails_the_test() -> None:
    def fake(order_id: str, cents: int) -> str:
        assert cents == 1, "wrong amount"
        return ""

    with pytest.raises(AssertionError, match="wrong amount"):
        drive(checkout.call("o"), outcomes={charge: fake})


@pytest.mark.parametrize("error", [PermanentError, ValueError("boom"), StepFailed("boom"), StepTimedOut("late")])
def test_an_exception_is_the_failure_for_good(error: Any) -> None:
    with pytest.raises(StepFailed) as caught:
        drive(checkout.call("o"), outcomes={charge: error})
    assert caught.value.attempts == 1
    assert isinstance(caught.value, StepTimedOut) == isinstance(error, StepTimedOut)


def test_a_class_that_needs_arguments_is_told() -> None:
    with pytest.raises(AssertionError, match="UnicodeDecodeError needs arguments"):
        drive(checkout.call("o"), outcomes={charge: UnicodeDecodeError})


def test_the_handlers_own_error_is_raised() -> None:
    @App().workflow
    def broken() -> Flow[None]:
        yield Sleep(0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(broken.call())


def test_a_deadline_is_run_failed() -> None:
    @App().workflow(deadline=5)
    def late() -> Flow[None]:
        yield Sleep(10)

    with pytest.raises(RunFailed, match="RunTimedOut"):
        drive(late.call())


def test_a_run_level_policy_tries_again() -> None:
    @App().workflow(retry=Retry(3))
    def again(ctx: Context) -> Flow[int]:
        yield Step(charge, "o", 1)
        return ctx.attempt

    outcomes = {charge: [ValueError("a"), ValueError("b"), "ok"]}
    trace = drive(again.call(), outcomes=outcomes)
    assert trace.result == 3
    assert trace.commands == [Step(charge, "o", 1)] * 3


def test_a_call_by_name_is_found_in_the_default_app() -> None:
    with pytest.raises(NotRegisteredError):
        drive(call("no such workflow"))


def test_services_are_the_contexts() -> None:
    @App().workflow
    def serviced(ctx: Context[Any]) -> Flow[Any]:
        yield Sleep(0)
        return ctx.services

    assert drive(serviced.call(), services=5).result == 5


def test_a_handler_that_never_ends_is_told() -> None:
    @App().workflow
    def endless() -> Flow[None]:
        while True:
            yield Sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowgen.testing.bench.MAX_ROUNDS", 50)
        with pytest.raises(AssertionError, match="has not ended after 50 commits"):
            drive(endless.call())


def save(conn: Any, n: int) -> int:
    return n


def test_a_transaction_is_scripted_never_run() -> None:
    @App().workflow
    def saving() -> Flow[int]:
        return (yield from Transaction(save, 3))

    assert drive(saving.call(), outcomes={save: 4}).result == 4
    assert drive(saving.call(), outcomes={save: lambda n: n + 2}).result == 5
    with pytest.raises(AssertionError, match="Transaction"):
        drive(saving.call(), run=True)


def test_arguments_that_differ_are_warned_of() -> None:
    @App().workflow
    def noisy(ctx: Context) -> Flow[None]:
        ctx.logger.info("hello %s", "you")
        ctx.logger.exception("bad")
        yield Sleep(0)

    drive(noisy.call())


# children


@app.workflow
def sub(n: int) -> Flow[int]:
    got = yield from Step(charge, "sub", n)
    return len(got)


def parent() -> Flow[Any]:
    try:
        invoked = yield from Invoke(sub, 3).opts(timeout=9)
        ref = yield from Start(sub, 4)
        return [invoked, (yield from Wait(ref))]
    except (ChildFailed, ChildCancelled, ChildTimedOut) as error:
        return [type(error).__name__, str(error)]


PARENT = app.workflow(parent)


def test_children_are_answered_by_outcomes() -> None:
    assert drive(PARENT.call(), outcomes={sub: [1, 2]}).result == [1, 2]
    assert drive(PARENT.call(), outcomes={sub: lambda n: n * 10}).result == [30, 40]
    assert drive(PARENT.call(), outcomes={"sub": 5, "wait:sub": 6}).result == [5, 6]


def test_children_are_driven_with_run() -> None:
    assert drive(PARENT.call(), run=True).result == [len("ch_sub_3"), len("ch_sub_4")]
    assert drive(PARENT.call(), run=True, outcomes={charge: "four"}).result == [4, 4]


def test_a_child_that_is_not_scripted_is_named() -> None:
    with pytest.raises(AssertionError, match=r"Invoke\(sub, 3\)"):
        drive(PARENT.call())


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("boom"), ["ChildFailed", "Child run failed: ValueError: boom"]),
        (ChildTimedOut("late"), ["ChildTimedOut", "Child run timed out: sub"]),
        (ChildCancelled("enough"), ["ChildCancelled", "Child run was cancelled: sub (enough)"]),
    ],
)
def test_bad_ends_of_children(error: Exception, seen: list[str]) -> None:
    trace = drive(PARENT.call(), outcomes={sub: error})
    assert trace.result == seen
    assert isinstance(trace.outcomes["sub"], Failure)


def test_a_child_that_fails_when_driven_fails_the_parent() -> None:
    trace = drive(PARENT.call(), run=True, outcomes={charge: PermanentError("no")})
    assert trace.result[0] == "ChildFailed"


# manual


def test_several_commands_wait_inside_of_a_gather() -> None:
    @App().workflow
    def both() -> Flow[Any]:
        return list((yield Gather(Step(charge, "a", 1), Step(charge, "b", 2))))

    with drive.manual(both.call()) as d:
        assert d.commands == [Step(charge, "a", 1), Step(charge, "b", 2)]
        with pytest.raises(AssertionError, match="several commands wait"):
            d.send("x")
        with pytest.raises(AssertionError, match="does not wait"):
            d.send("x", to="other")
        d.send("second", to=Step(charge, "b", 2))
        d.send("first", to="gather/0/charge")
        assert d.done
        assert d.result == ["first", "second"]
        with pytest.raises(AssertionError, match="the handler has ended"):
            d.send("x")


def test_each_command_stops() -> None:
    @App().workflow
    def everything(ctx: Context) -> Flow[Any]:
        ctx.has_checkpoint()
        now = yield from Now()
        number = yield from Random()
        yield Uuid()
        yield Checkpoint()
        ref = yield from Start(sub, 1)
        yield Schedule(sub.call(1), "s", cron="* * * * *")
        yield Checkpoint(1)
        yield Sleep(5)
        return [now, number, ref.id, (yield from Invoke(sub, 2)), (yield from Wait(ref))]

    began = datetime(2031, 1, 1, tzinfo=UTC)
    with drive.manual(everything.call()) as d:
        assert d.command == Now()
        d.send(began)
        assert d.command == Random()
        d.send(0.5)
        assert d.command == Uuid()
        d.send()
        assert d.command == Checkpoint()
        d.send()
        assert d.command == Start(sub, 1)
        with pytest.raises(AssertionError, match="RunRef"):
            d.send("x")
        d.send(RunRef("sub", __import__("uuid").UUID(int=1), "mine", "sub"))
        with pytest.raises(AssertionError, match="gives None"):
            d.send(5)
        d.send(None)
        assert d.command == Checkpoint(1)
        d.send()
        d.send()
        assert d.command == Invoke(sub, 2)
        with pytest.raises(AssertionError, match="has not ended"):
            d.result  # noqa: B018
        d.send(7)
        d.send(8)
        assert d.result == [str(began).replace(" ", "T"), 0.5, "mine", 7, 8] or d.done


def test_throw_fails_for_good_and_the_error_is_raised() -> None:
    with drive.manual(checkout.call("o")) as d:
        d.throw(ValueError("boom"))
        assert d.done
        with pytest.raises(StepFailed, match="boom"):
            d.result  # noqa: B018
        with pytest.raises(AssertionError, match="failed with"):
            d.command  # noqa: B018


def test_an_error_that_nobody_looked_at_is_raised_at_the_end() -> None:
    with pytest.raises(StepFailed, match="boom"), drive.manual(checkout.call("o")) as d:
        d.throw(ValueError("boom"))


def test_a_cancelled_one_says_so() -> None:
    with drive.manual(checkout.call("o")) as d:
        d.throw(Cancelled("enough"))
        with pytest.raises(RunCancelled, match="enough"):
            d.result  # noqa: B018


def test_what_cannot_fail_does_not() -> None:
    with drive.manual(checkout.call("o")) as d:
        with pytest.raises(AssertionError, match="throw takes an exception"):
            d.throw("x")  # type: ignore[arg-type]
        d.send("ch")
        with pytest.raises(AssertionError, match="cannot fail"):
            d.throw(ValueError)
        d.send()
        assert d.trace.outcomes == {"charge": "ch", "sleep": None}


def test_a_deadline_passes_while_a_sleep_is_sent() -> None:
    @App().workflow(deadline=5)
    def late() -> Flow[None]:
        yield Sleep(10)
        yield Sleep(10)

    with drive.manual(late.call()) as d:
        d.send()
        with pytest.raises(RunFailed):
            d.result  # noqa: B018


# replay


def changed(order_id: str) -> Flow[str]:
    yield Sleep(seconds=2)
    return (yield from Step(charge, order_id, cents=500))


def test_a_divergence_has_a_diff_and_a_place() -> None:
    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    with pytest.raises(Divergence) as caught:
        replay(App().workflow(changed, name="checkout"), trace)
    assert "test_drive.py:" in caught.value.location
    assert "step charge as 'charge'    (recorded)" in caught.value.diff


def test_code_that_goes_on_after_the_recorded_end_diverges() -> None:
    @App().workflow(name="checkout")
    def longer(order_id: str) -> Flow[str]:
        receipt = yield from Step(charge, order_id, cents=500)
        yield Sleep(seconds=2)
        yield Sleep(seconds=3)
        return receipt

    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    with pytest.raises(Divergence, match=r"the code now goes on.*\n.*the end.*\n.*Sleep\(seconds=3\) as 'sleep#2'"):
        replay(longer, trace)


def test_code_that_fails_where_it_completed_diverges() -> None:
    @App().workflow(name="checkout")
    def failing(order_id: str) -> Flow[str]:
        yield from Step(charge, order_id, cents=500)
        yield Sleep(seconds=2)
        raise ValueError("new")

    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    with pytest.raises(Divergence, match="the code now fails with ValueError: new"):
        replay(failing, trace)


def test_other_arguments_are_a_warning() -> None:
    @App().workflow(name="checkout")
    def dearer(order_id: str) -> Flow[str]:
        receipt = yield from Step(charge, order_id, cents=600)
        yield Sleep(seconds=2)
        return receipt

    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    with pytest.warns(UserWarning, match="recorded with other arguments"):
        assert replay(dearer, trace) == "ch_1"


def test_a_name_in_a_loop_with_checkpoints_is_warned_of_by_what_to_do() -> None:
    @App().workflow
    def loop(ctx: Context) -> Flow[list[Any]]:
        found: list[Any] = ctx.accumulated_results or []
        for n in range(ctx.checkpoint_cursor or 0, 2):
            found = [*found, (yield Step(charge, f"o-{n}", 500).opts(name="page"))]
            yield Checkpoint(n + 1, n + 1, found)
        return found

    with pytest.warns(
        UserWarning, match=r"page was recorded with other .*: in a loop give no name, or each round its own"
    ):
        assert drive(loop.call(), outcomes={"page": "first"}).result == ["first", "first"]


def test_an_unfinished_trace_gives_none() -> None:
    with drive.manual(checkout.call("o-1")) as d:
        d.send("ch")
        assert replay(checkout, d.trace) is None


def test_a_driven_trace_equals_what_is_loaded_from_its_json() -> None:
    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    loaded = Trace.from_json(trace.to_json())
    assert isinstance(trace, Driven)
    assert trace == loaded
    assert loaded == trace
    assert hash(trace) == hash(drive(checkout.call("o-1"), outcomes={charge: "ch_1"}))
    assert trace != "x"


def test_a_checkpointed_run_replays() -> None:
    @App().workflow
    def load(ctx: Context, pages: int) -> Flow[int]:
        total: int = ctx.accumulated_results or 0
        for page in range(ctx.checkpoint_cursor or 0, pages):
            yield Step(charge, "page", page)
            total += 1
            yield Checkpoint(page + 1, page + 1, total)
        return total

    trace = drive(load.call(3), outcomes={charge: "x"})
    assert replay(load, trace) == trace.result == 3


# context


def test_a_context_for_plain_calls() -> None:
    def fn(ctx: StepContext[str], n: int) -> list[Any]:
        ctx.heartbeat("alive")
        ctx.progress(1, 2)
        return [
            ctx.get_input("order"),
            ctx.get_config("a"),
            ctx.checkpoint_cursor,
            ctx.get_dependency_result(charge),
            ctx.get_dependency_result("other"),
            ctx.attempt,
            ctx.is_last_retry(),
            ctx.services,
            ctx.run_id,
        ]

    reports: list[Any] = []
    made: Any = context(
        input={"order": "o"},
        config={"a": 1},
        checkpoint={"cursor": 3},
        results={charge: "ch", "other": [1]},
        attempt=3,
        services="db",
        run_id="r",
        reports=reports,
    )
    assert fn(made, 1) == ["o", 1, 3, "ch", [1], 3, True, "db", "r"]
    assert reports == [{"heartbeat": "alive"}, {"done": 1, "total": 2}]


def test_a_context_that_is_aborted() -> None:
    made = context(aborted="shutdown")
    assert (made.signal.aborted, made.signal.reason, made.signal.wait(0)) == (True, "shutdown", True)
    with pytest.raises(Cancelled, match="shutdown"):
        made.heartbeat()
    assert context().heartbeat() is None  # type: ignore[func-returns-value]


def test_messages_are_scripted_or_sent_by_the_handler_itself_and_time_passes_without() -> None:
    @app.workflow
    def asks(ctx: Context) -> Flow[list[Any]]:
        token = yield from CompletionToken(int)
        said: list[Any] = [(yield from WaitSignal("go", int)), (yield from WaitSignal("go", int)), (yield Wait(token))]
        yield Signal(ctx.run_id, "self", "heard")
        yield Signal("somebody else", "go")
        said.append((yield from WaitSignal("self", str)))
        try:
            yield from WaitSignal("late", timeout="3d")
        except WaitTimedOut as error:
            said.append(str(error))
        for _ in range(2):
            try:
                yield from WaitSignal("bad")
            except (WaitFailed, WaitTimedOut) as error:
                said.append(str(error))
        return said

    outcomes: dict[Any, object] = {
        "go": [1, lambda: 2],
        "wait:token": 5,
        "bad": [ValueError("forged"), WaitTimedOut("never")],
    }
    trace = drive(asks.call(), outcomes=outcomes)
    assert trace.result == [
        1,
        2,
        5,
        "heard",
        "the signal late did not come within 259200 s",
        "the signal bad failed: ValueError: forged",
        "the signal bad did not come",
    ]


def test_a_signal_that_nobody_scripts_is_an_error_that_names_it() -> None:
    @app.workflow
    def waits() -> Flow[Any]:
        return (yield from WaitSignal("go"))

    with pytest.raises(AssertionError, match=r"waits for WaitSignal\('go'\) as 'signal:go', and the test does not say"):
        drive(waits.call())


def test_messages_step_by_step() -> None:
    @app.workflow
    def steps(ctx: Context) -> Flow[list[Any]]:
        token = yield from CompletionToken(int)
        yield Signal(ctx.run_id, "self", 1)
        try:
            yield Signal("order-1", "go")
        except StepFailed as error:
            return [(yield from WaitSignal("self")), (yield from Wait(token)), error.failure.message]
        return []

    with drive.manual(steps.call()) as d:
        assert d.command == CompletionToken(int)
        with pytest.raises(AssertionError, match="makes its token itself"):
            d.send("a text")
        d.send()
        assert d.command == Signal("test", "self", 1)
        d.send()
        assert d.command == Signal("order-1", "go")
        d.throw(LookupError("nobody"))
        assert d.command == WaitSignal("self")
        d.send()
        d.send(7)
        assert d.result == [1, 7, "nobody"]
