"""The replay audit finds histories that do not fit the code, or what is stored."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from flowgen import Trace
from flowgen.testing import drive
from tests.chaos import bodies, more_flows
from tests.chaos.audit import audit
from tests.chaos.evidence import RunRow

ROW = RunRow("r1", None, "fresh", 7, {"n": 1}, 5)


@pytest.fixture
def trace() -> Trace[Any]:
    return drive(more_flows.fresh.call(1), outcomes={bodies.add: 5})


def test_a_history_that_fits_passes(trace: Trace[Any]) -> None:
    assert list(audit({"r1": trace}.__getitem__, [ROW], 1)) == []


def test_another_result_is_found(trace: Trace[Any]) -> None:
    found = list(audit({"r1": trace}.__getitem__, [attrs.evolve(ROW, output=6)], 1))
    assert [each.invariant for each in found] == ["I18"]


def test_a_command_that_the_code_does_not_know_is_found(trace: Trace[Any]) -> None:
    items = tuple(attrs.evolve(item, key="gone") for item in trace.items)
    found = list(audit({"r1": attrs.evolve(trace, items=items)}.__getitem__, [ROW], 1))
    assert [each.invariant for each in found] == ["I18"]
    assert "Divergence" in found[0].what
