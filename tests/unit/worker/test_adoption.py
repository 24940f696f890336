"""Which children a worker asks to begin as its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from flowgen.core.states import RunKind
from flowgen.postgres.rows import NewRun
from flowgen.worker.adoption import Adoption


def children(count: int, **given: Any) -> list[NewRun]:
    fields: dict[str, Any] = {"name": "child", "queue": "default", **given}
    return [NewRun(run_id=uuid4(), id=None, kind=RunKind.WORKFLOW, input="{}", **fields) for _ in range(count)]


class Parent:
    """A live run, as far as its children ask."""

    def __init__(self, recoveries: int = 0) -> None:
        self.claimed = SimpleNamespace(recoveries=recoveries)


def parent(recoveries: int = 0) -> Any:
    return Parent(recoveries)


def owned(found: list[NewRun]) -> int:
    return sum(child.owned for child in found)


def adoption(room: int) -> Adoption:
    made = Adoption({"child"}, ["default"])
    made.room = lambda: room
    return made


def test_each_commit_asks_for_half_of_the_room_that_is_left() -> None:
    found, mother = adoption(100), parent()
    first, second, third = children(80), children(80), children(10)
    for part in (first, second, third):
        found.mark(mother, part)
    assert (owned(first), owned(second), owned(third)) == (50, 25, 10)
    assert found.pending() == 85


def test_what_was_asked_for_and_not_sent_is_counted_once() -> None:
    found, mother = adoption(10), parent()
    part = children(3)
    found.mark(mother, part)
    found.mark(mother, [*part, *children(1)])
    assert owned(part) == 3
    assert found.pending() == 4


def test_what_others_are_to_do_is_not_asked_for() -> None:
    found = adoption(100)
    for part, mother in (
        (children(1, name="there"), parent()),
        (children(1, queue="elsewhere"), parent()),
        (children(1), parent(recoveries=1)),
    ):
        found.mark(mother, part)
        assert not owned(part)
    assert not found.pending()
