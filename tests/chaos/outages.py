"""When nobody could work: what was not as it should be, for how long, and who was there meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs


@attrs.define
class Session:
    """A worker's session: since when it is, is dead, and may write nothing any more."""

    id: str
    who: str
    born: float
    dead: float | None = None
    dead_by: str = ""
    quiet: float | None = None


@attrs.frozen
class Span:
    """Something was not as it should be for a while, for one worker or (`who` None) for all.

    `kind` is server, stop, blackhole, reset, terminate, ack, stall or term.
    """

    kind: str
    since: float
    until: float
    who: str | None = None


def nobody(
    spans: Sequence[Span], sessions: Iterable[Session], killed_at: Mapping[str, float]
) -> Iterator[tuple[float, float]]:
    """When no worker was there that was not dead, stopped or cut off."""
    away: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in spans:
        if span.who is not None and span.kind in ("stop", "blackhole", "stall"):
            away[span.who].append((span.since, span.until))
    there: list[tuple[float, float]] = []
    for session in sessions:
        since = session.born
        end = min(killed_at.get(session.who, float("inf")), session.dead or float("inf"))
        for gone, back in merged(away[session.who]):
            if since < gone < end:
                there.append((since, gone))
            since = max(since, back)
        if since < end:
            there.append((since, end))
    last: float | None = None
    for since, end in merged(there):
        if last is not None:
            yield last, since
        last = end


def merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same time, as spans that are apart and in order."""
    found: list[tuple[float, float]] = []
    for since, until in sorted(spans):
        if found and since <= found[-1][1]:
            found[-1] = found[-1][0], max(until, found[-1][1])
        else:
            found.append((since, until))
    return found
