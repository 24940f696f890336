"""Histories of earlier releases are read by this one: they replay without a difference to the result that they had.

`FLOWGEN_UPDATE_GOLDEN=1 pytest tests/golden` adds those of the version in pyproject.toml, once, before its release.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from flowgen.client.sync import connect
from flowgen.core.trace import Trace
from flowgen.testing import replay
from flowgen.testing.workers import Workers
from tests.golden import flows

HERE = Path(__file__).parent
KEPT = sorted(HERE.glob("*/*.json"))


@pytest.mark.skipif("FLOWGEN_UPDATE_GOLDEN" not in os.environ, reason="writes the histories of this release")
def test_the_histories_of_this_release_are_kept(flowgen_database: str, flowgen_worker: Workers) -> None:
    folder = HERE / version("flowgen")
    folder.mkdir(exist_ok=True)
    flowgen_worker(flows.app)
    with connect(flowgen_database, app=flows.app) as client:
        for name, given in flows.INPUTS.items():
            run = client.start(flows.app.definition(name).call(given))
            run.result(timeout=20)
            client.trace(run.id).save(folder / f"{name}.json")


@pytest.mark.fault("F69")
@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_history_of_a_release_replays_to_its_result(path: Path) -> None:
    kept = Trace.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replay(flows.app.definition(path.stem), kept) == kept.result


def test_every_workflow_has_a_history_of_each_release() -> None:
    for folder in {path.parent for path in KEPT}:
        assert {path.stem for path in folder.glob("*.json")} == flows.INPUTS.keys()
