"""`drive`: run a handler to its end without a database, with scripted outcomes and virtual time.

It drives the same core as a worker does, retries, checkpoints and run-level policies included. It never sleeps and
calls no function of the user's unless a test scripts one or says `run=True`.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar, cast

from flowgen.app import app
from flowgen.core import codec
from flowgen.core.branches import Leaf
from flowgen.core.commands import Invoke, RunRef, Transaction, Wait
from flowgen.core.context import StepFacts, entered
from flowgen.core.decision import Cancelled, FunctionCall, Raised, Result, Returned
from flowgen.core.definitions import Call, Definition
from flowgen.core.functions import ContextKind, describe
from flowgen.core.inputs import encode_input
from flowgen.errors import RunCancelled, RunFailed
from flowgen.testing.bench import BEGINNING, Bench
from flowgen.testing.driven import Driven
from flowgen.testing.manual import Manual
from flowgen.testing.outcomes import failed, gave
from flowgen.testing.scripts import UNSCRIPTED, Script, as_error

__all__ = ["Drive", "awaited", "drive"]

T = TypeVar("T")


class Drive:
    """Drives a call: to its end when it is called itself, step by step with `manual`."""

    def __call__(
        self,
        call: Call[T],
        /,
        *,
        outcomes: Mapping[Any, object] | None = None,
        run: bool = False,
        now: datetime = BEGINNING,
        services: object = None,
    ) -> Driven[T]:
        """Run a handler to its end, in virtual time, and give its trace.

        `outcomes` says what steps, transactions, children and waits for messages come to. A key is a task, workflow or
        function, its name, that of a signal, a name that `.opts(name=)` gave, a key such as "charge#2", or a command.
        A value is the result; an exception, instance or class, with which it fails for good; a function that is called
        with the arguments (what it raises is a failed attempt and retried by the policy); or a list of these for
        successive calls.
        What is not scripted is an AssertionError, or runs when `run` is true: functions are called, children driven.
        `now` is when the run starts; `services` is what `ctx.services` gives.

        Raises what the handler raises; RunFailed for a run that its deadline ended.
        """
        bench = made(call, now=now, services=services)
        try:
            _Driving(bench, Script(outcomes), run).to_the_end()
        finally:
            bench.execution.close()
            for text in bench.warnings:
                warnings.warn(text, stacklevel=2)
        return cast(Driven[T], driven(bench))

    def manual(self, call: Call[T], /, *, now: datetime = BEGINNING, services: object = None) -> Manual[T]:
        """Drive a handler step by step: `with drive.manual(call) as d:`; see `Manual`."""
        bench = made(call, now=now, services=services)
        bench.hold = lambda leaf: True
        return Manual(bench)


drive = Drive()


def made(call: Call[Any], *, now: datetime, services: object) -> Bench:
    """The bench of a call that nothing was done with yet."""
    definition = call.definition if call.definition is not None else app.definition(call.name)
    return Bench(
        definition=definition,
        input=encode_input(definition, call.name, call.arguments),
        now=now,
        id=call.options.id or "test",
        services=services,
        log=_log,
    )


def driven(bench: Bench) -> Driven[Any]:
    """The trace of a run that has ended. Raises what it failed with."""
    end = bench.execution.problem or bench.execution.error
    if bench.output is None:
        if isinstance(bench.finish, Cancelled):
            raise RunCancelled(bench.id, bench.finish.reason)
        if end is not None:
            raise end
        assert bench.error_text is not None
        trace = Driven.of(bench)
        assert trace.failure is not None
        raise RunFailed(bench.id, trace.failure)
    return Driven.of(bench)


class _Driving:
    """One `drive`: goes on with whatever comes first in virtual time."""

    def __init__(self, bench: Bench, script: Script, run: bool) -> None:
        self.bench = bench
        self.script = script
        self.run = run
        self._scripted: dict[str, object] = {}
        """What was scripted for each call; its next attempts get the same."""

    def to_the_end(self) -> None:
        bench = self.bench
        bench.hold = lambda leaf: leaf.command.guards
        bench.go()
        while bench.finish is None:
            if bench.held:
                self._patch(next(iter(bench.held)))
                continue
            call = next((call for call in bench.calls.values() if self._is_due(call)), None)
            if call is not None:
                self._call(call)
                continue
            waits = [leaf for leaf in bench.execution.outstanding() if leaf.message_key is not None]
            child = next((leaf for leaf in waits if _is_of_child(leaf)), None)
            if child is not None:
                self._child(child)
                continue
            if any(self._message(leaf) for leaf in waits):
                continue
            if bench.due_at is None:
                raise AssertionError(_unscripted(waits[0].key, waits[0].command))
            bench.move_to(bench.due_at)

    def _patch(self, key: str) -> None:
        """A Patch is True, as for a run on new code, unless the test says another."""
        leaf = self.bench.leaf(key)
        assert leaf is not None
        scripted = self.script.next_for(key, leaf.command, None)
        self.bench.record(self.bench.held[key] if scripted is UNSCRIPTED else gave(leaf, scripted))

    def _is_due(self, call: FunctionCall) -> bool:
        return call.not_before is None or call.not_before <= self.bench.now

    def _call(self, call: FunctionCall) -> None:
        if call.attempt == 1:
            self._scripted[call.key] = self.script.next_for(call.key, call.command, call.command.fn)
        scripted = self._scripted[call.key]
        leaf = self.bench.leaf(call.key)
        assert leaf is not None
        error = as_error(scripted)
        if error is not None:
            self.bench.record(failed(leaf, error, call.attempt))
        elif scripted is not UNSCRIPTED and not callable(scripted):
            self.bench.settle(call.key, Returned(scripted))
        else:
            self.bench.settle(call.key, self._called(call, scripted))

    def _called(self, call: FunctionCall, scripted: object) -> Result:
        fn: Callable[..., Any] = cast(Callable[..., Any], scripted)
        if scripted is UNSCRIPTED:
            if not self.run or isinstance(call.command, Transaction):
                raise AssertionError(_unscripted(call.key, call.command))
            fn = call.command.fn.fn if isinstance(call.command.fn, Definition) else call.command.fn
        facts = StepFacts(key=call.key, attempt=call.attempt, max_attempts=call.max_attempts, config=call.config)
        context = self.bench.execution.step_context(facts)
        args = call.command.args
        if not isinstance(fn, Definition) and describe(fn).context is not ContextKind.NONE:
            args = (context, *args)
        try:
            with entered(context):
                return Returned(awaited(fn(*args, **dict(call.command.kwargs))))
        except Exception as error:
            # A fake that asserts something of its arguments is a part of the test.
            if isinstance(error, AssertionError) and scripted is not UNSCRIPTED:
                raise
            return Raised(error)

    def _child(self, leaf: Leaf) -> None:
        command: Any = leaf.command
        assert isinstance(command, Invoke | Wait)
        run_id, target, args, kwargs = self._started(leaf)
        scripted = self.script.next_for(leaf.key, command, target)
        error = as_error(scripted)
        value = scripted
        if error is None and (scripted is UNSCRIPTED or callable(scripted)):
            try:
                value = self._child_called(leaf, scripted, target, args, kwargs)
            except AssertionError:
                raise
            except Exception as raised:
                error = raised
        if error is not None:
            self.bench.record(failed(leaf, error))
            return
        entry = gave(leaf, value)
        payload = {"status": "completed", "output": codec.decode(entry.value or "null")}
        assert leaf.message_key is not None
        self.bench.child_ended(leaf.message_key, run_id, payload)

    def _message(self, leaf: Leaf) -> bool:
        """A wait for a message gets what is scripted for it; without that its timeout may pass."""
        scripted = self.script.next_for(leaf.key, leaf.command)
        if scripted is UNSCRIPTED:
            return False
        error = as_error(scripted)
        if error is None and callable(scripted):
            try:
                scripted = awaited(scripted())
            except AssertionError:
                raise
            except Exception as raised:
                error = raised
        self.bench.record(gave(leaf, scripted) if error is None else failed(leaf, error))
        return True

    def _started(self, leaf: Leaf) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
        """The child of a command that waits for it: its id, what it runs, and its arguments."""
        command: Any = leaf.command
        key, ref = (leaf.key, None) if isinstance(command, Invoke) else (None, command.ref.run_id)
        # The last one: a key is used again in the next segment.
        found = next(each for each in reversed(self.bench.children.values()) if key == each.key or ref == each.run_id)
        return found.run_id, found.command.definition, found.command.args, dict(found.command.kwargs)

    def _child_called(
        self, leaf: Leaf, scripted: object, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        if callable(scripted):
            return awaited(scripted(*args, **kwargs))
        if not self.run or not isinstance(target, Definition):
            raise AssertionError(_unscripted(leaf.key, leaf.command))
        child = made(target.call(*args, **kwargs), now=self.bench.now, services=self.bench.services)
        inner = _Driving(child, self.script, self.run)
        try:
            inner.to_the_end()
        finally:
            child.execution.close()
        self.bench.now = child.now
        return driven(child).result


def _is_of_child(leaf: Leaf) -> bool:
    command: Any = leaf.command
    return isinstance(command, Invoke) or (isinstance(command, Wait) and isinstance(command.ref, RunRef))


def awaited(value: Any) -> Any:
    """What a function gave; a coroutine is run to its end on a loop of its own."""
    if not asyncio.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    with ThreadPoolExecutor(1) as pool:  # a test that is a coroutine has a loop of its own here
        return pool.submit(asyncio.run, value).result()


def _unscripted(key: str, command: object) -> str:
    hint = "give outcomes={...} a result for it"
    if not isinstance(command, Transaction):
        hint += ", or drive with run=True"
    return f"the handler waits for {command!r} as {key!r}, and the test does not say what it comes to: {hint}"


def _log(level: str, message: str, fields: Mapping[str, Any], error: BaseException | None) -> None:
    number = logging.ERROR if level == "exception" else getattr(logging, level.upper())
    logging.getLogger("flowgen.run").log(number, message, exc_info=error, extra={"flowgen": dict(fields)})
