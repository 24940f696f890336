"""When a schedule fires: each wall time of its zone once, also where the clocks change."""

from __future__ import annotations

import functools
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flowgen import App, Cron, Flow, Schedule
from flowgen.core.cron import CronSpec, next_after
from flowgen.errors import DefinitionError

START = datetime(2026, 1, 1, tzinfo=UTC)


def fires(expression: str, zone: str, after: datetime, count: int) -> list[datetime]:
    spec = CronSpec.parse(expression, zone)
    found: list[datetime] = []
    for _ in range(count):
        after = next_after(spec, after)
        assert after.tzinfo is UTC
        found.append(after)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * *", "2026-01-01T00:05:00"),
        ("*/10 * * * * *", "2026-01-01T00:00:10"),
        ("30 15 6 * * *", "2026-01-01T06:15:30"),
        ("0 9 * * MON-FRI", "2026-01-01T09:00:00"),
        ("0 9 * * fri-mon", "2026-01-02T09:00:00"),
        ("0 0 1 FEB *", "2026-02-01T00:00:00"),
        ("0 0 * * 7", "2026-01-04T00:00:00"),
        ("0 0 L * *", "2026-01-31T00:00:00"),
        ("0 0 * * FRI#2", "2026-01-09T00:00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00"),
        ("0 0 13 * FRI", "2026-01-02T00:00:00"),
        ("@daily", "2026-01-02T00:00:00"),
        ("@Hourly", "2026-01-01T01:00:00"),
        ("@yearly", "2027-01-01T00:00:00"),
        ("  0   0 * * *  ", "2026-01-02T00:00:00"),
    ],
)
def test_an_expression_fires_where_it_says(expression: str, expected: str) -> None:
    assert fires(expression, "UTC", START, 1) == [datetime.fromisoformat(expected + "+00:00")]


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("61 * * * *", "minute"),
        ("60 * * * * *", "second"),
        ("*/0 * * * *", "minute"),
        ("*/90 * * * *", "minute"),
        ("1/ * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("a * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("H H * * *", "minute"),
        ("0 R * * *", "hour"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 32 * *", "day of month"),
        ("0 0 MON * *", "day of month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * MON *", "month"),
        ("0 0 * * 8", "day of week"),
        ("0 0 * * JAN", "day of week"),
        ("MON * * * *", "minute"),
        ("@reboot", "@reboot"),
        ("@often", "@daily"),
        ("* " * 200, "characters long"),
        (None, "as a str"),
    ],
)
@pytest.mark.bad_input("B58")
def test_an_expression_that_is_wrong_is_refused_and_the_field_named(expression: str, named: str) -> None:
    with pytest.raises(DefinitionError, match="^cron expression") as caught:
        CronSpec.parse(expression)
    assert named in str(caught.value)


ALLOWED = "give 5 fields (minute, hour, day of month, month, day of week) or 6 with the seconds first"
STEPS = "*, lists, ranges or steps such as */5"


@pytest.mark.bad_input("B58")
@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", f"cron expression '' has 0 fields: {ALLOWED}"),
        ("* * * *", f"cron expression '* * * *' has 4 fields: {ALLOWED}"),
        (
            "61 * * * *",
            f"cron expression '61 * * * *': the minute field '61' is not understood: give 0-59, {STEPS}",
        ),
        (
            "0 0 * * JAN",
            "cron expression '0 0 * * JAN': the day of week field 'JAN' is not understood: "
            f"give 0-7 (0 and 7 are Sunday) or SUN-SAT, {STEPS}",
        ),
        ("@reboot", "cron expression '@reboot' names no time: a schedule lives in the database, not in a machine"),
    ],
)
def test_an_expression_that_is_wrong_is_refused_wherever_it_is_declared(expression: str, said: str) -> None:
    def report() -> None: ...

    call = App().task(report).call()
    for declare in (
        lambda: App().task(cron=expression)(report),
        lambda: App().workflow(cron=["@daily", Cron(expression)])(nothing),
        lambda: Schedule(call, "s", cron=expression),
    ):
        with pytest.raises(DefinitionError) as refused:
            declare()
        assert str(refused.value) == said


def nothing() -> Flow[None]:
    yield from ()


@pytest.mark.bad_input("B59")
@pytest.mark.parametrize(
    "expression", ["0 0 31 4 *", "0 0 30 2 *", "* * 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 31 6 *", "0 0 31 FEB *"]
)
def test_an_expression_that_never_fires_is_refused_where_it_is_declared(expression: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Cron(expression)
    said = f"cron expression {expression!r} never fires: no date fits its day of month and month"
    assert str(refused.value) == said


@pytest.mark.bad_input("B60")
def test_a_zone_that_is_unknown_is_refused_wherever_it_is_declared() -> None:
    def report() -> None: ...

    call = App().task(report).call()
    said = 'time zone \'Mars/Olympus\' is unknown here: give an IANA name such as "Europe/Berlin" or "UTC"'
    for declare in (
        lambda: App().task(cron=Cron("@daily", timezone="Mars/Olympus"))(report),
        lambda: Schedule(call, "s", cron="@daily", timezone="Mars/Olympus"),
    ):
        with pytest.raises(DefinitionError) as refused:
            declare()
        assert str(refused.value) == said


@pytest.mark.bad_input("B60")
def test_an_old_name_of_a_zone_is_that_zone() -> None:
    assert fires("0 12 * * *", "US/Eastern", START, 3) == fires("0 12 * * *", "America/New_York", START, 3)


@pytest.mark.bad_input("B60")
def test_a_machine_without_zones_says_what_to_install_and_still_knows_utc() -> None:
    code = (
        "import sys, zoneinfo; sys.modules['tzdata'] = None; zoneinfo.reset_tzpath([])\n"
        "from flowgen import Cron\n"
        "Cron('@daily')\n"
        "Cron('@daily', timezone='Europe/Berlin')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == (
        "flowgen.errors.DefinitionError: time zone 'Europe/Berlin' is unknown here: "
        "there is no time zone database on this machine; install one with: pip install tzdata"
    )


@pytest.mark.bad_input("B60")
@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "+02:00", "../etc/passwd", "America", "localtime", "a\0b", None])
def test_a_zone_that_is_unknown_is_refused(zone: str) -> None:
    with pytest.raises(DefinitionError, match="time zone"):
        CronSpec.parse("@daily", zone)


def test_a_spec_is_checked_however_it_is_made_and_equal_by_what_was_written() -> None:
    assert CronSpec("@daily", "Europe/Berlin") == CronSpec.parse("@daily", "Europe/Berlin")
    with pytest.raises(DefinitionError):
        CronSpec("61 * * * *")


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        next_after(CronSpec.parse("@daily"), datetime(2026, 1, 1))


def test_the_end_of_the_calendar_is_an_error_of_ours() -> None:
    with pytest.raises(DefinitionError, match="does not fire after"):
        next_after(CronSpec.parse("@daily"), datetime(9999, 12, 31, 12, tzinfo=UTC))


def test_the_next_time_is_later_than_a_time_that_fires_and_than_fractions_of_it() -> None:
    spec = CronSpec.parse("* * * * *")
    assert next_after(spec, START) == START + timedelta(minutes=1)
    assert next_after(spec, START - timedelta(microseconds=1)) == START
    assert next_after(spec, START + timedelta(microseconds=1)) == START + timedelta(minutes=1)


@pytest.mark.fault("F62")
def test_a_skipped_time_runs_once_at_the_first_moment_after_the_gap() -> None:
    after = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert [f"{each:%d %H:%M}" for each in fires("30 2 * * *", "Europe/Berlin", after, 3)] == [
        "29 01:00",
        "30 00:30",
        "31 00:30",
    ]
    # Several skipped times, and the one that is due at the end of the gap anyway, are one.
    assert [
        f"{each:%H:%M}" for each in fires("*/20 * * * *", "Europe/Berlin", datetime(2026, 3, 29, 0, 39, tzinfo=UTC), 3)
    ] == [
        "00:40",
        "01:00",
        "01:20",
    ]


@pytest.mark.fault("F61")
def test_a_repeated_time_runs_the_first_time_only() -> None:
    after = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert [f"{each:%d %H:%M}" for each in fires("30 2 * * *", "Europe/Berlin", after, 2)] == ["25 00:30", "26 01:30"]
    assert [
        f"{each:%H:%M}"
        for each in fires("*/30 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 23, 59, tzinfo=UTC), 4)
    ] == [
        "00:00",
        "00:30",
        "02:00",
        "02:30",
    ]


def test_a_schedule_made_in_the_second_pass_of_a_repeated_hour_waits_for_the_next_day() -> None:
    assert fires("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC), 1) == [
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    ]


def test_a_day_that_a_zone_skipped_runs_at_the_start_of_the_next() -> None:
    assert fires("0 12 30 12 *", "Pacific/Apia", datetime(2011, 6, 1, tzinfo=UTC), 1) == [
        datetime(2011, 12, 30, 10, tzinfo=UTC)
    ]


ZONES = [
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Athens",
    "Europe/Moscow",
    "Europe/Istanbul",
    "Europe/Chisinau",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "America/Asuncion",
    "America/Caracas",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Jerusalem",
    "Asia/Tehran",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Asia/Pyongyang",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Apia",
    "Pacific/Chatham",
]


@functools.cache
def transitions(zone: ZoneInfo) -> list[datetime]:
    """The instants at which the offset changes in 2010 to 2024, to the second."""
    found: list[datetime] = []
    day = datetime(2010, 1, 1, tzinfo=UTC)
    while day.year < 2025:
        following = day + timedelta(days=1)
        low, high = day, following
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                same = middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high.replace(microsecond=0))
        day = following
    return found


def moments_by_the_rule(zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """The rule, the slow way: minute by minute, each time that the wall clock first reaches a quarter of an hour."""
    found: list[datetime] = []
    reached = start.astimezone(zone).replace(tzinfo=None)
    moment = start
    while moment < end:
        moment += timedelta(minutes=1)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if wall > reached:
            if wall.replace(minute=wall.minute // 15 * 15, second=0) > reached:
                found.append(moment)
            reached = wall
    return found


@pytest.mark.fault("F61", "F62")
@pytest.mark.parametrize("name", ZONES)
def test_each_wall_time_around_each_transition_runs_once(name: str) -> None:
    zone = ZoneInfo(name)
    spec = CronSpec.parse("*/15 * * * *", name)
    for change in transitions(zone):
        after, end = change - timedelta(hours=2), change + timedelta(hours=2)
        expected = moments_by_the_rule(zone, after, end)
        found: list[datetime] = []
        while (after := next_after(spec, after)) <= end:
            found.append(after)
        assert found == expected, change


def test_the_table_of_zones_has_gaps_and_repeats() -> None:
    assert len(ZONES) >= 30
    assert sum(len(transitions(ZoneInfo(name))) for name in ZONES) > 400
