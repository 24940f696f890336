"""What a driven run leaves: its trace, with what the handler was sent."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from flowgen.core import codec
from flowgen.core.commands.graphs import Skipped
from flowgen.core.entries import EntryKind, OutcomeKind
from flowgen.core.failures import failure_from_json
from flowgen.core.trace import Trace
from flowgen.testing.bench import Bench

__all__ = ["Driven"]

T_co = TypeVar("T_co", covariant=True, default=Any)


class Driven(Trace[T_co]):
    """The trace of a run that was driven in memory; equal to what is loaded from its JSON."""

    @classmethod
    def of(cls, bench: Bench) -> Driven[Any]:
        """The trace of a bench as it stands."""
        value = None
        if bench.output is not None:
            value = codec.decode(bench.output, bench.definition.function.result_type, what="the result")
        return Driven(
            name=bench.definition.name,
            kind=str(bench.definition.kind),
            input=bench.input,
            items=tuple(bench.items),
            base=bench.base,
            prologue=bench.prologue,
            output=bench.output,
            error=bench.error_text,
            status=bench.status,
            run_id=bench.id,
            value=value,
            commands=list(bench.commands),
        )

    @property
    def outcomes(self) -> dict[str, Any]:
        """What each command came to, by key, in the order of history: a plain JSON value, a Failure or Skipped."""
        found: dict[str, Any] = {}
        for entry in self.items:
            if entry.kind != EntryKind.OUTCOME or not entry.key:
                continue
            text = entry.value or "null"
            if entry.status == OutcomeKind.SKIPPED:
                found[entry.key] = Skipped(codec.decode(text))
                continue
            found[entry.key] = (
                codec.decode(text)
                if entry.status == OutcomeKind.VALUE
                else failure_from_json(text if text != "null" else {"type": "ChildTimedOut"})
            )
        return found

    def __eq__(self, other: object) -> bool:
        return self.to_json() == other.to_json() if isinstance(other, Trace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_json())
