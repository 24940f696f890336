"""Time windows in the store: what is claimed, held and put back while a window is open or closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowgen import Window
from flowgen.core.states import Status
from flowgen.errors import DatabaseError
from flowgen.postgres import care, claims, observe, windows
from flowgen.postgres.offset_clock import offset_clock
from tests.integration.postgres.store import Store, child_of

NIGHT = Window("22:00", "06:00", timezone="Europe/Berlin")


def at(store: Store, moment: str) -> None:
    """Let it be this time, of UTC; who is live stays so."""
    ahead = datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)
    offset_clock(store.conn, store.schema, ahead.total_seconds(), keep_leases=True)


def is_open(store: Store, name: str = "flow") -> bool:
    """As each judge sees it: they agree."""
    closed = store.run(care.look()).closed or ()
    assert store.one("SELECT {schema}.is_served(%s, 'default')", name) is (name not in closed)
    return name not in closed


@pytest.mark.parametrize(
    ("window", "open_from", "until"),
    [
        (Window("09:00", "17:30"), "2026-01-05 09:00", "2026-01-05 17:30"),
        (Window("22:00", "06:00"), "2026-01-05 22:00", "2026-01-06 06:00"),
        (Window("20:00", "24:00"), "2026-01-05 20:00", "2026-01-06 00:00"),
        (Window("00:00", "06:00"), "2026-01-05 00:00", "2026-01-05 06:00"),
        (NIGHT, "2026-01-05 21:00", "2026-01-06 05:00"),
        (NIGHT, "2026-07-05 20:00", "2026-07-06 04:00"),
        (Window("22:00", "23:00", timezone="America/New_York"), "2026-01-06 03:00", "2026-01-06 04:00"),
        # the clocks are changed: 7 and 9 hours, and an hour that is there twice
        (NIGHT, "2026-03-28 21:00", "2026-03-29 04:00"),
        (NIGHT, "2026-10-24 20:00", "2026-10-25 05:00"),
        (Window("01:00", "02:00", timezone="Europe/Berlin"), "2026-10-24 23:00", "2026-10-25 00:00"),
    ],
    ids=str,
)
def test_a_window_is_open_from_its_first_moment_until_its_last(
    store: Store, window: Window, open_from: str, until: str
) -> None:
    store.register()
    store.run(windows.declare({"flow": [window]}))
    second = timedelta(seconds=1)
    first, last = datetime.fromisoformat(open_from), datetime.fromisoformat(until)
    for moment, expected in [(first - second, False), (first, True), (last - second, True), (last, False)]:
        at(store, moment.isoformat())
        assert is_open(store) is expected, moment


def test_outside_of_its_window_a_run_is_held_and_costs_no_claim_and_it_is_put_back_when_the_window_opens(
    store: Store,
) -> None:
    session = store.register()
    store.run(windows.declare({"flow": [NIGHT]}))
    at(store, "2026-01-05 12:00")
    windowed, other = store.start(), store.start("job")
    assert [run.run_id for run in store.claim(session).runs] == [other]
    assert store.run(claims.hold()) == 1
    assert store.status(windowed) == Status.HELD
    assert store.run(claims.put_back()) == 0
    at(store, "2026-01-05 21:00")
    assert store.run(claims.put_back()) == 1
    assert [run.run_id for run in store.claim(session).runs] == [windowed]


def test_a_suspect_too_is_claimed_in_its_window_only(store: Store) -> None:
    session = store.register()
    store.run(windows.declare({"flow": [NIGHT]}))
    at(store, "2026-01-05 12:00")
    suspect = store.start()
    store.sql("UPDATE {schema}.run SET recoveries = 2 WHERE run_id = %s", suspect)
    assert not store.run(claims.claim_suspect(session)).runs
    assert not store.claim(session).suspects, "nobody makes room for it"
    at(store, "2026-01-05 21:00")
    assert [run.run_id for run in store.run(claims.claim_suspect(session)).runs] == [suspect]


def test_a_child_is_held_from_its_start_when_its_window_is_closed_also_one_that_its_parents_session_would_adopt(
    store: Store,
) -> None:
    session = store.register()
    store.run(windows.declare({"job": [NIGHT]}))
    at(store, "2026-01-05 12:00")
    parent = store.claimed(session, store.start())
    later, now = child_of(parent, owned=True), child_of(parent, "flow", owned=True)
    assert store.flush(session, children=[later, now]).adopted == {now.run_id}
    assert store.status(later.run_id) == Status.HELD


def test_one_of_several_windows_is_enough(store: Store) -> None:
    store.register()
    store.run(windows.declare({"flow": [Window("01:00", "02:00"), Window("12:00", "13:00")]}))
    for moment, expected in [("00:30", False), ("01:30", True), ("12:30", True), ("13:00", False)]:
        at(store, f"2026-01-05 {moment}")
        assert is_open(store) is expected


def test_a_worker_that_starts_declares_the_windows_of_its_own_code_and_no_others(store: Store) -> None:
    store.run(windows.declare({"flow": [NIGHT, Window("12:00", "13:00")], "job": [NIGHT]}))
    store.run(windows.declare({"flow": [Window("01:00", "02:00")], "new": []}))
    rows = "SELECT name, number, opens::text, timezone FROM {schema}.time_window ORDER BY 1, 2"
    assert store.sql(rows) == [("flow", 1, "01:00:00", "UTC"), ("job", 1, "22:00:00", "Europe/Berlin")]
    store.run(windows.declare({"flow": []}))
    assert store.sql(rows) == [("job", 1, "22:00:00", "Europe/Berlin")]


def test_a_zone_that_the_server_does_not_know_is_refused_where_it_is_declared_and_not_with_each_claim(
    store: Store,
) -> None:
    session = store.register()
    window = Window("22:00", "06:00")
    object.__setattr__(window, "timezone", "Mars/Olympus")
    with pytest.raises(DatabaseError, match="Mars/Olympus"):
        store.run(windows.declare({"flow": [window]}))
    run_id = store.start()
    assert [run.run_id for run in store.claim(session).runs] == [run_id]


def test_why_tells_the_windows_and_when_the_first_one_opens(store: Store) -> None:
    store.register()
    run_id = store.start()
    store.run(windows.declare({"flow": [NIGHT, Window("02:00", "03:00")]}))

    def closed(moment: str) -> object:
        at(store, moment)
        found = store.run(observe.why(run_id))
        assert found is not None
        return found.closed and (found.closed["windows"], datetime.fromisoformat(found.closed["opens_at"]))

    texts = ["22:00-06:00 Europe/Berlin", "02:00-03:00 UTC"]
    assert closed("2026-01-05 12:00") == (texts, datetime(2026, 1, 5, 21, tzinfo=UTC))
    assert closed("2026-01-05 22:00") is None
    store.run(windows.declare({"flow": [Window("02:00", "03:00")]}))
    assert closed("2026-01-05 12:00") == (texts[1:], datetime(2026, 1, 6, 2, tzinfo=UTC))
    assert closed("2026-01-05 01:59") == (texts[1:], datetime(2026, 1, 5, 2, tzinfo=UTC))
