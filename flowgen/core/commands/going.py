"""Commands about how a run goes on: SetProgress, SetDeadline, ContinueAsNew.

They act on the run that yields them, in the commit of their outcome. The invariant: a duration stays one until it is
recorded, so that nobody but the database says when.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Never

import attrs

from flowgen.core import fingerprint
from flowgen.core.commands.command import NO_OPTIONS, Command, set_field, shown_call
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.options import CommandOptions

__all__ = ["ContinueAsNew", "SetDeadline", "SetProgress"]


@attrs.frozen(eq=False, repr=False)
class SetProgress(Command[None]):
    """Say how far the run is: anything JSON, which clients read while it goes on. The last one holds."""

    value: Any
    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "setprogress"

    @property
    def arguments(self) -> object:
        return self.value

    def fingerprint(self) -> str:
        # What is told may be worded anew by a deploy: no run is a divergence for that.
        return fingerprint.fingerprint(self.kind, "", fingerprint.args_hash(None))

    def _shown(self) -> list[str]:
        return [repr(self.value)]


@attrs.frozen(init=False, eq=False, repr=False)
class SetDeadline(Command[None]):
    """Give the run a new deadline, so long from now by the database's clock; None takes the deadline away."""

    lasts: timedelta | None
    options: CommandOptions
    kind = "setdeadline"
    stores = False

    def __init__(self, duration: Duration | None, /) -> None:
        lasts = None if duration is None else as_timedelta(duration, what="SetDeadline", positive=True)
        set_field(self, "lasts", lasts)
        set_field(self, "options", NO_OPTIONS)

    @property
    def arguments(self) -> object:
        return None if self.lasts is None else self.lasts.total_seconds()

    def _shown(self) -> list[str]:
        return [repr(None) if self.lasts is None else f"{self.lasts.total_seconds():g}"]


@attrs.frozen(init=False, eq=False, repr=False)
class ContinueAsNew(Command[Never]):
    """Begin the run anew with these arguments: the same id, an empty history. `return (yield from ContinueAsNew(n))`.

    What the handler opened is closed first: its `finally` blocks run. From the handler itself, not from a branch.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CommandOptions
    kind = "continueasnew"

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        set_field(self, "args", args)
        set_field(self, "kwargs", kwargs)
        set_field(self, "options", NO_OPTIONS)

    @property
    def arguments(self) -> object:
        return [list(self.args), self.kwargs]

    def _shown(self) -> list[str]:
        return shown_call("", self.args, tuple(self.kwargs.items()))[1:]
