"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Json", "Url"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Where PostgreSQL is; FLOWGEN_URL is better, since others can read a command line. The embedded server "
        "when there is neither."
    ),
]
