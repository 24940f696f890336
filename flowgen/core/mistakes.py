"""What to tell an author who yields what is not a command."""

from __future__ import annotations

import inspect

from flowgen.core.commands import Command
from flowgen.core.definitions import Call, Definition
from flowgen.errors import DefinitionError

__all__ = ["explained", "no_command", "no_flow"]


def no_command(yielded: object, where: str) -> DefinitionError:
    """The error for a yielded value that is not a command: what it is, and what was probably meant."""
    error = DefinitionError(
        f"the handler yielded {_shown(yielded)} at {where}, which is not a command: {_hint(yielded)}"
    )
    if inspect.iscoroutine(yielded):
        yielded.close()  # else Python warns that it was never awaited, on top
    return error


def no_flow(inside: object, kind: str) -> DefinitionError:
    """The error for what a composite cannot drive: a flow that was driven before, or is driven elsewhere."""
    name = getattr(inside, "__qualname__", None) or _shown(inside)
    return DefinitionError(
        f"the flow {name} was given to a {kind} a second time: a flow runs once, call its function again"
    )


def explained(error: BaseException) -> BaseException:
    """The author's error; an asyncio call in a handler is told what to use instead."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        told = DefinitionError(
            "asyncio was called in a handler, which runs without an event loop: use Sleep for a wait, Step for I/O and "
            "Gather for several things at once"
        )
        told.__cause__ = error
        return told
    return error


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "an object"
    return f"{text if len(text) <= 80 else text[:77] + '...'} of type {type(value).__name__}"


def _hint(value: object) -> str:
    if inspect.isgenerator(value):
        return f'use "yield from {value.__name__}(...)"'
    if inspect.iscoroutine(value):
        return f'use "await {value.__name__}(...)" in a coroutine handler, or Scope(name, {value.__name__}(...))'
    if isinstance(value, type) and issubclass(value, Command):
        return f"yield an instance, {value.__name__}(...)"
    if isinstance(value, Call):
        return f"use Invoke({value.name}, ...) to run it as a child, or Start to not wait for it"
    if isinstance(value, Definition):
        return f"use Step({value.name}, ...) or Invoke({value.name}, ...)"
    if hasattr(value, "_asyncio_future_blocking"):
        return "asyncio cannot be awaited in a handler; use Sleep for a wait, Step for I/O, Gather for several at once"
    if callable(value):
        return "use Step(function, ...)"
    return "a handler yields Step, Sleep, Invoke and the other commands of flowgen"
