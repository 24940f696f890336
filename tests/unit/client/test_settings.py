"""What settings accept, refuse and read from the environment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from flowgen.core.settings import Settings
from flowgen.errors import DefinitionError


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert settings.lease == timedelta(seconds=15)
    assert settings.heartbeat == timedelta(seconds=5)
    assert (settings.schema, settings.max_payload, settings.max_recoveries) == ("flowgen", 32 * 1024 * 1024, 3)
    assert settings.grace == timedelta(seconds=30)
    assert not settings.pooler


def test_settings_are_frozen_and_comparable() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().schema = "other"  # type: ignore[misc]
    assert Settings(lease=15) == Settings(lease="15s") == Settings(lease=timedelta(seconds=15))
    assert hash(Settings()) == hash(Settings())
    assert attrs.evolve(Settings(), schema="other") == Settings(schema="other")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lease": 0}, "lease"),
        ({"lease": "soon"}, "lease"),
        ({"lease": 5, "heartbeat": 5}, "heartbeat must be shorter"),
        ({"heartbeat": "20s"}, "heartbeat must be shorter"),
        ({"poll": 0}, "poll"),
        ({"grace": -1}, "grace"),
        ({"cache": -1}, "cache"),
        ({"cache": True}, "cache"),
        ({"schema": ""}, "schema"),
        ({"schema": "pg_mine"}, "schema"),
        ({"schema": "x" * 64}, "63"),
        ({"schema": "a\x00b"}, "cannot be printed"),
        ({"schema": "\ud800"}, "cannot be printed"),
        ({"max_payload": 0}, "max_payload"),
        ({"max_payload": 1 << 40}, "max_payload"),
        ({"max_recoveries": 0}, "max_recoveries"),
        ({"pooler": "yes"}, "pooler"),
    ],
)
@pytest.mark.bad_input("B69")
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as raised:
        Settings(**given)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.bad_input("B69")
def test_every_problem_is_told_at_once_one_line_each() -> None:
    with pytest.raises(DefinitionError) as raised:
        Settings(lease="x", poll=0, cache=-1, schema="pg_x", max_recoveries=0)
    lines = str(raised.value).splitlines()
    assert [line.split()[0] for line in lines] == ["lease", "poll", "cache", "schema", "max_recoveries"]


@pytest.mark.bad_input("B69")
def test_what_each_problem_is_told() -> None:
    with pytest.raises(DefinitionError) as raised:
        Settings(
            lease=[],  # type: ignore[arg-type]
            heartbeat=True,
            poll="0s",
            grace=-1,
            cache=1.5,  # type: ignore[arg-type]
            schema=7,  # type: ignore[arg-type]
            max_payload=0,
            max_recoveries="3",  # type: ignore[arg-type]
            pooler=1,  # type: ignore[arg-type]
        )
    length = 'a timedelta, a number of seconds, or a string such as "500ms", "2s", "1h30m", "1.5h", "2d", "1w"'
    assert str(raised.value).splitlines() == [
        f"lease is [] of type list: give {length}",
        f"heartbeat is True of type bool: give {length}",
        f"poll is '0s': give more than zero, as {length}",
        f"grace is -1, which is negative: give zero or more, as {length}",
        "cache is 1.5 of type float: give a whole number",
        "schema must be a string, not 7 of type int",
        "max_payload is 0: give 1 to 268435456",
        "max_recoveries is '3' of type str: give a whole number",
        "pooler is 1 of type int: give True or False",
    ]
    with pytest.raises(DefinitionError) as raised:
        Settings(lease="5s", heartbeat="5s")
    assert str(raised.value) == "heartbeat is 0:00:05, lease is 0:00:05: the heartbeat must be shorter than the lease"


@pytest.mark.bad_input("B69")
def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="leese"):
        Settings(leese="15s")  # type: ignore[call-arg]


@pytest.mark.parametrize("schema", ['quo"te', "Upper Case", "select", "schön", "x" * 63])
@pytest.mark.bad_input("B57")
def test_any_name_that_postgres_can_quote_is_a_schema(schema: str) -> None:
    assert Settings(schema=schema).schema == schema


def test_the_environment_is_read_and_arguments_win() -> None:
    environ = {
        "FLOWGEN_LEASE": "1m",
        "FLOWGEN_POLL": "0.5",
        "FLOWGEN_CACHE": "0",
        "FLOWGEN_POOLER": "On",
        "FLOWGEN_SCHEMA": "tenant",
        "FLOWGEN_GRACE": "",
        "FLOWGEN_URL": "postgresql://secret",
        "PATH": "/bin",
    }
    assert Settings.from_env(environ, schema="mine") == Settings(
        lease="1m", poll=0.5, cache=0, pooler=True, schema="mine"
    )


@pytest.mark.bad_input("B69")
def test_garbage_in_the_environment_is_told_one_line_per_problem_without_secrets() -> None:
    environ = {
        "FLOWGEN_CACHE": "many",
        "FLOWGEN_POOLER": "maybe",
        "FLOWGEN_LEASE": "soon",
        "FLOWGEN_LEASES": "1s",
        "FLOWGEN_URL": "postgresql://u:secret@h/d",
        "FLOWGEN_SERVICE_HOST": "10.0.0.1",
    }
    with pytest.raises(DefinitionError) as raised:
        Settings.from_env(environ)
    lines = str(raised.value).splitlines()
    assert len(lines) == 4
    assert any("did you mean FLOWGEN_LEASE?" in line for line in lines)
    assert "secret" not in str(raised.value)
