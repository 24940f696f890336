"""What a user's program acts on runs with: one description of each operation, a sync and an async caller of it.

The names here open their files when they are used, so that `import flowgen` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowgen.app import App
from flowgen.client.audit import AuditItem
from flowgen.client.runs import AsyncRun, HistoryItem, Page, Run
from flowgen.core.settings import Settings

if TYPE_CHECKING:
    from flowgen.client.aio import AsyncClient, Connecting
    from flowgen.client.queries import RunQuery
    from flowgen.client.sync import Client
    from flowgen.client.why import Why

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "AuditItem",
    "Client",
    "HistoryItem",
    "Page",
    "Run",
    "RunQuery",
    "Why",
    "connect",
    "connect_async",
]

_PLACES = {"AsyncClient": "aio", "Client": "sync", "RunQuery": "queries", "Why": "why"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"flowgen.client.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def connect(
    url: str | None = None, *, app: App | None = None, migrate: bool = False, settings: Settings | None = None
) -> Client:
    """A client of the database at `url`, else at `FLOWGEN_URL`, else of the embedded server.

    The schema is created when it is missing; an old one on a given URL is a SchemaError unless `migrate`. `app` knows
    the definitions by name (the default one when None), `settings` are those of the environment when None.
    Raises DefinitionError, SchemaError, DatabaseError.
    """
    from flowgen.client import sync  # opened late: it brings psycopg

    return sync.connect(url, app=app, migrate=migrate, settings=settings)


def connect_async(
    url: str | None = None, *, app: App | None = None, migrate: bool = False, settings: Settings | None = None
) -> Connecting:
    """An async client: `async with connect_async(url) as client`, or `client = await connect_async(url)`.

    The parameters and errors are those of `connect`; errors come when it is entered or awaited.
    """
    from flowgen.client import aio  # opened late, as above

    return aio.connect_async(url, app=app, migrate=migrate, settings=settings)
