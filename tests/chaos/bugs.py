"""Bugs that are put into the engine, to see that the harness catches each and names the invariant.

A bug is a patch of the processes (`patches.py`) or another text of a function in the harness's own database; nothing
inside flowgen knows of it. Where the engine has two locks on one door, a bug opens both: an outcome that nobody fences
is still kept out by the primary key, so M2 and M3 take the fence away too. Values are stored as text, so M16
normalises their numbers where a history is read. M15 needs a failover, which this harness has not: a test of the store
takes the timeline out of the fence, and fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from tests.chaos import report
from tests.chaos.harness import Harness
from tests.chaos.plan import Size, make
from tests.chaos.store import Store

SEED = 11


@attrs.frozen
class Edit:
    """Another text in a function of the engine's schema."""

    function: str
    old: str
    new: str


def _unfenced(clause: str = "") -> tuple[Edit, ...]:
    """No fence in the inserts of entries; `clause` is what becomes of a conflict."""
    fence = ' AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > "flowgen".clock()'
    refused = "WHERE refused IS NULL OR refused[width_bucket(e.run, refused)] IS DISTINCT FROM e.run"
    edits = [Edit(function, fence, "") for function in ("flush_entries", "flush")]
    if clause:
        edits += [
            Edit("flush_entries", "e_value[1]);", f"e_value[1]) {clause};"),
            Edit("flush_entries", "value, due, delay);", f"value, due, delay) {clause};"),
            Edit("flush", f"{refused};", f"{refused} {clause};"),
        ]
    return tuple(edits)


UNCHARGED = Edit("release_lost", "CASE WHEN j.counts THEN 1 ELSE 0 END, 9999)", "0, 9999)")
UNTOLD = Edit(
    "flush", "IF (live IS NOT NULL AND cardinality(r_parent) > 0) OR waiting IS NOT NULL THEN", "IF false THEN"
)
UNREAD = tuple(
    Edit(function, "IF cardinality(c_run) > 0 THEN", "IF false THEN") for function in ("flush_entries", "flush")
)
NORMALISED = Edit("claim", "e.named, e.value,", "e.named, (e.value::jsonb)::text,")
TELL = """
CREATE FUNCTION chaos.tell(p_children uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flowgen.inbox (run_id, created_at, kind, key, payload)
    SELECT c.parent_id, clock_timestamp(), 1, c.parent_key, '{"status":"' || CASE c.status
        WHEN 7 THEN 'completed","output":' || coalesce(c.output::text, 'null')
        WHEN 8 THEN 'failed","error":' || coalesce(c.error::text, 'null')
        ELSE 'cancelled","error":' || coalesce(c.error::text, 'null') END || ',"run_id":"' || c.run_id || '"}'
    FROM flowgen.run c JOIN flowgen.run p ON p.run_id = c.parent_id
    WHERE c.run_id = ANY (p_children) AND c.status >= 7 AND p.status < 7;
    UPDATE flowgen.run p SET mail = p.mail + n.many, status = CASE WHEN p.status = 4 THEN 0 ELSE p.status END,
        due_at = CASE WHEN p.status = 4 THEN clock_timestamp() ELSE p.due_at END
    FROM (SELECT c.parent_id, count(*)::integer AS many FROM flowgen.run c
        WHERE c.run_id = ANY (p_children) AND c.status >= 7 GROUP BY 1) n
    WHERE p.run_id = n.parent_id AND p.status < 7;
END $$
"""


NONE = Size(
    runs=60, workers=0, stops=0, postgres=0, terminates=0, backends=0, acks=0, resets=0, blackholes=0, supervisors=0,
    poison=0, gap=1.0,
)  # fmt: skip
STOPS = attrs.evolve(NONE, stops=12, stopped=0.5, runs=100, flows={"slow": 1.0})


@attrs.frozen
class Bug:
    """One bug, and the plan that is to catch it."""

    what: str
    wanted: tuple[str, ...]
    size: Size = NONE
    edits: tuple[Edit, ...] = ()
    script: str = ""
    """What else the harness's database has."""
    fleet: dict[str, int] = attrs.field(factory=lambda: {"plain": 3, "supervised": 0, "proxied": 1})
    cache: int = 1000
    test: str = ""
    """Of the bugs that this harness cannot catch: the test that does."""

    def prepare(self, store: Store) -> None:
        """Put it into the database."""
        if self.script:
            store.rows(self.script)
        for edit in self.edits:
            store.replace(edit.function, edit.old, edit.new)


def _size(**given: Any) -> Size:
    """Nothing but what is given."""
    return attrs.evolve(NONE, **given)


UPDATE = "ON CONFLICT (run_id, index) DO UPDATE SET value = excluded.value"
NOTHING = "ON CONFLICT (run_id, index) DO NOTHING"
SLOW = {"slow": 1.0}

BUGS: dict[str, Bug] = {
    "M1": Bug("no fence in the insert of entries", ("I11", "I5"), STOPS, _unfenced()),
    "M2": Bug("no fence, and on conflict do update", ("I4",), STOPS, _unfenced(UPDATE)),
    "M3": Bug(
        "no fence, and the local value is kept when another is stored", ("I5",), STOPS,
        _unfenced(NOTHING),
    ),
    "M4": Bug(
        "a start is acknowledged before its commit", ("I1",),
        _size(runs=300, postgres=4, gap=2.5, outage=0.2, flows={"lone": 1.0}),
    ),
    "M5": Bug("due times by the worker's clock", ("I9",), _size(workers=2, flows={"nap": 1.0, "tidy": 1.0})),
    "M6": Bug("due times computed anew on replay", ("I9",), _size(workers=2, flows={"nap": 1.0}), cache=0),
    "M7": Bug("no sweep of sessions that are over", ("I2", "I16"), _size(workers=8, flows=SLOW)),
    "M8": Bug(
        "woken by NOTIFY only", ("I2",),
        _size(terminates=5, hit="heartbeat", flows={"nap": 1.0, "linear": 1.0, "tidy": 1.0}),
    ),
    "M9": Bug(
        "the death of a worker is not charged", ("I14",), _size(poison=1, runs=40, workers=1), (UNCHARGED,),
        fleet={"plain": 1, "supervised": 2, "proxied": 1},
    ),
    "M10": Bug("a tick in two transactions", ("I10",), _size(workers=6, gap=2.0)),
    "M11": Bug(
        "the parent is woken outside of the child's commit", ("I2", "I13"),
        _size(workers=10, runs=100, flows={"family": 3.0, "fan": 1.0}), (UNTOLD,), TELL,
    ),
    "M12": Bug(
        "an unknown commit of a Transaction is not read back", ("I6",),
        _size(acks=8, lost=("finish_transaction",), runs=120, flows={"books": 3.0, "pages": 1.0}),
        fleet={"plain": 3, "supervised": 0, "proxied": 3},
    ),
    "M13": Bug(
        "trouble of the database is stored as the step's failure", ("I3",),
        _size(terminates=14, hit="transaction", gap=0.6, runs=150, flows={"books": 1.0}),
    ),
    "M14": Bug("the heartbeat waits for the steps", ("I12", "I16"), _size(workers=1, runs=120, gap=12.0, flows=SLOW)),
    "M15": Bug(
        "no timeline in the fence", ("I11",),
        test="tests/integration/postgres/test_ran_fence.py::test_without_the_rule_it_fails",
    ),
    "M16": Bug(
        "numbers are normalised when a history is read", ("I5", "I18"), _size(workers=2, flows={"odd": 1.0}),
        (NORMALISED,), cache=0,
    ),
    "M17": Bug("a session is known by its host", ("I2",), _size(workers=4, flows={"slow": 1.0, "linear": 1.0})),
    "M18": Bug(
        "the sweep takes its own worker's new runs", ("I12",),
        _size(workers=1, gap=4.0, flows={"linear": 1.0, "slow": 1.0}),
    ),
    "M19": Bug("a letter stays when it was read", ("I23",), _size(flows={"chat": 1.0, "hub": 1.0}), UNREAD, cache=0),
    "M20": Bug("the earliest is undone first", ("I22",), _size(flows={"trip": 1.0})),
}  # fmt: skip


def catch(name: str, folder: Path, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Run the harness against one bug; what caught it."""
    bug = BUGS[name]
    began = time.monotonic()
    if bug.test:
        said = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "timeline", bug.test],
            capture_output=True, text=True,
        )  # fmt: skip
        caught = [f"{bug.test.partition('::')[0]}"] if said.returncode == 0 else []
        return _row(name, bug, caught, bool(caught), began)
    plan = make(SEED, bug.size)
    harness = Harness(
        folder / name, plan, **bug.fleet, minutes=0.5, patience=7.0, drain=12.0, bug=name, prepare=bug.prepare,
        cache=bug.cache, say=say,
    )  # fmt: skip
    outcome = harness.run()
    caught = [invariant for invariant, found in outcome.violations.items() if found]
    for found in outcome.violations.values():
        for each in found[:3]:
            say(f"{each.invariant} {each.run} {each.what[:200]}")
    return _row(name, bug, caught, any(each in bug.wanted for each in caught), began)


def _row(name: str, bug: Bug, caught: list[str], right: bool, began: float) -> dict[str, Any]:
    return {
        "bug": name, "what": bug.what, "wanted": bug.wanted, "caught by": caught, "right": right,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def run(names: list[str], folder: str | None, markdown: str | None) -> int:
    """Each of these, with a table at the end. 1 when one was not caught by the invariant that is to catch it."""
    place = Path(folder) if folder else Path(tempfile.mkdtemp(prefix="flowgen-chaos-bugs-"))
    rows = []
    for name in names:
        row = catch(name, place, print)
        rows.append(row)
        how = "caught" if row["right"] else "NOT CAUGHT"
        print(f"{name} {how} by {', '.join(row['caught by']) or 'nothing'} in {row['seconds']} s", flush=True)
    print("\n".join(report.bug_table(rows)))
    if markdown:
        report.save(Path(markdown), bugs=rows)
    print(f"everything is in {place}")
    return 0 if all(row["right"] for row in rows) else 1
