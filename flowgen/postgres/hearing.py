"""Waits for a notification on a connection that listens."""

from __future__ import annotations

from typing import Any

import psycopg

from flowgen.postgres.database import translate

__all__ = ["heard"]


def heard(conn: psycopg.Connection[Any], seconds: float) -> list[str]:
    """What the notifications say that came within so many seconds. Raises DatabaseError when the connection is gone."""
    try:
        return [each.payload for each in conn.notifies(timeout=seconds, stop_after=1)]
    except psycopg.Error as error:
        raise translate(error) from error
