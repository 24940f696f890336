"""Where a worker's plain texts become sealed ones, on their way into the store; the core never sees a sealed text.

The invariant: what the codec refuses fails the command or the run that it belongs to, once, and never its neighbours.
The failure names the codec and holds nothing of the value, so it is stored as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs

from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_to_json
from flowgen.core.sealing import Seal, is_sealed
from flowgen.errors import CodecError, Failure
from flowgen.postgres.effects import Effect, Emission
from flowgen.postgres.rows import ClaimedRun, NewRun, RunAction, RunUpdate, ScheduleChange
from flowgen.worker.live import Part
from flowgen.worker.updates import end

__all__ = ["as_sent", "opened_run", "sealed_child", "sealed_part", "sealed_schedules"]

_log = logging.getLogger("flowgen.worker")

_ENDS = frozenset({RunAction.COMPLETE, RunAction.FAIL, RunAction.CANCEL, RunAction.PARK})
_FAILS = frozenset({"step", "transaction", "invoke", "wait", "start", "waitsignal", "signal"})
"""Commands that tell their handler of a failure."""


def opened_run(seal: Seal | None, claimed: ClaimedRun) -> ClaimedRun:
    """A claimed run as it was before it was stored; its inbox is opened when it is heard. Raises CodecError."""
    if seal is None:
        # Of a history the core says it at the command that it belongs to.
        if is_sealed(claimed.input):
            raise CodecError(
                f"the input of {claimed.name} is encoded with a codec, and this worker has none: "
                "give it to Settings(codec=...)"
            )
        return claimed
    return attrs.evolve(
        claimed,
        input=seal.opened(claimed.input, f"the input of {claimed.name}"),
        entries=None if claimed.entries is None else seal.open_entries(claimed.entries),
    )


def sealed_child(seal: Seal, child: NewRun) -> NewRun:
    """The row of a child as it is stored. Raises CodecError."""
    return attrs.evolve(child, input=seal.closed(child.input, f"the input of {child.name}"))


def sealed_schedules(seal: Seal | None, changes: Sequence[ScheduleChange]) -> Sequence[ScheduleChange]:
    """The rows of schedules as they are stored. Raises CodecError."""
    if seal is None:
        return changes
    return [
        each
        if each.cron is None
        else attrs.evolve(each, input=seal.closed(each.input, f"the input of the schedule {each.target}/{each.name}"))
        for each in changes
    ]


def sealed_effect(seal: Seal, effect: Effect) -> Effect:
    """What is stored beside entries, as it is stored. Raises CodecError."""
    return seal_emission(seal, effect) if isinstance(effect, Emission) else effect


def seal_emission(seal: Seal, event: Emission) -> Emission:
    """The event as it is stored. Raises CodecError."""
    what = f"the payload of the event {event.name}"
    return attrs.evolve(event, payload=seal.closed(event.payload, what), input=seal.closed(event.input, what))


def as_sent(stored: Sequence[Entry], sent: Sequence[Entry]) -> list[Entry]:
    """Entries that were read back, with the plain values of those that were sent."""
    plain = {entry.index: entry.value for entry in sent}
    return [attrs.evolve(entry, value=plain.get(entry.index, entry.value)) for entry in stored]


def sealed_part(seal: Seal, part: Part) -> Part:
    """The part as it is stored. What cannot be encoded is a failure in the part itself too, as it will be told."""
    try:
        return Part(
            part.run,
            _entries(seal, part),
            [sealed_child(seal, child) for child in part.children],
            sealed_schedules(seal, part.schedules),
            part.consumed,
            [sealed_effect(seal, effect) for effect in part.effects],
            None if part.update is None else _update(seal, part.update),
        )
    except CodecError as refused:
        failure = Failure("CodecError", str(refused), details={"permanent": True})
        part.entries = part.children = part.schedules = part.consumed = part.effects = ()
        part.update = end(part.run, RunAction.FAIL, None, failure_to_json(failure))
        part.run.leaving = True
        return Part(part.run, (), update=part.update)


def _entries(seal: Seal, part: Part) -> Sequence[Entry]:
    ends = part.update is not None and part.update.action in _ENDS
    sealed: list[Entry] = []
    for place, entry in enumerate(part.entries):
        try:
            sealed.append(seal.close_entry(entry))
        except CodecError as refused:
            if ends or entry.fingerprint is None or entry.fingerprint.partition(":")[0] not in _FAILS:
                raise
            failed = _failed(entry, refused)
            sealed.append(failed)
            # A copy is told: both are filled in by who commits them.
            part.entries = [*part.entries[:place], attrs.evolve(failed), *part.entries[place + 1 :]]
    return sealed


def _failed(entry: Entry, refused: CodecError) -> Entry:
    failure = Failure("CodecError", str(refused), details={"permanent": True})
    return attrs.evolve(
        entry,
        kind=EntryKind.OUTCOME,
        status=OutcomeKind.FAILURE,
        value=failure_to_json(failure),
        due_at=None,
        delay=None,
    )


def _update(seal: Seal, update: RunUpdate) -> RunUpdate:
    output, error, progress, reports = update.output, update.error, update.progress, update.reports
    given = None if update.input is None else seal.closed(update.input, "the input of the next pass")
    if output is not None:
        output = seal.closed(output, "the result")
    if error is not None and update.action == RunAction.PARK:
        error = seal.close_reason(error)
    elif error is not None and update.action == RunAction.CANCEL:
        error = seal.close_cancellation(error)
    elif error is not None:
        error = seal.closed(error, "the failure")
    if progress is not None or reports is not None:
        try:
            progress = None if progress is None else seal.closed(progress, "the progress")
            reports = None if reports is None else seal.closed(reports, "the progress")
        except CodecError as refused:
            _log.warning("run %s: %s", update.run_id, refused)
            progress = reports = None
    if output is error is progress is reports is given is None:
        return update
    return attrs.evolve(update, output=output, error=error, progress=progress, reports=reports, input=given)
