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
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as raised:
        Settings(**given)
    assert len(str(raised.value).splitlines()) == 1


def test_every_problem_is_told_at_once_one_line_each() -> None:
    with pytest.raises(DefinitionError) as raised:
        Settings(lease="x", poll=0, cache=-1, schema="pg_x", max_recoveries=0)
    lines = str(raised.value).splitlines()
    assert [line.split()[0] for line in lines] == ["lease", "poll", "cache", "schema", "max_recoveries"]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="leese"):
        Settings(leese="15s")  # type: ignore[call-arg]


@pytest.mark.parametrize("schema", ['quo"te', "Upper Case", "select", "schön", "x" * 63])
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
