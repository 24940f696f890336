"""What `drive` and `replay` make of commands about progress, deadlines and changes of code."""

from __future__ import annotations

from typing import Any

from flowgen import App, Flow, Patch, SetDeadline, SetProgress, Sleep, Step
from flowgen.testing import drive, replay


def old() -> str:
    return "old"


def new() -> str:
    return "new"


def flow(patched: bool, last: bool = False) -> Any:
    def handler() -> Flow[Any]:
        yield SetProgress("begun")
        yield SetDeadline("1h")
        yield Sleep(60)
        way: Any = new if patched and (yield from Patch("way")) else old
        found = yield from Step(way).opts(name="way")
        return [found, last and (yield from Patch("last"))]

    return App().workflow(name="flow")(handler)


def test_drive_takes_the_new_way_unless_the_test_says_another() -> None:
    assert drive(flow(True).call(), run=True).result == ["new", False]
    for key in (Patch("way"), "patch:way", "way"):
        assert drive(flow(True).call(), outcomes={key: False, old: "old"} | _script(key)).result == ["old", False]


def _script(key: object) -> dict[Any, Any]:
    return {"way": [False, "old"]} if key == "way" else {}


def test_step_by_step_it_is_sent_as_any_outcome() -> None:
    with drive.manual(flow(True).call()) as d:
        d.send()
        d.send()
        d.send()
        assert d.command == Patch("way")
        d.send(False)
        d.send("old")
        assert d.result == ["old", False]


def test_a_run_that_completed_is_past_every_place() -> None:
    trace = drive(flow(False).call(), run=True)
    assert replay(flow(True, last=True), trace) == ["old", False]
