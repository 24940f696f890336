"""The tree of branches of one run: who runs beside whom, under which keys, and what each waits for.

A branch drives one flow (or one command). It waits for a leaf, the outcome of exactly one command, or for a composite
that runs branches of its own. Keys come from the place in this tree and never from the order of events.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Protocol, TypeAlias

import attrs
from typing_extensions import TypeIs

from flowgen.core.commands import Command
from flowgen.errors import DuplicateNameError

__all__ = [
    "Branch",
    "Composite",
    "Ended",
    "Join",
    "Leaf",
    "Names",
    "Opened",
    "Part",
    "Phase",
    "heard_also",
    "heard_before",
    "is_flow",
    "remembered",
]

REMEMBERED = 100
"""Waits for events, one for each name and filter, of which a handler remembers what they were given."""

FlowObject: TypeAlias = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]


@attrs.define
class Ended:
    """How a branch ended: with a value, or with an error that is not None. Never changed."""

    value: Any = None
    error: BaseException | None = None


Part: TypeAlias = tuple[int, str, Any]
"""A branch to open: its position, what it adds to the path, and the command or flow, or the `Ended` it comes to."""


class Join(Protocol):
    """Which branches a composite command opens when, and what it does with their ends."""

    @property
    def needs_all(self) -> bool:
        """Whether nothing happens before every branch that is open has ended, unless one fails."""
        ...

    def ready(self) -> Sequence[Part]:
        """The branches that can be opened now, each told once; asked again after ends, until there is none."""
        ...

    def ended(self, position: int, end: Ended) -> bool:
        """Take note of a branch's end; True when the outcome is decided and the others are not needed."""
        ...

    def goes_on(self, position: int) -> bool:
        """Whether others are opened because this branch failed: then its failure is not the last that was answered."""
        ...

    def result(self) -> Ended:
        """The composite's own end, once every branch has ended."""
        ...

    def sight(self, position: int) -> tuple[str, Callable[[], Mapping[str, str | None]]] | None:
        """The branch's name, and the names of those whose results it may read; None: it is not restricted.

        A result that is recorded nowhere stands beside its name, as JSON text.
        """
        ...


@attrs.define(eq=False)
class Names:
    """The names of one scope: automatic ones are numbered, the author's are given once.

    A name is counted when it is first used, by whom ever, so that nobody after that has it unnumbered.
    """

    path: str
    authored: bool = True
    """The author named every scope on the path, so that a name in here means the same in every segment."""
    counters: dict[str, int] = attrs.field(factory=dict)

    def key(self, command: Command[Any]) -> str:
        """The key of a command that was yielded in this scope. Raises DuplicateNameError."""
        name = command.options.name
        if name is None:
            name = command.default_name
            count = self.counters[name] = self.counters.get(name, 0) + 1
            return self.path + name if count == 1 else f"{self.path}{name}#{count}"
        if name in self.counters:
            raise DuplicateNameError(
                f"the name {name!r} is given twice in {'the scope ' + self.path[:-1] if self.path else 'this run'}: "
                "give each command a name of its own, or leave .opts(name=) away to have it numbered"
            )
        self.counters[name] = 1
        return self.path + name

    def numbered(self, name: str) -> str:
        count = self.counters[name] = self.counters.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def copy(self) -> Names:
        return Names(self.path, self.authored, dict(self.counters))

    def inline(self, name: str) -> Names:
        """The names of a definition that runs inline in this scope."""
        return Names(f"{self.path}{self.numbered(name)}/", authored=False)


class Phase(Enum):
    """How far a leaf is."""

    NEW = "new"
    COMMITTING = "committing"
    """An entry of it is on its way into the history."""
    CALLING = "calling"
    """Its function runs."""
    WAITING = "waiting"
    """For a time or a message."""


@attrs.define(eq=False)
class Leaf:
    """One command whose outcome is not known yet."""

    key: str
    command: Command[Any]
    branch: Branch
    fingerprint: str
    named: bool = False
    """The author gave the name, so that a new segment keeps the outcome."""
    text: str | None = None
    """What `semantics.prepare` made of the command: the input of a child, the data of a checkpoint."""
    phase: Phase = Phase.NEW
    due_at: datetime | None = None
    """When waiting has an end of its own."""
    message_key: str | None = None
    """Under which key of the mailbox its message comes."""


@attrs.define(eq=False)
class Opened:
    """A flow that runs in a branch, with its scope of names. Never changed."""

    flow: object
    name: str
    names: Names

    def copy(self) -> Opened:
        return Opened(self.flow, self.name, self.names.copy())


@attrs.define(eq=False)
class Branch:
    """One line of control. The root branch drives the handler."""

    path: str
    flow: FlowObject | None
    """None for a branch that is a single command."""
    command: Command[Any] | None = None
    parent: Composite | None = None
    position: int = 0
    waiting: Leaf | Composite | None = None
    end: Ended | None = None
    cancelled: bool = False
    """Cancelled was thrown in; whatever the flow does now, it ends as cancelled."""
    cleanups: int = 0
    """Commands that it yielded since."""
    last_failed: tuple[int, ...] = ()
    """Indexes of the entries of the outcomes that failed last, as far as nothing was answered after."""
    heard: dict[str, datetime] | None = None
    """The places of the events that answered its waits last, by fingerprint."""
    authored: bool = True
    undoes: bool = False
    """It undoes what succeeded elsewhere: nothing cancels it."""
    scopes: list[Opened] = attrs.field(factory=list)
    """Inline definitions that are open, innermost last; the first is the branch's own. A single command needs none."""

    def __attrs_post_init__(self) -> None:
        if self.flow is not None:
            self.scopes.append(Opened(self.flow, "", Names(self.path, self.authored)))

    @property
    def author(self) -> FlowObject | None:
        """The flow that yielded what this branch runs: its own, or that of the nearest branch around it."""
        branch = self
        while branch.flow is None and branch.parent is not None:
            branch = branch.parent.branch
        return branch.flow


@attrs.define(eq=False)
class Composite:
    """A command whose outcome is made from branches of its own."""

    command: Command[Any]
    join: Join
    branch: Branch
    """Who waits for it."""
    key: str
    authored: bool
    """The author named it, and every scope around it."""
    children: dict[int, Branch] = attrs.field(factory=dict)
    """The branches that are open, by position."""
    failed: tuple[int, ...] = ()
    """`last_failed` of the branches that have ended."""
    heard: dict[str, datetime] | None = None
    """Those of the branches that have ended."""
    plain: bool = True
    """Every branch so far is a single command, that is no composite itself."""
    filling: bool = True
    """Branches are being opened: an end is looked at when all were."""
    decided: bool = False
    cancelling: bool = False
    """The branch that waits for it is being cancelled: Cancelled is thrown when all branches have ended."""


def heard_before(branch: Branch, fingerprint: str) -> datetime | None:
    """The place of the event that answered such a wait last, before this branch, or in it.

    Who is asked for is remembered longest: see `remembered`.
    """
    places: list[datetime] = []
    while True:
        if branch.heard is not None and (place := branch.heard.pop(fingerprint, None)) is not None:
            branch.heard[fingerprint] = place
            places.append(place)
        if branch.parent is None:
            return max(places, default=None)
        branch = branch.parent.branch


def heard_also(known: dict[str, datetime] | None, more: Mapping[str, datetime] | None) -> dict[str, datetime] | None:
    """The later place of each; what is known is taken on."""
    if not more:
        return known
    known = {} if known is None else known
    for each, place in more.items():
        known[each] = max(place, known.pop(each, place))
    return known


def remembered(heard: Mapping[str, datetime] | None) -> dict[str, str]:
    """What a checkpoint and a new pass are told of it, as data: of the latest `REMEMBERED` waits, the last one last."""
    return {each: place.isoformat() for each, place in list((heard or {}).items())[-REMEMBERED:]}


def is_flow(value: object) -> TypeIs[FlowObject]:
    """Whether a branch can drive it: a generator or a coroutine."""
    return inspect.isgenerator(value) or inspect.iscoroutine(value)
