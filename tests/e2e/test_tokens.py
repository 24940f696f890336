"""Completion tokens: made once, used once, by nobody who has only guessed one."""

from __future__ import annotations

import asyncio
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Checkpoint,
    CompletionToken,
    Context,
    ContinueAsNew,
    Failure,
    Flow,
    Gather,
    Invoke,
    Race,
    Sleep,
    Step,
    Token,
    TokenNotFound,
    TokenUsed,
    Wait,
    WaitFailed,
    WaitTimedOut,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_a_token_gives_its_value_to_each_wait_and_can_be_used_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    given: list[str] = []

    def pass_on(text: str) -> None:
        given.append(text)

    @app.workflow
    def payment() -> Flow[list[Any]]:
        token = yield from CompletionToken(list[int])
        yield from Step(pass_on, str(token))
        return [(yield from Wait(token)), (yield from Wait(token)), str(token), repr(token)]

    flowgen_worker(app, poll=30)
    run = flowgen_client.start(payment)
    eventually(lambda: run.refresh().status == "waiting")
    (text,) = given
    assert text.startswith("flowgen_")
    assert len(text) == 104
    assert str(run.uuid) not in text
    flowgen_client.complete(text, [1, 2])
    one, two, same, shown = run.result(timeout=20)
    assert (one, two, same) == ([1, 2], [1, 2], text)
    assert text not in shown
    for use in (lambda: flowgen_client.complete(text, [3]), lambda: flowgen_client.fail(text, "no")):
        with pytest.raises(TokenUsed, match="this completion token cannot be used: the run that made it has ended"):
            use()


def test_a_token_is_used_by_whoever_is_first(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        token = yield from CompletionToken(int)
        done = yield from Wait(token)
        yield from Wait((yield from CompletionToken()))
        return done

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    text = eventually(lambda: text_of(flowgen_client, run.id))
    flowgen_client.complete(text, 5)
    with pytest.raises(TokenUsed, match="it was used before, and a token can be used once"):
        flowgen_client.complete(text, 6)
    second = eventually(lambda: text_of(flowgen_client, run.id, "token#2"))
    with pytest.raises(TokenUsed, match="it was used before, and a token can be used once"):
        flowgen_client.fail(text, "late")
    flowgen_client.complete(second)
    assert run.result(timeout=20) == 5


def text_of(client: Client, run: str, key: str = "token") -> str | None:
    found = [item.value["text"] for item in client.history(run) if item.path == key and item.kind == "outcome"]
    return found[0] if found else None


def test_what_is_no_token_is_told_nothing(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        return (yield from Wait((yield from CompletionToken(int))))

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    text = eventually(lambda: text_of(flowgen_client, run.id))
    for forged in ("", "x", "flowgen_" + secrets.token_urlsafe(72), text[:-1] + ("A" if text[-1] != "A" else "B")):
        with pytest.raises(TokenNotFound) as seen:
            flowgen_client.complete(forged, 1)
        assert str(seen.value) == "this is no completion token of this database"
    with pytest.raises(flowgen.DefinitionError, match="a completion token is a string, or a Token, not a int"):
        flowgen_client.complete(7)  # type: ignore[arg-type]
    flowgen_client.complete(text, 1)
    assert run.result(timeout=20) == 1


def test_a_token_that_is_failed_and_a_value_that_does_not_fit_fail_the_wait(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def waits() -> Flow[list[str]]:
        said = []
        for _ in range(4):
            token = yield from CompletionToken(int)
            try:
                yield from Wait(token)
            except WaitFailed as error:
                said.append(f"{error.failure.type}: {error.failure.message}")
        return said

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    uses: list[Any] = [
        lambda text: flowgen_client.fail(text, "card declined"),
        lambda text: flowgen_client.fail(text, ValueError("of a webhook")),
        lambda text: flowgen_client.fail(text, Failure("Declined", "by the bank")),
        lambda text: flowgen_client.complete(text, "five"),
    ]
    for place, use in enumerate(uses):
        key = "token" if not place else f"token#{place + 1}"
        use(eventually(lambda key=key: text_of(flowgen_client, run.id, key)))
    assert run.result(timeout=20) == [
        "Failure: card declined",
        "ValueError: of a webhook",
        "Declined: by the bank",
        "CodecError: the value of the token token#4 cannot be read at $: found str, allowed: int",
    ]


def test_a_token_times_out_from_its_making_on(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    late: list[str] = []

    def note(text: str) -> None:
        late.append(text)

    @app.workflow
    def waits() -> Flow[list[str]]:
        said = []
        token = yield from CompletionToken(int, timeout=0.2)
        yield from Step(note, str(token))
        own = yield from CompletionToken(int)
        for each in (Wait(token), Wait(own).opts(timeout=0.1)):
            try:
                yield from each
            except WaitTimedOut as error:
                said.append(str(error))
        won = yield from Race(early=Sleep(0.05), paid=Wait(own))
        yield Wait((yield from CompletionToken()))
        return [*said, won.tag]

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    last = eventually(lambda: text_of(flowgen_client, run.id, "token#3"))
    with pytest.raises(TokenUsed, match="its time has passed"):
        flowgen_client.complete(late[0], 1)
    flowgen_client.complete(last)
    assert run.result(timeout=20) == [
        "the token token was not completed in time",
        "the token token#2 was not completed in time",
        "early",
    ]


def test_a_token_is_an_argument_like_others_and_waits_in_its_own_run_only(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def finish(token: Token[int]) -> None:
        flowgen_client.complete(token, 7)

    @app.workflow
    def elsewhere(token: Token[int]) -> Flow[str]:
        try:
            return str((yield from Wait(token)))
        except WaitFailed as error:
            return error.failure.message

    @app.workflow
    def waits() -> Flow[list[Any]]:
        token = yield from CompletionToken(int)
        refused = yield from Invoke(elsewhere, token)
        _, value = yield from Gather(Step(finish, token), Wait(token))
        return [value, refused]

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    value, refused = run.result(timeout=20)
    assert value == 7
    assert refused == (
        f"the token was made by the run {run.uuid}, and only that run is told: let it wait, and pass on the value"
    )


def test_a_token_is_the_same_after_a_crash_and_completed_meanwhile(program: Program, flowgen_client: Client) -> None:
    program.write("""
def mail(text):
    note(text)
    gate("sent")

@workflow
def waits() -> Flow[list]:
    token = yield from CompletionToken(str)
    yield from Step(mail, str(token))
    return [str(token), (yield from Wait(token))]
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("waits"))
    text = eventually(lambda: program.notes())[0]
    first.kill()
    flowgen_client.complete(text, "while nobody was there")
    program.start()
    program.open("sent")
    assert run.result(timeout=30) == [text, "while nobody was there"]
    assert set(program.notes()) == {text}


def test_a_token_is_waited_for_by_a_later_segment_and_a_later_pass_of_its_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def passes(ctx: Context, token: Token[int] | None) -> Flow[list[int]]:
        if token is None:
            yield ContinueAsNew((yield from CompletionToken(int)))
        assert token is not None
        first = yield from Wait(token).opts(name="early")
        if not ctx.has_checkpoint():
            yield Checkpoint(1)
            yield Sleep(0)
        return [first, (yield from Wait(token))]

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(passes, None)
    eventually(lambda: run.refresh().input["token"] is not None)
    eventually(lambda: run.refresh().status == "waiting")
    text = run.refresh().input["token"]["text"]
    flowgen_client.complete(text, 7)
    assert run.result(timeout=20) == [7, 7]
    with pytest.raises(TokenUsed):
        flowgen_client.complete(text, 8)


def test_a_token_is_completed_in_the_callers_transaction(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        return (yield from Wait((yield from CompletionToken(int))))

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    text = eventually(lambda: text_of(flowgen_client, run.id))
    with psycopg.connect(flowgen_database) as conn:
        flowgen_client.complete(text, 1, conn=conn)
        conn.rollback()
        flowgen_client.complete(text, 2, conn=conn)
        with pytest.raises(TokenUsed):
            flowgen_client.fail(text, "no", conn=conn)
    assert run.result(timeout=20) == 2


def test_the_client_of_asyncio_signals_and_completes(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    @app.workflow
    async def waits() -> list[Any]:
        token = await CompletionToken(int)
        failed = await CompletionToken()
        signal = await flowgen.WaitSignal("go", str)
        try:
            await Wait(failed)
        except WaitFailed as error:
            return [await Wait(token), signal, error.failure.message]
        return []

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    second = eventually(lambda: text_of(flowgen_client, run.id, "token#2"))
    first = text_of(flowgen_client, run.id)
    assert first is not None

    async def tell() -> Any:
        async with flowgen.connect_async(flowgen_database) as client:
            await client.complete(first, 1)
            await client.fail(second, "no")
            async with await psycopg.AsyncConnection.connect(flowgen_database) as conn:
                await client.signal(run.id, "go", "on", conn=conn)
            return await client.result(run.id, timeout=20)

    assert asyncio.run(tell()) == [1, "on", "no"]


def test_no_log_shows_a_token(
    app: App, flowgen_client: Client, flowgen_worker: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    texts: list[str] = []

    @app.workflow(determinism="warn")
    def waits(ctx: Context) -> Flow[None]:
        token = yield from CompletionToken(int)
        texts.append(str(token))
        ctx.logger.info("made %s", repr(token))
        yield from Wait(token)

    with caplog.at_level(logging.DEBUG):
        flowgen_worker(app)
        run = flowgen_client.start(waits)
        text = eventually(lambda: text_of(flowgen_client, run.id))
        flowgen_client.complete(text, 1)
        with pytest.raises(TokenUsed):
            flowgen_client.complete(text, 1)
        run.result(timeout=20)
    assert texts
    assert text not in caplog.text


def test_of_many_who_use_a_token_at_once_one_does(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        return (yield from Wait((yield from CompletionToken(int))))

    flowgen_worker(app)
    runs = [flowgen_client.start(waits) for _ in range(5)]
    texts = [eventually(lambda run=run: text_of(flowgen_client, run.id)) for run in runs]

    def use(place: int, n: int) -> int | None:
        try:
            flowgen_client.complete(texts[place], n)
        except TokenUsed:
            return None
        return n

    with ThreadPoolExecutor(8) as pool:
        used = [list(pool.map(lambda n, place=place: use(place, n), range(8))) for place in range(5)]
    taken = [[n for n in each if n is not None] for each in used]
    assert [len(each) for each in taken] == [1] * 5
    assert [run.result(timeout=20) for run in runs] == [each[0] for each in taken]
