"""The tree of commands. Each is a file that parses its options, asks another room and prints what that says.

`flowgen --help` must be fast, so what a command needs is imported when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from flowgen.cli import db, migrate, worker

__all__ = ["commands"]

commands = typer.Typer(
    help="Durable execution for Python on PostgreSQL.",
    epilog="Exit codes: 0 done, 1 it failed or the answer is no, 2 the command line is wrong.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"flowgen {version('flowgen')}")
        raise typer.Exit


@commands.callback()
def _flowgen(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


commands.command("worker")(worker.work)
commands.command("migrate")(migrate.migrate)
commands.add_typer(db.commands, name="db")
