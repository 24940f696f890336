"""`flowgen db`: the embedded server of this project."""

from __future__ import annotations

from typing import Annotated, Literal

import attrs
import typer

from flowgen.cli.options import Json
from flowgen.cli.printing import note, show

__all__ = ["commands"]

commands = typer.Typer(
    help="The embedded server: a PostgreSQL of this project, in the folder .flowgen.", no_args_is_help=True
)


@commands.command()
def start(as_json: Json = False) -> None:
    """Start it, unless it runs."""
    from flowgen.postgres import embedded

    embedded.ensure()
    _status(as_json)


@commands.command()
def stop(
    mode: Annotated[
        Literal["smart", "fast", "immediate"],
        typer.Option(help="smart waits for clients; immediate leaves a recovery."),
    ] = "fast",
) -> None:
    """Stop it. The data stays."""
    from flowgen.postgres import embedded

    note("stopped" if embedded.stop(mode=mode) else "it was not running")


@commands.command()
def status(as_json: Json = False) -> None:
    """Say whether it runs, and where; 1 when it does not."""
    if not _status(as_json):
        raise typer.Exit(1)


@commands.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete its data. It must be stopped."""
    from flowgen.postgres import embedded

    folder = embedded.status().folder
    if not yes:
        typer.confirm(f"Delete all data of {folder}?", abort=True, err=True)
    embedded.reset()
    note(f"the data of {folder} is deleted")


@commands.command()
def url() -> None:
    """Print its URL, as in: psql "$(flowgen db url)". It is started unless it runs."""
    from flowgen.postgres import embedded

    print(embedded.ensure())


@commands.command()
def log() -> None:
    """Print the end of its log."""
    from flowgen.postgres import embedded

    print(embedded.server_log(), end="")


def _status(as_json: bool) -> bool:
    from flowgen.postgres import embedded

    found = embedded.status()
    show(attrs.asdict(found), as_json=as_json)
    return found.running
