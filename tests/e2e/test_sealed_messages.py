"""Signals and completion tokens with a codec: what they hold stands nowhere in plain, and is read as without one."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    CodecError,
    CompletionToken,
    Context,
    Flow,
    Settings,
    Signal,
    StepFailed,
    Wait,
    WaitFailed,
    WaitSignal,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

pytestmark = pytest.mark.bad_input("B72")

Db = psycopg.Connection[Any]
SECRET = "Rumpelstiltskin"


class Rot13:
    """A TOY, to test with. It refuses what says so."""

    name = "rot13"

    def encode(self, text: str) -> str:
        if "refused" in text:
            raise ValueError(text)
        return text.translate(ROT)

    def decode(self, text: str) -> str:
        return text.translate(ROT)


SMALL = "abcdefghijklmnopqrstuvwxyz"
ROT = str.maketrans(SMALL + SMALL.upper(), SMALL[13:] + SMALL[:13] + SMALL.upper()[13:] + SMALL.upper()[:13])


def stored(db: Db) -> str:
    rows = db.execute("select payload from flowgen.inbox union all select value from flowgen.entry").fetchall()
    return " ".join(str(row[0]) for row in rows)


def test_what_messages_hold_stands_nowhere_in_plain(
    app: App, flowgen_database: str, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def reads(ctx: Context) -> Flow[list[Any]]:
        yield Signal(ctx.run_id, "own", {"name": SECRET})
        token = yield from CompletionToken(str)
        failed = yield from CompletionToken()
        said: list[Any] = [(yield from WaitSignal("own")), (yield from WaitSignal("theirs", str))]
        said += [(yield from WaitSignal("sql")), (yield from Wait(token))]
        try:
            yield from Wait(failed)
        except WaitFailed as error:
            said.append(error.failure.message)
        return said

    settings = Settings(codec=Rot13())
    with flowgen.connect(flowgen_database, app=app, settings=settings) as client:
        run = client.start(reads)
        client.signal(run.id, "theirs", SECRET)
        assert SECRET not in stored(db)
        flowgen_worker(app, codec=Rot13())
        texts = [eventually(lambda key=key: token_of(client, run.id, key)) for key in ("token", "token#2")]
        client.complete(texts[0], SECRET)
        client.fail(texts[1], f"no {SECRET}")
        assert SECRET not in stored(db)
        db.execute("select flowgen.signal(%s, 'sql', '{\"in\": \"plain\"}')", (str(run.uuid),))
        assert run.result(timeout=20) == [{"name": SECRET}, SECRET, {"in": "plain"}, SECRET, f"no {SECRET}"]
        assert SECRET not in stored(db)


def token_of(client: Client, run: str, key: str) -> str | None:
    found = [item.value["text"] for item in client.history(run) if item.path == key and item.kind == "outcome"]
    return found[0] if found else None


def test_a_worker_without_the_codec_parks_the_run_and_loses_nothing(
    app: App, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def reads() -> Flow[str]:
        return (yield from WaitSignal("name", str))

    workers = flowgen_worker(app)
    run = flowgen_client.start(reads)
    with flowgen.connect(flowgen_database, app=app, settings=Settings(codec=Rot13())) as client:
        client.signal(run.id, "name", SECRET)
    eventually(lambda: run.refresh().status == "parked")
    error = run.refresh().error
    assert error is not None
    assert "the signal name is encoded with the codec 'rot13', and this worker cannot read it" in str(error)
    workers.stop()
    flowgen_worker(app, codec=Rot13())
    flowgen_client.resume(run.id)
    with flowgen.connect(flowgen_database, app=app, settings=Settings(codec=Rot13())) as client:
        assert client.result(run.id, timeout=20) == SECRET


def test_what_the_codec_refuses_is_not_sent(app: App, flowgen_database: str, flowgen_worker: Workers, db: Db) -> None:
    @app.workflow
    def sends(ctx: Context) -> Flow[str]:
        try:
            yield Signal(ctx.run_id, "own", "refused")
        except StepFailed as error:
            return str(error)
        return ""

    flowgen_worker(app, codec=Rot13())
    with flowgen.connect(flowgen_database, app=app, settings=Settings(codec=Rot13())) as client:
        run = client.start(sends)
        assert run.result(timeout=20) == (
            "send:own was not sent: the payload of the signal own cannot be encoded: "
            "the codec 'rot13' raised ValueError"
        )
        with pytest.raises(CodecError, match="the payload of the signal go cannot be encoded"):
            client.signal(run.id, "go", "refused")
