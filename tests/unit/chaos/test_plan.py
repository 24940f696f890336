"""Plans are seeded and complete; the witness sees both sides of a value alike."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen import App, CompletionToken, Failure, Flow, Start, StepFailed, StepTimedOut
from flowgen.testing import drive
from tests.chaos import expected, witness
from tests.chaos.plan import FLOWS, GATE, NIGHTLY, Fault, Plan, make
from tests.chaos.shrink import smallest


def planned(seed: int, **given: Any) -> Plan:
    return make(seed, attrs.evolve(NIGHTLY, runs=500, **given))


def test_a_seed_is_a_plan() -> None:
    assert planned(1) == planned(1)
    assert planned(1).hash == planned(1).hash != planned(2).hash


def test_a_plan_has_as_many_faults_as_it_was_told() -> None:
    for workers, servers in ((200, 20), (10, 1), (1, 3), (0, 2)):
        plan = planned(7, workers=workers, postgres=servers)
        assert (plan.count("workers"), plan.count("postgres")) == (workers, servers)
    nightly = planned(8)
    assert [nightly.count(action) for action in ("stop", "ack", "blackhole", "rolling")] == [30, 50, 10, 5]
    assert nightly.count("backend", "terminate") == 100
    gate = make(1, GATE)
    assert [gate.count(action) for action in ("workers", "stop", "postgres", "ack")] == [20, 5, 2, 2]
    assert gate.count("backend", "terminate") == 5


def test_a_stop_lasts_for_longer_than_the_lease() -> None:
    assert all(fault.down > 1.3 * NIGHTLY.lease for fault in planned(4).faults if fault.action == "stop")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = planned(3)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_plan_shrinks_to_the_faults_that_it_takes() -> None:
    faults = planned(6).faults
    needed = {faults[3], faults[100]}
    tried: list[int] = []

    def breaks(fewer: tuple[Fault, ...]) -> bool:
        tried.append(len(fewer))
        return needed <= set(fewer)

    assert set(smallest(faults, breaks)) == needed
    assert len(tried) < len(faults) / 2


def test_a_plan_starts_every_flow_and_repeats_some_ids() -> None:
    starts = make(5, NIGHTLY).starts
    assert {start.name for start in starts} == {*FLOWS, "poison"}
    assert set(FLOWS) <= set(expected.EXPECTED)
    assert Counter(start.kind for start in starts).keys() == {"new", "again", "clash", "cancel", "sql", "mend"}
    assert len({start.n for start in starts if start.kind in ("new", "sql")}) == 10_000


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (1, "1"),
        ({"a": [1, "x", None]}, '{"a":[1,"x",null]}'),
        (UUID(int=1), json.dumps(str(UUID(int=1)))),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), '"2026-01-01T00:00:00+00:00"'),
    ],
)
def test_a_value_and_its_stored_form_look_alike(sent: Any, stored: str) -> None:
    assert witness.of_value(sent) == witness.of_stored(1, stored)


def test_what_start_and_a_token_give_looks_like_what_the_engine_stores_of_it() -> None:
    given: dict[str, Any] = {}

    @App().workflow
    def handler() -> Flow[None]:
        given["plain"] = yield from Start("child", 1)
        given["named"] = yield from Start("child", 1).opts(name="named", id="c-1")
        given["token"] = yield from CompletionToken(int, timeout=60)

    stored = {item.key: item for item in drive(handler.call()).items if item.status}
    for key, value in given.items():
        item = stored["child" if key == "plain" else key]
        assert witness.of_value(value) == witness.of_stored(1, item.value), key


def test_a_value_that_is_nearly_the_stored_one_looks_different() -> None:
    assert witness.of_value(1) != witness.of_stored(1, "1.0")
    assert witness.of_value("1") != witness.of_stored(1, "1")


def test_an_error_and_its_stored_form_look_alike() -> None:
    failure = Failure("ValueError", "boom")
    error = StepFailed("add failed", failure=failure, name="add", attempts=1)
    assert witness.of_error(error) == witness.of_stored(2, '{"type": "ValueError", "message": "boom", "traceback": ""}')
    assert witness.of_error(StepTimedOut("late")) == witness.of_stored(3, None)


def test_what_an_interrupted_call_gives_is_allowed_and_nothing_else() -> None:
    right = {"one": 2, "two": "interrupted", "flaky": 6, "gathered": [2, -2]}
    assert expected.once(2).fits(right)
    assert not expected.once(2).fits({**right, "one": 3})
    assert not expected.linear(2).fits(True)


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "witness.jsonl"
    path.write_text('{"e": "up"}\n{"e": "en', encoding="utf-8")
    assert list(witness.lines(path)) == [{"e": "up"}]
