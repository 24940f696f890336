"""What a handler and a step can read: every name of the API, and None where nothing is known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen.app import App
from flowgen.core.context import (
    Context,
    RunFacts,
    Saved,
    StepContext,
    StepFacts,
    Trigger,
    View,
    current,
    current_or_detached,
    entered,
)
from flowgen.core.ports import UNABORTED
from flowgen.errors import Cancelled, CodecError, DefinitionError

RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@attrs.frozen
class Order:
    order_id: str
    cents: int = 0


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, Mapping[str, Any], BaseException | None]] = []

    def __call__(self, level: str, message: str, fields: Mapping[str, Any], error: BaseException | None, /) -> None:
        self.lines.append((level, message, fields, error))


class Aborted:
    aborted = True
    reason: str | None = "the run was cancelled"

    def wait(self, timeout: float | None = None) -> bool:
        return True

    def raise_if_aborted(self) -> None:
        raise Cancelled(self.reason)


def empty() -> Context:
    return Context(RunFacts(run_id="run-1", uuid=RUN), View())


def of_handler(facts: Mapping[str, Any] | None = None, **view: Any) -> Context[Any]:
    return Context(RunFacts(run_id="run-1", uuid=RUN, **(facts or {})), View(**view))


def of_step(facts: Mapping[str, Any] | None = None, **step: Any) -> StepContext[Any]:
    return StepContext(RunFacts(run_id="run-1", uuid=RUN, **(facts or {})), View(), StepFacts(key="charge", **step))


def test_the_identity_of_a_run() -> None:
    ctx = of_handler({"correlation_id": "c", "parent_correlation_id": "p"}, next_sequence=7, now=NOON)
    assert ctx.run_id == ctx.execution_id == "run-1"
    assert ctx.task_uuid == ctx.step_uuid == RUN
    assert (ctx.correlation_id, ctx.parent_correlation_id) == ("c", "p")
    assert ctx.next_sequence == 7
    assert ctx.now == NOON


def test_a_step_has_a_uuid_that_stays_over_its_attempts() -> None:
    first, second = of_step(attempt=1), of_step(attempt=2)
    assert first.step_uuid == second.step_uuid != first.task_uuid == RUN
    other = StepContext(RunFacts(run_id="run-1", uuid=RUN), View(), StepFacts(key="charge#2"))
    assert other.step_uuid != first.step_uuid


def test_what_started_the_run() -> None:
    trigger = Trigger(kind="cron", name="daily", scheduled_at=NOON, payload={"a": 1})
    assert of_handler({"trigger": trigger}).trigger is trigger
    assert (empty().trigger.kind, empty().trigger.name) == ("call", None)
    assert (empty().trigger.scheduled_at, empty().trigger.payload) == (None, None)


def test_services_are_those_of_the_app() -> None:
    services = object()
    assert of_handler({"services": services}).services is services
    assert of_step({"services": services}).services is services
    assert empty().services is None


def test_missing_data_is_none_or_the_default() -> None:
    ctx = empty()
    assert ctx.get_input("a") is None
    assert ctx.get_input("a", int) is None
    assert ctx.get_input_or("a", 3) == 3
    assert ctx.input_data == ctx.context == {}
    assert ctx.get_config("a") is None
    assert ctx.get_config("a", 3) == 3
    assert ctx.step_config == {}
    assert ctx.get_dependency_result("charge") is None
    assert ctx.get_dependency_result("charge", int) is None
    assert ctx.get_dependency_field("charge", "a", 0) is None
    assert ctx.get_dependency_result_keys() == []
    assert ctx.get_all_dependency_results("") == ctx.get_all_dependency_results("a") == ctx.dependency_results == {}
    assert ctx.checkpoint is None
    assert ctx.checkpoint_cursor is None
    assert ctx.checkpoint_items_processed == 0
    assert ctx.accumulated_results is None
    assert ctx.has_checkpoint() is False
    assert ctx.now is None
    assert ctx.correlation_id is ctx.parent_correlation_id is None
    assert ctx.next_sequence == 0


def test_inputs_are_read_by_parameter_name_and_type() -> None:
    facts = {"input": {"order_id": "o", "cents": 5, "nothing": None, "id": str(RUN)}}
    for ctx in (of_handler(facts), of_step(facts)):
        assert ctx.get_input("order_id") == "o"
        assert ctx.get_input("id", UUID) == RUN
        assert ctx.get_input_or("cents", 1) == 5
        assert ctx.get_input_or("nothing", 1) == 1
        assert ctx.input_data == ctx.context == facts["input"]
    assert of_handler({"input": {"order_id": "o", "cents": 5}}).input_as(Order) == Order("o", 5)
    with pytest.raises(CodecError, match="the input"):
        of_handler({"input": {"cents": "many"}}).input_as(Order)
    with pytest.raises(CodecError, match="'id'"):
        of_handler({"input": {"id": "x"}}).get_input("id", UUID)


def test_the_input_that_is_given_out_is_a_copy() -> None:
    ctx = of_handler({"input": {"a": 1}})
    ctx.input_data.clear()
    assert ctx.get_input("a") == 1


def test_the_configuration_of_a_step_goes_over_that_of_the_definition() -> None:
    facts = {"config": {"a": 1, "b": 2}}
    assert of_handler(facts).step_config == {"a": 1, "b": 2}
    step = of_step(facts, config={"b": 3})
    assert step.step_config == {"a": 1, "b": 3}
    assert step.get_config("b") == 3


def test_results_of_earlier_steps_are_read_by_name_without_an_envelope() -> None:
    def charge() -> None: ...

    ctx = of_handler(
        None, results={"charge": '{"result": 1, "order": {"lines": [{"sku": "x"}]}}', "charge#2": "2", "ship": "null"}
    )
    assert ctx.get_dependency_result("charge") == {"result": 1, "order": {"lines": [{"sku": "x"}]}}
    assert ctx.get_dependency_result(charge) == ctx.get_dependency_result(App().task(charge))
    assert ctx.get_dependency_result("charge#2", int) == 2
    assert ctx.get_dependency_result("ship") is None
    assert ctx.get_dependency_field("charge", "order", "lines", 0, "sku") == "x"
    assert ctx.get_dependency_field("charge", "order", "lines", 7, "sku") is None
    assert ctx.get_dependency_field("charge", "result", "deep") is None
    assert ctx.get_dependency_field("charge", "result", type=int) == 1
    assert ctx.get_dependency_field("charge", "none", type=int) is None
    with pytest.raises(CodecError, match="a field of the result of charge"):
        ctx.get_dependency_field("charge", "order", type=int)
    assert ctx.get_dependency_field("charge") == ctx.get_dependency_result("charge")
    assert ctx.get_dependency_result_keys() == ["charge", "charge#2", "ship"]
    assert ctx.get_all_dependency_results("charge#") == {"charge#2": 2}
    assert ctx.dependency_results["ship"] is None
    with pytest.raises(DefinitionError, match="named by"):
        ctx.get_dependency_result(3)


def test_attempts_count_from_one() -> None:
    first = of_step(attempt=1, max_attempts=3)
    assert (first.attempt, first.is_retry(), first.is_last_retry(), first.retry_count) == (1, False, False, 0)
    assert first.max_retries == 2
    last = of_step(attempt=3, max_attempts=3)
    assert (last.attempt, last.is_retry(), last.is_last_retry(), last.retry_count) == (3, True, True, 2)
    run = of_handler({"attempt": 2, "max_attempts": 2})
    assert (run.attempt, run.is_retry(), run.is_last_retry(), run.max_retries) == (2, True, True, 1)
    assert of_step({"attempt": 2}).attempt == 1
    assert empty().is_last_retry() is True
    assert (empty().is_retry(), empty().max_retries) == (False, 0)


def test_a_start_after_a_lost_worker_is_known() -> None:
    assert of_handler({"resumed": True}).is_resumed() is True
    assert empty().is_resumed() is False


def test_what_a_checkpoint_saved() -> None:
    for ctx in (
        of_handler(None, saved=Saved(3, 30, {"n": 1})),
        StepContext[Any](RunFacts(run_id="r", uuid=RUN), View(saved=Saved(3, 30, {"n": 1})), StepFacts(key="a")),
    ):
        assert ctx.checkpoint == {"cursor": 3, "items_processed": 30, "accumulated_results": {"n": 1}}
        assert (ctx.checkpoint_cursor, ctx.checkpoint_items_processed) == (3, 30)
        assert ctx.accumulated_results == {"n": 1}
        assert ctx.has_checkpoint()
    assert of_handler(None, saved=Saved()).has_checkpoint()


@pytest.mark.parametrize(
    "read",
    [
        lambda ctx: ctx.checkpoint,
        lambda ctx: ctx.checkpoint_cursor,
        lambda ctx: ctx.checkpoint_items_processed,
        lambda ctx: ctx.accumulated_results,
        lambda ctx: ctx.has_checkpoint(),
    ],
)
def test_any_first_look_at_the_checkpoint_is_told_in_a_handler_only(read: Any) -> None:
    told: list[bool] = []
    view = View(checkpoint_was_read=lambda: told.append(True))
    handler: Context[Any] = Context(RunFacts(run_id="r", uuid=RUN), view)
    assert handler.get_input("a") is None
    assert told == []
    read(handler)
    assert told == [True]
    read(StepContext(RunFacts(run_id="r", uuid=RUN), view, StepFacts(key="a")))
    assert told == [True]


# the logger


def test_a_line_of_the_log_carries_the_run_and_its_fields() -> None:
    log = Log()
    ctx = of_handler({"log": log, "name": "checkout", "correlation_id": "c"})
    ctx.logger.info("Charged", order="o-1", message="kept")
    assert log.lines == [
        (
            "info",
            "Charged",
            {
                "run_id": "run-1",
                "name": "checkout",
                "attempt": 1,
                "correlation_id": "c",
                "order": "o-1",
                "message": "kept",
            },
            None,
        )
    ]
    of_step({"log": log}, attempt=2).logger.debug("in a step")
    assert log.lines[-1][2] == {"run_id": "run-1", "name": "", "attempt": 2, "step": "charge"}


def test_surplus_arguments_are_appended_and_never_an_error() -> None:
    log = Log()
    error = ValueError("boom")
    logger = of_handler({"log": log}).logger
    logger.error("Failed", error)
    logger.warn("%d of %d", 1, 2)
    logger.warning("100%", 3)
    logger.debug({"a": 1})
    logger.info("%(a)s", 1)
    assert [(level, text) for level, text, _, _ in log.lines] == [
        ("error", "Failed boom"),
        ("warning", "1 of 2"),
        ("warning", "100% 3"),
        ("debug", "{'a': 1}"),
        ("info", "%(a)s 1"),
    ]
    assert log.lines[0][3] is error


def test_what_cannot_be_shown_costs_the_line_and_not_the_function() -> None:
    class Detached:
        def __str__(self) -> str:
            raise LookupError("no session")

    log = Log()
    logger = of_handler({"log": log}).logger
    logger.info(Detached())
    logger.info("saved %s", Detached())
    logger.info("saved", 1, Detached())
    shown = "<a Detached that cannot be shown: LookupError>"
    assert [text for _, text, _, _ in log.lines] == [shown, f"saved %s {shown}", f"saved 1 {shown}"]


def test_exception_carries_the_one_that_is_handled() -> None:
    log = Log()
    error = ValueError("boom")
    try:
        raise error
    except ValueError:
        of_handler({"log": log}).logger.exception("Failed")
    assert log.lines[0][0] == "exception"
    assert log.lines[0][3] is error


def test_the_log_is_silent_while_a_handler_replays() -> None:
    log = Log()
    view = View(replaying=True)
    ctx: Context[Any] = Context(RunFacts(run_id="r", uuid=RUN, log=log), view)
    ctx.logger.error("again")
    StepContext[Any](RunFacts(run_id="r", uuid=RUN, log=log), view, StepFacts(key="a")).logger.error("in a step")
    view.replaying = False
    ctx.logger.error("new")
    assert [text for _, text, _, _ in log.lines] == ["in a step", "new"]


# the signal, signs of life


def test_a_plain_call_is_never_aborted() -> None:
    for signal in (empty().signal, of_step().signal):
        assert signal is UNABORTED
        assert (signal.aborted, signal.reason, signal.wait(0)) == (False, None, False)
        signal.raise_if_aborted()


def test_a_step_sees_its_own_signal_and_stops_at_its_next_sign_of_life() -> None:
    reports: list[Mapping[str, Any]] = []
    ctx = of_step(signal=Aborted(), report=reports.append)
    assert (ctx.signal.aborted, ctx.signal.reason) == (True, "the run was cancelled")
    for sign in (ctx.heartbeat, lambda: ctx.progress(1)):
        with pytest.raises(Cancelled):
            sign()
    assert reports == []


def test_signs_of_life_are_reported() -> None:
    reports: list[Mapping[str, Any]] = []
    ctx = of_step(report=reports.append)
    ctx.heartbeat()
    ctx.heartbeat({"page": 3})
    ctx.progress(1, 10)
    ctx.progress(0.5)
    assert reports == [
        {"heartbeat": None},
        {"heartbeat": {"page": 3}},
        {"done": 1, "total": 10},
        {"done": 0.5, "total": None},
    ]
    of_step().heartbeat()


def test_a_handler_gives_no_signs_of_life() -> None:
    ctx: StepContext = StepContext(RunFacts(run_id="r", uuid=RUN), View())
    with pytest.raises(DefinitionError, match="for a task's function"):
        ctx.heartbeat()


# the current one


def test_current_is_the_context_that_was_entered() -> None:
    outer, inner = empty(), of_step()
    with entered(outer):
        assert current() is outer
        with entered(inner):
            assert current() is inner
        assert current() is outer
    with pytest.raises(LookupError, match="inside a handler or a step"):
        current()


def test_current_belongs_to_one_thread_and_one_coroutine() -> None:
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(current())
        except LookupError:
            seen.append(None)

    async def enter() -> None:
        with entered(empty()):
            look()

    with entered(empty()):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    asyncio.run(enter())
    look()
    assert [each is None for each in seen] == [True, False, True]


def test_a_context_for_a_plain_call_is_the_current_one_or_an_empty_one() -> None:
    assert isinstance(current_or_detached(for_step=True), StepContext)
    assert type(current_or_detached(for_step=False)) is Context
    assert current_or_detached(for_step=True).run_id == ""
    handler = empty()
    with entered(handler):
        assert current_or_detached(for_step=False) is handler
        step = current_or_detached(for_step=True)
        assert isinstance(step, StepContext)
        assert step.run_id == "run-1"
    with entered(of_step()):
        assert current_or_detached(for_step=True) is current()


@pytest.mark.parametrize("ctx", [of_handler(None), of_step(None)])
def test_a_context_only_reads(ctx: Context[Any]) -> None:
    for name in (*(name for name in dir(ctx) if not name.startswith("_")), "anything"):
        with pytest.raises(AttributeError):
            setattr(ctx, name, 1)
