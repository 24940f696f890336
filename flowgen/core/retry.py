"""Retry: how often something is tried again, after which wait, and which errors are worth it.

Never sleeps, never reads a clock and never draws a random number: jitter is a hash of the seed, so the same attempt
of the same command waits equally long wherever it is computed. The invariant: no wait is longer than `maximum`, unless
the function itself asked for it with `RetryableError(retry_after=)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import attrs

from flowgen.core.durations import MAX_DURATION, Duration, as_timedelta
from flowgen.errors import CodecError, DefinitionError, PermanentError, RetryableError

__all__ = [
    "DEFAULT_RUN",
    "DEFAULT_STEP",
    "ErrorFilter",
    "Retry",
    "Verdict",
    "asked_wait",
    "classify",
    "delay",
    "next_wait",
]

ErrorFilter: TypeAlias = type[BaseException] | str
"""An exception class (its subclasses too), or the name of one: "TimeoutError" or "httpx.TimeoutException"."""

Kind: TypeAlias = Literal["exponential", "linear", "fixed"]

_KINDS: Final = ("exponential", "linear", "fixed")
_MAX_ATTEMPTS: Final = 2**31 - 1
_DEFAULT_MAXIMUM: Final = timedelta(seconds=60)
_ZERO: Final = timedelta(0)
_FILTERS_ALLOWED: Final = "retry_on and give_up_on take exception classes or names of them, as retry_on=(TimeoutError,)"


def _initial(value: Duration) -> timedelta:
    return as_timedelta(value, what="Retry(initial=)")


def _maximum(value: Duration) -> timedelta:
    return as_timedelta(value, what="Retry(maximum=)")


def _filters(value: ErrorFilter | Iterable[ErrorFilter]) -> tuple[ErrorFilter, ...]:
    if isinstance(value, str | type):
        return (value,)
    try:
        return tuple(value)
    except TypeError:
        raise DefinitionError(f"Retry got {value!r}: {_FILTERS_ALLOWED}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_filter(value: object) -> bool:
    return (isinstance(value, str) and value != "") or (isinstance(value, type) and issubclass(value, BaseException))


@attrs.frozen
class Retry:
    """A retry policy; `Retry(5)` tries five times in all.

    `initial` and `maximum` are durations (a timedelta, seconds, or "1h30m"), timedeltas inside. The wait grows from
    `initial` by `multiplier` ("exponential"), by `initial` ("linear") or not at all ("fixed"), up to `maximum`, and is
    shortened by a part of at most `jitter` (0 to 1). `maximum` is 60 s, or `initial` when that is longer.
    With `retry_on` only those errors are retried; those of `give_up_on` never.

    Raises:
        DefinitionError: for values that make no sense, such as `max_attempts=0` or a NaN.
    """

    max_attempts: int = 3
    initial: timedelta = attrs.field(default=timedelta(seconds=1), converter=_initial)
    multiplier: float = 2.0
    maximum: timedelta = attrs.field(
        default=attrs.Factory(lambda self: max(_DEFAULT_MAXIMUM, self.initial), takes_self=True), converter=_maximum
    )
    jitter: float = 0.1
    kind: Kind = "exponential"
    retry_on: tuple[ErrorFilter, ...] = attrs.field(default=(), converter=_filters)
    give_up_on: tuple[ErrorFilter, ...] = attrs.field(default=(), converter=_filters)

    def __attrs_post_init__(self) -> None:
        attempts: object = self.max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= _MAX_ATTEMPTS:
            raise DefinitionError(
                f"Retry(max_attempts=) is {attempts!r}: give a whole number of attempts in all, 1 (no retry) or more"
            )
        if not _is_number(self.multiplier) or self.multiplier < 1:
            raise DefinitionError(f"Retry(multiplier=) is {self.multiplier!r}: give a finite number of 1 or more")
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise DefinitionError(f"Retry(jitter=) is {self.jitter!r}: give a part of the wait, 0 to 1")
        if self.kind not in _KINDS:
            raise DefinitionError(f"Retry(kind=) is {self.kind!r}: give one of {', '.join(_KINDS)}")
        if self.maximum < self.initial:
            raise DefinitionError(
                f"Retry(maximum=) is {self.maximum}, less than initial={self.initial}: give a longer maximum"
            )
        for each in (*self.retry_on, *self.give_up_on):
            if not (isinstance(each, str) and each) and not (
                isinstance(each, type) and issubclass(each, BaseException)
            ):
                raise DefinitionError(f"Retry got {each!r}: {_FILTERS_ALLOWED}")


DEFAULT_STEP: Final = Retry(3)
"""The policy of a step, of a plain task and of an undecorated function."""

DEFAULT_RUN: Final = Retry(1)
"""The policy of a workflow and of a generator task: no retry."""


@attrs.frozen
class Verdict:
    """What an error means: try again or not, and the wait that the function asked for, if it did."""

    retry: bool
    retry_after: timedelta | None = None


def classify(retry: Retry, error: BaseException) -> Verdict:
    """Say whether `error` is worth another attempt; the bound on attempts is the caller's, see `next_wait`.

    `PermanentError`, `CodecError` and `DefinitionError` never are; `RetryableError` always is; then `give_up_on`, then
    `retry_on`, then: yes.
    """
    if isinstance(error, PermanentError | CodecError | DefinitionError):
        return Verdict(retry=False)
    if isinstance(error, RetryableError):
        try:
            return Verdict(retry=True, retry_after=asked_wait(error))
        except DefinitionError:
            return Verdict(retry=False)
    if _matches(retry.give_up_on, error):
        return Verdict(retry=False)
    return Verdict(retry=not retry.retry_on or _matches(retry.retry_on, error))


def delay(retry: Retry, attempt: int, seed: str) -> timedelta:
    """The wait after the failed attempt number `attempt`, from 1; the same `seed` and attempt give the same wait."""
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}: attempts count from 1")
    if not retry.initial:
        return _ZERO
    try:
        growth: float = 1
        if retry.kind == "exponential":
            growth = float(retry.multiplier) ** (attempt - 1)
        elif retry.kind == "linear":
            growth = attempt
        wait = min(retry.initial * growth, retry.maximum)
    except OverflowError:
        wait = retry.maximum
    if not retry.jitter:
        return wait
    # Taken off and never added, so that `maximum` holds and waits at the maximum are spread as well.
    digest = blake2b(f"{seed}\0{attempt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return wait * (1 - retry.jitter * (int.from_bytes(digest, "big") / 2**64))


def next_wait(retry: Retry, error: BaseException, attempt: int, seed: str) -> timedelta | None:
    """The wait before the attempt after the failed number `attempt`, or None when that was the last one."""
    if attempt >= retry.max_attempts:
        return None
    verdict = classify(retry, error)
    if not verdict.retry:
        return None
    return verdict.retry_after if verdict.retry_after is not None else delay(retry, attempt, seed)


def asked_wait(error: RetryableError) -> timedelta | None:
    """The wait that an error asks for, within bounds. Raises DefinitionError for what is no duration."""
    wait: object = error.retry_after
    if wait is None:
        return None
    if isinstance(wait, int | float) and wait < 0:
        return _ZERO
    if not isinstance(wait, timedelta):
        wait = as_timedelta(wait, what=f"retry_after of {type(error).__name__}")  # type: ignore[arg-type]  # it refuses
    return min(max(wait, _ZERO), MAX_DURATION)


def _matches(filters: tuple[ErrorFilter, ...], error: BaseException) -> bool:
    for each in filters:
        if isinstance(each, str):
            if any(each in (cls.__name__, f"{cls.__module__}.{cls.__qualname__}") for cls in type(error).__mro__):
                return True
        elif isinstance(error, each):
            return True
    return False
