"""Failover: what the new primary does not have has not happened, and no session of before writes on it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowgen
from flowgen import App, DatabaseError, Flow, RunNotFound, Step
from flowgen.client.sync import Client, connect
from flowgen.testing.workers import Workers
from tests.environments.replicas import Cluster
from tests.waiting import eventually

STEPS = 6
RUNS = 10
WAIT = 60


class Work:
    """Runs of six steps that stop where the test says; what was called is counted outside of the database."""

    def __init__(self) -> None:
        self.app = App()
        self.calls: Counter[tuple[int, int]] = Counter()
        self.at: Counter[int] = Counter()
        self.gates = {step: threading.Event() for step in (2, 4)}

        def work(run: int, step: int) -> int:
            self.calls[run, step] += 1
            self.at[step] += 1
            if step in self.gates:
                self.gates[step].wait(WAIT)
            return step

        @self.app.workflow
        def steps(run: int) -> Flow[list[int]]:
            done: list[int] = []
            for step in range(STEPS):
                done.append((yield from Step(work, run, step)))
            return done

        self.steps = steps

    def start(self, client: Client) -> list[flowgen.Run[list[int]]]:
        return client.start_many([self.steps.call(number).opts(id=f"run {number}") for number in range(RUNS)])

    def reaches(self, step: int) -> None:
        eventually(lambda: self.at[step] >= RUNS, timeout=WAIT)

    def settings(self, **more: Any) -> dict[str, Any]:
        # the lease outlives the failover: what ends the session is the timeline
        return {"lease": 60, "heartbeat": 0.5, "poll": 0.1, **more}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def workers(cluster: Cluster, work: Work) -> Iterator[Workers]:
    made = Workers(cluster.url)
    try:
        yield made
    finally:
        for gate in work.gates.values():
            gate.set()
        made.stop()


def whole(server: Any, runs: int = RUNS) -> None:
    """Every history is a prefix without a gap, and here all of it: each step once, in its order."""
    keys = "work,work#2,work#3,work#4,work#5,work#6"
    history = "SELECT string_agg(key, ',' ORDER BY index) AS keys FROM flowgen.entry WHERE kind = 1 GROUP BY run_id"
    found = server.run(f"SELECT array_agg(keys) FROM ({history}) h")
    assert found == [keys] * runs


@pytest.mark.fault("F35", "F36")
def test_a_failover_that_loses_commits_takes_the_engine_back_to_what_is_left(
    cluster: Cluster, work: Work, workers: Workers
) -> None:
    with connect(cluster.url, app=work.app) as client:
        workers(work.app, **work.settings(), concurrency=2 * RUNS)
        runs = work.start(client)
        work.reaches(2)
        cluster.caught_up()
        on_a_standby(cluster, work)
        cluster.detach()
        work.gates[2].set()
        work.reaches(4)  # steps 2 and 3 are committed, and will be lost
        late = client.start(work.steps.call(99).opts(id="late"))
        cluster.primary.stop()
        cluster.standby.promote()
        work.gates[4].set()  # what was called before comes back with results that nobody may write
        for run in runs:
            assert run.result(timeout=WAIT) == list(range(STEPS))
        with pytest.raises(RunNotFound):
            client.get(late.id)
    whole(cluster.standby)
    for number in range(RUNS):
        assert [work.calls[number, step] for step in range(2)] == [1, 1], "what was replicated is kept"
        assert work.calls[number, 3] == 2, "what was lost is called again"
    sessions = "SELECT count(*) FROM flowgen.worker WHERE timeline = '00000001' AND NOT dead"
    eventually(lambda: cluster.standby.run(sessions) == 0, timeout=WAIT)


def on_a_standby(cluster: Cluster, work: Work) -> None:
    """It is read; what writes is refused with a type and a reason."""
    with connect(cluster.standby.url(), app=work.app) as client:
        assert client.get("run 0").status == "running"
        with pytest.raises(DatabaseError, match="This server takes no writes") as refused:
            client.start(work.steps.call(5))
        assert refused.value.transient


@pytest.mark.fault("F35")
@pytest.mark.nightly
def test_a_worker_that_is_pointed_at_a_standby_waits_and_works_once_it_is_promoted(
    cluster: Cluster, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(cluster.url, app=work.app) as client:
        for gate in work.gates.values():
            gate.set()
        runs = work.start(client)
    cluster.caught_up()
    made = Workers(cluster.standby.url())
    starting = threading.Thread(target=lambda: made(work.app, **work.settings()))
    starting.start()
    eventually(
        lambda: cluster.standby.run("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name ~ 'control'")
    )
    assert starting.is_alive()
    assert not work.calls
    cluster.primary.stop()
    cluster.standby.promote()
    starting.join(WAIT)
    with connect(cluster.standby.url(), app=work.app) as client:
        for run in runs:
            assert client.result(run.id, timeout=WAIT) == list(range(STEPS))
    made.stop()


@pytest.mark.fault("F36")
@pytest.mark.nightly
def test_a_synchronous_failover_loses_nothing(tmp_path: Path, work: Work) -> None:
    with Cluster(tmp_path / "cluster", synchronous=True) as cluster:
        made = Workers(cluster.url)
        with connect(cluster.url, app=work.app) as client:
            made(work.app, **work.settings(), concurrency=2 * RUNS)
            runs = work.start(client)
            work.reaches(2)
            work.gates[2].set()
            work.reaches(4)
            cluster.primary.stop()
            cluster.standby.promote()
            work.gates[4].set()
            for run in runs:
                assert run.result(timeout=WAIT) == list(range(STEPS))
        made.stop()
        whole(cluster.standby)
        for number in range(RUNS):
            assert [work.calls[number, step] for step in range(4)] == [1, 1, 1, 1], "nothing acknowledged is lost"


@pytest.mark.fault("F38")
@pytest.mark.nightly
def test_an_old_primary_that_comes_back_gets_no_worker_that_knows_the_new_one(
    cluster: Cluster, work: Work, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(cluster.url, app=work.app) as client:
        workers(work.app, **work.settings(), concurrency=2 * RUNS)
        runs = work.start(client)
        work.reaches(2)
        cluster.caught_up()
        cluster.primary.stop()
        cluster.standby.promote()
        new = "SELECT count(*) FROM flowgen.worker WHERE timeline = '00000002' AND NOT dead"
        eventually(lambda: cluster.standby.run(new) == 1, timeout=WAIT)
        cluster.primary.start()  # both take writes now, and the old one stands first in the URL
        before = cluster.primary.run(
            "SELECT array_agg(run_id || status::text || claim ORDER BY run_id) FROM flowgen.run"
        )
        for _ in range(3):
            cluster.standby.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^flow'"
            )
        eventually(lambda: "timeline" in caplog.text, timeout=WAIT)
        after = cluster.primary.run(
            "SELECT array_agg(run_id || status::text || claim ORDER BY run_id) FROM flowgen.run"
        )
        assert before == after, "nothing was claimed on the old primary"
        cluster.primary.stop()
        for gate in work.gates.values():
            gate.set()
    with connect(cluster.standby.url(), app=work.app) as client:
        for run in runs:
            assert client.result(run.id, timeout=WAIT) == list(range(STEPS))
    whole(cluster.standby)


@pytest.mark.fault("F72")
@pytest.mark.nightly
def test_a_backup_that_is_restored_goes_on_from_what_it_has(cluster: Cluster, work: Work) -> None:
    """On the same URL, under a worker that knows more than the backup."""
    primary = cluster.primary
    made = Workers(primary.url())
    with connect(primary.url(), app=work.app) as client:
        made(work.app, **work.settings(), concurrency=2 * RUNS)
        runs = work.start(client)
        work.reaches(2)
        copy = primary.backup(cluster.folder / "copy", "-R")
        work.gates[2].set()
        work.reaches(4)
        late = client.start(work.steps.call(99).opts(id="late"))
        primary.stop()
        copy.start(primary_conninfo="")
        copy.promote()
        try:
            work.gates[4].set()
            for run in runs:
                assert run.result(timeout=WAIT) == list(range(STEPS))
            with pytest.raises(RunNotFound):
                client.get(late.id)
            whole(copy)
            assert copy.run("SELECT count(*) FROM flowgen.worker WHERE timeline = '00000001' AND NOT dead") == 0
        finally:
            made.stop()
            copy.stop()
