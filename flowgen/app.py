"""App: the registry of workflows and tasks, and the decorators that fill it.

Never runs anything and never opens what it is given as `services`. The invariant: one name is one definition; only the
same function, imported or run again, takes its own place.
"""

from __future__ import annotations

import difflib
import linecache
import os.path
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import attrs

from flowgen.core.decorators import TaskEntry, WorkflowEntry
from flowgen.core.definitions import (
    Call,
    Cron,
    Definition,
    DefinitionOptions,
    Determinism,
    Durability,
    On,
    Task,
    Workflow,
    as_crons,
    as_events,
    check_priority,
)
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.forgotten import ForgottenYieldWarning, find_forgotten
from flowgen.core.names import check_name
from flowgen.core.retry import DEFAULT_RUN, DEFAULT_STEP, Retry
from flowgen.core.windows import Window, as_windows
from flowgen.errors import DefinitionError, NotRegisteredError

__all__ = ["App", "app", "call", "task", "workflow"]

# A cell that is edited and run again has another file name and other lines; it is the same place to its author.
_CELL = re.compile(r"<(?:stdin|ipython-input|python-input)\b.*>|.*[/\\]ipykernel_\d+[/\\]\d+\.py")


class App:
    """Workflows and tasks under their names. Two in one process know nothing of each other.

    `services` is handed to functions as `ctx.services`: a value, or a context manager (async too) or a function without
    parameters that gives one. A worker enters it when it starts and leaves it when it stops.
    """

    def __init__(self, services: object = None, *, name: str = "app") -> None:
        self.services = services
        self.name = check_name(name, "the name of an App")
        self._definitions: dict[str, Definition[..., Any, Any]] = {}

    def __repr__(self) -> str:
        return f"<App {self.name}: {', '.join(self._definitions) or 'empty'}>"

    @property
    def definitions(self) -> Mapping[str, Definition[..., Any, Any]]:
        """All definitions by name, in the order of their making."""
        return dict(self._definitions)

    def definition(self, name: str) -> Definition[..., Any, Any]:
        """The definition of this name. Raises NotRegisteredError that lists close names."""
        try:
            return self._definitions[name]
        except KeyError:
            raise NotRegisteredError(self._unknown(name)) from None

    @property
    def task(self) -> TaskEntry:
        """The decorator `@app.task`, with options or without; see `flowgen.task`."""
        return cast(TaskEntry, self._task)

    @property
    def workflow(self) -> WorkflowEntry:
        """The decorator `@app.workflow`, with options or without; see `flowgen.workflow`."""
        return cast(WorkflowEntry, self._workflow)

    def _task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        retry: Retry | None = None,
        timeout: Duration | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int = 0,
        cron: str | Cron | Iterable[str | Cron] | None = None,
        on: str | On | Iterable[str | On] | None = None,
        window: str | Window | Iterable[str | Window] | None = None,
    ) -> Any:
        """`@task` makes a task of a plain function, sync or async, or of a generator of commands.

        `name` is the function's name, `queue` where its runs wait, `retry` the policy of its function (`Retry(3)`; of
        a generator's run `Retry(1)`), `timeout` start to close for each attempt, `config` what `ctx.get_config` reads,
        `priority` which run goes first (higher), `cron` when runs start by themselves, `on` which events
        start them, `window` when they are worked at ("22:00-06:00").
        Raises DefinitionError.
        """
        options = _options(queue, retry, config, priority, cron, on, window, DEFAULT_STEP)
        if timeout is not None:
            options["timeout"] = as_timedelta(timeout, what="timeout", positive=True)

        def decorate(fn: Callable[..., Any]) -> Task[..., Any, Any]:
            made: Task[..., Any, Any] = Task(fn, name, DefinitionOptions(**options))
            if made.is_handler:
                if timeout is not None:
                    raise DefinitionError(
                        f"{made.name} ({made.location}): timeout= is for a plain function; give it to the steps inside "
                        "with .opts(timeout=), or make this a @workflow with deadline="
                    )
                if retry is None:
                    made.options = attrs.evolve(made.options, retry=DEFAULT_RUN)
            self._register(made)
            return made

        return decorate if fn is None else decorate(fn)

    def _workflow(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        retry: Retry | None = None,
        deadline: Duration | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int = 0,
        cron: str | Cron | Iterable[str | Cron] | None = None,
        on: str | On | Iterable[str | On] | None = None,
        window: str | Window | Iterable[str | Window] | None = None,
        determinism: Determinism = "warn",
        durability: Durability = "step",
    ) -> Any:
        """`@workflow` makes a workflow of a handler: a generator of commands, or a coroutine that awaits them.

        The options are those of `task`; `deadline` is the longest that a run may take, `determinism="strict"` parks a
        run whose arguments differ on replay. With `durability="checkpoint"` the outcomes of steps are committed with
        the next Checkpoint, and not one by one. Raises DefinitionError.
        """
        options = _options(queue, retry, config, priority, cron, on, window, DEFAULT_RUN)
        if deadline is not None:
            options["deadline"] = as_timedelta(deadline, what="deadline", positive=True)
        if determinism not in ("warn", "strict"):
            raise DefinitionError(f'determinism= is "warn" or "strict", not {determinism!r}')
        if durability not in ("step", "checkpoint"):
            raise DefinitionError(f'durability= is "step" or "checkpoint", not {durability!r}')
        options |= {"determinism": determinism, "durability": durability}

        def decorate(fn: Callable[..., Any]) -> Workflow[..., Any, Any]:
            made: Workflow[..., Any, Any] = Workflow(fn, name, DefinitionOptions(**options))
            self._register(made)
            return made

        return decorate if fn is None else decorate(fn)

    def _register(self, definition: Definition[..., Any, Any]) -> None:
        known = self._definitions.get(definition.name)
        if known is not None and _place(known) != _place(definition):
            raise DefinitionError(
                f"two definitions have the name {definition.name!r}: {known!r} at {known.location} and {definition!r} "
                f"at {definition.location}; give one of them name="
            )
        self._definitions[definition.name] = definition
        if definition.is_handler:
            _warn_of_forgotten(definition)

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._definitions)
        if close:
            hint = f"did you mean {' or '.join(repr(each) for each in close)}?"
        elif self._definitions:
            hint = f"it knows {', '.join(sorted(self._definitions))}"
        else:
            hint = "it knows none: import the module that defines them first"
        return f"no workflow or task {name!r} is defined in {self.name}: {hint}"


def call(name: str, /, **arguments: Any) -> Call[Any]:
    """A call by name, for a client that does not import the code: `call("checkout", order_id="o-1")`."""
    return Call(None, check_name(name, "the name of a definition"), arguments)


def _options(
    queue: str,
    retry: Retry | None,
    config: Mapping[str, Any] | None,
    priority: int,
    cron: str | Cron | Iterable[str | Cron] | None,
    on: str | On | Iterable[str | On] | None,
    window: str | Window | Iterable[str | Window] | None,
    default: Retry,
) -> dict[str, Any]:
    if retry is not None and not isinstance(retry, Retry):
        raise DefinitionError(f"retry= takes a Retry, such as Retry(5), not {retry!r}")
    if config is not None and not isinstance(config, Mapping):
        raise DefinitionError(f"config= takes a mapping, not {config!r}")
    return {
        "queue": check_name(queue, "a queue"),
        "retry": default if retry is None else retry,
        "config": dict(config or {}),
        "priority": check_priority(priority),
        "cron": as_crons(cron),
        "on": as_events(on),
        "window": as_windows(window),
    }


def _place(definition: Definition[..., Any, Any]) -> tuple[str, str, int]:
    function = definition.function
    if _CELL.fullmatch(function.file):
        return "<cell>", function.qualname, 0
    if function.line == 0:  # no code of its own, such as a partial
        return function.file, function.qualname, id(definition.fn)
    return os.path.realpath(function.file), function.qualname, function.line


def _warn_of_forgotten(definition: Definition[..., Any, Any]) -> None:
    for each in find_forgotten(definition.fn, linecache.getlines(definition.function.file)):
        # The line of the command and not that of the decorator is what is to be mended.
        warnings.warn_explicit(str(each), ForgottenYieldWarning, each.file, each.line)


app = App()
task = app.task
workflow = app.workflow
