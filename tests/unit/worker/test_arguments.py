"""What a worker is told: every problem at once, a line each, before a database is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flowgen
from flowgen import DefinitionError
from flowgen.cli.main import main
from flowgen.postgres import embedded

NOWHERE = "postgresql://127.0.0.1:1/nowhere"


@pytest.mark.bad_input("B69")
@pytest.mark.parametrize("start", [flowgen.run, flowgen.worker], ids=["run", "worker"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"concurrency": 0}, "concurrency is 0: give a whole number of at least 1"),
        ({"concurrency": -1}, "concurrency is -1: give a whole number of at least 1"),
        ({"concurrency": True}, "concurrency is True: give a whole number of at least 1"),
        ({"concurrency": "4"}, "concurrency is '4': give a whole number of at least 1"),
        ({"queues": []}, "queues is []: give a list of names, or None for every queue"),
        ({"queues": "mail"}, "queues is 'mail': give a list of names, or None for every queue"),
        ({"queues": ["a", 3]}, "a queue must be a string, not 3 of type int"),
        (
            {"queues": ["a\0b"]},
            "a queue 'a\\x00b' is not a name: it must not be empty and must have no control characters, '/' or '#'",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_by_name(
    start: Callable[..., Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        start(NOWHERE, **given)
    assert str(refused.value) == said


@pytest.mark.bad_input("B69")
@pytest.mark.parametrize("start", [flowgen.run, flowgen.worker], ids=["run", "worker"])
def test_arguments_and_the_environment_are_told_together(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGEN_CACHE", "many")
    monkeypatch.setenv("FLOWGEN_POLL", "0")
    monkeypatch.setenv("FLOWGEN_LEESE", "5s")
    with pytest.raises(DefinitionError) as refused:
        start(NOWHERE, concurrency=0, queues=["a/b"])
    assert [line.split()[0] for line in str(refused.value).splitlines()] == [
        "a", "concurrency", "FLOWGEN_CACHE", "FLOWGEN_LEESE", "poll",
    ]  # fmt: skip


@pytest.mark.bad_input("B69")
def test_processes_that_make_no_sense_are_refused() -> None:
    for count in (0, -1, 1.5):
        with pytest.raises(DefinitionError, match=rf"^processes is {count}: give a whole number of at least 1$"):
            flowgen.run(NOWHERE, processes=count)  # type: ignore[arg-type]


@pytest.mark.bad_input("B69")
def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="concurency"):
        flowgen.run(NOWHERE, concurency=1)  # type: ignore[call-arg]


@pytest.mark.bad_input("B69")
@pytest.mark.parametrize("seconds", ["soon", "-1", "nan", "inf"])
def test_an_idle_time_that_is_none_is_refused_before_a_server_is_made(
    seconds: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("FLOWGEN_EMBEDDED_IDLE", seconds)
    with pytest.raises(DefinitionError, match=f"^FLOWGEN_EMBEDDED_IDLE is '{seconds}': give seconds, or 0 for never$"):
        embedded.ensure(tmp_path / ".flowgen")
    assert not (tmp_path / ".flowgen").exists()


@pytest.mark.bad_input("B69")
def test_the_command_line_tells_every_problem_of_the_environment_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"LEASE": "soon", "CACHE": "-1", "POOLER": "maybe"}.items():
        monkeypatch.setenv(f"FLOWGEN_{name}", value)
    monkeypatch.setattr("sys.argv", ["flowgen", "migrate", "--url", NOWHERE])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 3
