"""`drive.manual`: a handler step by step; the test sends what each command comes to."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Self, cast

from typing_extensions import TypeVar

from flowgen.core.branches import Leaf
from flowgen.core.commands import Command
from flowgen.core.decision import Cancelled as CancelledRun
from flowgen.errors import Cancelled, RunCancelled, RunFailed
from flowgen.testing.bench import Bench
from flowgen.testing.driven import Driven
from flowgen.testing.outcomes import failed, gave
from flowgen.testing.scripts import as_error

__all__ = ["Manual"]

T_co = TypeVar("T_co", covariant=True, default=Any)

_NOTHING: Any = object()


class Manual(Generic[T_co]):
    """A handler that waits for the test at each command.

    Leaving the `with` block raises what the handler failed with, unless `result` has shown it.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._seen = False

    def __enter__(self) -> Self:
        self._bench.go()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bench.execution.close()
        hidden = self._error
        if kind is None and hidden is not None and not self._seen and not isinstance(hidden, RunCancelled):
            raise hidden

    # what the handler waits for

    @property
    def commands(self) -> list[Command[Any]]:
        """Every command that waits for its outcome: several inside of a Gather, none when the handler has ended."""
        return [leaf.command for leaf in self._leaves]

    @property
    def command(self) -> Command[Any]:
        """The command that waits. Raises AssertionError when several do, or none."""
        return self._only(None).command

    @property
    def done(self) -> bool:
        """Whether the handler has ended."""
        return self._bench.finish is not None

    @property
    def result(self) -> T_co:
        """What the handler returned. Raises what it raised, RunCancelled, or AssertionError when it has not ended."""
        self._seen = True
        if not self.done:
            raise AssertionError(f"the handler has not ended: it waits for {self.commands}")
        if self._error is not None:
            raise self._error
        return self.trace.result

    @property
    def trace(self) -> Driven[T_co]:
        """What is recorded so far."""
        return cast("Driven[T_co]", Driven.of(self._bench))

    # what it comes to

    def send(self, value: object = _NOTHING, /, *, to: Command[Any] | str | None = None) -> None:
        """The command that waits gives `value`; without one what it makes itself (Now, Uuid, Start), else None.

        `to` says which, by the command or its key, when several wait.
        """
        leaf = self._only(to)
        bench = self._bench
        if leaf.due_at is not None and value in (None, _NOTHING):
            bench.now = max(bench.now, leaf.due_at)
        held = bench.held.get(leaf.key)
        if (value is _NOTHING and held is not None) or (held is not None and value is None):
            bench.record(held)
        else:
            bench.record(gave(leaf, None if value is _NOTHING else value))

    def throw(self, error: BaseException | type[BaseException], /, *, to: Command[Any] | str | None = None) -> None:
        """The command that waits fails with `error`, for good; `Cancelled` cancels the run."""
        raised = as_error(error)
        if raised is None:
            raise AssertionError(f"throw takes an exception, not {error!r}")
        if isinstance(raised, Cancelled):
            self._bench.cancel(str(raised) or None)
            return
        leaf = self._only(to)
        call = self._bench.calls.get(leaf.key)
        self._bench.record(failed(leaf, raised, 1 if call is None else call.attempt))

    @property
    def _leaves(self) -> list[Leaf]:
        return self._bench.execution.outstanding() if not self.done else []

    def _only(self, to: Command[Any] | str | None) -> Leaf:
        leaves = self._leaves
        if not leaves:
            error = self._error
            end = f"failed with {error!r}" if error is not None else "ended"
            raise AssertionError(f"no command waits: the handler has {end}") from error
        if to is not None:
            leaves = [leaf for leaf in leaves if to in (leaf.command, leaf.key)]
            if not leaves:
                raise AssertionError(f"{to!r} does not wait; these do: {self.commands}")
        if len(leaves) > 1:
            keys = [leaf.key for leaf in leaves]
            raise AssertionError(f"several commands wait: {self.commands}; say which with to=, by its key: {keys}")
        return leaves[0]

    @property
    def _error(self) -> BaseException | None:
        bench = self._bench
        if bench.finish is None or bench.output is not None:
            return None
        if isinstance(bench.finish, CancelledRun):
            return RunCancelled(bench.id, bench.finish.reason)
        error = bench.execution.problem or bench.execution.error
        if error is not None:
            return error
        failure = self.trace.failure
        assert failure is not None
        return RunFailed(bench.id, failure)
