"""Commands are inert, frozen values that compare by what they ask for."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen.app import App, call
from flowgen.core import codec, commands
from flowgen.core.commands import (
    AnyCommand,
    Checkpoint,
    Command,
    CompletionToken,
    ContinueAsNew,
    Emit,
    Flow,
    Gather,
    Graph,
    Invoke,
    Map,
    Now,
    Patch,
    Race,
    Random,
    RunRef,
    Saga,
    Schedule,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Skip,
    Sleep,
    Start,
    Step,
    Token,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.context import Context, RunFacts, View
from flowgen.core.definitions import On
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError

app = App()


def charge(order: str, cents: int = 100) -> str:
    return f"{order}:{cents}"


def save(conn: Any, n: int) -> int:
    return n


@app.task(name="pay")
def paying(order: str, cents: int) -> str:
    return order


@app.workflow
def checkout(order: str, cents: int = 1) -> Flow[str]:
    return (yield from Step(charge, order))


@app.workflow
async def later(order: str) -> str:
    return await Step(charge, order)


@app.task
def poll(n: int) -> Flow[int]:
    yield Sleep(1)
    return n


def helper(n: int, *rest: int, key: object = None) -> Flow[int]:
    yield Sleep(n)
    return n


REF = RunRef("start", UUID(int=7), "order-1", "checkout", str)
TOKEN = Token("token", UUID(int=7), UUID(int=8), "flowgen_secret", None, str)

EVERY: list[Command[Any]] = [
    Step(charge, "o", 500),
    Transaction(save, 3),
    Sleep(2),
    Sleep(until=datetime(2030, 1, 1, tzinfo=UTC)),
    Invoke(checkout, "o"),
    Invoke("by-name", 1),
    Start(checkout, "o"),
    Wait(REF),
    WaitSignal("approve", int, timeout="1h"),
    Signal("order-1", "approve", {"by": "ann"}),
    CompletionToken(int, timeout=60),
    Wait(TOKEN),
    Checkpoint(),
    Checkpoint(1, 2, {"n": 3}),
    Schedule(checkout.call("o"), "daily", cron="0 9 * * *"),
    Unschedule(checkout, "daily"),
    Gather(Step(charge, "o"), Sleep(2)),
    Scope("inner", Sleep(2)),
    Saga(Step(charge, "o")),
    Map(charge, ["o", "p"], limit=2),
    Race(paid=Step(charge, "o"), late=Sleep(2)),
    Graph(Step(charge, "o"), Sleep(2).opts(after=charge)),
    Skip("ship", "pack was skipped"),
    Emit("order.paid", {"id": 1}),
    WaitEvent("order.paid", {"id": 1, "total": {"gt": 3}}, timeout="1h"),
    WaitEvent("order.paid"),
    Now(),
    Uuid(),
    Random(),
    Patch("new-way"),
    SetProgress({"done": 3}),
    SetDeadline("1h"),
    SetDeadline(None),
    ContinueAsNew(3, key="v"),
]
IDS = [type(command).__name__ for command in EVERY]


@pytest.mark.parametrize("command", EVERY, ids=IDS)
def test_a_command_yields_itself_and_returns_what_is_sent(command: Command[Any]) -> None:
    for spelling in (iter(command), command.__await__()):
        assert isinstance(spelling, Generator)
        assert next(spelling) is command
        with pytest.raises(StopIteration) as stop:
            spelling.send("sent")
        assert stop.value.value == "sent"


@pytest.mark.parametrize("command", EVERY, ids=IDS)
def test_a_command_never_changes(command: Command[Any]) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        command.options = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        command.something_else = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", EVERY, ids=IDS)
def test_a_command_has_identity_fingerprint_name_and_text(command: Command[Any]) -> None:
    kind, target, name, _ = command.identity()
    assert kind == command.kind == command.kind.lower()
    assert command.fingerprint().startswith(f"{kind}:{target}:")
    assert command.default_name
    assert repr(command).startswith(f"{type(command).__name__}(")
    assert hash(command) == hash(command)
    assert command == command
    assert command != "command"
    assert name == command.options.name


@pytest.mark.parametrize("command", EVERY, ids=IDS)
def test_opts_gives_a_new_command_of_the_same_type_with_the_name(command: Command[Any]) -> None:
    if isinstance(command, Scope) or (isinstance(command, Checkpoint) and command.has_data):
        with pytest.raises(DefinitionError):
            command.opts(name="mine")
        return
    node = command.opts(after=[charge, "pack"], when=bool, join="all_done")
    assert (node.options.after, node.options.when, node.options.join) == (("charge", "pack"), bool, "all_done")
    assert node == command
    named = command.opts(name="mine")
    assert type(named) is type(command)
    assert named.options.name == "mine"
    assert command.options.name is None
    assert named != command
    assert named == command.opts(name="mine")
    assert repr(named).endswith(".opts(name='mine')")
    assert named.identity()[0::3] == command.identity()[0::3]


def test_every_command_is_in_the_closed_union() -> None:
    members = {typing.get_origin(member) or member for member in typing.get_args(AnyCommand)}
    public = {
        found
        for found in (getattr(commands, name) for name in commands.__all__)
        if isinstance(found, type) and issubclass(found, Command) and found is not Command
    }
    assert members == public == {type(command) for command in EVERY}
    assert len({member.kind for member in members}) == len(members)


def test_equal_commands_are_those_with_equal_bound_arguments() -> None:
    assert Step(charge, "o", 500) == Step(charge, "o", cents=500) == Step(charge, order="o", cents=500)
    assert hash(Step(charge, "o", 500)) == hash(Step(charge, cents=500, order="o"))
    assert Step(charge, "o", 500) != Step(charge, "o", 501)
    assert Step(paying, "o", 500) == Step(paying, cents=500, order="o")
    assert Invoke(checkout, "o", 2) == Invoke(checkout, cents=2, order="o")
    assert Transaction(save, 3) == Transaction(save, n=3)


def test_a_default_takes_no_part_in_the_identity() -> None:
    assert Step(charge, "o") != Step(charge, "o", 100)


def test_kinds_and_targets_tell_commands_apart() -> None:
    assert Invoke(checkout, "o") != Start(checkout, "o")
    assert Invoke(checkout, "o") == Invoke("checkout", order="o")
    assert Step(paying, "o", 1) != Step(charge, "o", 1)
    assert Step(paying, "o", 1) != Invoke(paying, "o", 1)


def test_options_apart_from_the_name_take_no_part_in_the_identity() -> None:
    assert Step(charge, "o").opts(retry=Retry(9), timeout=3, at_most_once=True, config={"a": 1}) == Step(charge, "o")
    assert Invoke(checkout, "o").opts(queue="q", priority=3, id="x", tags=["a"], timeout=3) == Invoke(checkout, "o")


def test_unhashable_arguments_hash_by_their_canonical_json() -> None:
    assert hash(Step(charge, {"b": [1], "a": {2}})) == hash(Step(charge, {"a": {2}, "b": [1]}))
    assert Step(charge, {"b": [1], "a": 2}) == Step(charge, {"a": 2, "b": [1]})


def test_arguments_that_are_no_json_still_compare() -> None:
    assert Step(charge, object()) == Step(charge, object())
    assert Step(charge, charge) != Step(charge, 3)


def test_a_call_that_does_not_fit_says_so_where_it_is_compared() -> None:
    with pytest.raises(TypeError, match="order"):
        Step(charge).identity()


def test_options_are_added_to_each_other() -> None:
    step = Step(charge, "o").opts(retry=Retry(5), name="a").opts(timeout="2s").opts(at_most_once=True)
    assert step.options.retry == Retry(5)
    assert step.options.timeout == timedelta(seconds=2)
    assert step.options.at_most_once
    assert step.options.name == "a"
    child = Start(checkout, "o").opts(queue="q", tags="one").opts(detached=True, id="x", priority=-3)
    assert (child.options.queue, child.options.tags, child.options.detached) == ("q", ("one",), True)
    assert (child.options.id, child.options.priority) == ("x", -3)
    wait = Wait(REF).opts(timeout="1m", on_timeout="abandon")
    assert (wait.options.timeout, wait.options.on_timeout) == (timedelta(minutes=1), "abandon")


@pytest.mark.bad_input("B50")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Step(charge, "o").opts(name=""),
        lambda: Step(charge, "o").opts(name="a/b"),
        lambda: Step(charge, "o").opts(name="a#2"),
        lambda: Step(charge, "o").opts(name="x" * 201),
        lambda: Step(charge, "o").opts(name=3),  # type: ignore[arg-type]
        lambda: Step(charge, "o").opts(retry=3),  # type: ignore[arg-type]
        lambda: Step(charge, "o").opts(timeout=0),
        lambda: Step(charge, "o").opts(timeout="soon"),
        lambda: Invoke(checkout, "o").opts(queue="a\nb"),
        lambda: Invoke(checkout, "o").opts(priority=40000),
        lambda: Invoke(checkout, "o").opts(priority=True),
        lambda: Invoke(checkout, "o").opts(id=""),
        lambda: Invoke(checkout, "o").opts(tags=["", "a"]),
        lambda: Invoke(checkout, "o").opts(on_timeout="stop"),  # type: ignore[arg-type]
    ],
)
def test_an_option_that_makes_no_sense_is_refused_where_it_is_given(make: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError):
        make()


@pytest.mark.bad_input("B50")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Step(charge, "o").opts(at_most_once="no"), "at_most_once= is True or False, not 'no'"),  # type: ignore[arg-type]
        (lambda: Start(checkout, "o").opts(detached="no"), "detached= is True or False, not 'no'"),  # type: ignore[arg-type]
        (lambda: Step(charge, "o").opts(config=[1]), r"config= takes a mapping, not \[1\]"),  # type: ignore[arg-type]
        (lambda: Invoke(checkout, "o").opts(tags=3), "tags= takes names, .* not 3 of type int"),  # type: ignore[arg-type]
        (lambda: checkout.call("o").opts(tags=3), "tags= takes names, .* not 3 of type int"),  # type: ignore[arg-type]
        (lambda: On("paid", fields=3), "takes the names of fields, .* not 3"),  # type: ignore[arg-type]
        (lambda: Checkpoint(1, "2"), "0 or more, not '2'"),  # type: ignore[arg-type]
        (lambda: Checkpoint(1, -1), "0 or more, not -1"),
        (lambda: Checkpoint(1, True), "0 or more, not True"),
    ],
)
def test_an_option_of_another_type_is_refused_with_what_it_takes(make: Callable[[], object], text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        make()


@pytest.mark.bad_input("B51")
@pytest.mark.parametrize("fn", [checkout, later, poll, helper])
def test_a_flow_is_not_a_step(fn: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Invoke.*(yield from|await)"):
        Step(fn, 1)
    with pytest.raises(DefinitionError, match="must not be"):
        Transaction(fn, 1)


@pytest.mark.bad_input("B51")
def test_an_async_generator_is_not_a_step() -> None:
    async def endless() -> Any:
        yield 1

    with pytest.raises(DefinitionError):
        Step(endless)


def test_what_cannot_be_called_is_not_a_step() -> None:
    with pytest.raises(DefinitionError, match="a function was expected"):
        Step("charge", 1)  # type: ignore[call-overload]


def test_a_function_without_a_name_takes_that_of_the_author() -> None:
    for nameless in (lambda order: order, functools.partial(charge, "o")):
        assert Step(nameless).target == ""
        assert Step(nameless).opts(name="mine").target == "mine"
    assert Step(charge, "o").opts(name="mine").target == "charge"
    assert Step(dict, a=1).target == "dict"


def test_a_transaction_binds_what_comes_after_the_connection() -> None:
    assert Transaction(save, 3).arguments == {"n": 3}
    assert Transaction(app.task(name="save2")(save), 3).arguments == {"n": 3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sleep(2), Sleep("2s")),
        (Sleep(2), Sleep(seconds=2)),
        (Sleep(timedelta(minutes=1)), Sleep(minutes=1)),
        (Sleep("1h30m"), Sleep(hours=1, minutes=30)),
        (Sleep(days=1), Sleep(hours=24)),
        (Sleep(), Sleep(0)),
        (
            Sleep(until=datetime(2030, 1, 1, 12, tzinfo=UTC)),
            Sleep(until=datetime(2030, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))),
        ),
    ],
)
def test_equal_sleeps_are_those_of_equal_length_or_end(one: Sleep, other: Sleep) -> None:
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.bad_input("B49")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Sleep(2, seconds=2),
        lambda: Sleep(2, until=datetime(2030, 1, 1, tzinfo=UTC)),
        lambda: Sleep(seconds=2, until=datetime(2030, 1, 1, tzinfo=UTC)),
        lambda: Sleep(until=datetime(2030, 1, 1)),
        lambda: Sleep(until="tomorrow"),  # type: ignore[arg-type]
        lambda: Sleep(-1),
        lambda: Sleep(minutes=-1),
        lambda: Sleep(seconds=float("nan")),
        lambda: Sleep(days=float("inf")),
        lambda: Sleep(seconds="2"),  # type: ignore[arg-type]
        lambda: Sleep(True),
        lambda: Sleep(days=365_250, seconds=1),
        lambda: Sleep("soon"),
    ],
)
def test_a_sleep_without_one_clear_end_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError):
        make()


def test_a_child_is_a_definition_or_a_name() -> None:
    for kind in (Invoke, Start):
        with pytest.raises(DefinitionError, match="decorate it"):
            kind(charge, "o")  # type: ignore[call-overload]
        with pytest.raises(DefinitionError, match="not 3"):
            kind(3)  # type: ignore[call-overload]
        with pytest.raises(DefinitionError):
            kind("a/b")
    with pytest.raises(DefinitionError, match=r"yield from Start"):
        Wait(Start(checkout, "o"))  # type: ignore[arg-type]


def test_a_child_by_name_keeps_positional_arguments_apart() -> None:
    assert Invoke("x", a=1).arguments == {"a": 1}
    assert Invoke("x", 2, a=1).arguments == [[2], {"a": 1}]
    assert Invoke("x").arguments == {}


def test_a_run_ref_is_a_value_like_any_other() -> None:
    text = codec.encode(REF, RunRef[str])
    assert codec.decode(text, RunRef[str]) == REF
    assert "result_type" not in text
    assert Step(charge, REF) == Step(charge, order=REF)
    assert hash(REF) == hash(RunRef("start", UUID(int=7), "order-1", "checkout"))
    assert REF.result_type is str


def test_a_checkpoint_with_data_is_one_that_was_given_any() -> None:
    assert not Checkpoint().has_data
    assert Checkpoint(0).has_data
    assert Checkpoint(items_processed=0).has_data
    assert Checkpoint(accumulated_results={}).has_data
    assert Checkpoint(1, 2) == Checkpoint(cursor=1, items_processed=2) != Checkpoint(1)


def test_a_schedule_is_checked_where_it_is_written() -> None:
    made = call("checkout", order="o")
    assert Schedule(made, "daily", cron="@daily").target == "checkout"
    with pytest.raises(DefinitionError):
        Schedule(made, "daily", cron="every day")
    with pytest.raises(DefinitionError):
        Schedule(made, "daily", cron="@daily", timezone="Mars/Olympus")
    with pytest.raises(DefinitionError):
        Schedule(made, "", cron="@daily")
    with pytest.raises(DefinitionError, match="takes a call"):
        Schedule(checkout, "daily", cron="@daily")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="delay="):
        Schedule(made.opts(delay=3), "daily", cron="@daily")
    with pytest.raises(DefinitionError, match="takes a definition"):
        Unschedule(charge, "daily")  # type: ignore[arg-type]
    assert Unschedule(checkout, "daily") == Unschedule("checkout", "daily")


def test_a_flow_inside_compares_by_its_function_and_arguments() -> None:
    assert Gather(helper(1), helper(2, 3, key="x")) == Gather(helper(n=1), helper(*[2, 3], key="x"))
    assert Gather(helper(1)) != Gather(helper(2))
    assert Gather(checkout("o")) == Gather(checkout(order="o"))
    assert Scope("a", helper(1)) == Scope("a", helper(1)) != Scope("b", helper(1))
    assert Scope("a", helper(1)) != Scope("a", helper(2))
    assert Gather(helper(1)) != Gather(helper(1), return_exceptions=True)
    assert repr(Gather(helper(1))) == "Gather(helper(n=1, key=None, rest=()))"


def test_a_composite_whose_flows_have_ended_equals_a_fresh_one() -> None:
    gather = Gather(helper(1), helper(2))
    for branch in gather.branches:
        list(branch)
    assert gather == Gather(helper(1), helper(2))


def test_a_flow_that_was_given_what_is_no_json_can_be_a_branch() -> None:
    assert Gather(helper(1, key=object())) == Gather(helper(1, key=object()))


def test_the_context_of_a_flow_takes_no_part_in_its_identity() -> None:
    def with_context(ctx: Context, n: int) -> Flow[None]:
        yield Sleep(n)

    first, second = (Context(RunFacts(run_id=name, uuid=UUID(int=1)), View()) for name in "ab")
    assert Gather(with_context(first, 1)) == Gather(with_context(second, 1))
    assert "ctx" not in repr(Gather(with_context(first, 1)))


def test_a_coroutine_is_a_branch() -> None:
    one, two = later("o"), later("o")
    assert Gather(one) == Gather(two)
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("branch", "hint"),
    [
        (helper, "Step"),
        (checkout, "Invoke"),
        ([Sleep(1)], r"\*branches"),
        (3, "a command, or a flow"),
        (None, "a command, or a flow"),
    ],
)
def test_what_is_no_branch_is_refused_with_a_hint(branch: Any, hint: str) -> None:
    with pytest.raises(DefinitionError, match=hint):
        Gather(Sleep(1), branch)
    with pytest.raises(DefinitionError, match=hint):
        Scope("inner", branch)


def test_an_ended_flow_is_no_branch() -> None:
    flow = helper(1)
    list(flow)
    with pytest.raises(DefinitionError, match="has ended"):
        Gather(flow)


def test_an_empty_gather_is_legal() -> None:
    assert Gather() == Gather()
