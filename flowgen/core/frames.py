"""Where a flow stands: the chain of generators and coroutines that it delegates to, and the innermost one's line."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator, Iterator
from types import CodeType, CoroutineType, GeneratorType
from typing import Any, Final, TypeAlias

from flowgen.core.commands.command import Command, CompositeCommand
from flowgen.core.definitions import defined_codes

__all__ = ["FlowObject", "close_flow", "delegates", "dispose", "inline_definitions", "is_unstarted", "location"]

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
    inner = flow.gi_yieldfrom if isinstance(flow, GeneratorType) else getattr(flow, "cr_await", None)
    return [(each, defined_codes[code]) for each, code in _chain(inner) if code in defined_codes]


def delegates(flow: FlowObject) -> bool:
    """Whether another flow yields for it, as far as that is seen at once."""
    inner = flow.gi_yieldfrom if type(flow) is GeneratorType else getattr(flow, "cr_await", None)
    return inner is not None and getattr(inner, "gi_code", None) not in _COMMAND_CODES


def close_flow(flow: FlowObject) -> bool:
    """Close a flow, also one that yields clean-up commands in `finally`; False when it cannot be closed.

    What it raises or yields meanwhile is nobody's: its run is over, or will be driven by another object.
    """
    if is_unstarted(flow):
        flow.close()
        return True
    for _ in range(_MAX_CLOSES):
        # The innermost first: one that yields once more while an outer one is closed would be lost half-way.
        inner: Any = flow
        for each, _code in _chain(flow):
            inner = each if _is_open(each) else inner
        try:
            dispose(inner.throw(GeneratorExit()))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: S110 - see above
            pass
        if not _is_open(flow):
            return True
    return False


def dispose(yielded: object) -> None:
    """Close the flows inside of a command that nobody will drive: Python warns of a coroutine that never began."""
    if isinstance(yielded, CompositeCommand):
        for each in yielded.given:
            if isinstance(each, Command):
                dispose(each)
            elif is_unstarted(each):
                each.close()


def is_unstarted(flow: object) -> bool:
    """Whether it is a flow that nobody has driven yet."""
    if inspect.isgenerator(flow):
        return inspect.getgeneratorstate(flow) == inspect.GEN_CREATED
    return inspect.iscoroutine(flow) and inspect.getcoroutinestate(flow) == inspect.CORO_CREATED


def _is_open(flow: object) -> bool:
    return (getattr(flow, "gi_frame", None) or getattr(flow, "cr_frame", None)) is not None


def location(flow: object) -> str:
    """`file:line` where the flow stands; empty when it has ended."""
    found = ""
    for each, _ in _chain(flow):
        frame = getattr(each, "gi_frame", None) or getattr(each, "cr_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return found
