"""What a user may write for a length of time."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from flowgen.core.durations import MAX_DURATION, as_timedelta
from flowgen.errors import DefinitionError


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2s", 2),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2d", 172_800),
        ("1w", 604_800),
        ("10us", 0.00001),
        ("0.1s", 0.1),
        (" 2s ", 2),
        (5, 5),
        (0.25, 0.25),
        (timedelta(minutes=1), 60),
        (0, 0),
        ("0s", 0),
        (-0.0, 0),
    ],
)
def test_a_timedelta_a_number_of_seconds_and_a_text_are_durations(written: object, seconds: float) -> None:
    assert as_timedelta(written) == timedelta(seconds=seconds)  # type: ignore[arg-type]


@pytest.mark.bad_input("B49")
@pytest.mark.parametrize(
    "wrong",
    [
        True,
        -1,
        -1e300,
        timedelta(seconds=-1),
        math.nan,
        math.inf,
        -math.inf,
        10**15,
        10**400,
        pytest.param(10**5000, id="a long int"),
        1e300,
        timedelta.max,
        "999999999d",
        "9" * 99 + "s",
        "1" * 1_000_000,
        "",
        "  ",
        "soon",
        "5",
        "-5s",
        "5 parsecs",
        "1h1h",
        "1h,30m",
        "1e3s",
        "٣s",
        "nan",
        None,
        b"2s",
        [],
    ],
)
def test_what_is_no_length_of_time_is_refused_by_its_name(wrong: object) -> None:
    with pytest.raises(DefinitionError, match=r"^Sleep\(duration\) is ") as caught:
        as_timedelta(wrong, what="Sleep(duration)")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400


def test_zero_is_refused_where_more_is_needed() -> None:
    for zero in (0, "0s", timedelta(0), 1e-9):
        with pytest.raises(DefinitionError, match="timeout is .*more than zero"):
            as_timedelta(zero, what="timeout", positive=True)
    assert as_timedelta("1us", positive=True) == timedelta(microseconds=1)


def test_the_longest_duration_is_accepted_and_the_next_is_not() -> None:
    assert as_timedelta(MAX_DURATION) == MAX_DURATION
    with pytest.raises(DefinitionError, match="longer than 1000 years"):
        as_timedelta(MAX_DURATION + timedelta(microseconds=1))
