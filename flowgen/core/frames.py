"""Where a flow stands: the chain of generators and coroutines that it delegates to, and the innermost one's line."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterator
from types import CodeType, CoroutineType, GeneratorType
from typing import Any, Final, TypeAlias

from flowgen.core.commands import Command
from flowgen.core.definitions import defined_codes

__all__ = ["FlowObject", "close_flow", "inline_definitions", "location"]

FlowObject: TypeAlias = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]

_MAX_CLOSES: Final = 100

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


def close_flow(flow: FlowObject) -> bool:
    """Close a flow, also one that yields clean-up commands in `finally`; False when it cannot be closed.

    What it raises meanwhile is nobody's: its run is over, or will be driven by another object.
    """
    for _ in range(_MAX_CLOSES):
        try:
            flow.close()
        except KeyboardInterrupt:
            raise
        except BaseException:
            if not _is_open(flow):
                return True
        else:
            return True
    return False


def _is_open(flow: FlowObject) -> bool:
    return (getattr(flow, "gi_frame", None) or getattr(flow, "cr_frame", None)) is not None


def location(flow: object) -> str:
    """`file:line` where the flow stands; empty when it has ended."""
    found = ""
    for each, _ in _chain(flow):
        frame = getattr(each, "gi_frame", None) or getattr(each, "cr_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return found
