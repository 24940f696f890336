"""What is known of a function: never by calling it."""

from __future__ import annotations

import functools
import gc
import typing
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import flowgen
from flowgen import Flow, Sleep
from flowgen.core.context import Context, StepContext
from flowgen.core.context import Context as Renamed
from flowgen.core.functions import ContextKind, Flavour, describe, location_of
from flowgen.errors import DefinitionError

if TYPE_CHECKING:
    from flowgen.elsewhere import Services  # type: ignore[import-not-found]
    from flowgen.elsewhere import StepContext as Hidden


def plain(a: int) -> str:
    return ""


async def coroutine(a: int) -> str:
    return ""


def generator(a: int) -> Flow[str]:
    yield Sleep(a)
    return ""


async def async_generator(a: int) -> Any:
    yield a


class Callme:
    def __call__(self, a: int) -> str:
        return ""

    async def method(self, a: int) -> str:
        return ""


def passing_on(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def made_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("fn", "flavour"),
    [
        (plain, Flavour.PLAIN),
        (coroutine, Flavour.ASYNC),
        (generator, Flavour.GENERATOR),
        (async_generator, Flavour.ASYNC_GENERATOR),
        (passing_on(plain), Flavour.PLAIN),
        (passing_on(coroutine), Flavour.ASYNC),
        (passing_on(generator), Flavour.GENERATOR),
        (made_async(plain), Flavour.ASYNC),
        (functools.partial(generator, 1), Flavour.GENERATOR),
        (functools.partial(coroutine, 1), Flavour.ASYNC),
        (Callme(), Flavour.PLAIN),
        (Callme().method, Flavour.ASYNC),
        (functools.lru_cache(plain), Flavour.PLAIN),
        (len, Flavour.PLAIN),
        (dict, Flavour.PLAIN),
    ],
)
def test_the_flavour_says_what_a_call_gives(fn: Callable[..., Any], flavour: Flavour) -> None:
    assert describe(fn).flavour is flavour


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, "plain"),
        (passing_on(plain), "plain"),
        (functools.lru_cache(plain), "plain"),
        (len, "len"),
        (dict, "dict"),
        (Callme().method, "method"),
        (lambda a: a, None),
        (functools.partial(plain, 1), None),
        (Callme(), None),
    ],
)
def test_the_name_is_that_of_the_function_and_never_of_its_module(fn: Callable[..., Any], name: str | None) -> None:
    assert describe(fn).name == name


def by_context(ctx: Context, a: int) -> None: ...
def by_step_context(ctx: StepContext, a: int) -> None: ...
def by_typed_context(ctx: Context[int], a: int) -> None: ...
def by_other_name(ctx: Renamed[int], a: int) -> None: ...
def by_module(ctx: flowgen.StepContext, a: int) -> None: ...
def by_hidden_services(ctx: StepContext[Services], a: int) -> None: ...
def by_quoted(ctx: Context[Services], a: int) -> None: ...
def by_hidden(ctx: Hidden, a: int) -> None: ...
def by_position(a: int, ctx: Context) -> None: ...
def by_keyword(*, ctx: Context) -> None: ...
def by_name_only(ctx, a): ...  # type: ignore[no-untyped-def]
def by_any(ctx: Any, a: int) -> None: ...
def by_rest(*ctx: Context) -> None: ...
def nothing() -> None: ...


@pytest.mark.parametrize(
    ("fn", "context"),
    [
        (by_context, ContextKind.RUN),
        (by_step_context, ContextKind.STEP),
        (by_typed_context, ContextKind.RUN),
        (by_other_name, ContextKind.RUN),
        (by_module, ContextKind.STEP),
        (by_hidden_services, ContextKind.STEP),
        (by_quoted, ContextKind.RUN),
        (by_hidden, ContextKind.NONE),
        (by_position, ContextKind.NONE),
        (by_keyword, ContextKind.NONE),
        (by_name_only, ContextKind.NONE),
        (by_any, ContextKind.NONE),
        (by_rest, ContextKind.NONE),
        (nothing, ContextKind.NONE),
        (passing_on(by_context), ContextKind.RUN),
        (functools.partial(by_context, a=3), ContextKind.RUN),
        (len, ContextKind.NONE),
    ],
)
def test_a_first_parameter_that_is_annotated_so_takes_the_context(fn: Callable[..., Any], context: ContextKind) -> None:
    described = describe(fn)
    assert described.context is context
    assert ("ctx" in described.binder.parameters) is (context is ContextKind.NONE and "ctx" in _names(fn))


def _names(fn: Callable[..., Any]) -> tuple[str, ...]:
    code = getattr(fn, "__code__", None)
    return code.co_varnames if code is not None else ()


def test_a_class_of_the_users_own_with_that_name_is_no_context() -> None:
    class Context:
        pass

    def takes(ctx, a):  # type: ignore[no-untyped-def]
        pass

    takes.__annotations__ = {"ctx": Context}
    assert describe(takes).context is ContextKind.NONE


def test_a_bound_method_takes_no_self() -> None:
    class Shop:
        def sell(self, ctx: StepContext, a: int) -> None: ...

    described = describe(Shop().sell)
    assert described.context is ContextKind.STEP
    assert described.binder.parameters == ("a",)


@pytest.mark.parametrize(
    ("fn", "result"), [(plain, str), (coroutine, str), (generator, str), (by_any, type(None)), (lambda a: a, Any)]
)
def test_the_result_type_is_what_comes_out_in_the_end(fn: Callable[..., Any], result: object) -> None:
    assert describe(fn).result_type in (result, None)


def test_a_flow_without_a_result_type_may_give_anything() -> None:
    def bare() -> Flow: ...  # type: ignore[type-arg,empty-body]
    def of_ints() -> typing.Generator[int, Any, int]:
        yield 1
        return 1

    assert describe(bare).result_type is Any or describe(bare).flavour is Flavour.PLAIN
    assert describe(of_ints).result_type is int


def test_the_engine_supplies_leading_parameters() -> None:
    assert describe(by_position, skip=1).binder.parameters == ("ctx",)
    assert describe(by_position).binder.parameters == ("a", "ctx")
    assert describe(by_context, skip=1).context is ContextKind.NONE


def test_a_function_is_described_once() -> None:
    assert describe(plain) is describe(plain)
    assert describe(len) is describe(len)


def test_a_wrapper_does_not_get_the_description_of_what_it_wraps() -> None:
    described = describe(coroutine)
    wrapper = passing_on(coroutine)
    assert describe(wrapper) is not described
    assert describe(wrapper).fn is wrapper
    assert describe(coroutine) is described


def test_a_function_that_is_made_in_a_handler_goes_away_with_its_description() -> None:
    def made(a: int) -> int:
        return a

    describe(made).result_type  # noqa: B018 - it is cached
    alive = weakref.ref(made)
    del made
    gc.collect()
    assert alive() is None


def test_callables_without_a_hash_and_equal_ones_are_described_each() -> None:
    class Equal(Callme):
        def __eq__(self, other: object) -> bool:
            return True

    class Same(Equal):
        def __hash__(self) -> int:
            return 1

    unhashable = Equal()
    assert describe(unhashable).fn is unhashable
    first, second = Same(), Same()
    assert describe(first).fn is first
    assert describe(second).fn is second


def test_the_place_is_that_of_the_original_function() -> None:
    assert location_of(passing_on(plain)) == f"{__file__}:{plain.__code__.co_firstlineno}"
    assert describe(plain).qualname == "plain"


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(DefinitionError, match="a function was expected, not 3 of type int"):
        describe(3)  # type: ignore[arg-type]
