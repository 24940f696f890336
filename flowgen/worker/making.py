"""Makes what the runner works with: a live run from a claimed row, a new row from a command."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import attrs

from flowgen.app import App
from flowgen.core import codec
from flowgen.core.commands import Schedule, Start
from flowgen.core.cron import CronSpec, next_after
from flowgen.core.decision import ChildStart, Decision, ScheduleRequest
from flowgen.core.definitions import Definition
from flowgen.core.facts import CALLED, RunFacts, Trigger
from flowgen.core.history import History
from flowgen.core.inputs import triggered_input, triggering_payload
from flowgen.core.interpreter import Execution
from flowgen.core.sealing import Seal
from flowgen.core.semantics.children import MAX_DEPTH
from flowgen.core.settings import Settings
from flowgen.core.states import RunKind
from flowgen.errors import CodecError
from flowgen.postgres.effects import Effect, Emission, Listening, Quitting
from flowgen.postgres.rows import ClaimedRun, NewRun, ScheduleChange
from flowgen.worker.live import LiveRun
from flowgen.worker.sealing import opened_run

__all__ = ["NEAR", "Maker"]

NEAR = MAX_DEPTH - 8
"""From this depth on the names of the runs above are told, to show what goes round in circles."""
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
}


class Maker:
    """Knows the definitions and the services of one worker."""

    def __init__(
        self,
        app: App,
        services: Any,
        settings: Settings,
        now: Callable[[], datetime],
        *,
        secret: bytes,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`now` is the database's time; `entropy` is what Uuid, Random and the ids of children are made of.

        `secret` is the schema's: completion tokens are signed with it.
        """
        self._secret = secret
        self._definitions: Mapping[str, Definition[..., Any, Any]] = app.definitions
        self._services = services
        self._settings = settings
        self._seal = Seal.of(settings)
        self._now = now
        self._entropy = entropy
        self._log = logging.getLogger("flowgen.run")

    def live(self, claimed: ClaimedRun) -> LiveRun:
        """The live run of a claimed row, at the start of its replay."""
        definition = self._definitions[claimed.name]
        entries = claimed.entries or ()
        facts = RunFacts(
            run_id=claimed.id,
            uuid=claimed.run_id,
            name=claimed.name,
            attempt=claimed.attempt,
            max_attempts=definition.options.retry.max_attempts,
            resumed=bool(entries) or claimed.recoveries > 0,
            correlation_id=claimed.correlation_id,
            parent_correlation_id=claimed.parent_correlation_id,
            trigger=_trigger(claimed),
            services=self._services,
            log=self._write,
            schema=self._settings.schema,
            depth=claimed.depth,
            lineage=_lineage(claimed) if claimed.depth > NEAR else (),
            since=claimed.floor,
            max_payload=self._settings.max_payload,
            discreet=self._seal is not None,
            secret=self._secret,
        )
        next_index = max(1, claimed.next_index)
        history = History.of(entries, base=claimed.base, prologue=claimed.prologue, next_index=next_index)
        execution = Execution(
            definition,
            facts,
            claimed.input,
            history,
            entropy=self._entropy,
            deadline=claimed.deadline,
            created_at=claimed.created_at,
        )
        claimed.entries = ()  # the execution has them, for as long as it replays
        return LiveRun(claimed, execution, next_index, claimed.mail)

    def read(self, claimed: ClaimedRun) -> tuple[LiveRun, str | None]:
        """As `live`, and why the run cannot be read; then it is there to be parked."""
        unreadable = claimed.unreadable
        if unreadable is None:
            try:
                return self.live(opened_run(self._seal, claimed)), None
            except Exception as error:  # nobody else's run shall suffer from it
                unreadable = f"{type(error).__name__}: {error}"
        bare = attrs.evolve(claimed, entries=(), base=0, prologue=0, trigger=None, inbox=())
        return self.live(bare), unreadable

    def child(self, run: LiveRun, start: ChildStart) -> NewRun:
        """The row of a child run."""
        command, options = start.command, start.command.options
        definition = command.definition if isinstance(command.definition, Definition) else None
        if definition is None:
            definition = self._definitions.get(command.target)
        parent = run.claimed
        detached = isinstance(command, Start) and options.detached
        return NewRun(
            run_id=start.run_id,
            id=options.id,
            name=command.target,
            kind=definition.kind if definition is not None else RunKind.WORKFLOW,
            queue=options.queue or (definition.options.queue if definition is not None else "default"),
            priority=options.priority
            if options.priority is not None
            else (definition.options.priority if definition is not None else 0),
            input=start.input,
            deadline=definition.options.deadline if definition is not None else None,
            tags=options.tags,
            correlation_id=parent.correlation_id or str(parent.root_id),
            parent_correlation_id=parent.correlation_id,
            parent_id=parent.run_id,
            parent_key=start.key,
            root_id=parent.root_id,
            depth=0 if detached else parent.depth + 1,
            detached=detached,
            trigger=_invoked_by(parent.name, (*_lineage(parent), parent.name) if parent.depth >= NEAR else ()),
        )

    def schedule(self, request: ScheduleRequest) -> ScheduleChange:
        """The row of a dynamic schedule, or its removal."""
        command = request.command
        if not isinstance(command, Schedule):
            return ScheduleChange(target=command.target, name=command.name, cron=None)
        definition = command.call.definition or self._definitions.get(command.target)
        options = command.call.options
        default = definition.options if definition is not None else None
        return ScheduleChange(
            target=command.target,
            name=command.name,
            cron=command.cron,
            timezone=command.timezone,
            input=request.input,
            queue=options.queue or (default.queue if default is not None else "default"),
            priority=options.priority if options.priority is not None else (default.priority if default else 0),
            kind=definition.kind if definition is not None else RunKind.WORKFLOW,
            next_at=next_after(CronSpec.parse(command.cron, command.timezone), self._now()),
        )

    def beside(self, run: LiveRun, decision: Decision) -> None:
        """What is committed beside the entries of a decision, its children apart, goes to the run."""
        if decision.schedules:
            run.schedules += [self.schedule(request) for request in decision.schedules]
        if decision.emits or decision.listens or decision.quits:
            run.effects += self._effects(run, decision)

    def _effects(self, run: LiveRun, decision: Decision) -> list[Effect]:
        """What a decision does to the store beside entries, in the order of its doing."""
        correlation_id = run.claimed.correlation_id or str(run.claimed.root_id)
        return [
            *(
                Listening(
                    key=each.key, name=each.name, fingerprint=each.fingerprint, filter=each.filter, after=each.after
                )
                for each in decision.listens
            ),
            *(
                Emission(
                    event_id=each.event_id,
                    name=each.name,
                    payload=each.payload,
                    input=triggered_input(each.payload),
                    key=each.key,
                    correlation_id=correlation_id,
                )
                for each in decision.emits
            ),
            *map(Quitting, decision.quits),
        ]

    def _write(self, level: str, message: str, fields: Mapping[str, Any], error: BaseException | None) -> None:
        exc_info: Any = True if level == "exception" else error
        self._log.log(_LEVELS[level], message, exc_info=exc_info, extra={"flowgen": dict(fields)})


@lru_cache(256)
def _invoked_by(name: str, lineage: tuple[str, ...]) -> str:
    return codec.encode({"kind": "invoke", "name": name, **({"lineage": lineage} if lineage else {})})


def _lineage(claimed: ClaimedRun) -> tuple[str, ...]:
    """Names of the runs above, as its trigger tells them: a run that is nowhere near the greatest depth has none."""
    if claimed.depth <= NEAR or claimed.trigger is None:
        return ()
    found = json.loads(claimed.trigger).get("lineage")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _trigger(claimed: ClaimedRun) -> Trigger:
    if claimed.trigger is None:
        return CALLED
    try:
        trigger: Trigger = codec.decode(claimed.trigger, Trigger)
        if trigger.kind == "event":
            # It is stored once, as the input.
            return attrs.evolve(trigger, payload=triggering_payload(claimed.input))
    except CodecError:
        return CALLED
    return trigger
