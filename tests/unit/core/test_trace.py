"""What a trace keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.trace import Trace
from flowgen.errors import CodecError

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def trace(**given: object) -> Trace[object]:
    fields: dict[str, object] = {"name": "checkout", "kind": "workflow", "input": '{"order_id":"o-1"}', **given}
    return Trace(**fields)  # type: ignore[arg-type]


def full() -> Trace[object]:
    return trace(
        run_id="order-o-1",
        status="completed",
        base=2,
        prologue=1,
        output='"ch_1"',
        items=(
            Entry(1, EntryKind.OUTCOME, "charge", "step:charge:00", OutcomeKind.VALUE, 1, '"ch_1"', recorded_at=WHEN),
            Entry(
                2,
                EntryKind.ARMED,
                "sleep",
                due_at=WHEN.astimezone(timezone(timedelta(hours=2))),
                named=True,
                recorded_at=WHEN,
            ),
            Entry(5, EntryKind.SET_ASIDE, "", value='{"indexes":[1],"why":"x","who":"y"}'),
        ),
    )


def test_what_is_saved_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    full().save(path)
    assert Trace.load(path) == full()
    assert Trace.load(str(path)) == full()


@pytest.mark.parametrize(
    "text",
    [
        "1e22", "10000000000000000000000", "-0.0", "1.0", "1E5", "null", '""', '"\\u00e4"', '"ä"', '"\\/"',
        '{"b":1,"a":2}', '{"a": 1}', '{"a":1,"a":2}', '"\\u2400"', '"␀0"', "9" * 5000, '"<script>"', '{"input_text":1}',
    ],
)  # fmt: skip
def test_every_payload_survives_character_by_character(text: str) -> None:
    before = trace(input=text, output=text, items=(Entry(1, EntryKind.OUTCOME, "k", value=text),))
    after = Trace.from_json(before.to_json())
    assert after == before
    assert after.items[0].value == text


def test_payloads_stand_readable_in_the_file() -> None:
    assert '"order_id": "o-1"' in full().to_json()


def test_the_result_is_decoded_and_none_without_one() -> None:
    assert full().result == "ch_1"
    assert trace().result is None
    assert trace(value=7, output="8").result == 7


def test_the_failure_of_a_failed_run_is_read() -> None:
    error = '{"type":"ValueError","message":"boom"}'
    assert str(trace(status="failed", error=error).failure) == "ValueError: boom"
    assert trace(status="cancelled", error='{"reason":"no"}').failure is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "flowgen_trace"),
        ("{}", "flowgen_trace"),
        ('{"flowgen_trace":99}', "form 99"),
        ('{"flowgen_trace":1}', "name"),
        ('{"flowgen_trace":1,"name":"a","kind":"task","base":0,"prologue":0,"items":[{}]}', "index"),
        ('{"flowgen_trace":1,"name":"a","kind":"task","base":0,"prologue":0,"items":[1]}', "cannot be read"),
        ('{"flowgen_trace":1,"name":"a","kind":"task","base":"0","prologue":0}', "base"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_trace_is_refused_with_what_does_not_fit(text: str, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        Trace.from_json(text)
