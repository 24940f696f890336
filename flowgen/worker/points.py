"""Which failpoints a commit passes: told from what it holds. Only a process with armed failpoints asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowgen.core.entries import EntryKind
from flowgen.postgres.database import Op
from flowgen.postgres.rows import FlushResult, RunAction
from flowgen.postgres.staged import staged
from flowgen.worker.live import Part

__all__ = ["flushed"]

_ENDS = frozenset({RunAction.COMPLETE, RunAction.FAIL, RunAction.CANCEL})
_EXECUTED = {
    "step": ("step.before_commit",),
    "sleep": ("sleep.before_commit",),
    "invoke": ("invoke.after_child_insert", "invoke.before_commit"),
    "schedule": (),
    "complete": ("complete.before_commit",),
    "child": ("child.before_parent_wake",),
}


def flushed(op: Op[FlushResult], parts: Sequence[Part]) -> Op[FlushResult]:
    """The flush of these parts, with its failpoints."""
    held = list(dict.fromkeys(kind for part in parts for kind in _held(part)))
    before = [f"{kind}.before{'_insert' if kind == 'step' else ''}" for kind in held if kind in ("step", "schedule")]
    after = [f"{kind}.after_commit" for kind in held if kind != "child"]
    return staged(op, before=before, executed=[point for kind in held for point in _EXECUTED[kind]], after=after)


def _held(part: Part) -> Iterator[str]:
    for entry in part.entries:
        kind = (entry.fingerprint or "").partition(":")[0]
        if kind in ("step", "sleep") and (kind == "sleep" or entry.kind == EntryKind.OUTCOME):
            yield kind
    if part.children:
        yield "invoke"
    if part.schedules:
        yield "schedule"
    if part.update is not None and part.update.action in _ENDS | {RunAction.CONTINUE}:
        yield "complete"
        if part.update.notify_parent is not None:
            yield "child"
