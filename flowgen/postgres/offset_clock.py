"""The clock of a test's database: every statement then reads a time that is off by so many seconds.

    offset_clock(conn, schema, seconds)          on an autocommit connection; for all connections, from their next
                                                 statement on; `keep_leases=True` moves the leases along

Production never calls this: there `clock()` is `statement_timestamp()`, inlined. The invariant: all time in the store
comes from that one function, so that no sleep, lease or schedule of a test takes longer than its statements.
"""

from __future__ import annotations

from typing import Any

import psycopg

from flowgen.postgres.database import Begin, Commit, Op, Schema, Statement, run

__all__ = ["offset", "offset_clock"]


def offset(seconds: float, *, keep_leases: bool = False) -> Op[None]:
    """The operation behind `offset_clock`."""
    yield Begin()
    yield Statement("clock_table")
    yield Statement("clock_function")
    if keep_leases:
        yield Statement("clock_lock")
        yield Statement("clock_leases", {"seconds": float(seconds)})
    yield Statement("clock_set", {"seconds": float(seconds)})
    yield Commit()


def offset_clock(conn: psycopg.Connection[Any], schema: Schema, seconds: float, *, keep_leases: bool = False) -> None:
    """Let the store's time be `seconds` ahead of the server's (behind, when negative).

    With `keep_leases` no session of a live worker ends by it: only what waits for a time notices.
    """
    run(conn, offset(seconds, keep_leases=keep_leases), schema)
