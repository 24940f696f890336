"""An operation as a transaction of its own, so that failpoints come to stand before and after its COMMIT.

Only for a process with armed failpoints: in any other an operation of one statement needs one round trip, not three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from flowgen.errors import DatabaseError
from flowgen.failpoints import failpoint
from flowgen.postgres.database import Begin, Commit, Op, Script

__all__ = ["staged"]

T = TypeVar("T")


def staged(op: Op[T], *, before: Sequence[str] = (), executed: Sequence[str] = (), after: Sequence[str] = ()) -> Op[T]:
    """`op`, which opens no transaction itself, with the failpoints that it passes.

    `before` it is sent, `executed` and not committed, `after` the COMMIT.
    """
    _pass(before)
    yield Begin()
    try:
        request = next(op)
        while True:
            try:
                result = yield request
            except DatabaseError as error:
                if error.sqlstate is not None:  # as outside of a transaction, the next statement has nothing before it
                    yield Script("ROLLBACK")
                    yield Begin()
                request = op.throw(error)
            else:
                request = op.send(result)
    except StopIteration as stop:
        value: T = stop.value
    _pass(executed)
    yield Commit()
    _pass(after)
    return value


def _pass(points: Sequence[str]) -> None:
    for point in points:
        failpoint(point)
