"""Time windows as they are declared; what is open when is asked of the database."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen import App, Window
from flowgen.errors import DefinitionError

NIGHT = Window("22:00", "06:00", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, ()),
        ("22:00-06:00", (Window("22:00", "06:00"),)),
        (" 09:00 - 24:00 ", (Window("09:00", "00:00", timezone="UTC"),)),
        (NIGHT, (NIGHT,)),
        ([NIGHT, "12:00-13:00"], (NIGHT, Window("12:00", "13:00"))),
        ([], ()),
    ],
)
def test_one_window_several_or_none_are_declared(window: Any, expected: tuple[Window, ...]) -> None:
    app = App()

    @app.task(window=window)
    def job() -> None: ...

    assert job.options.window == expected


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("22:00", "window= takes times such as \"22:00-06:00\" (UTC), a Window, or several of them, not '22:00'"),
        (("22:00", "06:00"), "window= takes times such as"),
        (22, "window= takes times such as"),
        ([None], "window= takes times such as"),
        ("24:00-06:00", "a window opens at '24:00': give hours and minutes, such as \"22:00\""),
        ("22:00-06:60", "a window closes at '06:60'"),
        ("22:00-6", "a window closes at '6'"),
        ("22:00-06:00:30", "a window closes at '06:00:30'"),
        ("22:00-22:00", "a window opens and closes at 22:00: leave window= out"),
        ("00:00-24:00", "a window opens and closes at 00:00: leave window= out"),
    ],
)
def test_what_is_no_window_is_refused_where_it_is_declared(window: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        App().task(window=window)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("args", "zone", "message"),
    [
        (("22:00", "06:00"), "Mars/Olympus", "time zone 'Mars/Olympus' is unknown here"),
        (("22:00", "06:00"), "", "time zone is ''"),
        ((22, 6), "UTC", "a window opens at 22: give hours and minutes"),
        (("22:00", None), "UTC", "a window closes at None"),
    ],
)
def test_a_window_of_no_time_or_of_an_unknown_zone_is_refused(args: Any, zone: str, message: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        Window(*args, timezone=zone)
    assert str(raised.value).startswith(message)


def test_a_window_is_shown_as_people_write_it() -> None:
    assert str(NIGHT) == "22:00-06:00 Europe/Berlin"
