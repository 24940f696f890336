"""The stored form of what a codec has encoded, and what tells it from a user's own text."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgen.core import codec
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind
from flowgen.core.sealing import Seal, is_sealed, words
from flowgen.core.settings import Settings
from flowgen.errors import CodecError, DefinitionError

pytestmark = pytest.mark.bad_input("B72")

SOME = st.text(st.characters(exclude_categories=["Cs"]))


@attrs.frozen
class Turned:
    """Turns a text around; `gives` and `raises` are for what must not be."""

    name: str = "turned"
    gives: Any = None
    raises: Exception | None = None

    def encode(self, text: str) -> str:
        return self._said(text[::-1])

    def decode(self, text: str) -> str:
        return self._said(text[::-1])

    def _said(self, text: str) -> str:
        if self.raises is not None:
            raise self.raises
        given: str = text if self.gives is None else self.gives
        return given


def seal(limit: int = 10_000, **given: Any) -> Seal:
    return Seal(Turned(**given), limit)


def test_a_sealed_text_is_one_json_string_that_names_its_codec() -> None:
    stored = seal().closed('{"a":"\\"\\\\"}', "it")
    assert json.loads(stored) == '\u2400cturned:}"\\\\"\\":"a"{'
    assert is_sealed(stored)
    assert words(stored) == "encoded with 'turned'"
    assert seal().opened(stored, "it") == '{"a":"\\"\\\\"}'
    assert seal().closed(stored, "it") == stored  # once is enough


@given(SOME)
def test_whatever_is_closed_opens_to_the_very_same_text(text: str) -> None:
    text = codec.encode(text)
    assert not is_sealed(text)
    assert seal().opened(text, "it") == text
    assert seal().opened(seal().closed(text, "it"), "it") == text


@pytest.mark.bad_input("B24")
@given(SOME, st.sampled_from(["\u2400c", "\u2400cturned:", "\u2400", '"\u2400c', '\\"\u2400cturned:x']))
def test_no_value_of_a_user_looks_like_a_sealed_one(text: str, start: str) -> None:
    for value in (start + text, [start + text], {start + text: start + text}):
        stored = codec.encode(value)
        assert not is_sealed(stored)
        assert '"\u2400c' not in stored
        assert codec.decode(stored) == value


def test_a_sealed_text_is_no_value_where_nobody_opens_it() -> None:
    stored = seal().closed("1", "it")
    for text in (stored, json.dumps(json.loads(stored))):
        with pytest.raises(CodecError, match=r"the result cannot be read at \$: it is encoded with the codec 'turned'"):
            codec.decode(text, what="the result")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"raises": ValueError("the secret")}, "raised ValueError"),
        ({"gives": b"bytes"}, "gave bytes, a str was expected"),
        ({"gives": "a\0b"}, "NUL or lone surrogates"),
        ({"gives": "a\ud800"}, "NUL or lone surrogates"),
    ],
)
def test_a_codec_that_fails_is_named_and_not_quoted(given: dict[str, Any], says: str) -> None:
    with pytest.raises(CodecError, match=says) as raised:
        seal(**given).closed("1", "the result of charge")
    assert str(raised.value).startswith("the result of charge cannot be encoded: ")
    assert "'turned'" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_text_that_cannot_be_opened_says_why_and_stays_sealed_for_who_only_looks() -> None:
    stored = seal().closed("1", "it")
    with pytest.raises(CodecError, match="the input is encoded with the codec 'turned', and here is 'other'"):
        seal(name="other").opened(stored, "the input")
    for broken in (seal(raises=KeyError()), seal(gives=b"1"), seal(name="turn")):
        with pytest.raises(CodecError):
            broken.opened(stored, "it")
        assert broken.readable(stored) == stored
    assert seal().readable(None) is None


def test_the_limit_is_that_of_the_stored_text() -> None:
    with pytest.raises(CodecError, match="it, encoded with 'turned', is 1011 bytes of JSON, over the limit of 1009"):
        seal(limit=1009, gives="x" * 998).closed("1", "it")


def test_entries_of_the_engine_stay_plain_and_those_of_users_do_not() -> None:
    for kind in EntryKind:
        entry = Entry(1, kind, "charge", "step:x", OutcomeKind.VALUE, value='"secret"')
        stored = seal().close_entry(entry)
        plain = kind in (EntryKind.CHILD, EntryKind.SET_ASIDE, EntryKind.STARTED, EntryKind.ARMED, EntryKind.PASS)
        assert (stored.value == entry.value) is plain
        assert seal().open_entries([stored]) == [entry]
    started = Entry(1, EntryKind.OUTCOME, "child", "start:x", OutcomeKind.VALUE, value='{"run_id":"1","id":null}')
    assert seal().close_entry(started) is started
    refused = attrs.evolve(started, status=OutcomeKind.FAILURE)
    assert is_sealed(seal().close_entry(refused).value or "")


@pytest.mark.parametrize("plain", ["1", '"a \\" b \\\\"', '{"type":"ValueError","message":"}"}'])
@pytest.mark.parametrize("head", ['{"status":"completed","output":', '{"status":"failed","error":'])
@pytest.mark.parametrize("tail", [',"run_id":"00000000-0000-7000-8000-000000000000"}', "}"])
def test_what_a_child_came_to_is_opened_inside_of_its_message(plain: str, head: str, tail: str) -> None:
    message = Message(1, MessageKind.CHILD, "child", head + seal().closed(plain, "it") + tail)
    [opened] = seal().open_messages([message])
    assert opened.payload == head + plain + tail
    assert seal(name="other").open_messages([message]) == [message]


def test_a_reason_to_park_keeps_its_kind_and_seals_its_detail() -> None:
    text = '{"reason":"diverged","detail":"the diff"}'
    stored = seal().close_reason(text)
    assert json.loads(stored)["reason"] == "diverged"
    assert "diff" not in stored
    assert seal().open_reason(stored) == text
    assert "raised KeyError" in seal(raises=KeyError()).close_reason(text)


@pytest.mark.parametrize("name", [None, "", "a:b", "a/b", 1, "a\n"])
def test_a_codec_has_a_name_and_both_verbs(name: Any) -> None:
    with pytest.raises(DefinitionError, match="name of a codec"):
        Settings(codec=Turned(name=name))


def test_settings_take_a_codec_from_code_only_and_do_not_show_it() -> None:
    turned: Any = Turned(gives="the key")
    settings = Settings(codec=turned)
    assert settings.codec is turned
    assert "the key" not in repr(settings)
    assert hash(settings) == hash(Settings(codec=turned))
    assert Settings.from_env({"FLOWGEN_LEASE": "7s"}, codec=turned).codec is turned
    with pytest.raises(DefinitionError, match="a codec is code"):
        Settings.from_env({"FLOWGEN_CODEC": "zlib"})
    with pytest.raises(DefinitionError, match="has no method encode"):
        Settings(codec=attrs.make_class("Half", {"name": attrs.field(default="half")})())
