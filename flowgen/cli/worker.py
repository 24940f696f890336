"""`flowgen worker`: import the module that defines workflows and tasks, and run what is due."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgen.cli.options import Url

if TYPE_CHECKING:
    from flowgen.app import App

__all__ = ["find_app", "work"]


def work(
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE[:APP]", help="What to import, such as shop or shop:app; without APP, flowgen's own."
        ),
    ],
    url: Url = None,
    queue: Annotated[
        list[str] | None, typer.Option(help="Serve this queue; repeat for several. All unless given.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Function calls at a time, in each process.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
    drain: Annotated[bool, typer.Option("--drain", help="End as soon as nothing is due.")] = False,
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring the schema up to date first.")] = False,
) -> None:
    """Run what is due, until SIGTERM or Ctrl-C; what runs then may come to its end. Settings come from FLOWGEN_*."""
    import logging

    import flowgen
    from flowgen.core.settings import Settings

    settings = Settings.from_env(os.environ)
    app = find_app(module)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    flowgen.run(
        url,
        app=app,
        queues=queue or None,
        concurrency=concurrency,
        processes=processes,
        drain=drain,
        migrate=migrate,
        settings=settings,
    )


def find_app(target: str) -> App:
    """Import `module` or `module:app`; the App that its definitions are in. The working folder is looked in first."""
    from flowgen.app import App, app

    module, _, attribute = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there and imports something that is not
        raise typer.BadParameter(
            f"there is no module {module} in {os.getcwd()} or where Python looks{_meant(module)}"
        ) from None
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{module!r} is not the name of a module: {error}") from None
    if not attribute:
        return _default(module, vars(imported), app)
    found: object = imported
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, App):
        raise typer.BadParameter(f"{target} is {found!r}, not an App{_offer(module, vars(imported))}")
    return found


def _default(module: str, names: dict[str, Any], app: App) -> App:
    if app.definitions:
        return app
    raise typer.BadParameter(
        f"{module} defines no workflow and no task with flowgen's own decorators{_offer(module, names)}"
    )


def _offer(module: str, names: dict[str, Any]) -> str:
    from flowgen.app import App

    found = [f"{module}:{name}" for name, value in names.items() if isinstance(value, App) and value.definitions]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _meant(module: str) -> str:
    path = module.removesuffix(".py").strip("./").replace("/", ".")
    return f"; did you mean {path}?" if path != module and path else ""
