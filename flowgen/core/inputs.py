"""The input of a run: bound arguments as JSON, made by whoever starts it, read by whoever runs it.

Clients, parents, schedules and workers share this one form, so that the same call always has the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowgen.core import codec
from flowgen.core.definitions import Definition
from flowgen.errors import CodecError

__all__ = ["decode_input", "encode_input"]


def encode_input(definition: Definition[..., Any, Any] | None, name: str, arguments: object) -> str:
    """The JSON text of a run's input: an object by parameter name; `[args, kwargs]` for positional arguments by name.

    Raises CodecError that names the definition and the parameter.
    """
    if definition is None or not isinstance(arguments, Mapping):
        return codec.encode(arguments, what=f"the input of {name}")
    return definition.function.binder.encode_arguments(arguments, what=name)


def decode_input(definition: Definition[..., Any, Any], text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The raw input by parameter name, and the typed arguments to call with.

    Raises CodecError when the input does not fit the signature; it names the parameter.
    """
    binder = definition.function.binder
    raw = codec.decode(text, what=f"the input of {definition.name}")
    try:
        if isinstance(raw, list) and len(raw) == 2 and isinstance(raw[0], list) and isinstance(raw[1], dict):
            raw = binder.bind(tuple(raw[0]), raw[1])
        elif isinstance(raw, dict):
            binder.bind(*binder.unbind(raw))
        else:
            raw = binder.bind((raw,), {})
    except TypeError as error:
        raise CodecError(f"the input does not fit the signature of {definition!r} ({definition.location}): {error}") from None
    return dict(raw), dict(binder.decode_arguments(raw))
