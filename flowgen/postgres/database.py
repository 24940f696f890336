"""How a statement reaches PostgreSQL: statements and operations as data, one runner for each colour of connection.

    Statement(name, params)                       names sql/<name>.sql; values only as named parameters
    Op[T] = Generator[Request, list[Any], T]      yields requests, is sent rows (tuples), returns its result
    Begin() Commit() Conclude(statement)          requests too: a transaction; Conclude commits with its last statement
    Script(text)                                  a request too: statements of a migration
    run(conn, op, schema) -> T                    await run_async(conn, op, schema) -> T
    connect(url, *, ...) -> Connection            await connect_async(url, *, ...)
    Schema(name)                                  .identifier  .channel  .text(statement name)
    translate(error) -> DatabaseError

It never builds SQL from values, never retries and never holds a connection. A statement outside of Begin and Commit
runs in the caller's transaction, or in its own on an autocommit connection. The invariant: every `psycopg.Error` that
leaves this room is a `DatabaseError` (or the `FlowgenError` that a function of ours asked for), without a password,
and an operation sees it as an exception at its yield, so it can answer it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import resources
from typing import Any, TypeAlias, TypeVar

import attrs

from flowgen.core.names import MAX_SCHEMA, check_schema
from flowgen.errors import DatabaseError, DefinitionError, FlowgenError, LeaseLost, SchemaError

try:
    import psycopg
except ImportError as error:  # psycopg is there, libpq is not
    raise ImportError(
        "psycopg found no libpq on this machine. Install one with: pip install 'flowgen[binary]'"
    ) from error

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

__all__ = [
    "NO_ROOM",
    "NO_WRITES",
    "Begin",
    "Commit",
    "Conclude",
    "Op",
    "Request",
    "Schema",
    "Script",
    "Statement",
    "connect",
    "connect_async",
    "redact",
    "run",
    "run_async",
    "translate",
    "utc",
]

T = TypeVar("T")

FENCED = "FG001"
"""SQLSTATE of a function of ours: the session's lease is over."""
TRANSACTION_LOST = "FG002"
"""SQLSTATE of a function of ours: a Transaction's function ended the transaction by itself."""


@attrs.frozen
class Statement:
    """One statement: the file `sql/<name>.sql`, and its parameters."""

    name: str
    params: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Begin:
    """Open a transaction, unless the caller has one open. The server ends one that is asked nothing for 2 s."""


@attrs.frozen
class Commit:
    """Commit what `Begin` opened; nothing when it opened none."""


@attrs.frozen
class Conclude:
    """Run a statement and COMMIT the open transaction in the same round trip; when it fails nothing is committed."""

    statement: Statement


@attrs.frozen
class Script:
    """Statements without parameters and without a result, as a migration has them; rendered, comments and all."""

    text: str


Request: TypeAlias = Statement | Script | Begin | Commit | Conclude
Op: TypeAlias = Generator[Request, list[Any], T]


def _valid(_: Schema, __: object, name: str) -> None:
    try:
        check_schema(name)
    except DefinitionError as error:
        raise SchemaError(str(error)) from None


@attrs.frozen
class Schema:
    """The schema that holds the tables. Any name that PostgreSQL takes; others raise SchemaError."""

    name: str = attrs.field(default="flowgen", validator=_valid)
    _texts: dict[str, bytes] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @property
    def identifier(self) -> str:
        """The quoted name."""
        return sql.Identifier(self.name).as_string()

    @property
    def channel(self) -> str:
        """The notification channel of this schema."""
        channel = f"flowgen.{self.name}"
        if len(channel.encode()) <= MAX_SCHEMA:
            return channel
        return f"flowgen#{hashlib.sha256(self.name.encode()).hexdigest()[:40]}"

    def render(self, text: str, *, beside_parameters: bool = False) -> str:
        """A script with `{schema}`, `{schema_text}` (a literal) and `{channel}` filled in."""
        parts = {
            "schema": self.identifier,
            "schema_text": sql.Literal(self.name).as_string(),
            "channel": sql.Identifier(self.channel).as_string(),
        }
        if beside_parameters:  # a % in the name is no placeholder
            parts = {key: value.replace("%", "%%") for key, value in parts.items()}
        return re.sub(r"\{(schema|schema_text|channel)\}", lambda match: parts[match[1]], text)

    def text(self, name: str) -> bytes:
        """The statement of `sql/<name>.sql` as it is sent: rendered once, without its comments."""
        text = self._texts.get(name)
        if text is None:
            source = resources.files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
            lines = [line for line in source.splitlines() if not line.lstrip().startswith("--")]
            text = self.render("\n".join(lines), beside_parameters=True).strip().encode()
            self._texts[name] = text
        return text


_BEGIN = b"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'"  # it may have been stopped with its locks


def utc(when: datetime) -> datetime:
    """The same moment in UTC: psycopg gives it in the time zone of the connection, which no history may depend on."""
    return when if when.tzinfo is UTC else when.astimezone(UTC)


def run(conn: psycopg.Connection[Any], op: Op[T], schema: Schema) -> T:
    """Drive an operation on a connection. Raises DatabaseError, or what the operation raises."""
    opened = False
    try:
        request = next(op)
        while True:
            try:
                if isinstance(request, Statement):
                    rows = conn.cursor(binary=True).execute(schema.text(request.name), request.params)
                    result = rows.fetchall() if _has_rows(rows) else []
                elif isinstance(request, Script):
                    conn.execute(schema.render(request.text).encode())
                    result = []
                elif isinstance(request, Begin):
                    result = []
                    if conn.info.transaction_status == TransactionStatus.IDLE:
                        conn.execute(_BEGIN)
                        opened = True
                elif isinstance(request, Commit):
                    result = []
                    if opened:
                        conn.execute("COMMIT")
                        opened = False
                else:
                    result = _conclude(conn, request.statement, schema)
                    opened = False
            except (psycopg.Error, OSError) as error:
                request = op.throw(_raised(error))
            else:
                request = op.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        if opened and not conn.closed:
            with suppress(psycopg.Error):  # it is broken, and what was raised says more
                conn.rollback()


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    # `description` would say so too, by making an object for each column
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _conclude(conn: psycopg.Connection[Any], statement: Statement, schema: Schema) -> list[Any]:
    with conn.pipeline():
        cursor = conn.cursor(binary=True).execute(schema.text(statement.name), statement.params)
        conn.commit()
    return cursor.fetchall()


async def run_async(conn: psycopg.AsyncConnection[Any], op: Op[T], schema: Schema) -> T:
    """Drive an operation on an async connection; the same as `run`."""
    opened = False
    try:
        request = next(op)
        while True:
            try:
                if isinstance(request, Statement):
                    rows = await conn.cursor(binary=True).execute(schema.text(request.name), request.params)
                    result = await rows.fetchall() if _has_rows(rows) else []
                elif isinstance(request, Script):
                    await conn.execute(schema.render(request.text).encode())
                    result = []
                elif isinstance(request, Begin):
                    result = []
                    if conn.info.transaction_status == TransactionStatus.IDLE:
                        await conn.execute(_BEGIN)
                        opened = True
                elif isinstance(request, Commit):
                    result = []
                    if opened:
                        await conn.execute("COMMIT")
                        opened = False
                else:
                    result = await _conclude_async(conn, request.statement, schema)
                    opened = False
            except (psycopg.Error, OSError) as error:
                request = op.throw(_raised(error))
            else:
                request = op.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        if opened and not conn.closed:
            with suppress(psycopg.Error):
                await conn.rollback()


async def _conclude_async(conn: psycopg.AsyncConnection[Any], statement: Statement, schema: Schema) -> list[Any]:
    async with conn.pipeline():
        cursor = await conn.cursor(binary=True).execute(schema.text(statement.name), statement.params)
        await conn.commit()
    return await cursor.fetchall()


# --- connecting ----------------------------------------------------------------------------------------------------

_DEFAULTS: dict[str, str | int] = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # a peer that went away without a word is noticed in about 11 seconds
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11000,
}

_PATH = b"SET search_path = pg_catalog"


def _conninfo(url: str, application_name: str, connect_timeout: int | None = None) -> str:
    given = _read(url)
    defaults = {**_DEFAULTS, "application_name": application_name}
    chosen = {key: value for key, value in defaults.items() if key not in given}
    if connect_timeout is not None:
        chosen["connect_timeout"] = connect_timeout
    return make_conninfo(url, **chosen)


def _read(url: str) -> dict[str, Any]:
    """The parts of a URL or keyword string. A password that is not quoted right would be told as another part."""
    how = "give postgresql://user:password@host/database, the password's @ / : ? # % and spaces as %40 %2F %3A ..."
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        reason = re.sub(r"[\"'].*[\"']", "***", str(error).strip(), flags=re.DOTALL)
        raise DatabaseError(f"The URL of the database cannot be read ({reason}): {how}") from None
    numbers = [str(given.get(name, 0)) for name in ("port", "connect_timeout")]
    names = [str(given.get("host", "")), str(given.get("dbname", "")) if "://" in url else ""]
    if any("@" in name for name in names) or not all(re.fullmatch(r"[-\d, ]*", number) for number in numbers):
        raise DatabaseError(f"The URL of the database names a host, database or number that is none: {how}")
    return given


def connect(
    url: str,
    *,
    application_name: str = "flowgen",
    autocommit: bool = True,
    pooler: bool = False,
    connect_timeout: int | None = None,
) -> psycopg.Connection[Any]:
    """A connection to `url`; what the URL says of keepalives and timeouts goes first.

    `pooler`: behind a transaction-mode pooler, or for a user's function: no prepared statements, and no setting of the
    session; else no object of another schema takes the place of PostgreSQL's own. `connect_timeout`: seconds, whatever
    the URL says. Raises DatabaseError.
    """
    conninfo = _conninfo(url, application_name, connect_timeout)
    conn: psycopg.Connection[Any] | None = None
    try:
        conn = psycopg.connect(conninfo, autocommit=True)
        if not pooler:
            conn.execute(_PATH, prepare=False)
        conn.autocommit = autocommit
    except (psycopg.Error, OSError) as error:
        if conn is not None:
            conn.close()
        raise translate(error) from None  # the original may name the password
    if pooler:
        conn.prepare_threshold = None
    return conn


async def connect_async(
    url: str, *, application_name: str = "flowgen", autocommit: bool = True, pooler: bool = False
) -> psycopg.AsyncConnection[Any]:
    """An async connection to `url`; the same as `connect`."""
    conninfo = _conninfo(url, application_name)
    conn: psycopg.AsyncConnection[Any] | None = None
    try:
        conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        if not pooler:
            await conn.execute(_PATH, prepare=False)
        await conn.set_autocommit(autocommit)
    except BaseException as error:  # also when nobody waits for it any more
        if conn is not None:
            await conn.close()
        if isinstance(error, psycopg.Error | OSError):
            raise translate(error) from None
        raise
    if pooler:
        conn.prepare_threshold = None
    return conn


# --- errors --------------------------------------------------------------------------------------------------------

_TRANSIENT = ("08", "40", "53", "57", "55P03", "25006", "25P03", "25P04")
_STANDBY = "55000"
NO_WRITES, NO_ROOM = "25006", "53300"
"""SQLSTATEs of a server that takes no writes, where another one may, and of one that has no connection left."""
# A connection that was refused comes without its SQLSTATE.
_FULL = re.compile("too many (clients|connections)|remaining connection slots|no more connections allowed")


def redact(text: str) -> str:
    """The same text without the passwords of URLs and keyword strings."""
    text = re.sub(r"(\w+://[^\s/:@]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"""(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)""", r"\1***", text, flags=re.IGNORECASE)


def _own_lack() -> str:
    """What this process can have no more of: libpq does not always say so."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return f": {error.strerror}"
    return ""


def translate(error: psycopg.Error | OSError) -> DatabaseError:
    """What went wrong, once for all rooms: its SQLSTATE, and whether trying again may help."""
    if isinstance(error, OSError):  # this process may open nothing more, for now
        return DatabaseError(str(error), transient=True)
    sqlstate = error.sqlstate
    message = redact(str(error).strip()) or type(error).__name__
    if sqlstate is None and _FULL.search(message):
        sqlstate = NO_ROOM
    if sqlstate is None:
        # no answer from the server: the connection was refused or is gone; InterfaceError: it was closed here
        transient = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        lack = _own_lack() if "no error details" in message else ""
        return DatabaseError(message + lack, transient=transient)
    transient = (
        sqlstate.startswith(_TRANSIENT)
        or (sqlstate == _STANDBY and "recovery" in message)
        # A row of a run changed between a statement's snapshot and its lock, and was checked half old and half new.
        or (sqlstate == "23514" and error.diag.constraint_name == "run_status")
    )
    if sqlstate == NO_WRITES or (sqlstate == _STANDBY and "recovery" in message):
        sqlstate = NO_WRITES
        message = f"This server takes no writes (a standby, or read only): {message}. Connect to the primary"
    elif sqlstate == "42501":
        message = f"The role of the URL lacks a right: {message}. GRANT it, or connect as the owner of the schema"
    return DatabaseError(message, sqlstate=sqlstate, transient=transient)


def _raised(error: psycopg.Error | OSError) -> FlowgenError:
    translated: FlowgenError
    sqlstate = None if isinstance(error, OSError) else error.sqlstate
    if sqlstate == FENCED:
        translated = LeaseLost("The session's lease is over: another worker may go on with its runs")
    elif sqlstate == TRANSACTION_LOST:
        translated = DefinitionError(
            "The function of a Transaction ended the transaction by itself (COMMIT or ROLLBACK); "
            "its writes and its outcome have to be one commit: leave both to flowgen"
        )
    else:
        translated = translate(error)
    translated.__cause__ = error
    return translated
