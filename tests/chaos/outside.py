"""What the world outside of the engine does for a run of the workload: it sends, emits, completes tokens, decides.

Each has a connection of its own to the server, and tells the witness when it was answered. What is to be done once is
done in one transaction with a row of the harness's own, so that a call that comes again does not do it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg

import flowgen
from flowgen import PermanentError, Token, TokenUsed
from flowgen.client.sync import Client
from tests.chaos import witness
from tests.chaos.bodies import app, place, spend, witnessed

URL = "CHAOS_URL"
"""Of the server itself: nothing cuts the outside world off from it but its death."""

_ONCE = "INSERT INTO chaos.outside (run, key) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"


@cache
def client() -> Client:
    """One for each process."""
    return flowgen.connect(os.environ[URL], app=app)


@contextmanager
def connection() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(os.environ[URL], connect_timeout=5, application_name="outside") as conn:
        yield conn


def _is_first(conn: psycopg.Connection[Any]) -> bool:
    """Whether this call was not made before; true again only when that transaction was not committed."""
    facts = place(0)
    return conn.execute(_ONCE, (facts["run"], facts["key"])).fetchone() is not None


def signal_once(to: str, payload: int) -> None:
    with witnessed(), connection() as conn:
        if _is_first(conn):
            client().signal(to, "s", payload, conn=conn)


def signal_by_sql(conn: Any, to: str, payload: int) -> None:
    with witnessed(tx=True):
        conn.execute("SELECT flowgen.signal(%s, 's', %s::json)", (to, json.dumps(payload)))
        _booked(conn)


def emit_once(payload: dict[str, int]) -> None:
    with witnessed(), connection() as conn:
        if _is_first(conn):
            client().emit("chaos.news", payload, conn=conn)


def emit_by_sql(conn: Any, payload: dict[str, int]) -> None:
    with witnessed(tx=True):
        conn.execute("SELECT flowgen.emit('chaos.news', %s::json)", (json.dumps(payload),))
        _booked(conn)


def _booked(conn: Any) -> None:
    facts = place(0)
    conn.execute("INSERT INTO chaos.ledger (run, key, segment) VALUES (%s, %s, 0)", (facts["run"], facts["key"]))


def fulfil(token: Token[int], n: int, fails: bool, seconds: float) -> None:
    """Use a token, and then once more with another value, which has to be refused."""
    with witnessed():
        spend(seconds)
        for value in (n, n + 1000):
            try:
                if fails:
                    client().fail(token, f"refused {value}")
                else:
                    client().complete(token, value)
            except TokenUsed:
                continue
            witness.say("used", run=str(token.run_id), token=str(token.id), value=value)


def mend(n: int) -> int:
    """Fails for good until an operator has mended what is wrong."""
    with witnessed() as told, connection() as conn:
        if conn.execute("SELECT 1 FROM chaos.mended WHERE n = %s", (n,)).fetchone() is None:
            raise PermanentError("it is broken")
        told.value = n
    return n


def decide(client: Client, run: str, n: int, verb: str) -> None:
    """What the operator does about the step "mend" of a run."""
    match verb:
        case "retry":
            with connection() as conn:
                conn.execute("INSERT INTO chaos.mended (n) VALUES (%s) ON CONFLICT DO NOTHING", (n,))
            client.steps.retry(run, "mend", by="operator")
        case "skip":
            client.steps.skip(run, "mend", -1, by="operator")
        case _:
            client.steps.complete(run, "mend", 7 * n, by="operator")
