"""The seeded bugs are complete, and fit the engine as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowgen
from tests.chaos import report
from tests.chaos.bugs import BUGS
from tests.chaos.patches import PATCHES, nothing

ROOT = Path(__file__).resolve().parents[3]
MIGRATIONS = Path(flowgen.__file__).parent / "postgres" / "migrations"


def test_every_bug_is_there_and_says_what_is_to_catch_it() -> None:
    assert list(BUGS) == [f"M{number}" for number in range(1, 21)]
    assert {invariant for bug in BUGS.values() for invariant in bug.wanted} <= set(report.MEANS)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_changes_something(name: str) -> None:
    bug = BUGS[name]
    assert bug.test or bug.edits or PATCHES[name] is not nothing
    place, _, test = bug.test.partition("::")
    path = ROOT / place
    assert not bug.test or f"def {test}" in path.read_text() + path.with_name("rules.py").read_text()


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.edits])
def test_what_a_bug_takes_out_is_in_the_newest_text_of_its_function(name: str) -> None:
    for edit in BUGS[name].edits:
        texts = [path.read_text() for path in sorted(MIGRATIONS.glob("*.sql"))]
        newest = next(text for text in reversed(texts) if f"FUNCTION {{schema}}.{edit.function}(" in text)
        body = newest.partition(f"FUNCTION {{schema}}.{edit.function}(")[2].partition("$function$;")[0]
        assert edit.old in body.replace("{schema}", '"flowgen"')
