"""The environment that the suite is run in, by variables; `make environments` runs the suites that it is made for.

    FLOWGEN_TEST_HOSTILE=1            each test's database has hostile settings, and objects that shadow PostgreSQL's
    FLOWGEN_TEST_POOLER=pgbouncer     each test's database is reached through a pgbouncer in transaction mode
    FLOWGEN_TEST_LOSSY=0.1            this share of what workers ask is lost: the request, or its answer

A test that needs a session of its own says so with `@pytest.mark.needs_session`, and is skipped behind a pooler; one
that counts what is asked, with `@pytest.mark.needs_answers`, and is skipped in a lossy environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from flowgen.core.settings import Settings
from tests.environments import hostile
from tests.environments.lossy import break_links
from tests.environments.pgbouncer import Pooler, missing

HOSTILE = bool(os.environ.get("FLOWGEN_TEST_HOSTILE"))
POOLER = os.environ.get("FLOWGEN_TEST_POOLER")
LOSSY = float(os.environ.get("FLOWGEN_TEST_LOSSY") or 0)


def pytest_configure(config: pytest.Config) -> None:
    if POOLER not in (None, "", "pgbouncer"):
        raise pytest.UsageError(f"FLOWGEN_TEST_POOLER is {POOLER!r}: give pgbouncer")
    if LOSSY:
        break_links(LOSSY, seed=1)
    if POOLER:
        # What every Settings of a test says when it says nothing of a pooler.
        defaults = Settings.__init__.__kwdefaults__
        assert defaults is not None
        defaults["pooler"] = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("needs_session") if POOLER else ():
            item.add_marker(pytest.mark.skip(reason=f"behind a pooler: {mark.args[0]}"))
        for mark in item.iter_markers("needs_answers") if LOSSY else ():
            item.add_marker(pytest.mark.skip(reason=f"with answers that are lost: {mark.args[0]}"))


@pytest.fixture(scope="session")
def _pooler(flowgen_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooler | None]:
    if not POOLER:
        yield None
        return
    if missing():
        pytest.skip(missing())
    with Pooler(flowgen_server_url) as pooler:
        yield pooler


@pytest.fixture
def direct_database(flowgen_database: str, _pooler: Pooler | None) -> str:
    """The URL of the test's database without the pooler, for a test's own looks at it."""
    return flowgen_database if _pooler is None else _pooler.behind(flowgen_database)


@pytest.fixture
def flowgen_database(flowgen_database: str, _pooler: Pooler | None) -> str:
    """The plugin's database, in the environment that is asked for."""
    if HOSTILE:
        with psycopg.connect(flowgen_database, autocommit=True) as conn:
            hostile.disturb(conn, exact=True, **hostile.MILD)
    return flowgen_database if _pooler is None else _pooler.before(flowgen_database)
