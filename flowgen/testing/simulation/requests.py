"""What a worker asks of the store: sent, performed, answered; each of the three may go astray.

A request never decides anything; the world says what becomes of it. The invariant: it is performed at most once, and
its worker hears of it at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flowgen.core.entries import EntryKind
from flowgen.errors import DatabaseError, FlowgenError
from flowgen.postgres.rows import FlushBatch

if TYPE_CHECKING:
    from flowgen.testing.simulation.loop import Loop
    from flowgen.testing.simulation.store import Store

__all__ = ["FATES", "LOCKED", "REFUSED", "Link", "Request", "lost_connection"]

FATES: Final = (
    "arrives",
    "is answered late",
    "is carried out, and the answer is lost",
    "is lost on the way",
    "seems lost, and is carried out later",
    "is carried out, and the worker dies before it hears",
    "is sent, and the worker dies",
    "is carried out, and the worker stalls before it hears",
    "is sent, and the worker stalls",
    "is given up by the server, which is to be asked again",
    "finds rows locked",
)
REFUSED: Final = 9
LOCKED: Final = 10
_LOCKABLE: Final = frozenset({"flush", "release", "cancel_runs"})
"""What leaves out the rows that somebody has locked."""
_REFUSABLE: Final = frozenset({"flush", "attach_child", "send_signal"})
"""What a server may give up for a deadlock."""


def lost_connection() -> DatabaseError:
    """What a worker hears of a broken connection."""
    return DatabaseError("the connection was lost", sqlstate="08006", transient=True)


class Request:
    """One statement on its way."""

    __slots__ = ("_done", "_failed", "error", "name", "perform", "performed", "result", "told")

    def __init__(
        self,
        name: str,
        perform: Callable[[], Any],
        done: Callable[[Any], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self.name = name
        self.perform = perform
        self._done = done
        self._failed = failed
        self.result: Any = None
        self.error: BaseException | None = None
        self.performed = False

    @property
    def is_refusable(self) -> bool:
        return self.name in _REFUSABLE

    @property
    def is_lockable(self) -> bool:
        return self.name in _LOCKABLE

    def refusal(self) -> DatabaseError:
        return DatabaseError("deadlock detected", sqlstate="40P01", transient=True)

    def rows(self) -> list[UUID]:
        """The runs whose rows a flush, a release or a cancel changes, as far as it names them."""
        if self.name == "release":
            return list(self.perform.keywords["runs"] or ())  # type: ignore[attr-defined]  # a call of the link's
        if self.name == "cancel_runs":
            return list(self.perform.keywords["run_ids"])  # type: ignore[attr-defined]
        batch = self._batch()
        return [] if batch is None else [update.run_id for update in batch.updates]

    def describe(self) -> str:
        """What is asked, for a story."""
        batch = self._batch()
        if batch is None:
            return self.name
        written = [f"{EntryKind(entry.kind).name.lower()} {entry.key!r}" for _, entry in batch.entries]
        written += [update.action.name.lower().replace("_", " ") for update in batch.updates]
        return f"flush ({', '.join(written)})"

    def _batch(self) -> FlushBatch | None:
        keywords = getattr(self.perform, "keywords", {})
        return keywords.get("batch") if self.name == "flush" else None

    def carry_out(self) -> None:
        """The server performs it."""
        self.performed = True
        try:
            self.result = self.perform()
        except FlowgenError as error:
            self.error = error

    def answer(self) -> None:
        """The worker hears what came of it."""
        if self.error is not None:
            self._failed(self.error)
        else:
            self._done(self.result)

    def fail(self, error: BaseException) -> None:
        """The worker hears of an error, whatever the server has done or will do."""
        self._failed(error)


class Link:
    """A connection of a worker's agent: what is called becomes a request."""

    def __init__(self, loop: Loop, store: Store, requests: list[Request]) -> None:
        self._loop = loop
        self._store = store
        self._requests = requests

    async def call(self, op: Any) -> Any:
        """Ask for an operation of `flowgen.postgres`: a generator that nobody starts, for its name and arguments."""
        name = op.gi_code.co_name
        perform = partial(getattr(self._store, name), **op.gi_frame.f_locals)
        op.close()
        answer: asyncio.Future[Any] = self._loop.create_future()
        request = Request(name, perform, partial(_settle, answer), partial(_fail, answer))
        self._requests.append(request)
        return await answer


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
