"""Why a run is where it is: a sentence for people, and the same as data.

Pure: it is given the run and its circumstances, as the store saw them at one moment. The invariant: every status has an
answer, and one that needs somebody to act says what to do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from flowgen.client.runs import failure_of
from flowgen.core.entries import EntryKind
from flowgen.core.states import Request, RunStatus, Status, public
from flowgen.postgres.observe import Circumstances
from flowgen.postgres.rows import RunRow

__all__ = ["Why", "explain"]

_SUSPECT = 2


@attrs.frozen
class Why:
    """The answer. `code` is one word for programs, `stuck` whether it stays so until somebody acts."""

    run_id: str
    status: RunStatus
    code: str
    sentence: str
    stuck: bool
    data: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    def __str__(self) -> str:
        return self.sentence


def explain(run: RunRow, seen: Circumstances) -> Why:
    """Say why the run is not running, or that it runs, or how it ended."""
    code, said, stuck = _answer(run, seen)
    name = run.id if run.id is not None else str(run.run_id)
    status = public(run.status)
    data = {
        "name": run.name,
        "queue": run.queue,
        "due_at": _iso(run.due_at),
        "deadline": _iso(run.deadline),
        "owner": seen.owner,
        "live_workers": seen.live_workers,
        "knowing": seen.knowing,
        "serving": seen.serving,
        "queue_paused": seen.queue_paused,
        "live_children": seen.live_children,
        "child": seen.child,
        "messages": seen.messages,
        "recoveries": run.recoveries,
        "requested": Request(run.request).name.lower() if run.request else None,
        "reason": seen.reason,
        "closed": seen.closed,
    }
    return Why(name, status, code, f"{name} ({run.name}) is {status}: {said}", stuck, data)


def _answer(run: RunRow, seen: Circumstances) -> tuple[str, str, bool]:
    match Status(run.status):
        case Status.COMPLETED:
            return "completed", f"it ended at {_iso(run.finished_at)}", False
        case Status.FAILED:
            failure = failure_of(run.status, run.error)
            return "failed", f"it ended at {_iso(run.finished_at)} with {failure or 'no recorded error'}", False
        case Status.CANCELLED:
            failure = failure_of(run.status, run.error)
            reason = failure.message if failure is not None and failure.message else "no reason was given"
            return "cancelled", f"it ended at {_iso(run.finished_at)}: {reason}", False
        case Status.PARKED:
            return _parked(run)
        case Status.PAUSED:
            by = f" ({seen.reason})" if seen.reason else ""
            return "paused", f"somebody paused it{by}; resume it to go on", True
        case Status.RUNNING:
            return _running(run, seen)
        case Status.WAITING:
            return _waiting(run, seen)
        case Status.DELAYED:
            what = "its start is delayed" if run.started_at is None else f"attempt {run.attempt} is delayed"
            return "delayed", f"{what} until {_iso(run.due_at)}{_nobody(run, seen)}", _no_taker(seen)
        case Status.READY | Status.HELD:
            return _pending(run, seen)


def _parked(run: RunRow) -> tuple[str, str, bool]:
    failure = failure_of(run.status, run.error)
    kind = "unknown reason" if failure is None else failure.details.get("reason") or failure.type
    said = "" if failure is None or not failure.message else f": {failure.message}"
    return "parked", f"parked as {kind}; deploy code that fits and resume it, or accept the code as it is{said}", True


def _running(run: RunRow, seen: Circumstances) -> tuple[str, str, bool]:
    asked = f", and is asked to {Request(run.request).name.lower()}" if run.request else ""
    if seen.owner is None or not seen.owner["live"]:
        gone = "its worker" if seen.owner is None else f"its worker on {_place(seen.owner)}"
        nobody = "" if seen.live_workers else ", and no worker is live to do so: start one with flowgen.run()"
        return "worker_lost", f"{gone} is gone; another takes it over{nobody}{asked}", not seen.live_workers
    since = _iso(run.started_at)
    doing = _doing(seen)
    return "running", f"on {_place(seen.owner)}, begun at {since}{doing}{asked}", False


def _doing(seen: Circumstances) -> str:
    entry = seen.last_entry
    if entry is None or not entry["key"]:
        return ""
    word = EntryKind(entry["kind"]).name.lower().replace("_", " ")
    return f"; recorded last: {word} of {entry['key']}"


def _waiting(run: RunRow, seen: Circumstances) -> tuple[str, str, bool]:
    code, said, stuck = _awaited(run, seen)
    cleans = "it was cancelled, and its clean-up waits " if run.request == Request.CANCEL else ""
    return code, cleans + said, stuck


def _awaited(run: RunRow, seen: Circumstances) -> tuple[str, str, bool]:
    timer = run.due_at if run.due_at is not None and run.due_at != run.deadline else None
    until = f"a timer until {_iso(timer)}" if timer is not None else ""
    stuck = _no_taker(seen)
    if seen.live_children:
        child = seen.child or {}
        state = public(child.get("status", Status.READY))
        others = f" and {seen.live_children - 1} more" if seen.live_children > 1 else ""
        timed = f", or {until}" if until else ""
        return "child", f"for child {child.get('id')} ({child.get('name')}, {state}){others}{timed}", False
    if timer is not None:
        over = ", which is over" if timer <= seen.now else ""
        return "timer", f"for {until}{over}{_nobody(run, seen)}", stuck
    deadline = f"; its deadline is {_iso(run.deadline)}" if run.deadline is not None else ""
    return "message", f"for a message (a signal, an event or a token){deadline}", False


def _pending(run: RunRow, seen: Circumstances) -> tuple[str, str, bool]:
    by = f" ({seen.reason})" if seen.reason else ""
    asked = f"; it is asked to {Request(run.request).name.lower()}{by}" if run.request else ""
    stands = f"{asked}, which waits for that" if asked else ""
    if seen.queue_paused:
        return "queue_paused", f"its queue {run.queue!r} is paused; resume the queue{stands}", True
    trouble = _trouble(run, seen)
    if trouble is not None:
        return trouble[0], trouble[1] + stands, True
    if seen.closed is not None:
        when = ", ".join(seen.closed["windows"])
        opens_at = _iso(datetime.fromisoformat(seen.closed["opens_at"]))
        return "window_closed", f"it is outside of its window ({when}), which opens at {opens_at}{stands}", False
    if run.recoveries >= _SUSPECT:
        return (
            "suspect",
            f"{run.recoveries} workers died of it, so it waits for one that holds nothing else{asked}",
            False,
        )
    return (
        "ready",
        f"ready since {_iso(run.due_at or run.created_at)}; live workers that can take it: {seen.serving}, all busy or "
        f"about to{asked}",
        False,
    )


def _trouble(run: RunRow, seen: Circumstances) -> tuple[str, str] | None:
    if not seen.live_workers:
        return "no_worker", "no worker is live; start one with flowgen.run()"
    if not seen.knowing:
        return "unknown", f"no live worker (of {seen.live_workers}) knows {run.name!r}; start one that imports it"
    if not seen.serving:
        return "unserved", f"no live worker that knows {run.name!r} serves the queue {run.queue!r}; start one that does"
    return None


def _no_taker(seen: Circumstances) -> bool:
    return not seen.serving


def _nobody(run: RunRow, seen: Circumstances) -> str:
    trouble = _trouble(run, seen)
    return "" if trouble is None else f"; {trouble[1]}"


def _place(owner: dict[str, Any]) -> str:
    return f"{owner['host']}:{owner['pid']}"


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="milliseconds")
