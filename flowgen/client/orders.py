"""What an operator decides about one command, as a plan: it is looked at, and the run is sent a message.

What the history says now only refuses what cannot be meant; whoever owns the run judges by the history that it has
then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from flowgen.client.plans import Plan, ask
from flowgen.client.runs import HistoryItem
from flowgen.core.sealing import Seal
from flowgen.core.states import RunStatus, Status
from flowgen.errors import FlowgenError
from flowgen.postgres import runs
from flowgen.postgres.rows import RunRow

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["Order", "check", "send"]

_FAILURES = frozenset({"failure", "timeout", "cancellation"})


@attrs.frozen
class Order:
    """A verb for one command: retry, skip or complete."""

    key: str
    verb: str
    value: str | None
    """JSON text; None to try again."""
    by: str | None
    reason: str | None

    def payload(self, seal: Seal | None) -> str:
        """The message. Raises CodecError."""
        step = {"key": self.key, "verb": self.verb}
        if self.value is not None:
            step["value"] = self.value if seal is None else seal.closed(self.value, f"the value for {self.key}")
        return json.dumps({"who": self.by, "reason": self.reason, "step": step}, ensure_ascii=False)


def check(order: Order, run: str, status: RunStatus, history: Sequence[HistoryItem]) -> None:
    """Raises FlowgenError for a command that neither failed nor waits for its next attempt."""
    if status.is_final and status is not RunStatus.FAILED:
        raise FlowgenError(
            f"run {run} is {status}: only what failed can be decided about, in a run that goes on or failed"
        )
    if status is RunStatus.PARKED:
        raise FlowgenError(f"run {run} is parked: resume or accept it first")
    recorded = [item for item in history if not item.aside and item.kind in ("outcome", "attempt")]
    last = {item.path: item for item in recorded}
    failed = [path for path, item in last.items() if path and _is_open(item, status)]
    if order.key not in failed:
        known = last.get(order.key)
        seen = "there is no such command" if known is None else f"its {known.kind} is {known.outcome or 'recorded'}"
        hint = f"; these can be decided about: {', '.join(failed[:8])}" if failed else ""
        why = f"it has not failed, {seen}"
        if known is not None and known.outcome in _FAILURES:
            why = f"it failed, and the handler was told; the run is {status}, and would have to fail first"
        raise FlowgenError(f"{order.verb} of {order.key!r} in run {run}: {why}{hint}")


def _is_open(item: HistoryItem, status: RunStatus) -> bool:
    if item.kind == "attempt":
        return status is not RunStatus.FAILED
    return status is RunStatus.FAILED and item.outcome in _FAILURES


def send(order: Order, uuid: UUID, row: RunRow, seal: Seal | None) -> Plan[bool]:
    """Whether the run was told."""
    payload = order.payload(seal)
    if row.status == Status.FAILED:
        return (
            yield from ask(
                lambda: runs.retry(
                    uuid, payload=payload, who=order.by, action=order.verb, subject=order.key, reason=order.reason
                ),
                again=False,
            )
        )
    return (
        yield from ask(
            lambda: runs.step_order(
                uuid, payload=payload, who=order.by, action=order.verb, subject=order.key, reason=order.reason
            ),
            again=False,
        )
    )
