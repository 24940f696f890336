"""The options of commands: values that take no part in a command's identity, the author's name apart."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import attrs

from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError

__all__ = ["ChildOptions", "CommandOptions", "StepOptions", "child_options", "step_options"]


@attrs.frozen(kw_only=True)
class CommandOptions:
    """Options of every command."""

    name: str | None = None


@attrs.frozen(kw_only=True)
class StepOptions(CommandOptions):
    """Options of Step and Transaction; None means what the task says, else the default."""

    retry: Retry | None = None
    timeout: timedelta | None = None
    at_most_once: bool = False
    config: Mapping[str, Any] = attrs.field(factory=dict)


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


def step_options(
    options: StepOptions,
    given: dict[str, Any],
    retry: Retry | None,
    timeout: Duration | None,
    at_most_once: bool | None,
    config: Mapping[str, Any] | None,
) -> StepOptions:
    """`options` with what is given. Raises DefinitionError for values that do not fit."""
    if retry is not None:
        if not isinstance(retry, Retry):
            raise DefinitionError(f"retry= takes a Retry, such as Retry(5), not {retry!r}")
        given["retry"] = retry
    if timeout is not None:
        given["timeout"] = as_timedelta(timeout, what="timeout", positive=True)
    if at_most_once is not None:
        given["at_most_once"] = at_most_once
    if config is not None:
        given["config"] = dict(config)
    return attrs.evolve(options, **given)


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
