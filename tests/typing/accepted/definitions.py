"""What the decorators make of every shape of function, and what a context gives."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from flowgen import (
    App,
    Call,
    Context,
    Definition,
    Flow,
    Invoke,
    Sleep,
    Step,
    StepContext,
    Trigger,
    current,
    task,
    workflow,
)


class Services:
    tax: int = 19


class Model:
    name: str


@contextmanager
def lifespan() -> Generator[Services]:
    yield Services()


app = App(services=Services())
other = App(lifespan, name="other")
bare = App()


@task
def pay(payload: Any, n: int) -> str:
    return ""


@task(queue="q")
def pay_with_options(payload: Any, n: int) -> str:
    return ""


@task
def pay_object(payload: object, n: int) -> str:
    return ""


@task
async def pay_async(payload: Any) -> str:
    return ""


@workflow
def take(payload: Any, n: int) -> Flow[int]:
    yield Sleep(1)
    return 1


@workflow(queue="q")
def take_with_options(payload: object, n: int) -> Flow[int]:
    yield Sleep(1)
    return 1


@workflow
async def take_async(payload: Any, n: int) -> int:
    return 1


@app.task
async def of_app(ctx: StepContext[Services], order_id: str) -> bytes:
    assert_type(ctx.services, Services)
    return b""


@app.task(queue="z")
def of_app_with_options(ctx: StepContext) -> int:
    return 1


@app.workflow
def flow_of_app(ctx: Context[Services], order_id: str) -> Flow[None]:
    yield from Step(of_app, order_id)


@other.workflow(name="flow")
async def flow_of_other(ctx: Context, *, order_id: str) -> None:
    await Step(of_app, order_id)


assert_type(pay_object.call(None, 3), Call[str])
assert_type(take_with_options.call(3, n=3), Call[int])
assert_type(of_app.call("o"), Call[bytes])
assert_type(of_app_with_options.call(), Call[int])
assert_type(flow_of_app.call("o"), Call[None])
assert_type(flow_of_other.call(order_id="o"), Call[None])
assert_type(Step(pay_object, {"a": 1}, 3), Step[str])
assert_type(Invoke(take_with_options, {"a": 1}, 3), Invoke[int])
# mypy gives up on the types of a function with Any among its parameters, pyright does not: both accept any use of it
started: list[Call[str]] = [pay.call({"a": 1}, n=3), pay_with_options.call([1], 3), pay_async.call(3)]
counted: list[Call[int]] = [take.call({"a": 1}, 3), take_async.call(3, n=3)]


def loads(text: str) -> Any:
    return text


@task
def fetch(url: str) -> Any:
    return url


def goes_on_after_any() -> Flow[int]:
    paid: str = yield from Step(pay, {"a": 1}, 3)
    taken: int = yield from Invoke(take, {"a": 1}, 3)
    assert_type((yield from Step(loads, "{}")), Any)
    assert_type((yield from Step(fetch, "{}")), Any)
    # A Never above would make this unreachable, and the error that it must have would be missing.
    return paid + str(taken)  # type: ignore[return-value] # pyright: ignore[reportReturnType]


assert_type(app.definition("pay"), Definition[..., Any, Any])
assert_type(app.definitions, Mapping[str, Definition[..., Any, Any]])


def read(ctx: Context[Services]) -> None:
    assert_type(ctx.run_id, str)
    assert_type(ctx.execution_id, str)
    assert_type(ctx.task_uuid, UUID)
    assert_type(ctx.step_uuid, UUID)
    assert_type(ctx.correlation_id, str | None)
    assert_type(ctx.parent_correlation_id, str | None)
    assert_type(ctx.attempt, int)
    assert_type(ctx.next_sequence, int)
    assert_type(ctx.trigger, Trigger)
    assert_type(ctx.now, datetime | None)
    assert_type(ctx.services, Services)
    assert_type(ctx.signal.aborted, bool)
    assert_type(ctx.signal.reason, str | None)
    assert_type(ctx.signal.wait(1), bool)
    assert_type(ctx.get_input("a"), Any)
    assert_type(ctx.get_input("a", int), int | None)
    assert_type(ctx.get_input_or("a", 3), int)
    assert_type(ctx.input_data, dict[str, Any])
    assert_type(ctx.context, dict[str, Any])
    assert_type(ctx.input_as(Model), Model)
    assert_type(ctx.get_config("a"), Any)
    assert_type(ctx.step_config, Mapping[str, Any])
    assert_type(ctx.get_dependency_result("charge"), Any)
    assert_type(ctx.get_dependency_result(pay, str), str | None)
    assert_type(ctx.get_dependency_field("charge", "a", 0), Any)
    assert_type(ctx.get_dependency_field("charge", "a", 0, type=int), int | None)
    assert_type(ctx.get_dependency_result_keys(), list[str])
    assert_type(ctx.get_all_dependency_results("a"), dict[str, Any])
    assert_type(ctx.dependency_results, dict[str, Any])
    assert_type(ctx.is_retry(), bool)
    assert_type(ctx.is_last_retry(), bool)
    assert_type(ctx.retry_count, int)
    assert_type(ctx.max_retries, int)
    assert_type(ctx.is_resumed(), bool)
    assert_type(ctx.checkpoint, dict[str, Any] | None)
    assert_type(ctx.checkpoint_cursor, Any)
    assert_type(ctx.checkpoint_items_processed, int)
    assert_type(ctx.accumulated_results, Any)
    assert_type(ctx.has_checkpoint(), bool)
    ctx.logger.error("Failed", ValueError("boom"), order="o-1")
    ctx.logger.warn("slow")
    assert_type(current(), Context[Any])


def read_in_a_task(ctx: StepContext) -> None:
    assert_type(ctx.services, None)
    ctx.heartbeat()
    ctx.heartbeat({"page": 3})
    ctx.progress(1, 10)
