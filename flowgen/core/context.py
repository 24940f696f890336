"""What a handler or a step's function can read: `Context` and `StepContext`.

A context only reads. What creates a fact is a yielded command; what reaches outside (the log, the abort signal, the
progress of a task) goes through ports that the worker or the testing kit supplies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Generic, TypeVar, overload
from uuid import UUID, uuid5

import attrs
from typing_extensions import TypeVar as DefaultTypeVar

from flowgen.core import codec
from flowgen.core.facts import RunFacts, Saved, StepFacts, Trigger, View
from flowgen.core.names import step_name
from flowgen.core.ports import UNABORTED, LogPort, Signal, TaskPort
from flowgen.errors import DefinitionError

__all__ = [
    "Context",
    "LogPort",
    "Logger",
    "RunFacts",
    "Saved",
    "Signal",
    "StepContext",
    "StepFacts",
    "TaskPort",
    "Trigger",
    "View",
    "current",
    "enter",
    "entered",
    "leave",
]

T = TypeVar("T")
S = DefaultTypeVar("S", default=None)


class Logger:
    """A logger bound to a run; silent while it replays. Surplus arguments are appended, keywords are fields."""

    __slots__ = ("_fields", "_port", "_view")

    def __init__(self, port: LogPort, view: View, fields: Mapping[str, Any]) -> None:
        self._port = port
        self._view = view
        self._fields = fields

    def debug(self, message: object, /, *args: object, **fields: Any) -> None:
        self._write("debug", message, args, fields)

    def info(self, message: object, /, *args: object, **fields: Any) -> None:
        self._write("info", message, args, fields)

    def warning(self, message: object, /, *args: object, **fields: Any) -> None:
        self._write("warning", message, args, fields)

    warn = warning

    def error(self, message: object, /, *args: object, **fields: Any) -> None:
        self._write("error", message, args, fields)

    def exception(self, message: object, /, *args: object, **fields: Any) -> None:
        """Like `error`, with the traceback of the exception that is being handled."""
        self._write("exception", message, args, fields, sys.exception())

    def _write(
        self, level: str, message: object, args: tuple[object, ...], fields: Any, handled: BaseException | None = None
    ) -> None:
        if self._view.replaying:
            return
        text = _shown(message)
        if args:
            try:
                text = text % args
            except Exception:
                text = " ".join([text, *map(_shown, args)])
        error = next((arg for arg in args if isinstance(arg, BaseException)), handled)
        self._port(level, text, {**self._fields, **fields}, error)


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as raised:
        return f"<a {type(value).__name__} that cannot be shown: {type(raised).__name__}>"


class Context(Generic[S]):
    """What is known of the run, for its handler. Missing data is None or the default, never an error."""

    __slots__ = ("_facts", "_logger", "_step", "_view")

    def __init__(self, facts: RunFacts, view: View, step: StepFacts | None = None) -> None:
        self._facts = facts
        self._view = view
        self._step = step
        self._logger: Logger | None = None

    @property
    def logger(self) -> Logger:
        if self._logger is None:
            facts, step = self._facts, self._step
            fields: dict[str, Any] = {"run_id": self.run_id, "name": facts.name, "attempt": self.attempt}
            if step is not None:
                fields["step"] = step.key
            if facts.correlation_id is not None:
                fields["correlation_id"] = facts.correlation_id
            self._logger = Logger(facts.log, View() if step is not None else self._view, fields)
        return self._logger

    # identity

    @property
    def run_id(self) -> str:
        """The caller's id of the run, else the text of its UUID."""
        given = self._facts.run_id
        return given if given is not None else str(self._facts.uuid)

    execution_id = run_id

    @property
    def task_uuid(self) -> UUID:
        """The run's UUID, always."""
        return self._facts.uuid

    @property
    def step_uuid(self) -> UUID:
        """In a step: a UUID that stays the same over its attempts. In a handler: the run's."""
        if self._step is None:
            return self._facts.uuid
        since = self._facts.since  # the same key in another pass of the run is another step
        return uuid5(self._facts.uuid, f"{self._step.key}@{since}" if since else self._step.key)

    @property
    def correlation_id(self) -> str | None:
        return self._facts.correlation_id

    @property
    def parent_correlation_id(self) -> str | None:
        return self._facts.parent_correlation_id

    @property
    def next_sequence(self) -> int:
        """The index that the run's next entry gets."""
        return self._view.next_sequence

    @property
    def trigger(self) -> Trigger:
        return self._facts.trigger

    @property
    def now(self) -> datetime | None:
        """When the last outcome that was delivered was recorded, by the database's clock. Replays."""
        return self._view.now

    @property
    def services(self) -> S:
        services: S = self._facts.services
        return services

    @property
    def signal(self) -> Signal:
        return self._step.signal if self._step is not None else UNABORTED

    # inputs

    @property
    def input_data(self) -> dict[str, Any]:
        """The run's input by parameter name."""
        return dict(self._facts.input)

    context = input_data

    @overload
    def get_input(self, key: str) -> Any: ...
    @overload
    def get_input(self, key: str, type: type[T]) -> T | None: ...
    def get_input(self, key: str, type: Any = Any) -> Any:
        """The run's argument for the parameter `key`, turned into `type`; None when it was not given."""
        if key not in self._facts.input:
            return None
        return codec.structure(self._facts.input[key], type, what=f"the input {key!r}")

    def get_input_or(self, key: str, default: T) -> T:
        """The run's argument for the parameter `key`, or `default` when it was not given or is None."""
        value: T | None = self._facts.input.get(key)
        return default if value is None else value

    def input_as(self, model: type[T]) -> T:
        """The whole input as an attrs class, dataclass, TypedDict or pydantic model. Raises CodecError (permanent)."""
        structured: T = codec.structure(dict(self._facts.input), model, what="the input")
        return structured

    # configuration

    @property
    def step_config(self) -> Mapping[str, Any]:
        """`config=` of the step over that of the definition."""
        if self._step is None:
            return dict(self._facts.config)
        return {**self._facts.config, **self._step.config}

    def get_config(self, key: str, default: Any = None) -> Any:
        return self.step_config.get(key, default)

    # results of earlier steps

    @overload
    def get_dependency_result(self, step: object) -> Any: ...
    @overload
    def get_dependency_result(self, step: object, type: type[T]) -> T | None: ...
    def get_dependency_result(self, step: object, type: Any = Any) -> Any:
        """The result of the step of this name (or definition, or function), as `type`; None when there is none."""
        text = self._results.get(step_name(step))
        return None if text is None else codec.decode(text, type, what=f"the result of {step_name(step)}")

    @overload
    def get_dependency_field(self, step: object, *path: str | int) -> Any: ...
    @overload
    def get_dependency_field(self, step: object, *path: str | int, type: type[T]) -> T | None: ...
    def get_dependency_field(self, step: object, *path: str | int, type: Any = Any) -> Any:
        """What stands at `path` inside the result of a step, as `type`; None when anything on the way is missing."""
        value = self.get_dependency_result(step)
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return (
            None if value is None else codec.structure(value, type, what=f"a field of the result of {step_name(step)}")
        )

    def get_dependency_result_keys(self) -> list[str]:
        return list(self._results)

    def get_all_dependency_results(self, prefix: str = "") -> dict[str, Any]:
        """Results by key, of the keys that start with `prefix`."""
        return {key: codec.decode(text) for key, text in self._results.items() if key.startswith(prefix)}

    @property
    def dependency_results(self) -> dict[str, Any]:
        return self.get_all_dependency_results()

    @property
    def _results(self) -> Mapping[str, str]:
        step = self._step
        return self._view.results if step is None or step.results is None else step.results

    # retry

    @property
    def attempt(self) -> int:
        """Of the step in a step's function, of the run in a handler; from 1."""
        return self._step.attempt if self._step is not None else self._facts.attempt

    def is_retry(self) -> bool:
        """Whether an earlier attempt failed."""
        return self.attempt > 1

    def is_last_retry(self) -> bool:
        """Whether no attempt is left after this one."""
        return self.attempt >= self._max_attempts

    @property
    def retry_count(self) -> int:
        return self.attempt - 1

    @property
    def max_retries(self) -> int:
        return self._max_attempts - 1

    @property
    def _max_attempts(self) -> int:
        return self._step.max_attempts if self._step is not None else self._facts.max_attempts

    def is_resumed(self) -> bool:
        """Whether this start of the handler follows a lost worker, a wait or a checkpoint."""
        return self._facts.resumed

    # checkpoint

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """What was saved last: `cursor`, `items_processed`, `accumulated_results`; None when nothing was."""
        saved = self._saved()
        apart = attrs.filters.exclude("heard", "lost")
        return None if saved is None else attrs.asdict(saved, recurse=False, filter=apart)

    @property
    def checkpoint_cursor(self) -> Any:
        saved = self._saved()
        return None if saved is None else saved.cursor

    @property
    def checkpoint_items_processed(self) -> int:
        saved = self._saved()
        return 0 if saved is None else saved.items_processed

    @property
    def accumulated_results(self) -> Any:
        saved = self._saved()
        return None if saved is None else saved.accumulated_results

    def has_checkpoint(self) -> bool:
        """Whether one was saved, whatever its cursor."""
        return self._saved() is not None

    def of_step(self) -> StepContext[S]:
        """The same context as a task's function sees it."""
        return StepContext(self._facts, self._view, self._step)

    def _saved(self) -> Saved | None:
        if self._step is None:
            self._view.checkpoint_was_read()
        return self._view.saved


class StepContext(Context[S]):
    """What is known of the run and of the step, for a task's function."""

    __slots__ = ()

    def heartbeat(self, details: object = None) -> None:
        """Say that the function is alive, with anything JSON, as often as you like. Raises Cancelled when aborted.

        Clients see `{"heartbeat": details}` beside what `progress` said, as `run.progress` of a plain task and under
        the step's key in `run.step_progress` of a workflow, and in `run.progress_at` when; at most a second late.
        """
        self._report({"heartbeat": details})

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the function is: clients see `{"done": ..., "total": ...}`, as with `heartbeat`.

        Raises Cancelled when aborted.
        """
        self._report({"done": done, "total": total})

    def _report(self, report: Mapping[str, Any]) -> None:
        if self._step is None:
            raise DefinitionError(
                "heartbeat() and progress() are for a task's function; in a handler yield SetProgress or Checkpoint"
            )
        self._step.signal.raise_if_aborted()
        self._step.report(report)


_current: ContextVar[Context[Any] | Callable[[], Context[Any]]] = ContextVar("flowgen_context")


def current() -> Context[Any]:
    """The context of the handler or step that is running. Raises LookupError outside of one."""
    try:
        found = _current.get()
    except LookupError:
        raise LookupError("no workflow or task is running here: current() works inside a handler or a step") from None
    return found() if callable(found) else found


def current_or_detached(for_step: bool) -> Context[Any]:
    """The running context, of the class asked for; outside of a run one that knows nothing."""
    try:
        context = current()
    except LookupError:
        kind: type[Context[Any]] = StepContext if for_step else Context
        return kind(RunFacts(run_id="", uuid=UUID(int=0)), View(), StepFacts(key="") if for_step else None)
    if for_step and not isinstance(context, StepContext):
        return context.of_step()
    return context


enter = _current.set
"""Make a context, or what makes it when it is asked for, the current one; gives a token for `leave`."""
leave = _current.reset


class entered:  # noqa: N801 - used like a function, and faster than a generator of contextlib
    """Make `context`, or what makes it when it is asked for, the current one within the block."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context[Any] | Callable[[], Context[Any]]) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current.set(self._context)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
