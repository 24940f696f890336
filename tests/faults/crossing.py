"""Two operations at a time on the runs of one tree, and what must be so afterwards whichever was first."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import attrs
import psycopg

from flowgen.core.entries import Entry, EntryKind
from flowgen.core.ids import uuid_of_id
from flowgen.core.states import Status
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, entries, runs, workers
from flowgen.postgres.children import attach_child
from flowgen.postgres.rows import FlushBatch, NewRun, RunAction, RunUpdate, Session
from tests.integration.postgres.store import Store

Conn = psycopg.Connection[Any]

ENDED = '{"status":"cancelled","error":null}'
NAMES = "root", "waits", "given", "next", "failed", "orphan", "attaches", "also", "paused", "shared"


@attrs.define(eq=False)
class Tree:
    """Runs of one round, in every state that the operations change; their ids, and so the order of locks, are random.

    `root` waits for a time that has come; its children: `waits`, running, the parent of `given`, which runs too;
    `next`, ready; `failed`; `orphan`, of a session that is dead; `attaches` and `also`, running; `paused`;
    `shared`, running, for which others wait too.
    """

    store: Store
    ours: Session
    taker: Session
    dead: Session
    queue: str
    let_go: threading.Event = attrs.field(factory=threading.Event)
    attaching: list[str] = attrs.field(factory=lambda: ["also", "attaches"])
    ids: dict[str, UUID] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = {name: uuid4() for name in NAMES} | {
            name: uuid_of_id("flowgen", f"{self.queue} {name}") for name in ("shared", "fresh")
        }
        running = Status.RUNNING
        rows = [
            ("root", None, Status.WAITING, None),
            ("waits", "root", running, self.ours),
            ("given", "waits", running, self.ours),
            ("next", "root", Status.READY, None),
            ("failed", "root", Status.FAILED, None),
            ("orphan", "root", running, self.dead),
            ("attaches", "root", running, self.ours),
            ("also", "root", running, self.ours),
            ("paused", "root", Status.PAUSED, None),
            ("shared", "root", running, self.ours),
        ]
        given = [
            (
                self.ids[name],
                self.ids[parent] if parent else None,
                name,
                status,
                owner.id if owner else None,
                status != Status.READY,
                f"{self.queue} {name}" if name == "shared" else None,
                self.queue,
            )
            for name, parent, status, owner in rows
        ]
        columns = list(zip(*given, strict=True))
        self.store.sql(
            "INSERT INTO {schema}.run (run_id, parent_id, root_id, parent_key, status, owner, claim, started_at,"
            " finished_at, due_at, id, queue, name, kind, input, created_at)"
            " SELECT g.run, g.parent, %s, g.key, g.status, g.owner, g.begun::int, CASE WHEN g.begun THEN c END,"
            " CASE WHEN g.status = 8 THEN c END, CASE WHEN g.status < 3 OR g.status = 4 THEN c END, g.id, g.queue,"
            " 'job', 'task', '{}', c FROM {schema}.clock() c, unnest(%s::uuid[], %s::uuid[], %s::text[], %s::int[],"
            " %s::uuid[], %s::bool[], %s::text[], %s::text[]) g (run, parent, key, status, owner, begun, id, queue)",
            self.ids["root"],
            *(list(column) for column in columns),
        )

    def patiently(self, once: Callable[[], bool]) -> None:
        """Again when somebody held a lock, as the agents of a worker do; not before the barrier is gone."""
        while True:
            try:
                if once():
                    return
            except DatabaseError as error:
                if error.sqlstate != "55P03":
                    raise
            assert self.let_go.wait(30)

    def flush(self, conn: Conn, *updates: RunUpdate) -> None:
        def once() -> bool:
            nonlocal updates
            result = self.store.run(entries.flush(self.ours, FlushBatch(updates=list(updates))), conn)
            assert not result.fenced
            updates = tuple(update for update in updates if update.run_id in result.skipped)
            return not updates

        self.patiently(once)

    def changes(self, name: str, action: RunAction, **parts: Any) -> RunUpdate:
        return RunUpdate(run_id=self.ids[name], claim=1, action=action, **parts)

    # what is done at once

    def start(self, conn: Conn) -> Any:
        rows = [
            NewRun(run_id=self.ids[name], id=f"{self.queue} {name}", name="job", kind="task", queue=self.queue)
            for name in random.sample(["shared", "fresh"], 2)
        ]
        return self.store.run(runs.start(rows), conn)

    def claim(self, conn: Conn) -> Any:
        taken: list[UUID] = []

        def once() -> bool:
            claimed = self.store.run(claims.claim(self.taker, 5, queues=[self.queue]), conn)
            assert not claimed.fenced
            taken.extend(item.run_id for item in claimed.runs)
            return not claimed.busy

        self.patiently(once)
        return taken

    def complete(self, conn: Conn) -> Any:
        told = {"notify_parent": self.ids["waits"], "parent_key": "given"}
        done = [
            self.changes("given", RunAction.COMPLETE, output="1", **told),
            self.changes("shared", RunAction.COMPLETE, output="2"),
        ]
        self.flush(conn, *done)

    def hang_up(self, conn: Conn) -> Any:
        self.flush(conn, self.changes("waits", RunAction.HANG_UP))

    def cancel(self, conn: Conn) -> Any:
        return self.store.run(runs.cancel(self.ids["root"], "x", error="{}", payload=ENDED), conn)

    def pause(self, conn: Conn) -> Any:
        return self.store.run(runs.pause(self.ids["root"], "x"), conn)

    def resume(self, conn: Conn) -> Any:
        return self.store.run(runs.resume(self.ids["root"]), conn)

    def promote(self, conn: Conn) -> Any:
        return self.store.run(claims.promote(), conn)

    def reap(self, conn: Conn) -> Any:
        return self.store.run(workers.reap(), conn)

    def attach(self, conn: Conn) -> Any:
        parent = {"parent_id": self.ids[self.attaching.pop()], "root_id": self.ids["root"], "queue": self.queue}
        for index, name in enumerate(random.sample(["shared", "fresh"], 2)):
            child = NewRun(
                run_id=self.ids[name], id=f"{self.queue} {name}", name="job", kind="task", parent_key=name, **parent
            )
            entry = Entry(index, EntryKind.CHILD, name)
            attached = self.store.run(attach_child(self.ours, 1, child, [entry], blocks=True), conn)
            assert attached.what in ("started", "attached")

    def retry(self, conn: Conn) -> Any:
        return self.store.run(runs.retry(self.ids["failed"], payload="{}", who=None), conn)

    # what must be so afterwards, whoever was first

    def rows(self) -> dict[str, Any]:
        found = self.store.sql(
            "SELECT r.run_id, r.status, r.request, r.owner, r.claim, r.attempt, r.mail,"
            " ARRAY(SELECT i.key FROM {schema}.inbox i WHERE i.run_id = r.run_id ORDER BY 1),"
            " ARRAY(SELECT e.key FROM {schema}.entry e WHERE e.run_id = r.run_id ORDER BY 1),"
            " (SELECT count(*) FROM {schema}.waiter w WHERE w.run_id = r.run_id)"
            " FROM {schema}.run r WHERE r.run_id = ANY (%s)",
            list(self.ids.values()),
        )
        names = {run_id: name for name, run_id in self.ids.items()}
        return {names[row[0]]: Row(*row[1:]) for row in found}

    def check(self, pair: tuple[str, str], results: tuple[Any, Any]) -> None:
        """No change of either is lost. What was locked elsewhere is done by the next round, as in a worker."""
        for again in set(pair) & {"promote", "reap"}:
            getattr(self, again)(self.store.conn)
        rows = self.rows()
        for row in rows.values():
            assert row.status >= Status.COMPLETED or row.mail == len(row.inbox)
            assert row.status != Status.WAITING or (row.mail == 0 and row.request is None)
        for one in set(pair):
            getattr(self, f"after_{one}", lambda *_: None)(rows, pair, results)

    def after_start(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        created = [results[place].created for place in (0, 1) if pair[place] == "start"]
        assert {"shared", "fresh"} <= rows.keys()
        assert len(created) == 1 or not created[0] & created[1]
        assert all(run_id == self.ids["fresh"] for each in created for run_id in each)

    def after_claim(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        taken = [run_id for place in (0, 1) if pair[place] == "claim" for run_id in results[place]]
        assert len(taken) == len(set(taken))
        for name in (name for name, run_id in self.ids.items() if run_id in taken):
            begun = name not in ("next", "fresh")
            assert (rows[name].status, rows[name].owner, rows[name].claim) == (3, self.taker.id, 1 + begun), name

    def after_complete(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert (rows["given"].status, rows["shared"].status) == (Status.COMPLETED, Status.COMPLETED)
        assert rows["waits"].inbox == ["given"]
        assert rows["shared"].waiters == 0
        if "attach" in pair:
            assert rows["attaches"].inbox == ["shared"]

    def after_hang_up(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert rows["waits"].status != Status.RUNNING or "claim" in pair

    def after_cancel(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        for name, row in rows.items():
            if name != "fresh" and not (name == "failed" and "retry" in pair):
                assert row.status >= Status.COMPLETED or row.request == 1, name

    def after_pause(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        for name, row in rows.items():
            if name != "fresh" and not (name == "failed" and "retry" in pair) and "resume" not in pair:
                assert row.status >= Status.COMPLETED or row.status == Status.PAUSED or row.request, name

    def after_resume(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert rows["paused"].status != Status.PAUSED or "pause" in pair

    def after_promote(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert rows["root"].status != Status.WAITING

    def after_reap(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert rows["orphan"].owner != self.dead.id

    def after_attach(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        for name in ("attaches", "also")[: pair.count("attach")]:
            assert rows[name].entries == ["fresh", "shared"]
        assert rows["shared"].waiters == ("complete" not in pair) * pair.count("attach")

    def after_retry(self, rows: dict[str, Any], pair: tuple[str, str], results: Any) -> None:
        assert (rows["failed"].status != Status.FAILED, rows["failed"].attempt) == (True, 2)
        assert [results[place] for place in (0, 1) if pair[place] == "retry"].count(True) == 1


@attrs.frozen
class Row:
    status: int
    request: int | None
    owner: UUID | None
    claim: int
    attempt: int
    mail: int
    inbox: list[str]
    entries: list[str]
    waiters: int


OPERATIONS = (
    "start", "claim", "complete", "hang_up", "cancel", "pause", "resume", "promote", "reap", "attach", "retry",
)  # fmt: skip
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s) AND wait_event_type = 'Lock'"


class Rounds:
    """Two operations at a time, on connections of their own, and a third session that holds one of the rows."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self.store = store
        self.pool = pool
        self.pair = [store.connect(), store.connect()]
        self.holder = store.connect(autocommit=False)
        self.ours, self.taker = (store.register("job", lease=timedelta(hours=1)) for _ in range(2))

    def play(self, pair: tuple[str, str], queue: str, *, held: str | None) -> None:
        dead = self.store.register("job")
        self.store.sql("UPDATE {schema}.worker SET lease_until = '-infinity' WHERE worker_id = %s", dead.id)
        tree = Tree(self.store, self.ours, self.taker, dead, queue)
        if held is None:
            tree.let_go.set()
        else:
            self.store.sql("SELECT FROM {schema}.run WHERE run_id = %s FOR UPDATE", tree.ids[held], conn=self.holder)
        together = threading.Barrier(2)

        def act(name: str, conn: Conn) -> Any:
            together.wait(30)
            return getattr(tree, name)(conn)

        acting = [self.pool.submit(act, name, conn) for name, conn in zip(pair, self.pair, strict=True)]
        if held is not None:
            self.until_they_stand(acting)
            self.holder.rollback()
            tree.let_go.set()
        try:
            tree.check(pair, (acting[0].result(30), acting[1].result(30)))
        except Exception as error:
            raise AssertionError(f"{pair[0]} and {pair[1]}, while {held} was locked: {error}") from error
        self.store.sql("DELETE FROM {schema}.run WHERE queue = %s", queue)

    def until_they_stand(self, acting: list[Future[Any]]) -> None:
        """Each has ended, waits for a lock, or was told to come again."""
        pids = [conn.info.backend_pid for conn in self.pair]
        end = time.monotonic() + 0.05
        while not all(each.done() for each in acting) and time.monotonic() < end:
            if sum(each.done() for each in acting) + self.store.one(BLOCKED, pids) >= 2:
                return
