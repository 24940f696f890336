"""What a database has to be before anything of ours is looked for in it: version, encoding, settings, rights.

It changes nothing. The invariant: what would break a promise later is refused here, every problem at once, each with
what to do. A server that takes no writes is not refused: it may be one that is about to be promoted.
"""

from __future__ import annotations

from typing import Any

import psycopg

from flowgen.errors import SchemaError
from flowgen.postgres.database import Op, Schema, Statement, run

__all__ = ["preflight"]


def preflight(conn: psycopg.Connection[Any], schema: Schema) -> None:
    """Refuse a server whose version, settings or rights do not do: SchemaError names each problem."""
    run(conn, _preflight(schema), schema)


def _preflight(schema: Schema) -> Op[None]:
    (row,) = yield Statement("preflight")
    problems = [*_broken(row[:5]), *_forbidden(schema.name, row[5:])]
    if problems:
        raise SchemaError("This database cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems))


def _broken(row: tuple[Any, ...]) -> list[str]:
    """Promises that this server would break."""
    version, encoding, isolation, synchronous, conforming = row
    problems = []
    if version < 140000:
        problems.append(f"server version {version // 10000} is older than 14: use PostgreSQL 14 or newer")
    if encoding != "UTF8":
        problems.append(f"the database's encoding is {encoding}, not UTF8: create it with ENCODING 'UTF8'")
    if isolation != "read committed":
        problems.append(
            f"default_transaction_isolation is '{isolation}', not 'read committed': "
            "ALTER ROLE or ALTER DATABASE ... SET default_transaction_isolation"
        )
    if synchronous in {"off", "local"}:
        problems.append(
            f"synchronous_commit is '{synchronous}': a crash or failover would lose acknowledged commits; set it 'on'"
        )
    if conforming != "on":
        problems.append("standard_conforming_strings is off: set it to 'on'")
    return problems


def _forbidden(schema: str, row: tuple[Any, ...]) -> list[str]:
    """Rights that are missing."""
    role, database, may_use, may_create = row
    if may_use is None and not may_create:
        return [
            f"the schema {schema!r} does not exist, and the role {role!r} may not create it: "
            f"GRANT CREATE ON DATABASE {database}, or let a role that may run: flowgen migrate"
        ]
    if may_use is False:
        return [f"the role {role!r} may not use the schema {schema!r}: GRANT USAGE ON SCHEMA, and on what is in it"]
    return []
