"""An exception, however broken, becomes a failure that can be stored."""

from __future__ import annotations

import json
import typing

import pytest

from flowgen.core import durations
from flowgen.core.failures import failure_from, failure_from_json, failure_to_json
from flowgen.errors import CodecError, Failure, StepFailed


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def stored(error: BaseException, **options: int) -> Failure:
    """What is read back; asserts that it can be stored and is what was described."""
    failure = failure_from(error, **options)
    text = failure_to_json(failure)
    assert "\\u0000" not in text
    text.encode()
    assert failure_from_json(text) == failure
    return failure


def test_type_message_and_traceback_are_kept() -> None:
    failure = stored(caught(ValueError("boom")))
    assert str(failure) == "ValueError: boom"
    assert "in caught" in failure.traceback
    assert failure.traceback.endswith("ValueError: boom\n")
    assert failure.details == {}


def test_an_error_that_was_never_raised_has_a_failure() -> None:
    assert stored(ValueError("x")).traceback == "ValueError: x\n"


class StrRaises(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class TwoArguments(Exception):
    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)


@pytest.mark.bad_input("B19")
@pytest.mark.parametrize("error", [StrRaises(), NotText(), TwoArguments(1, 2), ValueError(StrRaises())])
def test_an_error_that_cannot_be_shown_still_tells_its_type(error: Exception) -> None:
    assert stored(caught(error)).type == type(error).__name__


@pytest.mark.bad_input("B19")
def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    failure = stored(first)
    assert "first" in failure.traceback
    assert "second" in failure.traceback


@pytest.mark.bad_input("B19")
def test_a_group_tells_what_it_holds() -> None:
    inner = ExceptionGroup("inner", [KeyError("k")])
    failure = stored(caught(ExceptionGroup("outer", [ValueError("v"), inner])))
    assert failure.type == "ExceptionGroup"
    assert failure.details["exceptions"] == [
        {"type": "ValueError", "message": "v"},
        {
            "type": "ExceptionGroup",
            "message": "inner (1 sub-exception)",
            "exceptions": [{"type": "KeyError", "message": "'k'"}],
        },
    ]


@pytest.mark.bad_input("B18", "B19")
def test_a_wide_and_deep_group_is_cut() -> None:
    error = ExceptionGroup("one", [ExceptionGroup("g", [ValueError("x" * 10_000)] * 300)])
    wide = stored(error).details["exceptions"][0]["exceptions"]
    assert len(wide) == 101
    assert wide[-1] == {"dropped": 200}
    deep: Exception = ValueError("x")
    for _ in range(60):
        deep = ExceptionGroup("g", [deep])
    text = failure_to_json(stored(deep))
    assert '"dropped":1' in text
    assert len(text) < 200_000


def test_notes_are_details() -> None:
    error = ValueError("v")
    error.add_note("look here\0")
    assert stored(error).details == {"notes": ["look here\\x00"]}
    error.__notes__ = 5  # type: ignore[assignment]
    assert stored(error).details == {}


@pytest.mark.bad_input("B18")
def test_an_enormous_message_is_cut_and_says_how_much_is_missing() -> None:
    failure = stored(caught(ValueError("x" * 1_000_000)), limit=1000)
    assert failure.message == "x" * 1000 + "...999000 bytes dropped"
    assert failure.traceback.startswith("...")
    assert len(failure.traceback) < 1100


def test_a_cut_never_splits_a_character() -> None:
    failure = stored(ValueError("é" * 1000), limit=999)
    assert failure.message.startswith("é" * 499 + "...")
    assert "dropped" in failure.message


@pytest.mark.bad_input("B18")
def test_an_endless_recursion_has_a_short_traceback() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as raised:
        deeper()
    assert len(stored(raised.value).traceback) < 70_000


@pytest.mark.bad_input("B4", "B5")
def test_nul_and_surrogates_become_visible_escapes() -> None:
    failure = stored(caught(ValueError("a\0b\udc80c")))
    assert failure.message == "a\\x00b\\udc80c"
    assert "\0" not in failure.traceback


def test_leading_frames_of_this_package_are_dropped_and_all_kept_when_there_are_no_others() -> None:
    hook = typing.cast("typing.Any", durations)

    class Rude(str):
        def strip(self, *args: object) -> str:
            raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs") as raised:
        hook.as_timedelta(Rude("1s"))
    error = raised.value
    assert error.__traceback__ is not None
    # As an engine that calls the function would see it: its own frame first.
    failure = stored(error.with_traceback(error.__traceback__.tb_next))
    assert "durations.py" not in failure.traceback
    assert "in strip" in failure.traceback
    with pytest.raises(Exception, match="soon") as own:
        durations.as_timedelta("soon")
    assert own.value.__traceback__ is not None
    assert "durations.py" in stored(own.value.with_traceback(own.value.__traceback__.tb_next)).traceback


def test_the_failure_that_an_error_carries_is_kept() -> None:
    error = StepFailed("Step charge failed", failure=Failure("CardDeclined", "no\0money"))
    assert stored(error).details == {"failure": {"type": "CardDeclined", "message": "no\\x00money"}}


def test_details_that_cannot_be_stored_are_described_and_never_lose_the_failure() -> None:
    back = failure_from_json(failure_to_json(Failure("E", "m\0", details={"x": {1, 2}})))
    assert back == Failure("E", "m\\x00", details={"text": '{"x":[1,2]}'})


def test_strange_stored_failures_are_read_and_others_refused() -> None:
    assert failure_from_json({}) == Failure("Unknown", "")
    assert failure_from_json(json.dumps({"type": "E", "details": 5}).encode()) == Failure("E", "")
    with pytest.raises(CodecError, match="object was expected"):
        failure_from_json("[]")
