"""What was sent to one run and not taken yet, as its execution knows it.

A signal is taken by one command. It stays in the run's inbox until the outcome that holds it has reached that command;
only then it is consumed. So a wait that loses a race against what was committed before it takes nothing away: the
signal is free again for the next. The outcome says which signal it holds, so that a replay, which finds a signal both
in the history and in the inbox, takes it once. The invariant: of the signals that are free, the first that was sent is
the next that is taken.

The store numbers the messages of a run in the order of their commits, and whoever reads them reads all there are behind
a number. So the number of the last one tells what is new, and of a message that was consumed nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowgen.core.entries import Entry, Message, MessageKind

__all__ = ["NO_MAIL", "Mailbox", "number"]

_NUMBERS = (1 << 31) - 1
_ORDERS = (MessageKind.RETRY, MessageKind.ACCEPT)
_TAKES = "waitsignal:"
"""What the fingerprints of the commands begin with that take a signal."""


def number(message: Message) -> int:
    """What an outcome says of the signal that it holds: in one inbox no other has it."""
    return message.id & _NUMBERS


class Mailbox:
    """The messages of one run, by what their readers listen to."""

    __slots__ = ("_last", "_taken", "boxes", "consumed", "orders", "signals")

    def __init__(self) -> None:
        self.boxes: dict[str, list[Message]] = {}
        """By address, in the order of their sending."""
        self.consumed: list[int] = []
        """Ids of the messages that the inbox need not keep any more."""
        self.orders: list[Message] = []
        """What an operator wants of the run."""
        self.signals: dict[int, Message] = {}
        """By their numbers."""
        self._last = 0
        self._taken: set[int] = set()

    def post(self, messages: Iterable[Message]) -> list[str]:
        """Keep messages, oldest first, each once; the addresses of those that are new."""
        found: list[str] = []
        for message in messages:
            if message.id <= self._last:
                continue
            self._last = message.id
            address = message.address
            found.append(address)
            if message.kind in _ORDERS:
                self.orders.append(message)
                continue
            self.boxes.setdefault(address, []).append(message)
            if message.kind == MessageKind.SIGNAL:
                self.signals[number(message)] = message
        return found

    def first(self, address: str) -> Message | None:
        """The first message that nobody has taken."""
        return next((each for each in self.boxes.get(address, ()) if each.id not in self._taken), None)

    def drop(self, message: Message) -> None:
        """The outcome of its only reader is made of it: it is consumed with that."""
        address = message.address
        others = self.boxes[address]
        others.remove(message)
        if not others:
            del self.boxes[address]

    def take(self, message: Message) -> None:
        """An outcome that holds the message is on its way into the history."""
        self._taken.add(message.id)

    def hand_over(self) -> list[int]:
        """What is consumed, to be told once."""
        read, self.consumed = self.consumed, []
        return read

    def told(self, entry: Entry, *, lost: bool) -> str | None:
        """An outcome was delivered, or `lost`: its command was cut off. Gives the address of what is free again."""
        if entry.attempt is None or not (entry.fingerprint or "").startswith(_TAKES):
            return None
        message = self.signals.get(entry.attempt)
        if message is None:
            return None
        self._taken.discard(message.id)
        if lost:
            return message.address
        del self.signals[entry.attempt]
        self.drop(message)
        self.consumed.append(message.id)
        return None


NO_MAIL: Final = Mailbox()
"""Of every run that nothing was sent to, as most are. Nothing is posted here."""
