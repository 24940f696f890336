"""A run that passes every failpoint, and the processes that work on it.

`python -m tests.faults.journey` is a parent that forks a worker for each line that it reads, and says which ended how:
a worker is there within milliseconds, as everything is imported already.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import flowgen
from flowgen import (
    App,
    Checkpoint,
    Flow,
    Gather,
    Invoke,
    Retry,
    Schedule,
    Settings,
    Sleep,
    Step,
    StepInterrupted,
    Transaction,
    Unschedule,
    current,
    failpoints,
)
from flowgen.postgres.migrate import migrate_url

LEASE = timedelta(seconds=2)
app = App(name="journey")
_notes: list[str] = []


def note(what: str) -> None:
    """One line in the file of this case; a SIGKILL that follows does not take it back."""
    if _notes:
        file = os.open(_notes[0], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(file, f"{what}\n".encode())
        os.close(file)


def add(a: int, b: int) -> int:
    note("add")
    return a + b


async def add_async(a: int, b: int) -> int:
    note("add_async")
    return a + b


def pay(amount: int) -> int:
    note("pay")
    return amount


def book(conn: Any, amount: int) -> int:
    note("book")
    key = str(current().task_uuid)
    conn.execute("INSERT INTO ledger (run) VALUES (%s)", (key,))
    return amount


@app.task(cron="* * * * * *")
def tick() -> None:
    note("tick")


@app.task
def dynamic() -> None:
    note("dynamic")


@app.workflow
def child(n: int) -> Flow[int]:
    return (yield from Step(add, n, 100).opts(name="in child"))


@app.workflow
def journey(n: int) -> Flow[dict[str, Any]]:
    first = yield from Step(add, n, 1).opts(retry=Retry(3, initial=0.05))
    booked = yield from Transaction(book, n).opts(retry=Retry(3, initial=0.05))
    yield from Schedule(dynamic.call(), "yearly", cron="0 0 1 1 *")
    yield from Sleep(0.1)
    grown = yield from Invoke(child, n)
    try:
        paid: int | str = yield from Step(pay, n).opts(at_most_once=True, retry=Retry(1))
    except StepInterrupted:
        paid = "interrupted"
    both = yield from Gather(Step(add_async, n, 2), Step(add_async, n, 3))
    yield Checkpoint()
    yield from Unschedule(dynamic, "yearly")
    return {"first": first, "booked": booked, "child": grown, "paid": paid, "both": list(both)}


def fits(n: int, result: dict[str, Any]) -> bool:
    """Whether a result is the one that its input has."""
    wanted = {"first": n + 1, "booked": n, "child": n + 100, "both": [n + 2, n + 3]}
    return {**result, "paid": None} == {**wanted, "paid": None} and result["paid"] in (n, "interrupted")


def main() -> None:
    """Fork what each line of standard input asks for, until it ends."""
    children: dict[int, str] = {}
    reading = True
    buffer = b""
    while reading or children:
        ready, _, _ = select.select([0] if reading else [], [], [], 0.02)
        if ready:
            data = os.read(0, 1 << 16)
            reading = bool(data)
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _live(asked)
                children[pid] = asked["case"]
                _say({"case": asked["case"], "pid": pid})
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _say({"case": children.pop(pid), "pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _live(asked: dict[str, Any]) -> None:
    code = 1
    try:
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        logging.basicConfig(stream=os.fdopen(2, "w"), level=logging.INFO)
        failpoints.arm(asked["failpoints"])
        if asked.get("migrate"):
            migrate_url(asked["url"])
        else:
            _notes.append(asked["notes"])
            work(asked["url"])
        code = 0
    except BaseException as error:
        logging.getLogger("journey").exception("ended: %s", type(error).__name__)
    finally:
        sys.stderr.flush()
        os._exit(code)


def work(url: str) -> None:
    settings = Settings(lease=LEASE, heartbeat=LEASE / 5, poll=0.1, grace=5)
    flowgen.run(url, app=app, settings=settings)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
