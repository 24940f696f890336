"""What functions and children come to: the user's own functions, or what the test says in their place.

The invariant: a command comes to the same item of a script however often its worker is lost before it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from flowgen.core.context import entered
from flowgen.core.decision import Raised, Result, Returned
from flowgen.testing.driving import awaited
from flowgen.testing.scripts import UNSCRIPTED, Script, as_error
from flowgen.worker.executor import RunningCall

__all__ = ["Functions"]


class Functions:
    """The functions of one schedule."""

    def __init__(self, outcomes: Mapping[Any, object]) -> None:
        self._script = Script(outcomes) if outcomes else None
        self._items: dict[tuple[UUID, tuple[int, int], str], object] = {}

    def item(self, run_id: UUID, place: tuple[int, int], key: str, command: Any, target: object) -> object:
        """What is scripted for a command; UNSCRIPTED when nothing is. Raises AssertionError when a list is used up."""
        if self._script is None:
            return UNSCRIPTED
        which = run_id, place, key
        if which not in self._items:
            self._items[which] = self._script.next_for(key, command, target)
        return self._items[which]

    def in_place_of(self, running: RunningCall, place: tuple[int, int]) -> Callable[..., Any]:
        """What is called instead of the function of a Transaction, without its connection.

        Raises AssertionError when nothing is scripted.
        """
        call = running.call
        item = self.item(running.run.run_id, place, call.key, call.command, call.command.fn)
        if item is UNSCRIPTED:
            raise AssertionError(
                f"the handler waits for {call.command!r} as {call.key!r}, and there is no database here: give "
                "outcomes={...} a result for it, or a function that is called in its place, without the connection"
            )
        return lambda connection, *args, **kwargs: _come_to(item, args, kwargs)

    def call(self, running: RunningCall, place: tuple[int, int]) -> Result:
        """Call the function of a step. Raises AssertionError when a scripted function does."""
        call = running.call
        item = self.item(running.run.run_id, place, call.key, call.command, call.command.fn)
        try:
            with entered(running.context):
                if item is UNSCRIPTED:
                    args, kwargs = running.arguments()
                    return Returned(awaited(call.command.function.fn(*args, **kwargs)))
                return Returned(_come_to(item, call.command.args, dict(call.command.kwargs)))
        except Exception as error:
            if isinstance(error, AssertionError) and item is not UNSCRIPTED:
                raise
            return Raised(error)


def _come_to(item: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    error = as_error(item)
    if error is not None:
        raise error
    return awaited(item(*args, **kwargs)) if callable(item) else item
