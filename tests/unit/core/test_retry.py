"""Which errors are tried again, and after which wait."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.durations import MAX_DURATION
from flowgen.core.retry import DEFAULT_RUN, DEFAULT_STEP, Retry, Verdict, asked_wait, classify, delay, next_wait
from flowgen.errors import CodecError, DefinitionError, PermanentError, RetryableError


def seconds(retry: Retry, count: int = 5) -> list[float]:
    return [delay(retry, attempt, "seed").total_seconds() for attempt in range(1, count + 1)]


def test_the_defaults_are_those_of_the_manual() -> None:
    assert Retry(3, initial=1, multiplier=2, maximum="60s", jitter=0.1) == DEFAULT_STEP
    assert DEFAULT_RUN.max_attempts == 1
    assert Retry(5, "2s").initial == timedelta(seconds=2)


def test_an_exponential_wait_grows_to_the_maximum() -> None:
    assert seconds(Retry(jitter=0, maximum=5)) == [1, 2, 4, 5, 5]


def test_a_linear_wait_grows_by_the_initial_one() -> None:
    assert seconds(Retry(jitter=0, kind="linear", initial=2, maximum=7)) == [2, 4, 6, 7, 7]


def test_a_fixed_wait_stays() -> None:
    assert seconds(Retry(jitter=0, kind="fixed", initial="5m")) == [300] * 5


def test_a_late_attempt_waits_the_maximum_and_does_not_overflow() -> None:
    for kind in ("exponential", "linear"):
        assert delay(Retry(jitter=0, kind=kind), 2**31 - 1, "") == timedelta(seconds=60)
    assert delay(Retry(jitter=0, multiplier=10**300), 3, "") == timedelta(seconds=60)


def test_an_initial_wait_of_zero_never_waits() -> None:
    assert seconds(Retry(initial=0)) == [0] * 5


def test_the_maximum_follows_an_initial_wait_that_is_longer_than_the_default() -> None:
    assert Retry(initial="1h").maximum == timedelta(hours=1)


def test_jitter_shortens_by_at_most_its_part_and_depends_on_seed_and_attempt_only() -> None:
    retry = Retry(jitter=0.5, kind="fixed", initial=10)
    waits = [delay(retry, attempt, f"run-{seed}") for attempt in range(1, 20) for seed in range(20)]
    assert all(timedelta(seconds=5) <= wait <= timedelta(seconds=10) for wait in waits)
    assert len(set(waits)) > 300
    assert waits == [delay(retry, attempt, f"run-{seed}") for attempt in range(1, 20) for seed in range(20)]
    assert delay(retry, 1, "fixed forever") == timedelta(seconds=7, microseconds=858152)
    assert delay(retry, 1, "\udc80") <= timedelta(seconds=10)


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        delay(Retry(), 0, "")


@pytest.mark.bad_input("B50")
@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": math.inf},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"max_attempts": 2**31},
        {"initial": -1},
        {"initial": math.nan},
        {"initial": "soon"},
        {"multiplier": 0.5},
        {"multiplier": math.nan},
        {"multiplier": math.inf},
        {"multiplier": "2"},
        {"maximum": 0.5},
        {"maximum": math.inf},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": math.nan},
        {"jitter": True},
        {"kind": "random"},
        {"retry_on": (1,)},
        {"retry_on": 5},
        {"retry_on": ("",)},
        {"give_up_on": (int,)},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Retry"):
        Retry(**options)


class Sub(TimeoutError):
    pass


def test_without_filters_every_error_is_retried() -> None:
    assert classify(Retry(), ValueError()) == Verdict(retry=True)
    assert classify(Retry(), MemoryError()) == Verdict(retry=True)


def test_a_permanent_error_is_never_retried_whatever_the_policy_says() -> None:
    for error in (PermanentError(), CodecError(), DefinitionError()):
        assert not classify(Retry(retry_on=Exception), error).retry


def test_a_retryable_error_is_always_retried_and_its_wait_is_honoured() -> None:
    retry = Retry(give_up_on=Exception, retry_on=KeyError)
    assert classify(retry, RetryableError(retry_after=7)) == Verdict(retry=True, retry_after=timedelta(seconds=7))
    assert classify(retry, RetryableError()) == Verdict(retry=True)


def test_a_wait_that_an_error_asks_for_stays_within_bounds() -> None:
    assert classify(Retry(), RetryableError(retry_after=-5)).retry_after == timedelta(0)
    assert classify(Retry(), RetryableError(retry_after=timedelta.max)).retry_after == MAX_DURATION


def test_a_wait_is_asked_for_as_any_duration() -> None:
    assert classify(Retry(), RetryableError(retry_after="1m30s")).retry_after == timedelta(seconds=90)
    for none in ("soon", object(), math.nan, 1e300, b"x", True):
        error = RetryableError(retry_after=none)  # type: ignore[arg-type]
        assert classify(Retry(), error) == Verdict(retry=False)
        with pytest.raises(DefinitionError, match="retry_after of RetryableError is .*"):
            asked_wait(error)


def test_a_retryable_error_of_the_authors_own_may_have_any_constructor() -> None:
    class Limited(RetryableError):
        def __init__(self, wait: Any = None) -> None:
            if wait is not None:
                self.retry_after = wait

    assert classify(Retry(), Limited()) == Verdict(retry=True)
    assert classify(Retry(), Limited(2)).retry_after == timedelta(seconds=2)


def test_give_up_on_goes_before_retry_on() -> None:
    retry = Retry(retry_on=(OSError,), give_up_on=[TimeoutError])
    assert classify(retry, OSError()).retry
    assert not classify(retry, Sub()).retry
    assert not classify(retry, ValueError()).retry


def test_filters_match_names_of_the_class_and_of_what_it_derives_from() -> None:
    assert classify(Retry(retry_on="TimeoutError"), Sub()).retry
    assert classify(Retry(retry_on=f"{__name__}.Sub"), Sub()).retry
    assert not classify(Retry(retry_on="Timeout"), Sub()).retry


def test_the_last_attempt_has_no_wait_after_it_even_for_a_retryable_error() -> None:
    retry = Retry(2, jitter=0)
    assert next_wait(retry, ValueError(), 1, "") == timedelta(seconds=1)
    assert next_wait(retry, RetryableError(retry_after=9), 1, "") == timedelta(seconds=9)
    assert next_wait(retry, RetryableError(retry_after=9), 2, "") is None
    assert next_wait(retry, PermanentError(), 1, "") is None
