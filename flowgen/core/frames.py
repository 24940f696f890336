"""Where a flow stands: the chain of generators and coroutines that it delegates to, and the line of the innermost one."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterator
from types import CodeType, CoroutineType, GeneratorType
from typing import Any, TypeAlias

from flowgen.core.commands import Command
from flowgen.core.definitions import defined_codes

__all__ = ["FlowObject", "inline_definitions", "location"]

FlowObject: TypeAlias = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]

_COMMAND_CODES = frozenset({Command.__iter__.__code__, Command.__await__.__code__})


def _chain(flow: object) -> Iterator[tuple[object, CodeType]]:
    """The flow and what it delegates to, outermost first, without the commands' own generators."""
    while True:
        if isinstance(flow, GeneratorType):
            code, inner = flow.gi_code, flow.gi_yieldfrom
        elif isinstance(flow, CoroutineType):
            code, inner = flow.cr_code, flow.cr_await
        else:
            return
        if code in _COMMAND_CODES:
            return
        yield flow, code
        flow = inner


def inline_definitions(flow: object) -> list[tuple[object, str]]:
    """The definitions that the flow runs inline (`yield from checkout(...)`), outermost first, with their names."""
    inner = getattr(flow, "gi_yieldfrom", None) or getattr(flow, "cr_await", None)
    if inner is None:
        return []
    return [(each, defined_codes[code]) for each, code in _chain(inner) if code in defined_codes]


def location(flow: object) -> str:
    """`file:line` where the flow stands; empty when it has ended."""
    found = ""
    for each, _ in _chain(flow):
        frame = getattr(each, "gi_frame", None) or getattr(each, "cr_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return found
