"""What commands print: facts as a table for people or as JSON for programs, on stdout. Everything else is stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["note", "show"]


def show(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print facts by name. Values are JSON or have a text."""
    if as_json:
        print(json.dumps(facts, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        shown = "-" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)
        table.add_row(Text(name, style="dim"), Text(shown, overflow="fold"))
    # A line that is cut or folded for a pipe could not be read by a program.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def note(message: str) -> None:
    """Say on stderr what is done."""
    print(f"flowgen: {message}", file=sys.stderr)
