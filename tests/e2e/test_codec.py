"""A codec: what it encodes stands nowhere in plain, and everything goes on as without one."""

from __future__ import annotations

import base64
import hashlib
import itertools
import logging
import secrets
import zlib
from collections.abc import Callable
from typing import Any

import attrs
import psycopg
import pytest
from psycopg import sql

import flowgen
from flowgen import (
    App,
    Checkpoint,
    ChildCancelled,
    ChildFailed,
    CodecError,
    Context,
    Cron,
    Flow,
    Invoke,
    Retry,
    RunExists,
    RunFailed,
    Schedule,
    SetProgress,
    Settings,
    Sleep,
    Start,
    Step,
    StepFailed,
    Transaction,
    Wait,
)
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing import replay
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually

pytestmark = pytest.mark.bad_input("B72")

Db = psycopg.Connection[Any]
SECRET = "Rumpelstiltskin"


@attrs.frozen
class Squeezed:
    """Compresses: the same text is always stored in the same form."""

    name: str = "squeezed"

    def encode(self, text: str) -> str:
        return base64.b64encode(zlib.compress(text.encode())).decode()

    def decode(self, text: str) -> str:
        return zlib.decompress(base64.b64decode(text)).decode()


@attrs.frozen
class ToyCipher:
    """A TOY, to test with: it shows what a cipher does here (a new nonce for each text) and protects nothing."""

    key: bytes = attrs.field(default=b"toy", repr=False)
    name: str = "toy"

    def encode(self, text: str) -> str:
        nonce = secrets.token_bytes(8)
        return base64.b64encode(nonce + self._mixed(nonce, text.encode())).decode()

    def decode(self, text: str) -> str:
        data = base64.b64decode(text)
        return self._mixed(data[:8], data[8:]).decode()

    def _mixed(self, nonce: bytes, data: bytes) -> bytes:
        stream = b""
        while len(stream) < len(data):
            stream += hashlib.sha256(self.key + nonce + len(stream).to_bytes(8)).digest()
        return bytes(one ^ two for one, two in zip(data, stream, strict=False))


@attrs.frozen
class Broken(ToyCipher):
    """Encodes all but what holds this word."""

    word: str = "unspeakable"

    def encode(self, text: str) -> str:
        if self.word in text:
            raise RuntimeError(f"cannot say {text}")
        return super().encode(text)


@pytest.fixture
def connect(app: App, flowgen_database: str) -> Any:
    clients: list[Client] = []

    def connected(codec: Any = None) -> Client:
        clients.append(flowgen.connect(flowgen_database, app=app, settings=Settings(codec=codec)))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


def where(db: Db, word: str) -> list[str]:
    """Tables and columns in which a word stands, of all of the schema."""
    columns = db.execute(
        "select c.table_name, c.column_name from information_schema.columns c join information_schema.tables t using "
        "(table_schema, table_name) where c.table_schema = 'flowgen' and t.table_type = 'BASE TABLE'"
    ).fetchall()
    assert len(columns) > 50
    found = []
    for table, column in columns:
        query = sql.SQL("select count(*) from {}.{} where {}::text ilike %s").format(
            sql.Identifier("flowgen"), sql.Identifier(table), sql.Identifier(column)
        )
        if db.execute(query, (f"%{word}%",)).fetchone() != (0,):
            found.append(f"{table}.{column}")
    return found


def told(what: str) -> str:
    return f"{what} {SECRET}"


def silent(ctx: flowgen.StepContext, what: Any) -> None:
    ctx.heartbeat({what: object()})


def failing(what: str) -> None:
    raise ValueError(f"{what} {SECRET}")


def shaky(ctx: flowgen.StepContext, what: str) -> str:
    ctx.heartbeat(SECRET)
    if ctx.attempt == 1:
        raise ValueError(f"{what} {SECRET}")
    return f"{what} {SECRET}"


def written(conn: Db, what: str) -> str:
    conn.execute("select 1")
    return f"written {what} {SECRET}"


@pytest.fixture
def story(app: App) -> flowgen.Workflow[..., Any, Any]:
    """A workflow that says the secret in every way that there is."""

    @app.task
    def child(word: str) -> str:
        return f"child {word}"

    @app.task(retry=Retry(1))
    def bad_child(word: str) -> str:
        raise ValueError(f"bad child {word}")

    @app.task
    def ping(word: str) -> None:
        return None

    @app.workflow
    def story(ctx: Context, word: str) -> Flow[list[Any]]:
        yield Schedule(ping.call(word), "yearly", cron="0 0 1 1 *")
        yield SetProgress({"at": word})
        saved = list(ctx.accumulated_results or [])
        if not saved:
            saved.append((yield from Step(told, word)))
            yield Checkpoint(1, 1, saved)
        saved.append((yield from Step(shaky, word).opts(retry=Retry(2, initial=0.01, jitter=0))))
        saved.append((yield from Transaction(written, word)))
        saved.append((yield from Invoke(child, word)))
        saved.append((yield from Invoke(child, word).opts(id=f"child of {ctx.run_id}")))
        ref = yield from Start(child, word)
        saved.append((yield from Wait(ref)))
        try:
            yield from Invoke(bad_child, word)
        except ChildFailed as error:
            saved.append(str(error.failure))
        try:
            yield from Step(failing, word).opts(retry=Retry(1))
        except StepFailed as error:
            saved.append(error.failure.message)
        yield Sleep(0.01)
        return saved

    return story


RESULT = [
    f"{SECRET} {SECRET}", f"{SECRET} {SECRET}", f"written {SECRET} {SECRET}", f"child {SECRET}", f"child {SECRET}",
    f"child {SECRET}", f"ValueError: bad child {SECRET}", f"{SECRET} {SECRET}",
]  # fmt: skip


@pytest.mark.parametrize(("codec", "evict"), [(Squeezed(), False), (ToyCipher(), True)], ids=["squeezed", "toy"])
def test_a_secret_stands_nowhere_in_the_database_or_the_logs(
    app: App, story: Any, connect: Callable[..., Client], flowgen_worker: Workers, flowgen_clock: Clock, db: Db,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, codec: Any, evict: bool,
) -> None:  # fmt: skip
    passes = itertools.count()

    @app.task(cron=Cron("0 3 1 1 *", args={"word": SECRET}))
    def scheduled(word: str) -> str:
        return f"scheduled {word}"

    @app.workflow
    def failed(word: str) -> Flow[None]:
        yield Step(told, f"{word} {next(passes)}")
        yield Sleep(0)
        yield Step(silent, word)
        raise KeyError(word)

    if evict:
        monkeypatch.setenv("FLOWGEN_EVICT", "1")
    caplog.set_level(logging.DEBUG)
    client = connect(codec)
    flowgen_worker(app, codec=codec)
    run = client.start(story.call(SECRET).opts(id="one"))
    bad = client.start(failed, SECRET)
    assert run.result(timeout=30) == RESULT
    with pytest.raises(RunFailed, match=SECRET):
        bad.result(timeout=30)
    again = client.start(story.call(SECRET).opts(id="one"))
    assert again.attached
    with pytest.raises(RunExists):
        client.start(story.call("another word").opts(id="one"))
    flowgen_clock.advance("367d")
    eventually(lambda: client.count(RunQuery(name="scheduled", status="completed")))
    eventually(lambda: client.count(RunQuery(name="ping", status="completed")))

    seen = client.get("one")
    assert (seen.input, seen.output, seen.progress) == ({"word": SECRET}, RESULT, {"at": SECRET})
    assert SECRET in str(client.get(bad.uuid).error)
    assert any(item.error is not None and SECRET in item.error.message for item in client.history("one"))
    [ticked] = client.list(RunQuery(name="scheduled"))
    assert ticked.output == f"scheduled {SECRET}"
    assert replay(story, client.trace("one")) == RESULT
    assert where(db, SECRET) == []
    assert SECRET not in caplog.text
    assert ("was recorded with other arguments than Step(...) has now, at" in caplog.text) is evicting()
    assert "its progress cannot be stored: CodecError" in caplog.text


def test_what_is_searched_is_found_without_a_codec(
    story: Any, connect: Callable[..., Client], flowgen_worker: Workers, app: App, db: Db
) -> None:
    flowgen_worker(app)
    assert connect().start(story, SECRET).result(timeout=30) == RESULT
    assert set(where(db, SECRET)) >= {"run.input", "run.output", "run.error", "run.progress", "entry.value"}
    assert "schedule.input" in where(db, SECRET)


def test_a_worker_without_the_codec_parks_what_it_cannot_read_and_one_with_it_goes_on(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    calls: list[str] = []

    def first(word: str) -> str:
        calls.append(word)
        return word

    @app.workflow
    def sleeper(word: str) -> Flow[str]:
        word = yield from Step(first, word)
        yield Sleep("1h")
        return word

    @app.task
    def plain(word: str) -> str:
        return word

    client, blind = connect(Squeezed()), connect()
    # One that a client without the codec started, and a worker with it took up.
    mixed = blind.start(sleeper, "mixed")
    worker = flowgen_worker(app, codec=Squeezed())
    eventually(lambda: mixed.refresh().status == "waiting")
    worker.stop()
    sealed = client.start(sleeper, SECRET)
    flowgen_clock.advance("1h")
    worker = flowgen_worker(app)
    stands = eventually(lambda: (found := mixed.refresh()).status == "parked" and found)
    assert "the result of first cannot be read at $: it is encoded with the codec 'squeezed'" in stands.error.message
    parked = eventually(lambda: (found := client.get(sealed.uuid)).status == "parked" and found)
    assert parked.error is not None
    assert parked.error.type == "CodecError"
    assert "the input of sleeper is encoded with a codec, and this worker has none" in parked.error.message
    assert "undecodable" in client.why(sealed.uuid).sentence
    assert blind.start(plain, "neighbour").result(timeout=10) == "neighbour"  # nobody else suffers
    worker.stop()

    # Another codec does not read it either, and says so in the words that only it can read.
    worker = flowgen_worker(app, codec=ToyCipher())
    client.resume(sealed.uuid)
    other = eventually(lambda: (found := connect(ToyCipher()).get(sealed.uuid)).status == "parked" and found)
    assert "is encoded with the codec 'squeezed', and here is 'toy'" in other.error.message
    assert client.get(sealed.uuid).error.message == "encoded with 'toy'"
    worker.stop()

    flowgen_worker(app, codec=Squeezed())
    client.resume(sealed.uuid)
    client.resume(mixed.uuid)
    assert client.get(mixed.uuid).result(timeout=15) == "mixed"
    eventually(lambda: client.get(sealed.uuid).status == "waiting")
    flowgen_clock.advance("1h")
    assert client.get(sealed.uuid).result(timeout=15) == SECRET
    assert calls == ["mixed", SECRET]


def test_a_client_without_the_codec_sees_what_it_is_encoded_with(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, story: Any, flowgen_database: str
) -> None:
    @app.workflow
    def failed(word: str) -> Flow[None]:
        yield Sleep(0)
        raise KeyError(word)

    flowgen_worker(app, codec=ToyCipher())
    client, blind = connect(ToyCipher()), connect()
    client.start(story.call(SECRET).opts(id="one")).result(timeout=30)
    with pytest.raises(RunFailed):
        client.start(failed.call(SECRET).opts(id="two")).result(timeout=30)
    stranger = flowgen.connect(flowgen_database, app=App())
    said = "encoded with 'toy'"
    with stranger:
        [run] = stranger.list(RunQuery(name="story"))
        assert (run.input, run.output, run.progress) == (said, said, said)
    values = [item for item in blind.history("one") if item.kind == "outcome" and item.outcome == "value"]
    assert {str(item.value) for item in values if item.command != "start"} == {said}
    assert {str(item.error) for item in blind.history("one") if item.error is not None} == {f"CodecError: {said}"}
    assert str(blind.get("two").error) == f"CodecError: {said}"
    assert said in blind.why("two").sentence
    # What is asked for by its type is never a text that stands for it.
    with pytest.raises(CodecError, match="encoded with the codec 'toy'"):
        _ = blind.get("one", story).output
    with pytest.raises(CodecError, match="encoded with the codec 'toy'"):
        blind.result("one")
    with pytest.raises(RunExists, match=said):
        blind.start(story.call(SECRET).opts(id="one"))


def test_a_codec_is_switched_on_while_plain_runs_live(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, db: Db
) -> None:
    calls: list[str] = []

    def said(word: str) -> str:
        calls.append(word)
        return word

    @app.task
    def held(word: str) -> str:
        return word

    @app.workflow
    def long(word: str) -> Flow[list[str]]:
        one = yield from Step(said, word)
        child = yield from Invoke(held, word).opts(id=f"held by {word}", queue="later")
        return [one, child, (yield from Step(said, f"late {word}"))]

    plain = connect()
    first = flowgen_worker(app, queues=["default"])
    run = plain.start(long.call("early").opts(id="long"))
    eventually(lambda: plain.get("held by early").status == "pending" and run.refresh().status == "waiting")
    first.stop()
    flowgen_worker(app, codec=ToyCipher())
    client = connect(ToyCipher())
    assert client.result(run.uuid, timeout=15) == ["early", "early", "late early"]
    assert client.start(long.call("early").opts(id="long")).attached
    assert client.get("long").input == {"word": "early"}
    assert calls == ["early", "late early"]
    assert client.start(long, SECRET).result(timeout=15) == [SECRET, SECRET, f"late {SECRET}"]
    assert sorted(where(db, "early")) == ["entry.value", "run.id", "run.input"]
    assert where(db, SECRET) == ["run.id"]


def test_children_attach_to_a_run_of_their_id_however_it_was_encoded(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, db: Db
) -> None:
    @app.task
    def shared(word: str) -> str:
        return f"shared {word}"

    @app.workflow
    def parent(word: str, id: str) -> Flow[str]:
        return (yield from Invoke(shared, word).opts(id=id))

    client, plain = connect(ToyCipher()), connect()
    client.start(shared.call(SECRET).opts(id="sealed"))
    plain.start(shared.call("open").opts(id="plain"))
    flowgen_worker(app, codec=ToyCipher())
    runs = [client.start(parent, SECRET, "sealed") for _ in range(3)] + [client.start(parent, "open", "plain")]
    assert [run.result(timeout=15) for run in runs] == [f"shared {SECRET}"] * 3 + ["shared open"]
    with pytest.raises(RunFailed, match="the run 'sealed' exists"):
        client.start(parent, "other", "sealed").result(timeout=15)
    assert client.count(RunQuery(name="shared")) == 2
    assert where(db, SECRET) == []


def test_what_a_codec_refuses_fails_its_own_command_or_run_once_and_says_nothing_of_the_value(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, db: Db, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def speak() -> str:
        calls.append("step")
        return "unspeakable"

    def speak_in_anger() -> str:
        calls.append("anger")
        raise ValueError("unspeakable")

    def transact(conn: Db) -> str:
        calls.append("transaction")
        return "unspeakable"

    @app.task
    def listen(word: str) -> str:
        return word

    @app.workflow
    def steps() -> Flow[list[str]]:
        seen = []
        for step in (
            Step(speak).opts(retry=Retry(3, initial=0.01)),
            Step(speak_in_anger).opts(retry=Retry(3, initial=0.01)),
            Transaction(transact).opts(retry=Retry(3, initial=0.01)),
        ):
            try:
                yield step
            except StepFailed as error:
                seen.append(f"{error.failure.type}: {error.failure.message}")
        return seen

    @app.workflow
    def whole() -> Flow[str]:
        yield Sleep(0)
        return "unspeakable"

    @app.workflow
    def parent() -> Flow[str]:
        return (yield from Invoke(listen, "unspeakable"))

    @app.workflow
    def neighbour(word: str) -> Flow[str]:
        return (yield from Step(str, word))

    caplog.set_level(logging.DEBUG)
    client = connect(Broken())
    flowgen_worker(app, codec=Broken())
    runs = [client.start(each) for each in (whole, parent)]
    others = [client.start(neighbour, f"{n}") for n in range(20)]
    told = client.start(steps).result(timeout=15)
    assert all("CodecError: what is recorded of " in each for each in told)
    assert all("cannot be encoded: the codec 'toy' raised RuntimeError" in each for each in told)
    assert calls == ["step", "anger", "transaction"]
    for run in runs:
        with pytest.raises(RunFailed, match="cannot be encoded: the codec 'toy' raised RuntimeError") as raised:
            run.result(timeout=15)
        assert raised.value.failure.type == "CodecError"
    assert [run.result(timeout=15) for run in others] == [f"{n}" for n in range(20)]
    with pytest.raises(CodecError, match="the input of listen cannot be encoded: the codec 'toy' raised RuntimeError"):
        client.start(listen, "unspeakable")
    assert where(db, "unspeakable") == []
    assert "unspeakable" not in caplog.text


def test_a_run_that_is_retried_hears_of_children_that_ended_meanwhile(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers
) -> None:
    @app.workflow
    def child(word: str) -> Flow[str]:
        yield Sleep("1h")
        return word

    @app.workflow(deadline=1)
    def parent(word: str) -> Flow[str]:
        ref = yield from Start(child, word)
        try:
            return (yield from Wait(ref))
        except ChildCancelled:
            return f"cancelled {word}"

    client = connect(ToyCipher())
    flowgen_worker(app, codec=ToyCipher())
    run = client.start(parent, SECRET)
    with pytest.raises(RunFailed, match="deadline"):
        run.result(timeout=20)
    eventually(lambda: client.count(RunQuery(name="child", status="cancelled")))
    client.retry(run.uuid)
    assert run.result(timeout=20) == f"cancelled {SECRET}"


def test_the_limit_of_a_payload_holds_for_what_is_stored_too(
    app: App, connect: Callable[..., Client], flowgen_worker: Workers, flowgen_database: str
) -> None:
    @app.task
    def long(count: int) -> str:
        return "x" * count

    flowgen_worker(app, codec=ToyCipher(), max_payload=2000)
    client = connect(ToyCipher())
    assert len(client.start(long, 1000).result(timeout=15)) == 1000
    with pytest.raises(RunFailed, match=r"encoded with 'toy', is \d+ bytes of JSON, over the limit of 2000"):
        client.start(long, 1900).result(timeout=15)
