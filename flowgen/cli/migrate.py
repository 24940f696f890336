"""`flowgen migrate`: bring the schema of a database to this code's version, or say what that would take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from flowgen.cli.options import Json, Url
from flowgen.cli.printing import note, show

if TYPE_CHECKING:
    from flowgen.postgres.migrate import SchemaState

__all__ = ["migrate"]


def migrate(
    url: Url = None,
    schema: Annotated[str | None, typer.Option(help="FLOWGEN_SCHEMA, or flowgen, unless given.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: say the versions; 1 unless up to date.")
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Change nothing: print the SQL of a new schema.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the schema to this code's version. Forward only; any number at once; nothing to do is fine."""
    from flowgen.core.settings import Settings
    from flowgen.postgres import migrate as migrations
    from flowgen.postgres.database import Schema, connect
    from flowgen.postgres.embedded import default_url
    from flowgen.postgres.preflight import preflight

    if check and sql:
        raise typer.BadParameter("--check and --sql are two questions: give one")
    given = {} if schema is None else {"schema": schema}
    settings = Settings.from_env(os.environ, **given)
    kept = Schema(settings.schema)
    if sql:
        print(migrations.script(kept), end="")
        return
    conn = connect(default_url(url), application_name="flowgen migrate", pooler=settings.pooler)
    try:
        preflight(conn, kept)
        before = migrations.check(conn, kept)
        if check:
            _show(kept.name, before, as_json=as_json)
            if before.kind != "current":
                raise typer.Exit(1)
            return
        migrations.migrate(conn, kept)
        after = migrations.check(conn, kept)
    finally:
        conn.close()
    if before != after:
        note(f"the schema {kept.name} was at version {before.found}, it is at {after.found} now")
    _show(kept.name, after, as_json=as_json)


def _show(name: str, state: SchemaState, *, as_json: bool) -> None:
    facts = attrs.asdict(state)
    show({"schema": name, "state": facts.pop("kind"), **facts}, as_json=as_json)
