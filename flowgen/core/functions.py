"""What is known of a user's function: its name, flavour, signature and place. Computed once per function.

Never calls the function. A function whose first parameter is annotated `Context` or `StepContext` takes the context
there; the caller never passes it.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from enum import Enum
from types import FunctionType, SimpleNamespace, UnionType
from typing import Any

import attrs

from flowgen.core.context import Context, StepContext
from flowgen.core.signatures import Binder
from flowgen.errors import DefinitionError

__all__ = ["ContextKind", "Flavour", "Function", "describe", "location_of", "stray_context"]


class Flavour(Enum):
    PLAIN = "plain"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


class ContextKind(Enum):
    NONE = "none"
    RUN = "Context"
    STEP = "StepContext"


@attrs.frozen(eq=False, slots=False)  # cached_property would slow down every other attribute of a slotted class
class Function:
    """A described function. `name` is None where the author must give one (a lambda, a partial, a callable object)."""

    fn: Callable[..., Any]
    name: str | None
    flavour: Flavour
    context: ContextKind
    binder: Binder
    """Binds what the caller passes; knows nothing of the context parameter."""
    file: str
    line: int
    qualname: str

    @functools.cached_property
    def result_type(self) -> Any:
        """The annotation of the outcome: for a generator what it returns, not what it yields."""
        annotation = self.binder.return_annotation
        if self.flavour is Flavour.GENERATOR:
            arguments = typing.get_args(annotation)
            annotation = arguments[2] if len(arguments) == 3 else Any
        return Any if isinstance(annotation, typing.TypeVar) else annotation


_CACHE = "__flowgen__"


def describe(fn: Callable[..., Any], *, skip: int = 0) -> Function:
    """Describe `fn`; `skip` leading parameters are supplied by the engine (the connection of a Transaction).

    Raises DefinitionError when `fn` is not callable.
    """
    if isinstance(fn, FunctionType):
        # On the function itself, so that one made in a handler goes away with its description.
        known: dict[int, Function] = fn.__dict__.get(_CACHE) or {}
        described = known.get(skip)
        # functools.wraps copies the attributes of what it wraps.
        if described is None or described.fn is not fn:
            described = _describe(fn, skip)
            setattr(fn, _CACHE, {**{key: each for key, each in known.items() if each.fn is fn}, skip: described})
        return described
    if not callable(fn):
        raise DefinitionError(f"a function was expected, not {fn!r} of type {type(fn).__name__}")
    try:
        described = _describe_other(fn, skip)
    except TypeError:  # it has no hash
        return _describe(fn, skip)
    return described if described.fn is fn else attrs.evolve(described, fn=fn)


def _describe(fn: Callable[..., Any], skip: int) -> Function:
    plain = inspect.unwrap(fn)
    code = getattr(plain, "__code__", None)
    context = ContextKind.NONE if skip else _context_kind(fn)
    name = getattr(fn, "__name__", None)
    if name == "<lambda>" or (code is None and not inspect.isroutine(plain) and not inspect.isclass(plain)):
        name = None
    flavour = _flavour(fn)
    return Function(
        fn=fn,
        name=name,
        # A plain wrapper passes on what the function inside gives.
        flavour=flavour if flavour is not Flavour.PLAIN else _flavour(plain),
        context=context,
        binder=Binder(fn, 1 if context is not ContextKind.NONE else skip),
        file=code.co_filename if code is not None else "<unknown>",
        line=code.co_firstlineno if code is not None else 0,
        qualname=getattr(plain, "__qualname__", type(plain).__qualname__),
    )


_describe_other = functools.lru_cache(256)(_describe)


def _flavour(fn: Any) -> Flavour:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn) and not inspect.isclass(fn):
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004 - a callable object runs its class's __call__
    if inspect.isasyncgenfunction(fn):
        return Flavour.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(fn):
        return Flavour.ASYNC
    if inspect.isgeneratorfunction(fn):
        return Flavour.GENERATOR
    return Flavour.PLAIN


_CONTEXT_TEXT = re.compile(r"^(?:\w+\.)*(StepContext|Context)(\[.*\])?$", re.DOTALL)


def _context_kind(fn: Any) -> ContextKind:
    annotation = _first_annotation(fn)
    if isinstance(annotation, str):
        resolved = _resolve(annotation, fn)
        if resolved is None:
            # A name that only a type checker imports, or a local one: what is written has to do.
            written = _CONTEXT_TEXT.match(annotation.strip().strip("'\""))
            if written is None:
                return ContextKind.NONE
            return ContextKind.STEP if written[1] == "StepContext" else ContextKind.RUN
        annotation = resolved
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return ContextKind.NONE
    if issubclass(origin, StepContext):
        return ContextKind.STEP
    return ContextKind.RUN if issubclass(origin, Context) else ContextKind.NONE


def stray_context(function: Function) -> str | None:
    """The parameter that is annotated as a context and is given none: it is not the first one, or could be None."""
    try:
        parameters = list(inspect.signature(function.fn).parameters.values())
    except Exception:  # as in _first_annotation
        return None
    for parameter in parameters[function.context is not ContextKind.NONE :]:
        annotation: Any = parameter.annotation
        if isinstance(annotation, str):
            annotation = _resolve(annotation, function.fn)
        united = typing.get_origin(annotation) in (typing.Union, UnionType)
        for each in typing.get_args(annotation) if united else (annotation,):
            origin = typing.get_origin(each) or each
            if isinstance(origin, type) and issubclass(origin, Context):
                return parameter.name
    return None


def _first_annotation(fn: Any) -> object:
    try:
        parameters = iter(inspect.signature(fn).parameters.values())
    except Exception:  # some builtins have none; from 3.14 on annotations are evaluated here
        return None
    first = next(parameters, None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return None
    return first.annotation


def _resolve(annotation: str, fn: Any) -> Any:
    """What a string annotation means in the function's module; None when it cannot be known yet."""
    holder = SimpleNamespace(__annotations__={"first": annotation})
    try:
        return typing.get_type_hints(holder, getattr(_plain(fn), "__globals__", {}))["first"]
    except Exception:
        return None


def _plain(fn: Any) -> Any:
    fn = inspect.unwrap(fn)
    while isinstance(fn, functools.partial):
        fn = inspect.unwrap(fn.func)
    if inspect.isclass(fn):
        return fn.__init__
    return fn if inspect.isroutine(fn) else getattr(type(fn), "__call__", fn)  # noqa: B004 - see _flavour


def location_of(fn: Callable[..., Any]) -> str:
    """`file:line` of a function, for messages."""
    described = describe(fn)
    return f"{described.file}:{described.line}"
