"""Every exception of flowgen, one tree.

Who is at fault tells the branch: the author (`DefinitionError`), the operator (`SchemaError`, `NotRegisteredError`),
the caller of a client (`RunNotFound`, ...), or a function that a handler waits for (`OutcomeError`, thrown into the
handler at its yield). Every message says what was seen, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

__all__ = [
    "Cancelled",
    "ChildCancelled",
    "ChildFailed",
    "ChildTimedOut",
    "CodecError",
    "DatabaseError",
    "DefinitionError",
    "Divergence",
    "DuplicateNameError",
    "Failure",
    "FlowgenError",
    "LeaseLost",
    "NotRegisteredError",
    "OutcomeError",
    "PermanentError",
    "RetryableError",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunNotFinished",
    "RunNotFound",
    "SchemaError",
    "StepFailed",
    "StepInterrupted",
    "StepTimedOut",
    "TokenNotFound",
    "TokenUsed",
    "WaitFailed",
    "WaitTimedOut",
]


@attrs.frozen
class Failure:
    """A failure as data: what `Run.error` holds and what `on_failure="continue"` puts in the place of a result.

    `type` is the exception's class name, `details` holds JSON values only. `str()` reads "ValueError: boom".
    """

    type: str
    message: str
    traceback: str = attrs.field(default="", repr=False)
    details: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class FlowgenError(Exception):
    """The root of every error that flowgen raises."""


class DefinitionError(FlowgenError):
    """The author's mistake in a definition or a command: found at import, or at the yield before anything runs."""


class DuplicateNameError(DefinitionError):
    """A name that the author gave twice in one scope of one run."""


class NotRegisteredError(FlowgenError):
    """A definition that no code here, or no live worker, knows."""


class SchemaError(FlowgenError):
    """The database's schema is missing, older or newer than this code, or the server's settings do not fit."""


class DatabaseError(FlowgenError):
    """The database refused a statement or cannot be reached. `transient` says whether trying again may help."""

    def __init__(self, message: str, *, sqlstate: str | None = None, transient: bool = False) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.transient = transient


class RunNotFound(FlowgenError, LookupError):
    """No run has this id."""


class TokenNotFound(FlowgenError, LookupError):
    """What was given is no completion token of this database. Says nothing else, whoever asks."""


class TokenUsed(FlowgenError):
    """A completion token that can be used no more: it was used, its time has passed, or its run has ended."""


class RunExists(FlowgenError):
    """A run with this id exists, of another definition or with another input."""


class RunFailed(FlowgenError):
    """What `result()` raises for a failed run; `failure` is what it failed with."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        super().__init__(f"Run {run_id} failed: {failure}")
        self.run_id = run_id
        self.failure = failure


class RunCancelled(FlowgenError):
    """What `result()` raises for a cancelled run."""

    def __init__(self, run_id: str, reason: str | None = None) -> None:
        super().__init__(f"Run {run_id} was cancelled" + (f": {reason}" if reason else ""))
        self.run_id = run_id
        self.reason = reason


class RunNotFinished(FlowgenError, TimeoutError):
    """`result(timeout=)` passed before the run ended; the message says why it has not ended."""


class CodecError(FlowgenError, ValueError):
    """A value that cannot be stored exactly, or a stored one that does not fit its type. Names the path to it."""


class Divergence(FlowgenError):
    """Replay met a command that the history does not fit. `diff` shows what is recorded and what the code yields."""

    def __init__(self, message: str, *, diff: str = "", location: str = "") -> None:
        super().__init__(message if not diff else f"{message}\n{diff}")
        self.summary = message
        self.diff = diff
        self.location = location


class LeaseLost(FlowgenError):
    """This worker's session owns its runs no longer: it stops writing and registers anew."""


class OutcomeError(FlowgenError):
    """An outcome that is not a value, thrown into the handler at its yield. `failure` is what is recorded."""

    def __init__(self, message: str, *, failure: Failure | None = None, name: str = "", attempts: int = 0) -> None:
        super().__init__(message)
        self.failure = failure if failure is not None else Failure(type(self).__name__, message)
        self.name = name
        self.attempts = attempts


class StepFailed(OutcomeError):
    """A step that failed for good: its attempts are exhausted or its error was permanent."""


class StepTimedOut(StepFailed):
    """A step whose last attempt passed its `timeout=`."""


class StepInterrupted(StepFailed):
    """An `at_most_once` step that was started and has no outcome: nobody knows whether it took effect."""


class ChildFailed(OutcomeError):
    """A child run failed. `failure` is the child's."""


class ChildCancelled(OutcomeError):
    """A child run was cancelled."""


class ChildTimedOut(OutcomeError):
    """A child run did not end within the `timeout=` of the command that waits for it."""


class WaitFailed(OutcomeError):
    """What was waited for came as a failure: a token that was failed, or a payload that does not fit its type."""


class WaitTimedOut(OutcomeError):
    """What was waited for did not come within `timeout=`."""


class PermanentError(FlowgenError):
    """Raised by a function to say: never try this again, whatever the retry policy is."""


class RetryableError(FlowgenError):
    """Raised by a function to say: try again, after `retry_after` (a duration) when it is given; negative is no wait.

    One that is no duration fails the step for good, with a DefinitionError that says so.
    """

    retry_after: timedelta | float | str | None = None

    def __init__(self, *args: object, retry_after: timedelta | float | str | None = None) -> None:
        super().__init__(*args)
        self.retry_after = retry_after


class Cancelled(BaseException):
    """Thrown into a handler whose run is being cancelled; `finally` blocks may still yield clean-up commands.

    A BaseException, so that `except Exception` around a yield does not swallow a cancellation.
    """
