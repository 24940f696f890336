"""A store to test: connections of its own, a session, and short words for what a worker does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib import resources
from typing import Any, TypeVar
from uuid import UUID, uuid4

import attrs
import psycopg

from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.postgres import claims, entries, workers
from flowgen.postgres.database import Op, Schema, connect, run
from flowgen.postgres.offset_clock import offset_clock
from flowgen.postgres.rows import (
    Claimed,
    ClaimedRun,
    FlushBatch,
    FlushResult,
    NewRun,
    RunAction,
    RunUpdate,
    Session,
)

T = TypeVar("T")
LEASE = timedelta(seconds=60)


@attrs.define
class Store:
    """One database; `conn` is an autocommit connection, `session` a registered worker that knows `flow` and `job`."""

    url: str
    schema: Schema
    conn: psycopg.Connection[Any]
    opened: list[psycopg.Connection[Any]]

    @classmethod
    def open(cls, url: str, schema: Schema | None = None) -> Store:
        conn = connect(url)
        return cls(url, schema or Schema(), conn, [conn])

    def close(self) -> None:
        for conn in self.opened:
            conn.close()

    def connect(self, *, autocommit: bool = True, statement_timeout: str | None = None) -> psycopg.Connection[Any]:
        conn = connect(self.url, autocommit=autocommit)
        self.opened.append(conn)
        if statement_timeout:
            conn.execute(f"SET statement_timeout = '{statement_timeout}'")
            if not autocommit:
                conn.commit()
        return conn

    def run(self, op: Op[T], conn: psycopg.Connection[Any] | None = None) -> T:
        return run(conn or self.conn, op, self.schema)

    def sql(self, text: str, *args: Any, conn: psycopg.Connection[Any] | None = None) -> list[Any]:
        cursor = (conn or self.conn).execute(self.schema.render(text, beside_parameters=bool(args)), args or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, text: str, *args: Any) -> Any:
        rows = self.sql(text, *args)
        assert len(rows) == 1, rows
        return rows[0][0] if len(rows[0]) == 1 else rows[0]

    # --- what a worker does

    def register(self, *names: str, lease: timedelta = LEASE, queues: list[str] | None = None) -> Session:
        definitions = names or ("flow", "job")
        return self.run(workers.register(uuid4(), lease=lease, definitions=definitions, queues=queues)).session

    def start(self, name: str = "flow", *, queue: str = "default", priority: int = 0, input: str = "{}") -> UUID:
        run_id = uuid4()
        self.sql(
            "INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, priority, input, status, due_at)"
            " VALUES (%s, {schema}.clock(), %s, 'workflow', %s, %s, %s, 0, {schema}.clock())",
            run_id,
            name,
            queue,
            priority,
            input,
        )
        return run_id

    def claim(self, session: Session, limit: int = 100, **options: Any) -> Claimed:
        return self.run(claims.claim(session, limit, **options))

    def claimed(self, session: Session, run_id: UUID) -> ClaimedRun:
        """Claim everything, and give this one."""
        return next(item for item in self.claim(session, 10_000).runs if item.run_id == run_id)

    def flush(self, session: Session, conn: psycopg.Connection[Any] | None = None, **parts: Any) -> FlushResult:
        return self.run(entries.flush(session, FlushBatch(**parts)), conn)

    def update(self, session: Session, item: ClaimedRun, action: RunAction, **parts: Any) -> FlushResult:
        return self.flush(session, updates=[change(item, action, **parts)])

    # --- what the store holds

    def row(self, run_id: UUID, *columns: str) -> Any:
        return self.one(f"SELECT {', '.join(columns)} FROM {{schema}}.run WHERE run_id = %s", run_id)

    def status(self, run_id: UUID) -> int:
        status: int = self.row(run_id, "status")
        return status

    def indexes(self, run_id: UUID) -> list[int]:
        rows = self.sql("SELECT index FROM {schema}.entry WHERE run_id = %s ORDER BY index", run_id)
        return [index for (index,) in rows]

    def inbox(self, run_id: UUID) -> list[tuple[str, str]]:
        return self.sql("SELECT key, payload FROM {schema}.inbox WHERE run_id = %s ORDER BY id", run_id)

    def advance(self, seconds: float) -> None:
        offset_clock(self.conn, self.schema, seconds)

    # --- rules taken out

    @contextlib.contextmanager
    def without(self, function: str, *changes: tuple[str, str]) -> Iterator[None]:
        """A function of the migrations with some of its text replaced; put back at the end."""
        text = function_text(function)
        changed = text
        for old, new in changes:
            assert old in changed, f"{old!r} is not in {function}"
            changed = changed.replace(old, new)
        self.sql(changed.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        try:
            yield
        finally:
            self.sql(text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))

    @contextlib.contextmanager
    def instead(self, statement: str, *changes: tuple[str, str]) -> Iterator[None]:
        """A statement of sql/ with some of its text replaced, for this store only."""
        text = self.schema.text(statement)
        changed = text.decode()
        for old, new in changes:
            assert old in changed, f"{old!r} is not in {statement}.sql"
            changed = changed.replace(old, new)
        self.schema._texts[statement] = changed.encode()
        try:
            yield
        finally:
            self.schema._texts[statement] = text


def migrations() -> dict[str, str]:
    """The texts of the migrations by file name."""
    folder = resources.files("flowgen.postgres").joinpath("migrations")
    return {file.name: file.read_text() for file in folder.iterdir() if file.name.endswith(".sql")}


def functions() -> dict[str, str]:
    """The functions of the migrations by name, each with its whole CREATE statement."""
    found = {}
    for text in migrations().values():
        for match in re.finditer(
            r"CREATE FUNCTION \{schema\}\.(\w+)\(.*?AS \$function\$.*?\$function\$;", text, re.DOTALL
        ):
            found[match[1]] = match[0]
    return found


def function_text(name: str) -> str:
    return functions()[name]


def outcome(index: int, key: str = "step", value: str = "1", **parts: Any) -> Entry:
    return Entry(index, EntryKind.OUTCOME, key, status=OutcomeKind.VALUE, value=value, **parts)


def change(item: ClaimedRun, action: RunAction, **parts: Any) -> RunUpdate:
    return RunUpdate(run_id=item.run_id, claim=item.claim, action=action, **parts)


def child_of(item: ClaimedRun, name: str = "job", key: str = "child", **parts: Any) -> NewRun:
    given = {"run_id": uuid4(), "kind": "task", "root_id": item.root_id, "depth": item.depth + 1} | parts
    return NewRun(name=name, parent_id=item.run_id, parent_key=key, **given)


def ending(item: ClaimedRun, action: RunAction = RunAction.COMPLETE, **parts: Any) -> RunUpdate:
    """The end of a child, told to its parent."""
    given = {"output": "1"} if action is RunAction.COMPLETE else {"error": '{"type": "X", "message": "x"}'}
    return change(item, action, **(given | {"notify_parent": item.parent_id, "parent_key": item.parent_key} | parts))
