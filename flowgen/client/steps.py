"""`client.steps`: what an operator decides about one command of a run.

The invariant: a decision is a message to the run; whoever owns the run carries it out over the history that it has
then, and says so in the history, with who and why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

from flowgen.client.orders import Order
from flowgen.core import codec
from flowgen.core.names import check_key

if TYPE_CHECKING:
    from flowgen.client.queries import RunId
    from flowgen.client.runs import AsyncRun, Run

__all__ = ["AsyncSteps", "Steps"]


def _order(key: str, verb: str, by: str | None, reason: str | None, value: str | None = None) -> Order:
    return Order(check_key(key), verb, value, by, reason)


@attrs.frozen(eq=False)
class Steps:
    """Each verb takes the run's id and the command's key as `client.history` shows it, such as `charge#2`.

    It concerns a command that failed for good in a run that has failed, or a step that waits for its next attempt.
    Raises RunNotFound, CodecError for a value that cannot be stored, FlowgenError for a command that neither failed nor
    waits.
    """

    _send: Callable[[RunId, Order], Run[Any]]

    def retry(self, run_id: RunId, key: str, *, by: str | None = None, reason: str | None = None) -> Run[Any]:
        """Try it again, now, with all its attempts; a failed run goes on."""
        return self._send(run_id, _order(key, "retry", by, reason))

    def skip(
        self, run_id: RunId, key: str, value: Any = None, *, by: str | None = None, reason: str | None = None
    ) -> Run[Any]:
        """Go on without it: the handler is sent `value`, which has to fit the type of the result."""
        return self._send(run_id, _order(key, "skip", by, reason, codec.encode(value, what="the value")))

    def complete(
        self, run_id: RunId, key: str, value: Any, *, by: str | None = None, reason: str | None = None
    ) -> Run[Any]:
        """It was done by other means: the handler is sent `value`, which has to fit the type of the result."""
        return self._send(run_id, _order(key, "complete", by, reason, codec.encode(value, what="the value")))


@attrs.frozen(eq=False)
class AsyncSteps:
    """As `Steps`, to be awaited."""

    _send: Callable[[RunId, Order], Awaitable[AsyncRun[Any]]]

    async def retry(
        self, run_id: RunId, key: str, *, by: str | None = None, reason: str | None = None
    ) -> AsyncRun[Any]:
        """See `Steps.retry`."""
        return await self._send(run_id, _order(key, "retry", by, reason))

    async def skip(
        self, run_id: RunId, key: str, value: Any = None, *, by: str | None = None, reason: str | None = None
    ) -> AsyncRun[Any]:
        """See `Steps.skip`."""
        return await self._send(run_id, _order(key, "skip", by, reason, codec.encode(value, what="the value")))

    async def complete(
        self, run_id: RunId, key: str, value: Any, *, by: str | None = None, reason: str | None = None
    ) -> AsyncRun[Any]:
        """See `Steps.complete`."""
        return await self._send(run_id, _order(key, "complete", by, reason, codec.encode(value, what="the value")))
