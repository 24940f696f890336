"""Which database, and is its schema the one of this code: asked once, before anything else.

It creates a schema that is missing. It upgrades one only where that can surprise nobody (the embedded server) or where
it is told to. The invariant: after `prepared_url` returned, the server's settings and the schema fit this code.
"""

from __future__ import annotations

from flowgen.postgres.answers import awaited
from flowgen.postgres.database import Schema, connect
from flowgen.postgres.embedded import default_url
from flowgen.postgres.migrate import check, migrate_url, require
from flowgen.postgres.migrate import migrate as bring_up
from flowgen.postgres.preflight import preflight

__all__ = ["prepared_url"]


def prepared_url(url: str | None, *, schema: str, migrate: bool = False, pooler: bool = False) -> str:
    """The URL to use: the argument, else `FLOWGEN_URL`, else the embedded server's; its schema is ready.

    Raises SchemaError for a schema that is old (unless `migrate`) or newer, or a server that does not fit;
    DatabaseError when it cannot be reached.
    """
    embedded = False

    def prepare(chosen: str) -> None:
        nonlocal embedded
        embedded = True
        migrate_url(chosen, schema)

    chosen = default_url(url, prepare=prepare)
    if embedded:
        return chosen
    conn = connect(chosen, application_name="flowgen", pooler=pooler)
    try:
        with awaited(conn, chosen, pooler=pooler):
            kept = Schema(schema)
            preflight(conn, kept)
            kind = check(conn, kept).kind
            if kind == "missing" or (kind == "old" and migrate):
                bring_up(conn, kept)
            else:
                require(conn, kept)
    finally:
        conn.close()
    return chosen
