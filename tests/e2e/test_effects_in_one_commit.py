"""Commands that are only effects in the database are one statement and one commit with their outcomes."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from flowgen import App, Emit, Flow, Gather, Schedule, SetDeadline, SetProgress, Start, Step, Uuid, call
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program

Db = psycopg.Connection[Any]

WRITTEN = """
SELECT xmin::text, recorded_at FROM flowgen.entry WHERE key LIKE 'gather%%' AND kind = 1
UNION ALL SELECT NULL, emitted_at FROM flowgen.event
UNION ALL SELECT NULL, created_at FROM flowgen.run WHERE name = 'nobodys'
UNION ALL SELECT xmin::text, (SELECT progress_at FROM flowgen.run WHERE name = 'all_of_them') FROM flowgen.schedule
"""


def test_effects_side_by_side_and_their_outcomes_are_one_statement_of_one_commit(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    """Every row that they make has the time of one statement, and the transaction of the others as far as nothing
    changes it later."""

    def before(n: int) -> int:
        return n

    @app.workflow
    def all_of_them() -> Flow[Any]:
        yield Step(before, 1)
        yield Gather(
            Emit("told", {"n": 1}),
            Emit("told", {"n": 2}),
            SetProgress("half"),
            SetDeadline("1h"),
            Schedule(call("nobodys"), "later", cron="0 0 1 1 *"),
            Start("nobodys").opts(detached=True),
            Uuid(),
        )
        return (yield from Step(before, 2))

    flowgen_worker(app)
    run = flowgen_client.start(all_of_them)
    assert run.result(timeout=20) == 2
    row = run.refresh()
    assert (row.progress, row.deadline is not None) == ("half", True)
    written = db.execute(WRITTEN).fetchall()
    assert len(written) == 7 + 2 + 1 + 1
    assert len({at for _, at in written}) == 1, written
    assert len({transaction for transaction, _ in written} - {None}) == 1, written
    commits = db.execute("SELECT count(DISTINCT recorded_at) FROM flowgen.entry WHERE run_id = %s", (run.uuid,))
    assert commits.fetchone() == (3,), "a step, all effects, a step"


@pytest.mark.parametrize("point", ["schedule.before", "invoke.after_child_insert", "schedule.after_commit"])
def test_a_crash_at_the_commit_of_effects_leaves_all_of_them_or_none(
    program: Program, flowgen_client: Client, db: Db, point: str
) -> None:
    program.write("""
from flowgen import Emit, Schedule, SetDeadline, SetProgress

@workflow
def all_of_them() -> Flow[str]:
    yield Gather(
        Emit("told", 1),
        SetProgress("half"),
        SetDeadline("1h"),
        Schedule(flowgen.call("nobodys"), "later", cron="0 0 1 1 *"),
        Start("nobodys").opts(detached=True),
    )
    yield Step(gate, "go")
    return "done"
""")

    def found() -> Any:
        return db.execute("""
            SELECT (SELECT count(*) FROM flowgen.event), (SELECT count(*) FROM flowgen.schedule),
                (SELECT count(*) FROM flowgen.run WHERE name = 'nobodys'),
                (SELECT count(*) FROM flowgen.run WHERE progress IS NOT NULL),
                (SELECT count(*) FROM flowgen.run WHERE deadline IS NOT NULL),
                (SELECT count(*) FROM flowgen.entry WHERE kind = 1)
        """).fetchone()

    run = flowgen_client.start(call("all_of_them"))
    program.start(workers=0, FLOWGEN_FAILPOINTS=f"{point}=kill").ended()
    assert found() == ((1, 1, 1, 1, 1, 5) if point == "schedule.after_commit" else (0, 0, 0, 0, 0, 0))
    program.start()
    program.open("go")
    assert run.result(timeout=30) == "done"
    assert found() == (1, 1, 1, 1, 1, 6)
