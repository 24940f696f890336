"""Work that uses every path of a worker, started while something goes wrong, and what has to be so afterwards."""

from __future__ import annotations

import threading
from typing import Any, Self

import psycopg

from flowgen import App, Flow, Gather, Invoke, Sleep, Start, Step, Transaction
from flowgen.client.sync import Client
from flowgen.errors import DatabaseError
from tests.waiting import eventually

Db = psycopg.Connection[Any]


class Traffic:
    """Starts runs, one after the other, for the length of the block.

    Every run knows its result, writes to a ledger in a Transaction, has a child with an author's id and one without,
    waits and fans out. `check` is for after the block: nothing that was acknowledged is lost, nothing was done twice
    where that is promised, and no trouble of the database was taken for an attempt of a function.
    """

    def __init__(self, app: App, client: Client, *, pause: float = 0.05) -> None:
        self._client = client
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._start)
        self._again = threading.Lock()
        self.calls: list[tuple[int, str]] = []
        self.started: list[int] = []
        self.unknown: list[int] = []
        self.work = self._defined(app)

    def _defined(self, app: App) -> Any:
        def noted(n: int, what: str) -> int:
            self.calls.append((n, what))
            return n

        def pay(conn: Db, n: int, what: str) -> int:
            conn.execute("insert into ledger values (%s, %s)", (n, what))
            return n

        @app.task(name="traffic-child")
        def child(n: int) -> int:
            return noted(n, "child")

        @app.workflow(name="traffic")
        def traffic(n: int) -> Flow[list[int]]:
            found = [(yield from Step(noted, n, "first"))]
            found.append((yield from Transaction(pay, n, "paid")))
            found += yield from Gather(
                Step(noted, n, "beside"), Invoke(child, n), Invoke(child, n).opts(id=f"named {n}")
            )
            yield Sleep(0.1)
            yield from Start(child, n)
            found.append((yield from Transaction(pay, n, "paid again")))
            return found

        return traffic

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _start(self) -> None:
        n = 0
        while not self._over.wait(self._pause):
            n += 1
            try:
                self._client.start(self.work.call(n).opts(id=f"traffic {n}"))
                self.started.append(n)
            except DatabaseError:
                self.unknown.append(n)

    def goes_on(self, runs: int = 3, timeout: float = 30) -> None:
        """Until so many more runs were started, and a step was called that nobody had called before."""
        started, called = len(self.started), len(self.calls)
        eventually(lambda: len(self.started) >= started + runs and len(self.calls) > called, timeout)

    def check(self, db: Db, *, timeout: float = 60, again: int = 0) -> None:
        """`again`: how many calls of steps may have been made a second time."""
        assert self.started
        eventually(lambda: db.execute("select count(*) from flowgen.run where status < 7").fetchone() == (0,), timeout)
        found = db.execute("select id, status, output::text from flowgen.run where name = 'traffic'").fetchall()
        ended = {int(id.split()[1]): (status, output) for id, status, output in found}
        assert set(self.started) <= set(ended) <= set(self.started) | set(self.unknown)
        wrong = {n: came for n, came in ended.items() if came != (7, str([n] * 6).replace(" ", ""))}
        assert not wrong
        paid = db.execute("select n, what from ledger order by n, what").fetchall()
        assert paid == [(n, what) for n in sorted(ended) for what in ("paid", "paid again")]
        assert len(self.calls) - len(set(self.calls)) - 2 * len(ended) <= again  # three children make the same note
        assert set(self.calls) == {(n, what) for n in ended for what in ("first", "beside", "child")}
        assert db.execute("select count(*) from flowgen.entry where kind = 2").fetchone() == (0,)


def ledger(db: Db) -> None:
    """The table that the traffic's Transactions write to."""
    db.execute("create table ledger (n int, what text)")
