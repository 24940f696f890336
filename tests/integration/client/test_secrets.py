"""A password of the URL is in no log, error, traceback, process list or table, whatever fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

import flowgen
from flowgen import DatabaseError, Settings
from flowgen.client.aio import connect_async
from flowgen.client.sync import connect
from tests.waiting import eventually

SECRET = "hunter2/&@:% x"
PARTS = ["hunter2", quote(SECRET, safe="")]

PROGRAM = """
import logging, os, sys, threading
import flowgen
from flowgen import Flow, Settings, Sleep, Step, task, workflow

logging.basicConfig(level=logging.DEBUG)

@task
def charge(n: int) -> int:
    return n

@workflow
def checkout(n: int) -> Flow[int]:
    n = yield from Step(charge, n)
    yield Sleep(0.2)
    return n

if __name__ == "__main__":
    flowgen.run(processes=2, settings=Settings(lease=2, poll=0.1))
"""

BROKEN = """
import flowgen
from program import *
logging.basicConfig(level=logging.DEBUG)
flowgen.connect(os.environ["BROKEN"])
"""


def with_secret(url: str) -> str:
    given = conninfo_to_dict(url)
    host = quote(str(given["host"]), safe="")
    secret = quote(SECRET, safe="")
    return f"postgresql://{given['user']}:{secret}@/{given['dbname']}?host={host}&port={given['port']}"


def silent(text: str) -> None:
    for part in PARTS:
        assert part not in text


def tree(pid: int) -> list[str]:
    """The command lines of a process and of all below it."""
    found = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def run(folder: Path, *command: str, **env: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWGEN_")}
    said = subprocess.run(
        [sys.executable, *command], cwd=folder, env={**kept, **env}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return said.stdout + said.stderr


@pytest.mark.bad_input("B68")
@pytest.mark.needs_session("its worker is a program with settings of its own")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the process list is read from /proc")
def test_a_worker_that_loses_everything_tells_no_password(
    flowgen_database: str, db: psycopg.Connection[Any], tmp_path: Path
) -> None:
    url = with_secret(flowgen_database)
    (tmp_path / "program.py").write_text(PROGRAM)
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLOWGEN_")}
    with (tmp_path / "said").open("w+") as said:
        worker = subprocess.Popen(
            [sys.executable, "program.py"], cwd=tmp_path, env={**env, "FLOWGEN_URL": url, "PYTHONPATH": os.getcwd()},
            stdout=said, stderr=said,
        )  # fmt: skip
        try:
            live = "SELECT count(*) FROM flowgen.worker WHERE NOT dead"
            eventually(lambda: db.execute(live).fetchone() == (2,), timeout=30)
            with connect(url, settings=Settings()) as client:
                runs = client.start_many(flowgen.call("checkout", n=n) for n in range(20))
                for _ in range(3):
                    db.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND application_name ~ '^flow'"
                    )
                assert [run.result(timeout=60) for run in runs] == list(range(20))
                silent(repr(client) + repr(client._pool) + repr(client._operations))
            for line in tree(worker.pid):
                silent(line)
        finally:
            worker.terminate()
            worker.wait(30)
        said.seek(0)
        text = said.read()
    assert "trying again" in text or "DEBUG" in text
    silent(text)
    for (table,) in db.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'flowgen'"
    ):
        silent(str(db.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()))
    sessions = "SELECT application_name, query FROM pg_stat_activity WHERE datname = current_database()"
    silent(str(db.execute(sessions).fetchall()))


@pytest.mark.bad_input("B68")
def test_the_command_line_and_a_traceback_tell_no_password(flowgen_database: str, tmp_path: Path) -> None:
    cli = ("-c", "from flowgen.cli.main import main; main()")
    url = with_secret(flowgen_database)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text(BROKEN)
    gone = url.replace("/flowgen_test", "/no_such").replace(
        f"@/{url.partition('@/')[2].partition('?')[0]}", "@/nowhere"
    )
    for said in (
        run(tmp_path, *cli, "migrate", "--check", FLOWGEN_URL=url),
        run(tmp_path, *cli, "migrate", "--check", "--url", gone),
        run(tmp_path, *cli, "worker", "program", "--drain", FLOWGEN_URL=url),
        run(tmp_path, "broken.py", BROKEN=gone, PYTHONPATH=os.getcwd()),
    ):
        assert said
        silent(said)


URLS = [
    "postgresql://ann:hunter2@127.0.0.1:1/x",
    "postgresql://ann:hunter2%2F@127.0.0.1:1/x?connect_timeout=hunter2",
    "postgresql://ann:hun@hunter2@127.0.0.1:1/x",
    "postgresql://ann:1/hunter2@127.0.0.1:1/x",
    "postgresql://ann:hunter2/a@127.0.0.1:1/x",
    "postgresql://ann:hunter2 a@127.0.0.1:1/x",
    "postgresql://ann:hunter2%zz@127.0.0.1:1/x",
    "postgresql://ann:a?hunter2@127.0.0.1:1/x",
    "postgresql://ann:a#hunter2@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?password=hunter2",
    "postgresql://127.0.0.1:1/x?pasword=hunter2",
    "host=127.0.0.1 port=1 password=hunter2",
    "host=127.0.0.1 port=1 password=a hunter2",
    "host=127.0.0.1 port=1 password='a hunter2",
    "host=127.0.0.1 port=1 pasword=hunter2",
    "hunter2",
]


@pytest.mark.bad_input("B68")
@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_wrong_tells_no_part_of_its_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def opened() -> None:
        await connect_async(url)

    for attempt in (lambda: connect(url), lambda: asyncio.run(opened()), lambda: flowgen.worker(url).start()):
        with pytest.raises(DatabaseError) as refused:
            attempt()
        assert "hunter2" not in str(refused.value)
        lines = [frame.line for frame in traceback.extract_tb(refused.value.__traceback__)]
        shown = "".join(traceback.format_exception(refused.value))
        for line in filter(None, lines):  # a line of this file, which names it
            shown = shown.replace(line, "")
        assert "hunter2" not in shown
    assert "hunter2" not in caplog.text
