"""CompletionToken: something outside says what a command comes to, once, by a string that nobody can forge.

Never signs: whoever records the token does. The invariant: the text of a token is shown only to who asks for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Generic, overload
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.command import NO_OPTIONS, Command, Typed, set_field
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.options import CommandOptions

__all__ = ["CompletionToken", "Token"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(init=False)
class Token(Typed, Generic[T_co]):
    """Who has its text may complete or fail it, once; `Wait(token)` gives the value. May be an argument of a step.

    `str(token)` is the text: it goes into a link or a webhook, and is as good as a password until it is used.
    """

    key: str
    """Of the CompletionToken command, inside its run."""
    run_id: UUID
    id: UUID
    text: str = attrs.field(repr=False)
    due_at: datetime | None
    """When it times out."""

    def __init__(
        self, key: str, run_id: UUID, id: UUID, text: str, due_at: datetime | None = None, result_type: Any = Any
    ) -> None:
        set_field(self, "key", key)
        set_field(self, "run_id", run_id)
        set_field(self, "id", id)
        set_field(self, "text", text)
        set_field(self, "due_at", due_at)
        set_field(self, "result_type", result_type)

    def __str__(self) -> str:
        return self.text


@attrs.frozen(init=False, eq=False, repr=False)
class CompletionToken(Command[Token[T_co]]):
    """A Token for whoever does the work outside; `Wait(token)` waits for the value, which fits `type`.

    `timeout` counts from the token on: after it `Wait` throws WaitTimedOut, and the token can be used no more.
    """

    expected: Any
    """The type of the value."""
    timeout: timedelta | None
    options: CommandOptions
    kind = "token"

    @overload
    def __init__(self: CompletionToken[Any], /, *, timeout: Duration | None = None) -> None: ...
    @overload
    def __init__(self: CompletionToken[T], type: type[T], /, *, timeout: Duration | None = None) -> None: ...
    @overload
    def __init__(self: CompletionToken[Any], type: object, /, *, timeout: Duration | None = None) -> None: ...
    def __init__(self, type: Any = Any, /, *, timeout: Duration | None = None) -> None:
        set_field(self, "expected", type)
        set_field(self, "timeout", None if timeout is None else as_timedelta(timeout, what="timeout", positive=True))
        set_field(self, "options", NO_OPTIONS)
