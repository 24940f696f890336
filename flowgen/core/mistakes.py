"""What to tell an author who yields what is not a command."""

from __future__ import annotations

import inspect

from flowgen.core.commands import Command
from flowgen.core.definitions import Call, Definition
from flowgen.errors import DefinitionError

__all__ = ["explain", "no_command"]


def no_command(yielded: object, where: str) -> DefinitionError:
    """The error for a yielded value that is not a command: what it is, and what was probably meant."""
    return DefinitionError(f"the handler yielded {_shown(yielded)} at {where}, which is not a command: {_hint(yielded)}")


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


def explain(error: BaseException) -> str:
    """One line about an error of the author's."""
    return f"{type(error).__name__}: {error}"
