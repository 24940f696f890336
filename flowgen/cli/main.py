"""The entry point `flowgen`: runs a command, and makes of what it raises a line on stderr and an exit code.

    0  done
    1  it failed, or the answer to a question (`migrate --check`, `db status`) is no
    2  the command line is wrong

It imports nothing that may be missing before it can say how to get it, and prints no password, whoever wrote it.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from typing import NoReturn

from flowgen.errors import FlowgenError

__all__ = ["FAILURE", "main"]

FAILURE = 1


def main() -> NoReturn:
    """Run the command line of `sys.argv` and exit."""
    for each in ("typer", "rich"):
        if find_spec(each) is None:
            _fail(f'the command line needs {each}. Install it with: pip install "flowgen[cli]"')
    import typer

    from flowgen.cli.commands import commands

    try:
        code = commands(prog_name="flowgen", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _fail("aborted")
    except FlowgenError as error:
        _fail(str(error))
    except ImportError as error:
        if "flowgen[" not in str(error):  # one of ours names what to install; a traceback would bury it
            raise
        _fail(str(error))
    except Exception as error:
        # What the parser raises; typer has no public name for it that all its versions know.
        told, code = getattr(error, "format_message", None), getattr(error, "exit_code", FAILURE)
        if told is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(told())
            sys.exit(code)
        where = getattr(error, "ctx", None)
        _fail(told() + (f"\nTry: {where.command_path} --help" if where is not None else ""), code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = FAILURE) -> NoReturn:
    print(f"flowgen: {_redacted(message)}", file=sys.stderr)
    sys.exit(code)


def _redacted(message: str) -> str:
    try:
        from flowgen.postgres.database import redact
    except ImportError:
        return re.sub(r"://\S+", "://***", message)
    return redact(message)
