"""Events of the simulated store: what is emitted, who waits, and what a worker that looks makes of it.

Filters are applied here as the database's `event_matches` applies them. The invariants: an event and a wait that are
both committed meet at the next look; a wait is given one event, and its registration goes with that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs

from flowgen.core import codec
from flowgen.core.entries import MessageKind
from flowgen.core.semantics.events import letter
from flowgen.core.states import FINAL
from flowgen.postgres.effects import Effect, Emission, Listening, Quitting, Unwanted
from flowgen.testing.scripts import UNSCRIPTED

if TYPE_CHECKING:
    from flowgen.testing.simulation.store import Store
    from flowgen.testing.simulation.world import World

__all__ = ["Events", "matches"]


@attrs.define(eq=False)
class Wait:
    """A registered wait."""

    listening: Listening
    since: datetime
    fresh: bool = True
    found: datetime | None = None


@attrs.define(eq=False)
class Event:
    """An emitted event."""

    emission: Emission
    emitted_at: datetime
    known_at: datetime | None = None


class Events:
    """The events and the waits of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waits: dict[tuple[UUID, str], Wait] = {}
        self.events: list[Event] = []
        self._last: datetime | None = None
        self._sent = 0

    def carry_out(self, effects: Iterable[tuple[UUID, Effect]]) -> None:
        """What a flush does beside its entries."""
        quits: list[tuple[UUID, str]] = []
        for run_id, effect in effects:
            row = self._store.runs[run_id]
            match effect:
                case Emission():
                    self.events.append(Event(effect, self._store.now))
                case Listening():
                    there = self.waits.get((run_id, effect.key))
                    if there is None or there.listening != effect:
                        self.waits[run_id, effect.key] = Wait(effect, row.began_at)
                case Quitting():
                    quits.append((run_id, effect.key))
                case Unwanted():
                    child = self._store.runs[effect.run_id]
                    child.unwanted = child.new.parent_id == run_id
        for run_id, key in quits:
            self.waits.pop((run_id, key), None)
            inbox = self._store.runs[run_id].inbox
            for number in [each.id for each in inbox.values() if (each.kind, each.key) == (MessageKind.EVENT, key)]:
                del inbox[number]

    def possible(self, world: World, found: list[Any]) -> None:
        """What could happen next: a look, or an event from outside that the test has scripted."""
        if any(wait.fresh for wait in self.waits.values()) or any(each.known_at is None for each in self.events):
            found.append((self.tell, ()))
            return
        for wait in self.waits.values():
            if wait.listening.name in world.plan.outcomes:
                found.append((self._from_outside, (world, wait.listening)))
                return

    def _from_outside(self, world: World, listening: Listening) -> None:
        payload = world.plan.outcomes[listening.name]
        self._sent += 1
        if isinstance(payload, list):
            payload = payload[min(self._sent, len(payload)) - 1]
        assert payload is not UNSCRIPTED
        text = codec.encode(payload)
        event = Emission(event_id=UUID(bytes=world.entropy(16)), name=listening.name, payload=text, input=text)
        self.events.append(Event(event, self._store.now))
        world.tell("somebody", f"emits {listening.name!r}")

    def tell(self) -> None:
        """New events get their places, waits their events."""
        for event in self.events:
            if event.known_at is None:
                place = self._store.now
                if self._last is not None and place <= self._last:
                    place = self._last + timedelta(microseconds=1)
                event.known_at = self._last = place
                for wait in self.waits.values():
                    if not wait.fresh and _fits(wait, event):
                        wait.fresh, wait.found = True, event.known_at
        for (run_id, key), wait in sorted(self.waits.items()):
            if not wait.fresh:
                continue
            wait.fresh = False
            row = self._store.runs[run_id]
            first = next((event for event in self.events if _is_for(wait, event)), None)
            if first is not None and first.known_at is not None:
                payload = letter(first.emission.payload, first.known_at, wait.listening.fingerprint)
                self._store.tell(run_id, key, payload, urgent=True, kind=MessageKind.EVENT)
            if first is not None or row.status in FINAL:
                del self.waits[run_id, key]


def _is_for(wait: Wait, event: Event) -> bool:
    """Whether it has its place where the wait looks, and fits."""
    known_at = event.known_at
    if known_at is None:
        return False
    if wait.found is not None:
        return known_at >= wait.found and _fits(wait, event)
    after = wait.listening.after
    behind = event.emitted_at >= wait.since if after is None else known_at > after
    return behind and _fits(wait, event)


def _fits(wait: Wait, event: Event) -> bool:
    return wait.listening.name == event.emission.name and matches(
        json.loads(event.emission.payload), wait.listening.filter
    )


_NOTHING: Any = object()


def matches(payload: Any, filter: str | None) -> bool:
    """Whether the filter, in its stored form, fits."""
    return filter is None or all(
        _holds(_at(payload, path), operator, value) for path, operator, value in json.loads(filter)
    )


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.lstrip("-").isdigit() and -len(tree) <= int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return _NOTHING
    return tree


def _holds(found: Any, operator: str, wanted: Any) -> bool:
    if operator == "exists":
        return (found is not _NOTHING) is wanted
    if found is _NOTHING:
        return False
    match operator:
        case "eq":
            return _same(found, wanted)
        case "ne":
            return not _same(found, wanted)
        case "in":
            return any(_same(found, each) for each in wanted)
        case _:
            return _ordered(found, operator, wanted)


def _ordered(found: Any, operator: str, wanted: Any) -> bool:
    if isinstance(found, str) is not isinstance(wanted, str) or _is_bare(found) or _is_bare(wanted):
        return False
    match operator:
        case "gt":
            return bool(found > wanted)
        case "ge":
            return bool(found >= wanted)
        case "lt":
            return bool(found < wanted)
        case _:
            return bool(found <= wanted)


def _is_bare(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float | str)


def _same(one: Any, other: Any) -> bool:
    """As JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
