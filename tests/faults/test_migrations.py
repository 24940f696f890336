"""A migration that is killed half way, and many at once."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from flowgen.postgres.database import Schema
from flowgen.postgres.migrate import check, migrate_url
from flowgen.testing.plugin import _created, _url_of
from tests.faults.enumeration import Forks


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def empty(flowgen_server_url: str, flowgen_database: str) -> Iterator[str]:
    """The URL of a database without the schema."""
    found = re.search(r"flowgen_test_\w+", flowgen_database)
    assert found is not None
    name = f"{found[0]}_empty"
    with _created(flowgen_server_url, name):
        yield _url_of(flowgen_server_url, name)


def version(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as conn:
        return check(conn, Schema()).found


@pytest.mark.fault("F67")
@pytest.mark.parametrize("nth", [1, 3])
def test_a_migration_that_was_killed_half_way_is_done_again(forks: Forks, empty: str, tmp_path: Path, nth: int) -> None:
    fork = forks.start(url=empty, migrate=True, failpoints=f"migrate.mid:{nth}=kill", log=str(tmp_path / "log"))
    assert fork.ended() == -signal.SIGKILL
    assert version(empty) == nth - 1
    migrate_url(empty)
    with psycopg.connect(empty, autocommit=True) as conn:
        assert check(conn, Schema()).kind == "current"
        assert conn.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


@pytest.mark.fault("F67")
def test_of_ten_migrators_at_once_one_does_each_version(forks: Forks, empty: str, tmp_path: Path) -> None:
    started = [forks.start(url=empty, migrate=True, log=str(tmp_path / f"log{place}")) for place in range(10)]
    assert [fork.ended() for fork in started] == [0] * 10, "\n".join(fork.log.read_text() for fork in started)
    with psycopg.connect(empty, autocommit=True) as conn:
        state = check(conn, Schema())
        assert state.kind == "current"
        assert conn.execute("SELECT count(*), max(version) FROM flowgen.migration").fetchone() == (
            state.expected,
            state.expected,
        )
