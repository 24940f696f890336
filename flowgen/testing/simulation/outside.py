"""Who is outside of the runs: sends the signals that a test scripts, and completes or fails the tokens.

The invariant: what is scripted for one wait is sent once, at any moment after a run has waited for it, however often
the worker of that run is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs

from flowgen.core import codec, tokens
from flowgen.core.branches import Leaf
from flowgen.core.commands import Token, Wait, WaitSignal
from flowgen.core.entries import MessageKind
from flowgen.core.failures import failure_to_json
from flowgen.core.states import FINAL
from flowgen.errors import WaitTimedOut
from flowgen.testing.driving import awaited
from flowgen.testing.outcomes import failure_of
from flowgen.testing.scripts import UNSCRIPTED, as_error

if TYPE_CHECKING:
    from flowgen.testing.simulation.world import World
    from flowgen.worker.live import LiveRun

__all__ = ["Outside"]


@attrs.frozen
class Letter:
    """What is to be sent."""

    run_id: UUID
    kind: MessageKind
    key: str
    payload: str
    name: str
    token: Token[Any] | None = None


class Outside:
    """What the waits of one schedule are told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: set[tuple[Any, ...]] = set()
        self._letters: list[Letter] = []

    def waited_for(self, run: LiveRun, leaf: Leaf) -> None:
        """A command waits for a message; what is scripted for it may come from now on."""
        command: Any = leaf.command
        of_token = isinstance(command, Wait) and isinstance(command.ref, Token)
        if not (of_token or isinstance(command, WaitSignal)):
            return
        which = (command.ref.id,) if of_token else (run.run_id, self._world.calling.place(run, leaf.key), leaf.key)
        if which in self._known:
            return
        self._known.add(which)
        try:
            letter = self._letter(run, leaf, command)
        except AssertionError as error:
            self._world.broken = error
            return
        if letter is not None:
            self._letters.append(letter)

    def _letter(self, run: LiveRun, leaf: Leaf, command: Any) -> Letter | None:
        item = self._world.calling.scripted_for(run, leaf)
        error = as_error(item)
        if item is UNSCRIPTED or isinstance(error, WaitTimedOut):
            return None
        if error is None and callable(item):
            try:
                item = awaited(item())
            except AssertionError:
                raise
            except Exception as raised:
                error = raised
        if isinstance(command, WaitSignal):
            if error is not None:
                raise AssertionError(f"{command!r} cannot be sent {error!r}: a signal is a value; or give WaitTimedOut")
            text = codec.encode(item, command.expected, what=f"the signal {command.name}")
            return Letter(run.run_id, MessageKind.SIGNAL, command.name, text, f"sends {command.name!r}")
        token = command.ref
        if error is None:
            text = tokens.completed(codec.encode(item, token.result_type, what=f"the value of {leaf.key}"))
        else:
            text = tokens.failed(failure_to_json(failure_of(error)))
        return Letter(run.run_id, MessageKind.TOKEN, str(token.id), text, f"uses the token {token.key!r}", token)

    def possible(self, found: list[Any]) -> None:
        """What could come next."""
        if self._letters:
            found.append((self._send, (self._letters[0],)))

    def _send(self, letter: Letter) -> None:
        self._letters.remove(letter)
        store = self._world.store
        late = letter.token is not None and letter.token.due_at is not None and letter.token.due_at <= store.now
        if late or store.runs[letter.run_id].status in FINAL:
            return
        self._world.tell("somebody", letter.name)
        store.tell(letter.run_id, letter.key, letter.payload, urgent=True, kind=letter.kind)
