"""What to tell an author who yields what is not a command."""

from __future__ import annotations

import inspect

from flowgen.core.branches import is_flow
from flowgen.core.commands import Command
from flowgen.core.definitions import Call, Definition
from flowgen.core.frames import close_flow
from flowgen.core.retry import asked_wait
from flowgen.errors import DefinitionError, RetryableError

__all__ = ["explained", "no_command", "no_flow", "no_output", "no_result", "of_function"]


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


def no_result(value: object, where: str) -> DefinitionError | None:
    """The error for a command or a flow that a function returned: nobody carries it out. None for any other value."""
    if isinstance(value, Command):
        return _returned(value, where, "yield it in the handler, or make a generator of the function")
    if is_flow(value):
        return _returned(value, where, f'run it inline, "yield from {_called(value)}", in the handler')
    return None


def no_output(value: object, *, awaits: bool) -> DefinitionError | None:
    """As `no_result`, of what a handler returned: in a coroutine (`awaits`) or in a generator."""
    if not isinstance(value, Command) and not is_flow(value):
        return None
    inside = _called(value)
    if awaits and inspect.isgenerator(value):
        inside = f"Scope({value.__name__!r}, {inside})"
    return _returned(value, "the result", f"`return {f'await {inside}' if awaits else f'(yield from {inside})'}`")


def _returned(value: object, where: str, cure: str) -> DefinitionError:
    what = f"the command {_shown(value)}"
    if is_flow(value):
        what = f"the flow {getattr(value, '__name__', 'flow')}"
        close_flow(value)
    return DefinitionError(f"{where} is {what}, and only what a handler yields is carried out: {cure}")


def _called(value: object) -> str:
    name = type(value).__name__ if isinstance(value, Command) else getattr(value, "__name__", "flow")
    return f"{name}(...)"


def of_function(error: BaseException) -> BaseException:
    """The error of a function; one that awaits a command, or asks for a wait that is none, is told of it."""
    if isinstance(error, RetryableError):
        try:
            asked_wait(error)
        except DefinitionError as mistake:
            mistake.__cause__ = error
            return mistake
    if isinstance(error, RuntimeError) and str(error).startswith(_AWAITED):
        told = DefinitionError(
            f"{str(error)[len(_AWAITED) :]} was awaited in the function of a step, and only what a handler yields is "
            "carried out: await it in the handler, or make a workflow of the function and Invoke it"
        )
        told.__cause__ = error
        return told
    return error


_AWAITED = "Task got bad yield: "
"""What asyncio says of a task that yields what is no future."""


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
