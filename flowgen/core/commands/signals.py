"""Commands about messages to one run: WaitSignal takes one, Signal sends one.

They never look into a mailbox. The invariant: a signal has a name, and its payload is JSON.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, overload
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.children import RunRef
from flowgen.core.commands.command import NO_OPTIONS, Command, set_field
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.names import check_id, check_name
from flowgen.core.options import CommandOptions
from flowgen.errors import DefinitionError

__all__ = ["Signal", "WaitSignal"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(init=False, eq=False, repr=False)
class WaitSignal(Command[T_co]):
    """The payload of the next signal of this name: of one that was sent before, else of one that comes.

    Throws WaitTimedOut after `timeout`, WaitFailed for a payload that does not fit `type`.
    """

    name: str
    expected: Any
    """The type of the payload."""
    timeout: timedelta | None
    options: CommandOptions
    kind = "waitsignal"

    @overload
    def __init__(self: WaitSignal[Any], name: str, /, *, timeout: Duration | None = None) -> None: ...
    @overload
    def __init__(self: WaitSignal[T], name: str, type: type[T], /, *, timeout: Duration | None = None) -> None: ...
    @overload
    def __init__(self: WaitSignal[Any], name: str, type: object, /, *, timeout: Duration | None = None) -> None: ...
    def __init__(self, name: str, type: Any = Any, /, *, timeout: Duration | None = None) -> None:
        set_field(self, "name", check_name(name, "the name of a signal"))
        set_field(self, "expected", type)
        set_field(self, "timeout", None if timeout is None else as_timedelta(timeout, what="timeout", positive=True))
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.name

    @property
    def default_name(self) -> str:
        return f"signal:{self.name}"

    def _shown(self) -> list[str]:
        return [repr(self.name)]


@attrs.frozen(init=False, eq=False, repr=False)
class Signal(Command[None]):
    """Send a signal to another run: by its id, its UUID, or what `yield from Start(...)` gave. Exactly once.

    Throws StepFailed when there is no such run, or when it has ended.
    """

    run: str | UUID
    name: str
    payload: Any
    options: CommandOptions
    kind = "signal"

    def __init__(self, run: str | UUID | RunRef[Any], name: str, payload: object = None, /) -> None:
        if isinstance(run, RunRef):
            run = run.run_id
        elif isinstance(run, str):
            check_id(run)
        elif not isinstance(run, UUID):
            raise DefinitionError(f"Signal takes a run's id, its UUID or a RunRef, not {run!r}")
        set_field(self, "run", run)
        set_field(self, "name", check_name(name, "the name of a signal"))
        set_field(self, "payload", payload)
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.name

    @property
    def arguments(self) -> object:
        return [str(self.run), self.payload]

    @property
    def default_name(self) -> str:
        return f"send:{self.name}"

    def _shown(self) -> list[str]:
        return [repr(str(self.run)), repr(self.name), repr(self.payload)]
