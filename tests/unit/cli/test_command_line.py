"""The command line without a database: exit codes, what is said on mistakes, and what is never said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowgen
from flowgen.cli.main import main

SHOP = """
from flowgen import App, Step, workflow

shop = App(name="shop")

@shop.workflow
def checkout(order_id: str):
    return (yield Step(print, order_id))

nothing = App(name="nothing")
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command line in an empty folder; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWGEN_URL", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flowgen", *args])
        with pytest.raises(SystemExit) as exit:
            main()
        assert isinstance(exit.value.code, int)
        return exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What `flowgen.run` was called with, instead of running."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(flowgen, "run", lambda url, **options: calls.append((url, options)), raising=False)
    return calls


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, "flowgen 0.1.0\n", "")


def test_help_lists_the_commands_and_the_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(each in out for each in ("worker", "migrate", "db", "Exit codes"))


def test_no_command_is_a_usage_error_with_help(run: Run) -> None:
    code, out, _ = run()
    assert code == 2
    assert "Commands" in out


def test_help_imports_no_database(tmp_path: Path) -> None:
    look = (
        "import sys, flowgen.cli.commands as c; c.commands(['--help'], standalone_mode=False);"
        "sys.exit(any(m.split('.')[0] in ('psycopg', 'asyncio') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", look], cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0


def test_help_is_fast(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.argv[1:] = ['--help']; from flowgen.cli.main import main; main()"]

    def measured() -> float:
        before = os.times()
        subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    # 0.4 s of a CPU, however busy it is with others; the best of a few, as a first one compiles.
    assert min(measured() for _ in range(3)) < 1


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_a_missing_extra_names_the_line_to_type(run: Run, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run("--help")
    assert code == 1
    assert 'pip install "flowgen[cli]"' in err


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("db", "nope"), ("worker",), ("migrate", "--check", "--sql"), ("worker", "x", "--processes", "0")],
)
def test_a_wrong_command_line_is_2_and_says_where_help_is(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "--help" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", "postgresql://me:secret@localhost/db"),
        ("migrate", "--url", "postgresql://me:secret@localhost:1/db"),
        ("migrate", "--url", "host=localhost port=1 user=me password=secret"),
        ("db", "postgresql://me:secret@localhost/db"),
        ("worker", "postgresql://me:secret@localhost/db"),
    ],
)
def test_a_password_is_never_printed(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert code in (1, 2)
    assert err
    assert "secret" not in out + err


def test_a_bad_setting_is_told_before_anything_happens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWGEN_LEASE", "soon")
    code, _, err = run("migrate", "--sql")
    assert code == 1
    assert "FLOWGEN_LEASE" in err or "lease" in err


def test_migrate_prints_sql_without_a_database(run: Run) -> None:
    code, out, err = run("migrate", "--sql", "--schema", "shop")
    assert (code, err) == (0, "")
    assert out.startswith("BEGIN;")
    assert 'CREATE SCHEMA IF NOT EXISTS "shop"' in out
    assert out.endswith("COMMIT;\n")


def test_a_worker_gets_what_the_line_says(
    run: Run, tmp_path: Path, worked: list[tuple[Any, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_of_options.py").write_text(SHOP)
    monkeypatch.setenv("FLOWGEN_GRACE", "7s")
    line = "worker shop_of_options:shop --url postgresql://h/db --queue a --queue b --concurrency 5 --processes 2"
    assert run(*line.split(), "--drain", "--migrate")[0] == 0
    ((url, options),) = worked
    assert url == "postgresql://h/db"
    assert [*options["app"].definitions] == ["checkout"]
    assert options["settings"].grace.total_seconds() == 7
    assert {key: options[key] for key in ("queues", "concurrency", "processes", "drain", "migrate")} == {
        "queues": ["a", "b"],
        "concurrency": 5,
        "processes": 2,
        "drain": True,
        "migrate": True,
    }


def test_a_worker_serves_every_queue_unless_told(
    run: Run, tmp_path: Path, worked: list[tuple[Any, dict[str, Any]]]
) -> None:
    (tmp_path / "shop_of_defaults.py").write_text(SHOP)
    assert run("worker", "shop_of_defaults:shop")[0] == 0
    ((url, options),) = worked
    assert url is None
    assert options["queues"] is None
    assert options["drain"] is False


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop_of_targets.py", "did you mean shop_of_targets?"),
        ("nowhere", "there is no module nowhere"),
        (".relative", "is not the name of a module"),
        ("shop_of_targets:none", "did you mean shop_of_targets:shop?"),
        ("shop_of_targets:checkout", "not an App"),
    ],
)
def test_a_worker_without_an_app_says_which_there_is(
    run: Run, tmp_path: Path, worked: list[tuple[Any, dict[str, Any]]], target: str, said: str
) -> None:
    (tmp_path / "shop_of_targets.py").write_text(SHOP)
    code, _, err = run("worker", target)
    assert code == 2
    assert said in err
    assert not worked


def test_a_module_that_lacks_a_module_shows_its_own_error(
    run: Run, tmp_path: Path, worked: list[tuple[Any, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_that_lacks.py").write_text("import a_module_that_nobody_has")
    monkeypatch.setattr(sys, "argv", ["flowgen", "worker", "shop_that_lacks"])
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        main()
