"""What the modules of meanings are given to ask with; they write into `decision` and set the leaf's phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from flowgen.core.branches import Leaf, Phase
from flowgen.core.decision import Decision
from flowgen.core.entries import Entry, EntryKind, Message, OutcomeKind
from flowgen.core.facts import RunFacts
from flowgen.core.history import CommandState
from flowgen.core.mailbox import Mailbox

__all__ = ["Asking", "outcome"]


@attrs.define(eq=False)
class Asking:
    """The questions of one run; the interpreter fills in what differs from one to the next."""

    facts: RunFacts
    mail: Mailbox
    entropy: Callable[[int], bytes]
    """Random bytes; recorded before anybody sees them."""
    now: datetime = attrs.field(init=False)
    decision: Decision = attrs.field(init=False)
    state: CommandState = attrs.field(init=False)
    """What is recorded of the command so far."""
    answers: Mapping[str, bool] = attrs.field(init=False)
    """What is known of changes of the code, by their ids."""
    deadlines: frozenset[str] = attrs.field(default=frozenset(), init=False)
    """Keys of the outcomes on their way that say when the run is to end."""
    prologue: int | None = attrs.field(default=None, init=False)
    """Where the prologue ended; None when the handler has not read its checkpoint."""

    @property
    def schema(self) -> str:
        """The ids of runs with a caller's id are derived from it."""
        return self.facts.schema

    @property
    def mailbox(self) -> Mapping[str, list[Message]]:
        """The messages by address."""
        return self.mail.boxes

    def moves_deadline(self, entry: Entry) -> bool:
        """Whether it says when the run is to end, told once."""
        found = entry.key in self.deadlines
        self.deadlines -= {entry.key}
        return found

    def record(self, leaf: Leaf, entry: Entry) -> None:
        """Commit an entry of the leaf; it is asked again, or answered, when the entry is delivered."""
        self.decision.entries.append(entry)
        leaf.phase = Phase.COMMITTING

    def wait(self, leaf: Leaf, due_at: datetime | None = None, message_key: str | None = None) -> None:
        """The leaf waits: until `due_at`, or for a message, or both."""
        leaf.phase = Phase.WAITING
        leaf.due_at = due_at
        leaf.message_key = message_key


def outcome(leaf: Leaf, status: OutcomeKind, value: str | None, *, attempt: int | None = None) -> Entry:
    """The OUTCOME entry of a leaf."""
    return Entry(
        -1,
        EntryKind.OUTCOME,
        leaf.key,
        leaf.fingerprint,
        status,
        attempt,
        value,
        named=leaf.named,
    )
