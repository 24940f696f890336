"""Commands that call a function once: Step and Transaction.

They never call it themselves; what they keep is the function and the arguments as they were given. The invariant:
however the arguments were spelled, equal calls are equal commands, for they are compared as bound to the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, overload

import attrs
from typing_extensions import TypeVar

from flowgen.core.canonical import canonical, exact
from flowgen.core.commands.command import Command, Compensation, given_compensation, set_field, shown_call
from flowgen.core.definitions import Definition, is_definition
from flowgen.core.durations import Duration
from flowgen.core.fingerprint import text_hash
from flowgen.core.functions import Flavour, Function, describe
from flowgen.core.options import After, JoinRule, StepOptions, When, common_options, step_options
from flowgen.core.retry import DEFAULT_STEP, Retry
from flowgen.core.states import RunKind
from flowgen.errors import DefinitionError

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

__all__ = ["Step", "Transaction"]

T = TypeVar("T")
P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)

NO_STEP_OPTIONS = StepOptions()
_GENERATORS = (Flavour.GENERATOR, Flavour.ASYNC_GENERATOR)


class _Call(Command[T_co]):
    """Shared by the commands that call a function: the function and its arguments."""

    __slots__ = ()
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: StepOptions  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    function: Function
    """The described function; its binder knows only the parameters that the caller passes."""

    @property
    def target(self) -> str:
        fn = self.fn
        return fn.name if isinstance(fn, Definition) else self.function.name or self.options.name or ""

    @property
    def default_name(self) -> str:
        """Raises DefinitionError for a function without a name that its outcome could be kept under."""
        target = self.target
        if not target:
            raise DefinitionError(
                f"{type(self).__name__} of {self.fn!r}: it has no name of its own, "
                "write it with def, or give it .opts(name=)"
            )
        return target

    @property
    def retry(self) -> Retry:
        """The retry policy: the command's, else the task's, else the default."""
        own, fn = self.options.retry, self.fn
        if own is not None:
            return own
        return fn.options.retry if isinstance(fn, Definition) else DEFAULT_STEP

    @property
    def timeout(self) -> timedelta | None:
        """Start to close: the command's, else the task's."""
        own, fn = self.options.timeout, self.fn
        return fn.options.timeout if own is None and isinstance(fn, Definition) else own

    @property
    def config(self) -> Mapping[str, Any]:
        """The command's over the task's."""
        own, fn = self.options.config, self.fn
        return {**fn.options.config, **own} if isinstance(fn, Definition) else own

    @property
    def compensate(self) -> Any:
        return self.options.compensate

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self.function.binder.bind(self.args, dict(self.kwargs) if self.kwargs else {})

    def fingerprint(self) -> str:
        """As the other commands have it; made at the yield. Raises CodecError for arguments that cannot be stored.

        They are not stored, but a replay compares them, and the same call as a run of its own would store them.
        """
        # One call deep: it is made for each step, and again in each replay.
        binder = self.function.binder
        bound = binder.bind(self.args, dict(self.kwargs) if self.kwargs else {})
        text = exact(bound)
        if text is None:
            binder.check_arguments(bound, what=f"{type(self).__name__}({self.target})")
            text = canonical(bound)
        return f"{self.kind}:{self.target}:{text_hash(text)}"

    def _shown(self) -> list[str]:
        return shown_call(self.target or repr(self.fn), self.args, self.kwargs)


@attrs.frozen(init=False, eq=False, repr=False)
class Step(_Call[T_co]):
    """Run a function once and remember its outcome. Sync and async functions, retried by `retry`."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: StepOptions
    function: Function
    kind = "step"
    stores = False

    @overload
    def __init__(
        self: Step[T], fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    @overload
    def __init__(self: Step[T], fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def __init__(self, fn: Any, /, *args: Any, **kwargs: Any) -> None:
        set_field(self, "fn", fn)
        set_field(self, "args", args)
        set_field(self, "kwargs", tuple(sorted(kwargs.items())) if kwargs else ())
        set_field(self, "options", NO_STEP_OPTIONS)
        function = fn.function if isinstance(fn, Definition) else describe(fn)
        set_field(self, "function", function)
        if function.flavour in _GENERATORS or (function.flavour is Flavour.ASYNC and is_handler(fn)):
            raise DefinitionError(_no_step(fn, function))

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        at_most_once: bool | None = None,
        config: Mapping[str, Any] | None = None,
        compensate: Compensation[T_co] | None = None,
    ) -> Self:
        """The same step with options.

        `retry` replaces the task's policy, `timeout` is start to close for each attempt, `at_most_once` refuses a
        second call after a crash (`StepInterrupted`), `config` is read by `ctx.get_config`. `compensate` undoes it when
        the run fails or is cancelled: a command, or a function of the outcome that gives one, or None.
        """
        common, undo = common_options(name, after, when, join), given_compensation(compensate)
        return self._with(step_options(self.options, common, retry, timeout, at_most_once, config, undo))


@attrs.frozen(init=False, eq=False, repr=False)
class Transaction(_Call[T_co]):
    """Call `fn(conn, ...)` in one Postgres transaction together with its own outcome: exactly once."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: StepOptions
    function: Function
    kind = "transaction"
    stores = False

    @overload
    def __init__(
        self: Transaction[T],
        fn: Callable[Concatenate[AsyncConnection[Any], P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None: ...
    @overload
    def __init__(
        self: Transaction[T], fn: Callable[Concatenate[Connection[Any], P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> None: ...
    def __init__(self, fn: Any, /, *args: Any, **kwargs: Any) -> None:
        set_field(self, "fn", fn)
        set_field(self, "args", args)
        set_field(self, "kwargs", tuple(sorted(kwargs.items())) if kwargs else ())
        set_field(self, "options", NO_STEP_OPTIONS)
        function = describe(fn.fn if isinstance(fn, Definition) else fn, skip=1)
        set_field(self, "function", function)
        if function.flavour in _GENERATORS or is_handler(fn):
            raise DefinitionError(
                f"Transaction({function.qualname}): its function takes a connection and returns a value; it must "
                "not be a workflow or a generator"
            )

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        config: Mapping[str, Any] | None = None,
        compensate: Compensation[T_co] | None = None,
    ) -> Self:
        """The same transaction with options; see `Step.opts`."""
        common, undo = common_options(name, after, when, join), given_compensation(compensate)
        return self._with(step_options(self.options, common, retry, timeout, None, config, undo))


def is_handler(fn: Any) -> bool:
    """Whether it is a definition whose function yields commands."""
    return is_definition(fn) and fn.is_handler


def _no_step(fn: Any, function: Function) -> str:
    if not is_definition(fn):
        return (
            f"Step({function.qualname}): a generator function is not a step; decorate it and use Invoke for a "
            f"child run, or run it inline: {_inline(function)}"
        )
    sort = "workflow" if fn.kind is RunKind.WORKFLOW else "generator task"
    return (
        f"Step({fn.name}): a {sort} is not a step; use Invoke({fn.name}, ...) for a child run, or "
        f"call it inline: {_inline(function)}"
    )


def _inline(function: Function) -> str:
    spelling = "await" if function.flavour is Flavour.ASYNC else "yield from"
    return f"`{spelling} {function.name or function.qualname}(...)`"
