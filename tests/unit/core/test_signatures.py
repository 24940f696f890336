"""What a caller passes, bound to the parameters of a function."""

from __future__ import annotations

import functools
import gc
import inspect
import typing
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import pytest

from flowgen.core.codec import decode
from flowgen.core.signatures import binder_for
from flowgen.errors import CodecError

if TYPE_CHECKING:
    from nowhere import Missing


def charge(order: str, cents: int = 100, *, currency: str = "EUR") -> bool: ...


def everything(a: int, b: int = 2, /, c: int = 3, *rest: UUID, d: int, e: int = 5, **extra: set[int]) -> list[int]: ...


def test_the_ways_to_pass_the_same_arguments_bind_equal() -> None:
    bind = binder_for(charge).bind
    assert bind(("o", 500), {}) == bind(("o",), {"cents": 500}) == bind((), {"cents": 500, "order": "o"})
    assert list(bind((), {"cents": 500, "order": "o"})) == ["order", "cents"]


def test_defaults_are_not_applied() -> None:
    binder = binder_for(charge)
    assert binder.bind(("o",), {}) == {"order": "o"}
    assert binder.defaults == {"cents": 100, "currency": "EUR"}
    assert binder.required == ("order",)


def test_variable_parameters_are_bound_under_their_names() -> None:
    binder = binder_for(everything)
    bound = binder.bind((1, 2, 3, 4, 5), {"d": 6, "z": 7, "a": 8})
    assert bound == {"a": 1, "b": 2, "c": 3, "rest": [4, 5], "d": 6, "extra": {"z": 7, "a": 8}}
    assert binder.unbind(bound) == ((1, 2, 3, 4, 5), {"d": 6, "z": 7, "a": 8})
    assert binder.bind((1,), {"d": 6}) == {"a": 1, "d": 6}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {"d": 1}), ((1, 2), {"c": 3, "d": 4}), ((1, 2, 3, 4), {"d": 5, "x": 6}), ((1,), {"d": 1, "c": 9})],
)
def test_what_was_bound_calls_the_function_as_it_was_called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    def same(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int, e: int = 5, **extra: int) -> object:
        return a, b, c, rest, d, e, extra

    binder = binder_for(same)
    called = binder.unbind(binder.bind(args, kwargs))
    assert same(*called[0], **called[1]) == same(*args, **kwargs)


def two(a: object, b: object) -> None: ...
def one(a: object) -> None: ...
def some(a: object, b: object = 1) -> None: ...
def none() -> None: ...
def keyword(*, a: object, b: object) -> None: ...
def positional(a: object, /) -> None: ...
def three(a: object, b: object, c: object) -> None: ...


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (two, (), {}),
        (two, (1,), {}),
        (two, (), {"a": 1}),
        (two, (1, 2, 3), {}),
        (two, (1,), {"a": 1}),
        (two, (1, 2), {"z": 1}),
        (three, (), {}),
        (one, (1, 2), {}),
        (some, (1, 2, 3), {}),
        (none, (1,), {}),
        (keyword, (), {}),
        (keyword, (1,), {}),
        (positional, (), {"a": 1}),
    ],
)
def test_a_mismatch_is_told_as_python_tells_it(fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError) as real:
        fn(*args, **kwargs)
    with pytest.raises(TypeError) as ours:
        binder_for(fn).bind(args, kwargs)
    assert str(ours.value) == str(real.value)


def test_parameters_that_the_engine_supplies_are_unknown_to_the_caller() -> None:
    binder = binder_for(two, skip_first=1)
    assert binder.parameters == ("b",)
    assert binder.bind((1,), {}) == {"b": 1}
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        binder.bind((1, 2), {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):
        binder.bind((1,), {"a": 1})


def test_a_binder_is_made_once_and_keeps_no_function_alive() -> None:
    def local(a: int) -> None: ...

    binder = binder_for(local)
    assert binder_for(local) is binder
    assert binder_for(local, 1) is not binder
    gone = weakref.ref(local)
    del local
    gc.collect()
    assert gone() is None
    assert binder.bind((1,), {}) == {"a": 1}
    assert binder.annotations == {"a": Any}


class Service:
    def __init__(self, url: str) -> None: ...

    def call(self, order: UUID) -> int: ...

    @classmethod
    def make(cls, name: str) -> Service: ...

    def __call__(self, size: int) -> str: ...


def test_methods_classes_partials_and_callable_objects_are_bound() -> None:
    service = Service("u")
    assert binder_for(service.call).bind((1,), {}) == {"order": 1}
    assert binder_for(service.call) is binder_for(Service("v").call)
    assert binder_for(service.call).annotations == {"order": UUID}
    assert binder_for(Service.make).bind(("n",), {}) == {"name": "n"}
    assert binder_for(Service).annotations == {"url": str}
    assert binder_for(Service).return_annotation is Service
    assert binder_for(service).annotations == {"size": int}
    part = functools.partial(charge, currency="USD")
    assert binder_for(part).bind(("o",), {}) == {"order": "o"}
    assert binder_for(part).annotations["order"] is str


def test_a_builtin_without_a_signature_takes_anything() -> None:
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(dict.fromkeys.__self__)
    assert binder_for(dict).bind((1,), {"a": 2}) == {"args": [1], "kwargs": {"a": 2}}


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="not callable"):
        binder_for(5)  # type: ignore[arg-type]


def test_annotations_are_resolved_and_those_that_cannot_be_are_any() -> None:
    def fn(a: Missing, b: Annotated[int, "x"], c, *d: int, **e: UUID) -> list[str]: ...  # type: ignore[no-untyped-def]

    binder = binder_for(fn)
    assert binder.annotations == {"a": Any, "b": Annotated[int, "x"], "c": Any, "d": list[int], "e": dict[str, UUID]}
    assert binder.return_annotation == list[str]
    assert binder_for(charge).return_annotation is bool
    assert binder_for(lambda x: x).return_annotation is Any


def test_arguments_come_back_typed() -> None:
    binder = binder_for(everything)
    bound = binder.bind((1, 2, 3, UUID(int=4)), {"d": 6, "z": {9, 7}})
    text = binder.encode_arguments(bound)
    assert text == '{"a":1,"b":2,"c":3,"rest":["00000000-0000-0000-0000-000000000004"],"d":6,"extra":{"z":[7,9]}}'
    assert binder.decode_arguments(decode(text)) == bound


def test_an_argument_that_does_not_fit_is_named() -> None:
    binder = binder_for(charge)
    with pytest.raises(CodecError, match=r"charge\(\) argument 'cents' cannot be read at \$: found str, allowed: int"):
        binder.decode_arguments({"order": "o", "cents": "many"})
    with pytest.raises(CodecError, match="argument 'order' cannot be stored"):
        binder.encode_arguments({"order": object()})
    with pytest.raises(TypeError, match="unexpected keyword argument 'price'"):
        binder.decode_arguments({"order": "o", "price": 1})


def test_a_mapping_that_cannot_be_a_call_is_refused() -> None:
    binder = binder_for(everything)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        binder.unbind({"d": 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
        binder.unbind({"a": 1, "d": 1, "nope": 1})
    with pytest.raises(TypeError, match="without the arguments before it"):
        binder.unbind({"a": 1, "d": 1, "rest": [1]})
    optional: Callable[..., Any] = typing.cast("Any", eval("lambda a=1, b=2, /: None"))
    with pytest.raises(TypeError, match="cannot be given 'b'"):
        binder_for(optional).unbind({"b": 1})


def test_a_parameter_that_is_left_out_is_left_to_its_default() -> None:
    assert binder_for(charge).unbind({"order": "o", "currency": "USD"}) == (("o",), {"currency": "USD"})
    assert binder_for(some).unbind({"a": 1}) == ((1,), {})
    assert binder_for(everything).unbind({"a": 1, "c": 2, "d": 3}) == ((1,), {"c": 2, "d": 3})
