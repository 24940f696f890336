"""The options of commands: values that take no part in a command's identity, the author's name apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import attrs

from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.names import Named, check_name, step_name
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError

if TYPE_CHECKING:
    from flowgen.core.commands.graphs import GraphResult

__all__ = [
    "After", "ChildOptions", "CommandOptions", "JoinRule", "StepOptions", "WaitOptions", "When", "check_flag",
    "child_options", "common_options", "step_options",
]  # fmt: skip

After: TypeAlias = Named | Iterable[Named]
"""Which nodes of a Graph a node comes after: one or several."""
When: TypeAlias = "Callable[[GraphResult], bool]"
"""Whether a node of a Graph runs, by the results of its ancestors."""
JoinRule: TypeAlias = Literal["all_success", "all_done", "any_success"]
"""What must have come of the nodes that a node comes after, so that it runs."""


@attrs.frozen(kw_only=True)
class CommandOptions:
    """Options of every command; `after`, `when` and `join` are those of a node of a Graph."""

    name: str | None = None
    after: tuple[str, ...] = ()
    when: When | None = None
    join: JoinRule | None = None


@attrs.frozen(kw_only=True)
class StepOptions(CommandOptions):
    """Options of Step and Transaction; None means what the task says, else the default."""

    retry: Retry | None = None
    timeout: timedelta | None = None
    at_most_once: bool = False
    config: Mapping[str, Any] = attrs.field(factory=dict)
    compensate: Any = None


@attrs.frozen(kw_only=True)
class WaitOptions(CommandOptions):
    """Options of a wait for an event."""

    timeout: timedelta | None = None


@attrs.frozen(kw_only=True)
class ChildOptions(CommandOptions):
    """Options of Invoke, Start and Wait; None means what the definition says."""

    id: str | None = None
    queue: str | None = None
    priority: int | None = None
    tags: tuple[str, ...] = ()
    timeout: timedelta | None = None
    on_timeout: Literal["cancel", "abandon"] = "cancel"
    detached: bool = False
    compensate: Any = None


def common_options(
    name: str | None, after: After | None = None, when: When | None = None, join: JoinRule | None = None
) -> dict[str, Any]:
    """What is given of the options of every command. Raises DefinitionError for values that do not fit."""
    given: dict[str, Any] = {}
    if name is not None:
        given["name"] = check_name(name, "the name of a command")
    if after is not None:
        several = [after] if isinstance(after, str) or callable(after) else after
        if not isinstance(several, Iterable):
            raise DefinitionError(f"after= takes the nodes that this one comes after, such as [charge], not {after!r}")
        given["after"] = tuple(dict.fromkeys(map(step_name, several)))
    if when is not None:
        if not callable(when) or inspect.iscoroutinefunction(when) or inspect.isgeneratorfunction(when):
            raise DefinitionError(
                f"when= takes a plain function of the results so far that says yes or no, not {when!r}: what has to be "
                "looked up belongs into a node before this one"
            )
        given["when"] = when
    if join is not None:
        if join not in get_args(JoinRule):
            raise DefinitionError(f'join= is "all_success", "all_done" or "any_success", not {join!r}')
        given["join"] = join
    return given


def step_options(
    options: StepOptions,
    given: dict[str, Any],
    retry: Retry | None,
    timeout: Duration | None,
    at_most_once: bool | None,
    config: Mapping[str, Any] | None,
    compensate: object = None,
) -> StepOptions:
    """`options` with what is given. Raises DefinitionError for values that do not fit."""
    if retry is not None:
        if not isinstance(retry, Retry):
            raise DefinitionError(f"retry= takes a Retry, such as Retry(5), not {retry!r}")
        given["retry"] = retry
    if timeout is not None:
        given["timeout"] = as_timedelta(timeout, what="timeout", positive=True)
    if at_most_once is not None:
        given["at_most_once"] = check_flag(at_most_once, "at_most_once")
    if config is not None:
        if not isinstance(config, Mapping):
            raise DefinitionError(f"config= takes a mapping, not {config!r}")
        given["config"] = dict(config)
    if compensate is not None:
        given["compensate"] = compensate
    return attrs.evolve(options, **given)


def check_flag(value: object, what: str) -> bool:
    """True or False. Raises DefinitionError for anything else."""
    if not isinstance(value, bool):
        raise DefinitionError(f"{what}= is True or False, not {value!r}")
    return value


def child_options(
    options: ChildOptions,
    named: dict[str, Any],
    given: dict[str, Any],
    timeout: Duration | None,
    on_timeout: str | None,
) -> ChildOptions:
    """`options` with what is given. Raises DefinitionError for values that do not fit."""
    given = {**named, **given}
    if timeout is not None:
        given["timeout"] = as_timedelta(timeout, what="timeout", positive=True)
    if on_timeout is not None:
        if on_timeout not in ("cancel", "abandon"):
            raise DefinitionError(f'on_timeout= is "cancel" or "abandon", not {on_timeout!r}')
        given["on_timeout"] = on_timeout
    return attrs.evolve(options, **given)
