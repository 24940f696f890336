"""Whose error is it: the user's function's, or the connection's that it was given."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from flowgen.errors import DatabaseError, DefinitionError, FlowgenError
from flowgen.postgres.database import translate

__all__ = ["misuse", "trouble"]


def trouble(conn: Any, error: BaseException) -> DatabaseError | None:
    """The database's trouble behind an error of a function that used `conn`; None when the error is the function's."""
    if not isinstance(error, psycopg.Error):
        return None
    translated = translate(error)
    return translated if translated.transient or conn.closed else None


def misuse(conn: Any) -> FlowgenError | None:
    """What a function that has ended made of its connection, when its outcome cannot be committed there any more."""
    if conn.closed and not conn.broken:
        return DefinitionError(
            "The function of a Transaction closed its connection, as `with conn:` does at its end after a COMMIT; its "
            "writes and its outcome have to be one commit: leave both to flowgen"
        )
    if conn.info.transaction_status == TransactionStatus.INERROR:
        return DatabaseError(
            "The function of a Transaction caught the error of a statement and went on, but the transaction is aborted "
            "and nothing of it can be committed: let the error pass, or put the statement into a savepoint, "
            "`with conn.transaction():`",
            sqlstate="25P02",
        )
    return None
