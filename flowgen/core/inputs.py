"""The input of a run: bound arguments as JSON, made by whoever starts it, read by whoever runs it.

Clients, parents, schedules and workers share this one form, so that the same call always has the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowgen.core import codec
from flowgen.core.branches import FlowObject, is_flow
from flowgen.core.commands import Flow, Step
from flowgen.core.context import Context
from flowgen.core.definitions import Definition
from flowgen.core.functions import ContextKind
from flowgen.errors import CodecError, DefinitionError

__all__ = ["decode_input", "encode_input", "equal_inputs", "open_handler", "triggered_input", "triggering_payload"]


def encode_input(definition: Definition[..., Any, Any] | None, name: str, arguments: object) -> str:
    """The JSON text of a run's input: an object by parameter name; `[args, kwargs]` for positional arguments by name.

    Raises CodecError that names the definition and the parameter.
    """
    if definition is None or not isinstance(arguments, Mapping):
        return codec.encode(arguments, what=f"the input of {name}")
    return definition.function.binder.encode_arguments(arguments, what=name)


def decode_input(
    definition: Definition[..., Any, Any], text: str
) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]:
    """The raw input by parameter name, and the typed arguments to call with.

    Raises CodecError when the input does not fit the signature; it names the parameter.
    """
    binder = definition.function.binder
    raw: Any = codec.decode(text, what=f"the input of {definition.name}")
    try:
        if isinstance(raw, list) and len(raw) == 2 and isinstance(raw[0], list) and isinstance(raw[1], dict):
            raw = binder.bind(tuple(raw[0]), raw[1])
        elif not isinstance(raw, dict):
            raw = binder.bind((raw,), {})
        args, kwargs = binder.unbind(binder.decode_arguments(raw))
        if kwargs:
            binder.bind(args, kwargs)  # a name may be taken by a parameter already
    except TypeError as error:
        raise CodecError(
            f"the input does not fit the signature of {definition!r} ({definition.location}): {error}"
        ) from None
    return raw, args, kwargs


def equal_inputs(one: str, other: str) -> bool:
    """Whether two inputs are the same, whatever their spelling."""
    if one == other:
        return True
    try:
        return codec.canonical(codec.decode(one)) == codec.canonical(codec.decode(other))
    except CodecError:
        return False


def triggered_input(payload: str) -> str:
    """The input of a run that an event starts: an object is bound by parameter name, anything else is the argument."""
    return f"[[],{payload}]" if payload.startswith("{") else f"[[{payload}],{{}}]"


def triggering_payload(input: str) -> Any:
    """The payload that `triggered_input` was given. Raises CodecError."""
    args, kwargs = codec.decode(input, what="the payload of the event")
    return args[0] if args else kwargs


def open_handler(
    definition: Definition[..., Any, Any], context: Context[Any], text: str
) -> tuple[dict[str, Any], FlowObject]:
    """The raw input, and the flow to drive. A plain task is a flow of one step.

    Raises CodecError for a bad input, and whatever a wrapper around the handler raises.
    """
    raw, args, kwargs = decode_input(definition, text)
    if not definition.is_handler:
        return raw, _single(definition, args, kwargs)
    if definition.function.context is not ContextKind.NONE:
        args = (context, *args)
    flow = definition.fn(*args, **kwargs)
    if not is_flow(flow):
        raise DefinitionError(
            f"{definition!r} ({definition.location}) gave {flow!r}, not a generator or coroutine: what wraps its "
            "function must return what the function returns"
        )
    return raw, flow


def _single(task: Definition[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    return (yield Step(task, *args, **kwargs))
