"""Whatever the value: what is stored comes back, and text that PostgreSQL would refuse is never written."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgen.core.codec import canonical, decode, encode
from flowgen.core.durations import as_timedelta
from flowgen.core.retry import Retry, delay
from flowgen.errors import CodecError, DefinitionError

texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('\0\u24000=\\"u')))
atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
trees = st.recursive(atoms, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)
# With what is_plain does not know, so that the slower way is walked too.
mixed = st.recursive(
    atoms | st.uuids() | st.decimals() | st.datetimes(timezones=st.just(UTC)) | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(texts | st.integers(), inner) | st.sets(atoms),
    max_leaves=20,
)
dates = st.dates() | st.datetimes(timezones=st.timezones())


@pytest.mark.bad_input("B3", "B9", "B12")
@given(trees)
def test_a_tree_comes_back_exactly(tree: Any) -> None:
    text = encode(tree)
    assert repr(decode(text)) == repr(tree)
    assert "\0" not in json.dumps(json.loads(text))
    assert "\\u0000" not in json.dumps(json.loads(text)).replace("\\\\", "")
    text.encode()


@pytest.mark.bad_input("B2", "B5", "B10", "B11")
@given(mixed)
def test_any_value_is_kept_the_same_for_ever_or_refused_by_the_codec(value: Any) -> None:
    try:
        text = encode(value)
    except CodecError:
        return
    live = decode(text)
    assert encode(live) == text
    assert repr(decode(encode(live))) == repr(live)


@given(texts | st.uuids() | st.binary() | st.uuids().map(str))
def test_a_member_of_a_union_of_texts_comes_back_as_its_type(value: Any) -> None:
    for annotation in (str | UUID | bytes, bytes | UUID | str):
        assert repr(decode(encode(value, annotation), annotation)) == repr(value)


@given(st.timedeltas())
def test_a_timedelta_comes_back(value: Any) -> None:
    if value != timedelta.min:
        assert decode(encode(value, timedelta), timedelta) == value


@given(st.decimals(allow_nan=False, allow_infinity=False), st.times(), dates)
def test_scalars_come_back(number: Any, clock: Any, day: Any) -> None:
    for value in (number, clock, day):
        try:
            text = encode(value, type(value))
        except CodecError:
            continue
        back = decode(text, type(value))
        if isinstance(value, datetime):
            # Python calls an ambiguous local time unequal to the same instant in another zone.
            assert back.astimezone(UTC) == value.astimezone(UTC)
        else:
            assert back == value


@given(st.dictionaries(st.integers(), st.sets(st.integers())), st.lists(st.integers() | st.text(alphabet="ab")))
def test_containers_come_back_by_their_annotations(table: Any, items: Any) -> None:
    assert decode(encode(table, dict[int, set[int]]), dict[int, set[int]]) == table
    assert repr(decode(encode(items, list[int | str]), list[int | str])) == repr(items)


@given(st.text() | st.binary())
def test_strange_text_is_read_or_refused_by_the_codec(text: Any) -> None:
    with contextlib.suppress(CodecError):
        decode(text)


@given(mixed)
def test_every_value_has_one_canonical_text(value: Any) -> None:
    assert canonical(value) == canonical(value)
    json.loads(canonical(value))


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.timedeltas())
def test_a_duration_is_read_or_refused_with_one_error(value: Any) -> None:
    with contextlib.suppress(DefinitionError):
        assert as_timedelta(value) >= timedelta(0)


@given(
    st.integers(1, 2**31 - 1),
    st.sampled_from(["exponential", "linear", "fixed"]),
    st.floats(0, 1),
    st.floats(1, 1e308),
    st.floats(0, 1e6),
    st.text(),
)
def test_a_wait_is_never_longer_than_the_maximum(
    attempt: int, kind: Any, jitter: float, multiplier: float, initial: float, seed: str
) -> None:
    retry = Retry(initial=initial, multiplier=multiplier, jitter=jitter, kind=kind)
    assert timedelta(0) <= delay(retry, attempt, seed) <= retry.maximum
