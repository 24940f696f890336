"""CompletionToken, and Wait for one: recorded once, completed from outside."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode
from typing import Any
from uuid import UUID

from flowgen.core import codec, tokens
from flowgen.core.commands import CompletionToken, Flow, Gather, Token, Wait
from flowgen.core.failures import failure_to_json
from flowgen.errors import CodecError, Failure, WaitFailed, WaitTimedOut
from flowgen.testing.bench import TEST_UUID, Bench

from .running import begun, kinds, replayed, result


def made(bench: Bench, key: str = "token") -> dict[str, Any]:
    found: dict[str, Any] = next(
        json.loads(each.value or "") for each in bench.items if each.key == key and each.status
    )
    return found


def handler() -> Flow[Any]:
    token = yield from CompletionToken(int)
    one, two = yield from Gather(Wait(token), Wait(token))
    return [one, two, str(token)]


def test_a_token_is_signed_with_the_secret_and_recorded_once() -> None:
    bench = begun(handler)
    bench.restart()
    bench.go()
    token = made(bench)
    body = urlsafe_b64decode(token["text"].removeprefix(tokens.PREFIX))
    assert body[:32] == TEST_UUID.bytes + UUID(token["id"]).bytes
    assert body[32:40] == bytes(8)
    assert body[40:] == hmac.digest(b"", body[:40], "sha256")
    assert kinds(bench) == ["OUTCOME"]
    bench.token_used(UUID(token["id"]), tokens.completed("5"))
    assert result(bench) == [5, 5, token["text"]]
    assert len(bench.letters) == 1  # the proof that it was used
    _, decision = replayed(bench)
    assert decision.finish == bench.finish


def test_a_token_of_other_secrets_and_times_has_another_signature() -> None:
    run_id, token_id = UUID(int=1), UUID(int=2)
    bench = begun(handler)
    texts = {
        tokens.written(secret, run_id, token_id, due_at)
        for secret in (b"", b"one", bytes(64), bytes(65))
        for due_at in (None, bench.now)
    }
    assert len({text[-43:] for text in texts}) == 6  # a key is filled up with zeros: two of these are none
    assert {len(text) for text in texts} == {104}


def test_a_failure_from_outside_and_a_value_that_does_not_fit_are_thrown() -> None:
    def careful() -> Flow[Any]:
        said = []
        for _ in range(2):
            token = yield from CompletionToken(int)
            try:
                yield from Wait(token)
            except WaitFailed as error:
                said.append(error.failure.message)
        return said

    bench = begun(careful)
    failure = failure_to_json(Failure("Declined", "by the bank"))
    bench.token_used(UUID(made(bench)["id"]), tokens.failed(failure))
    bench.token_used(UUID(made(bench, "token#2")["id"]), tokens.completed('"x"'))
    assert result(bench) == [
        "by the bank",
        "the value of the token token#2 cannot be read at $: found str, allowed: int",
    ]


def test_the_timeout_is_armed_before_anybody_has_the_token() -> None:
    def waits() -> Flow[Any]:
        token = yield from CompletionToken(timeout=60)
        try:
            yield from Wait(token)
        except WaitTimedOut as error:
            return [str(error), token.due_at]

    bench = begun(waits)
    assert kinds(bench) == ["ARMED", "OUTCOME"]
    due_at = bench.items[0].due_at
    assert due_at is not None
    assert made(bench)["due_at"] == due_at.isoformat()
    assert bench.due_at == due_at
    bench.move_to(due_at)
    assert result(bench) == ["the token token was not completed in time", due_at.isoformat()]


def test_a_token_is_stored_and_read_like_other_values_and_its_repr_hides_the_text() -> None:
    token: Token[int] = Token("token", UUID(int=1), UUID(int=2), "flowgen_secret", None, int)
    again = codec.decode(codec.encode(token, Token[int]), Token[int])
    assert again == token
    assert str(again) == "flowgen_secret"
    assert "secret" not in repr(token)
    assert "secret" not in repr(Wait(token))


def test_a_type_that_no_value_can_have_is_refused_at_the_yield() -> None:
    def refused() -> Flow[Any]:
        try:
            yield from CompletionToken(complex)
        except CodecError as error:
            return str(error)

    assert "the value of a CompletionToken has a type that cannot be read" in result(begun(refused))


def test_waits_for_several_tokens_have_keys_of_their_own_however_often_each_is_waited_for() -> None:
    def twice() -> Flow[list[int]]:
        one = yield from CompletionToken(int)
        found = [(yield from Wait(one)), (yield from Wait(one))]
        two = yield from CompletionToken(int)
        return [*found, (yield from Wait(two)), (yield from Wait(two))]

    bench = begun(twice)
    for key, value in (("token", 1), ("token#2", 2)):
        bench.token_used(UUID(made(bench, key)["id"]), tokens.completed(str(value)))
    assert result(bench) == [1, 1, 2, 2]
    waits = [each.key for each in bench.items if each.key.startswith("wait")]
    assert waits == ["wait:token", "wait:token#2", "wait:token#3", "wait:token#4"]
    _, decision = replayed(bench)
    assert decision.finish == bench.finish
