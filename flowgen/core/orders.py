"""What an operator decides about one command: tried again, skipped, or completed with a value.

It concerns a command that failed for good, in a run that has failed, or a step that waits for its next attempt or makes
one. What is recorded of it is set aside, with who and why; a value that was given is recorded as its outcome. What
cannot be carried out any more changes nothing and is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flowgen.core import codec, semantics
from flowgen.core.branches import Leaf, Phase
from flowgen.core.decision import Decision, Failed, Finish, Restarted, more
from flowgen.core.driver import Driver
from flowgen.core.endings import Ending, obey, set_aside
from flowgen.core.entries import Entry, Message, OutcomeKind
from flowgen.core.history import CommandState
from flowgen.core.semantics.asking import outcome
from flowgen.core.waiting import Waiting
from flowgen.errors import CodecError

__all__ = ["obey_all"]


def obey_all(
    orders: list[Message],
    ending: Ending,
    finish: Finish | None,
    decision: Decision,
    undelivered: list[Entry],
    states: dict[str, CommandState],
    waiting: Waiting,
) -> Finish | None:
    """Carry out what clients and operators asked for, in order, and take it from `orders`: what the run comes to."""
    driver = ending.driver
    if driver.recorded.refused is not None:
        undelivered.insert(0, driver.recorded.refused)
    while orders:
        said = codec.decode(orders[0].payload) or {}
        if "step" in said and finish is None and _is_committing(driver, str(said["step"]["key"])):
            break
        order = orders.pop(0)
        decision.consumed = more(decision.consumed, order.id)
        if "step" in said:
            finish = obey_step(said, finish, decision, driver, states, waiting)
        else:
            finish = obey(ending, order, finish, decision, undelivered, driver.view.next_sequence)
    return finish


def _is_committing(driver: Driver, key: str) -> bool:
    """Whether more is recorded of this command than it was told: an order that knows of it waits until it was."""
    leaf = driver.leaves.get(key)
    return leaf is not None and leaf.phase is Phase.COMMITTING


def obey_step(
    said: Mapping[str, Any],
    finish: Finish | None,
    decision: Decision,
    driver: Driver,
    states: dict[str, CommandState],
    waiting: Waiting,
) -> Finish | None:
    """Carry out `said["step"]`: `{"key", "verb", "value"?}`; what the run comes to then."""
    step = said["step"]
    key, verb, value = str(step["key"]), str(step["verb"]), step.get("value")
    who, why = str(said.get("who") or "client"), f"{verb}: {said['reason']}" if said.get("reason") else verb
    if isinstance(finish, Failed):
        failed = driver.failed.get(key)
        if failed is None:
            return _refused(driver, finish, f"{verb} of {key}: it is not a command that failed")
        leaf, indexes = failed
        entry = None if verb == "retry" else _outcome(leaf, value)
        mistake = None if entry is None else _unfit(leaf, entry)
        if mistake is not None:
            return _refused(driver, finish, f"{verb} of {key}: {mistake}")
        set_aside(decision, [*indexes, *driver.ledger.forgotten_with(leaf)], why, who)
        if entry is not None:
            decision.entries.append(entry)
        return Restarted()
    found = driver.leaves.get(key)
    if finish is not None or found is None or key not in states or found.phase not in (Phase.WAITING, Phase.CALLING):
        driver.warnings.append(f"{verb} of {key} came too late: it neither waits for an attempt nor makes one")
        return finish
    if verb == "retry":
        _try_now(found, states.pop(key), decision, driver, waiting, why, who)
        return finish
    entry = _outcome(found, value)
    mistake = _unfit(found, entry)
    if mistake is not None:
        driver.warnings.append(f"{verb} of {key} was not carried out: {mistake}")
        return finish
    if found.phase is Phase.CALLING:
        decision.aborts = more(decision.aborts, key)
    waiting.forget(found)
    found.phase = Phase.COMMITTING
    set_aside(decision, states[key].indexes, why, who)
    decision.entries.append(entry)
    return finish


def _try_now(
    leaf: Leaf,
    state: CommandState,
    decision: Decision,
    driver: Driver,
    waiting: Waiting,
    why: str,
    who: str,
) -> None:
    if leaf.phase is Phase.CALLING:
        # A call is being made: that is what was asked for.
        return
    set_aside(decision, state.indexes, why, who)
    waiting.forget(leaf)
    leaf.phase = Phase.NEW
    driver.fresh.append(leaf)


def _outcome(leaf: Leaf, value: str | None) -> Entry:
    return outcome(leaf, OutcomeKind.VALUE, "null" if value is None else value)


def _unfit(leaf: Leaf, entry: Entry) -> str | None:
    """Why the handler cannot be sent this outcome."""
    try:
        semantics.answer(leaf, entry)
    except CodecError as error:
        return str(error)
    return None


def _refused(driver: Driver, finish: Failed, why: str) -> Failed:
    driver.warnings.append(f"an order was not carried out: {why}")
    details = {**finish.failure.details, "refused": why}
    return attrs.evolve(finish, failure=attrs.evolve(finish.failure, details=details))
