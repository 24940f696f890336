"""Signatures: from what a caller passes to the bound arguments of a function, and back.

Never calls the function and never applies a default: one that changes later must not change what was recorded. The
invariant: two ways to pass the same arguments bind to equal mappings.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from flowgen.core.codec import encode, structure
from flowgen.core.trees import ATOMS, is_plain
from flowgen.errors import CodecError

__all__ = ["Binder", "binder_for"]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Binder:
    """The compiled signature of one function, without its first `skip_first` parameters, which the engine supplies.

    A bound mapping holds {parameter name: value} for what was passed only: `*args` as a list under its name, `**kwargs`
    as a dict under its name, both left out when empty.
    """

    def __init__(self, fn: Callable[..., Any], skip_first: int = 0) -> None:
        self.name: str = getattr(fn, "__qualname__", type(fn).__qualname__)
        self._fn: Callable[[], Any] = _reference(fn)
        parameters = _parameters(fn)
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        skipped = {each.name for each in positional[:skip_first]}
        parameters = [each for each in parameters if each.name not in skipped]
        self._positional = tuple(each.name for each in parameters if each.kind in _POSITIONAL)
        self._positional_only = frozenset(each.name for each in parameters if each.kind is each.POSITIONAL_ONLY)
        self._keyword_only = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
        self._keywords = frozenset((*self._positional, *self._keyword_only)) - self._positional_only
        self._rest: str | None = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), None)
        self._extra: str | None = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
        self.parameters: tuple[str, ...] = tuple(each.name for each in parameters)
        self.defaults: dict[str, Any] = {
            each.name: each.default for each in parameters if each.default is not each.empty
        }
        self.required: tuple[str, ...] = tuple(
            name for name in (*self._positional, *self._keyword_only) if name not in self.defaults
        )
        # With this many positional arguments and no other, nothing can be missing or too much.
        least = len(positional) - len(skipped)
        while least and self._positional[least - 1] in self.defaults:
            least -= 1
        needs_keyword = any(name not in self.defaults for name in self._keyword_only)
        self._least = least
        # So many parameters, each passed by position or by name, and no other; -1 for any other signature.
        self._simple = len(self._positional) if len(self._positional) == len(self.parameters) else -1
        self._most = -1 if needs_keyword else len(self._positional)

    def __repr__(self) -> str:
        return f"Binder({self.name})"

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The bound mapping of a call. Raises TypeError as the call itself would."""
        if not kwargs and self._least <= len(args) <= self._most:
            return dict(zip(self._positional, args))  # noqa: B905 - naming strict costs a third of the time
        names = self._positional
        bound: dict[str, Any] = dict(zip(names, args, strict=False))
        if len(args) > len(names) and self._rest is None:
            raise TypeError(f"{self.name}() {self._takes(len(args))}")
        extra: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self._keywords:
                if name in bound:
                    raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
                bound[name] = value
            elif self._extra is not None:
                extra[name] = value
            elif name in self._positional_only:
                raise TypeError(
                    f"{self.name}() got some positional-only arguments passed as keyword arguments: {name!r}"
                )
            else:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
        if len(args) > len(names):
            bound[typing.cast("str", self._rest)] = list(args[len(names) :])
        if extra:
            bound[typing.cast("str", self._extra)] = extra
        self._check_missing(bound)
        return {name: bound[name] for name in self.parameters if name in bound}

    def unbind(self, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The (args, kwargs) to call with. Raises TypeError for a missing or unknown parameter."""
        if len(bound) == self._simple:
            try:
                return tuple([bound[name] for name in self._positional]), {}
            except KeyError:  # a name that is none of them: said below
                pass
        self._check_known(bound)
        self._check_missing(bound)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        # After a parameter that was left out, the next ones can only be passed by name.
        by_position = True
        for name in self._positional:
            if name not in bound:
                by_position = False
            elif by_position:
                args.append(bound[name])
            elif name in self._positional_only:
                raise TypeError(f"{self.name}() cannot be given {name!r} without the arguments before it")
            else:
                kwargs[name] = bound[name]
        if self._rest is not None and bound.get(self._rest):
            if not by_position:
                raise TypeError(f"{self.name}() cannot be given *{self._rest} without the arguments before it")
            args.extend(bound[self._rest])
        kwargs.update((name, bound[name]) for name in self._keyword_only if name in bound)
        if self._extra is not None:
            kwargs.update(bound.get(self._extra) or {})
        return tuple(args), kwargs

    @functools.cached_property
    def annotations(self) -> Mapping[str, Any]:
        """Each parameter's resolved annotation; Any where there is none, or none that can be resolved.

        Those of `*args` and `**kwargs` are list and dict of what is written.
        """
        hints = self._resolved
        found = {name: hints.get(name, Any) for name in self.parameters}
        if self._rest is not None:
            found[self._rest] = types.GenericAlias(list, (found[self._rest],))
        if self._extra is not None:
            found[self._extra] = types.GenericAlias(dict, (str, found[self._extra]))
        return types.MappingProxyType(found)

    @functools.cached_property
    def return_annotation(self) -> Any:
        """What the function is annotated to return, as written; Any where nothing is."""
        return self._resolved.get("return", Any)

    @functools.cached_property
    def _resolved(self) -> dict[str, Any]:
        fn = self._fn()
        return {} if fn is None else _raw_hints(fn)

    def encode_arguments(self, bound: Mapping[str, Any], *, what: str | None = None) -> str:
        """The JSON object of bound arguments, each by its annotation. Raises CodecError that names the parameter."""
        annotations = self.annotations
        try:
            parts = [f'"{name}":{encode(value, annotations.get(name, Any))}' for name, value in bound.items()]
        except CodecError:
            who = what or f"{self.name}()"
            for name, value in bound.items():  # the error that names it
                encode(value, annotations.get(name, Any), what=f"{who} argument {name!r}")
            raise
        return "{" + ",".join(parts) + "}"

    def check_arguments(self, bound: Mapping[str, Any], *, what: str) -> None:
        """Refuse what has no exact JSON form, neither by the parameter's annotation nor by its own type.

        Raises CodecError that names the parameter.
        """
        for name, value in bound.items():
            annotation, where = self.annotations.get(name, Any), f"{what} argument {name!r}"
            if annotation is Any or is_plain(value):
                encode(value, what=where)
                continue
            try:
                encode(value, annotation, what=where)
            except CodecError as refused:
                try:
                    encode(value, what=where)
                except CodecError:
                    raise refused from None

    def decode_arguments(self, bound: Mapping[str, Any], *, what: str | None = None) -> dict[str, Any]:
        """Typed arguments from parsed JSON ones.

        Raises CodecError that names the parameter whose value does not fit, TypeError for an unknown parameter.
        """
        self._check_known(bound)
        annotations = self.annotations
        who = what or f"{self.name}()"
        found: dict[str, Any] = {}
        for name, value in bound.items():
            annotation = annotations[name]
            if type(value) is annotation and annotation in ATOMS:
                found[name] = value
            else:
                found[name] = structure(value, annotation, what=f"{who} argument {name!r}")
        return found

    def _check_known(self, bound: Mapping[str, Any]) -> None:
        for name in bound:
            if name not in self.parameters:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")

    def _check_missing(self, bound: Mapping[str, Any]) -> None:
        for group, kind in ((self._positional, "positional"), (self._keyword_only, "keyword-only")):
            missing = [repr(name) for name in group if name not in bound and name not in self.defaults]
            if missing:
                head = ", ".join(missing[:-1]) + ("," if len(missing) > 2 else "")
                shown = f"{head} and {missing[-1]}" if head else missing[-1]
                plural = "s" if len(missing) > 1 else ""
                raise TypeError(f"{self.name}() missing {len(missing)} required {kind} argument{plural}: {shown}")

    def _takes(self, given: int) -> str:
        most = len(self._positional)
        least = sum(name not in self.defaults for name in self._positional)
        count = f"{most}" if least == most else f"from {least} to {most}"
        verb = "was" if given == 1 else "were"
        return f"takes {count} positional argument{'' if count == '1' else 's'} but {given} {verb} given"


_binders: Final[weakref.WeakKeyDictionary[Any, dict[int, Binder]]] = weakref.WeakKeyDictionary()


def binder_for(fn: Callable[..., Any], skip_first: int = 0) -> Binder:
    """The binder of `fn`, made once while the function lives. Raises TypeError when `fn` cannot be called."""
    if isinstance(fn, types.MethodType):
        # A bound method is a new object at each access; its function is not.
        return binder_for(fn.__func__, skip_first + 1)
    try:
        known = _binders[fn]
    except (KeyError, TypeError):
        known = {}
    if skip_first not in known:
        if not callable(fn):
            raise TypeError(f"{fn!r} of type {type(fn).__name__} is not callable")
        known[skip_first] = Binder(fn, skip_first)
        # Not every callable takes weak references or has a hash.
        with contextlib.suppress(TypeError):
            _binders[fn] = known
    return known[skip_first]


def _reference(fn: Callable[..., Any]) -> Callable[[], Any]:
    # A strong one would keep the function alive for ever: the cache's keys are weak, its values are not.
    try:
        return weakref.ref(fn)
    except TypeError:
        return lambda: fn


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib

        # Names that only a type checker imports must not break binding.
        options["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return list(inspect.signature(fn, **options).parameters.values())
    except ValueError:
        # Some builtins do not tell their signature.
        return [
            inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]


def _raw_hints(fn: Any) -> dict[str, Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, type):
        return {**_raw_hints(inspect.getattr_static(fn, "__init__")), "return": fn}
    if not inspect.isroutine(fn):
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004 - an instance is called by its class's method
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception:
        return _each_hint(fn)


def _each_hint(fn: Any) -> dict[str, Any]:
    # One name that cannot be resolved must not take the types of the others with it.
    try:
        written = dict(inspect.get_annotations(fn))
    except Exception:
        return {}
    found: dict[str, Any] = {}
    for name, annotation in written.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found.update(
                typing.get_type_hints(holder, getattr(inspect.unwrap(fn), "__globals__", {}), include_extras=True)
            )
        except Exception:
            found[name] = Any
    return found
