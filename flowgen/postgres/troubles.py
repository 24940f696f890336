"""Whose error is it: the user's function's, or the connection's that it was given."""

from __future__ import annotations

from typing import Any

import psycopg

from flowgen.errors import DatabaseError
from flowgen.postgres.database import translate

__all__ = ["trouble"]


def trouble(conn: Any, error: BaseException) -> DatabaseError | None:
    """The database's trouble behind an error of a function that used `conn`; None when the error is the function's."""
    if not isinstance(error, psycopg.Error):
        return None
    translated = translate(error)
    return translated if translated.transient or conn.closed else None
