"""Failpoints: what arms them, and that they are off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowgen
from flowgen.errors import DatabaseError
from flowgen.failpoints import ARMED, POINTS, arm, failpoint


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    arm("")


def test_nothing_is_armed_and_a_moment_passes() -> None:
    assert not ARMED
    failpoint("claim.before")


def test_a_failpoint_fires_once_the_nth_time(capfd: pytest.CaptureFixture[str]) -> None:
    arm("claim.before:2=raise, step.before_body=raise")
    failpoint("claim.before")
    with pytest.raises(DatabaseError, match=r"the failpoint claim\.before broke it off") as raised:
        failpoint("claim.before")
    assert raised.value.transient
    failpoint("claim.before")
    assert capfd.readouterr().err == "failpoint claim.before: raise\n"
    assert set(ARMED) == {"step.before_body"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claim.late=kill", "there is no failpoint 'claim.late'; there are checkpoint.release, child."),
        ("claim.before", "'claim.before' asks for ''; say kill, term, stop:ms"),
        ("claim.before=explode", "asks for 'explode'; say kill, term, stop:ms"),
        ("claim.before=stop", "asks for 'stop'; say kill, term, stop:ms"),
        ("claim.before=kill:5", "asks for 'kill:5'; say kill, term, stop:ms"),
        ("claim.before:x=kill", "holds what is no number; say name:nth=action, action:ms"),
        ("claim.before=sleep:x", "holds what is no number; say name:nth=action, action:ms"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        arm(text)


def test_every_named_moment_stands_in_the_engine_and_no_other_does() -> None:
    sources = [path.read_text() for path in Path(flowgen.__file__).parent.rglob("*.py") if path.name != "failpoints.py"]
    named = {name for text in sources for name in re.findall(r'"([a-z_]+\.[a-z_]+)"', text)}
    kinds = "step", "sleep", "invoke", "schedule", "complete"
    made = {f"{kind}.after_commit" for kind in kinds} | {"step.before_insert", "schedule.before"}
    assert (named | made) >= POINTS
