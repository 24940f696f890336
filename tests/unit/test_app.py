"""The registry: one name is one definition, and what is refused says where and why."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flowgen
from flowgen.app import App, _place
from flowgen.core.commands import Flow, Sleep
from flowgen.core.context import StepContext
from flowgen.core.definitions import Cron, Task, Workflow
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError, NotRegisteredError


def charge(order: str) -> str:
    return order


def flow(n: int = 0) -> Flow[int]:
    yield Sleep(n)
    return n


async def coroutine(n: int = 0) -> int:
    return n


def test_the_decorators_of_the_package_are_those_of_the_default_app() -> None:
    assert isinstance(flowgen.app, App)
    assert flowgen.task == flowgen.app.task
    assert flowgen.workflow == flowgen.app.workflow


def test_a_definition_is_found_by_its_name() -> None:
    app = App()
    made = app.task(charge)
    renamed = app.workflow(name="other")(flow)
    assert app.definition("charge") is made
    assert app.definitions == {"charge": made, "other": renamed}
    assert isinstance(made, Task)
    assert isinstance(renamed, Workflow)
    assert made.name == "charge"


def test_two_apps_know_nothing_of_each_other() -> None:
    one, two = App(), App(name="two")
    one.task(charge)
    two.workflow(flow)
    assert list(one.definitions) == ["charge"]
    assert list(two.definitions) == ["flow"]
    assert "charge" not in flowgen.app.definitions


def test_the_definitions_that_are_given_out_are_a_copy() -> None:
    app = App()
    app.task(charge)
    app.definitions.clear()  # type: ignore[attr-defined]
    assert list(app.definitions) == ["charge"]


def test_an_unknown_name_is_refused_with_close_ones() -> None:
    app = App(name="shop")
    with pytest.raises(NotRegisteredError, match="import the module"):
        app.definition("charge")
    app.task(charge)
    with pytest.raises(NotRegisteredError, match="'chrge' is defined in shop: did you mean 'charge'"):
        app.definition("chrge")
    with pytest.raises(NotRegisteredError, match="it knows charge"):
        app.definition("zebra")


def test_services_are_kept_and_not_entered() -> None:
    entered: list[int] = []

    @contextmanager
    def lifespan() -> Iterator[int]:
        entered.append(1)
        yield 1

    assert App(lifespan).services is lifespan
    assert App(services={"a": 1}).services == {"a": 1}
    assert entered == []


# options


def test_the_defaults_of_a_definition() -> None:
    app = App()
    plain = app.task(charge).options
    assert (plain.queue, plain.retry, plain.timeout, plain.priority, plain.cron) == ("default", Retry(3), None, 0, ())
    assert app.task(name="async")(coroutine).options.retry == Retry(3)
    assert app.task(name="generator")(flow).options.retry == Retry(1)
    assert app.workflow(name="generator workflow")(flow).options.retry == Retry(1)
    assert app.workflow(name="coroutine workflow")(coroutine).options.retry == Retry(1)
    assert app.workflow(name="w")(flow).options.determinism == "warn"


def test_every_option_is_kept() -> None:
    app = App()
    options = app.task(
        name="t",
        queue="q",
        retry=Retry(7),
        timeout="30s",
        config={"a": 1},
        priority=3,
        cron=Cron("@daily", args={"order": "o"}),
    )(charge).options
    assert (options.queue, options.retry, options.timeout, options.priority) == (
        "q",
        Retry(7),
        timedelta(seconds=30),
        3,
    )
    assert options.config == {"a": 1}
    assert options.cron == (Cron("@daily", args={"order": "o"}),)
    handler = app.workflow(deadline="1d", determinism="strict", cron=["@hourly", Cron("@daily")], retry=Retry(2))(flow)
    assert (handler.options.deadline, handler.options.determinism) == (timedelta(days=1), "strict")
    assert handler.options.cron == (Cron("@hourly"), Cron("@daily"))
    assert handler.options.retry == Retry(2)
    assert app.task(name="g", retry=Retry(5))(flow).options.retry == Retry(5)


@pytest.mark.parametrize(
    "decorate",
    [
        lambda app: app.task(retry=5)(charge),
        lambda app: app.task(queue="")(charge),
        lambda app: app.task(name="a/b")(charge),
        lambda app: app.task(priority="high")(charge),
        lambda app: app.task(timeout=0)(charge),
        lambda app: app.task(config=3)(charge),
        lambda app: app.task(timeout=3)(flow),
        lambda app: app.workflow(deadline=-1)(flow),
        lambda app: app.workflow(determinism="loose")(flow),
        lambda app: app.workflow(cron="every day")(flow),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(decorate: Callable[[App], object]) -> None:
    app = App()
    with pytest.raises(DefinitionError):
        decorate(app)
    assert app.definitions == {}


def test_a_cron_must_give_the_arguments_that_the_function_needs() -> None:
    with pytest.raises(DefinitionError, match=r"charge.*order.*args="):
        App().task(cron="@daily")(charge)
    with pytest.raises(DefinitionError, match=r"charge.*args="):
        App().task(cron=Cron("@daily", args={"order": "o", "cents": 3}))(charge)


def test_a_cron_does_not_give_the_context() -> None:
    def nightly(ctx: StepContext) -> None: ...

    assert App().task(cron="@daily")(nightly).options.cron == (Cron("@daily"),)


# what is no definition


class Shop:
    def method(self, n: int) -> None: ...
    @staticmethod
    def static(n: int) -> None: ...
    @classmethod
    def of_class(cls, n: int) -> None: ...


async def async_generator(n: int) -> Any:
    yield n


@pytest.mark.bad_input("B25")
@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda n: n, "name="),
        (functools.partial(charge, "o"), "name="),
        (Shop, "class"),
        (Shop.method, "method"),
        (Shop().method, "method"),
        (vars(Shop)["static"], "staticmethod"),
        (vars(Shop)["of_class"], "classmethod"),
        (Shop.of_class, "method"),
        (async_generator, "async generator"),
        (App().task(charge), "decorated already"),
        (3, "a function was expected"),
    ],
)
def test_what_is_no_function_of_its_own_is_refused(fn: Any, why: str) -> None:
    for decorator in (App().task, App().workflow):
        with pytest.raises(DefinitionError, match=why):
            decorator(fn)


@pytest.mark.bad_input("B25")
def test_a_plain_function_is_no_workflow() -> None:
    with pytest.raises(DefinitionError, match="use @task"):
        App().workflow(charge)  # type: ignore[arg-type]


def test_a_lambda_and_a_partial_with_a_name_are_tasks() -> None:
    app = App()
    assert app.task(name="double")(lambda n: 2 * n)(2) == 4
    assert app.task(name="partial")(functools.partial(charge, "o"))() == "o"


def test_a_function_inside_of_another_may_be_one_even_with_a_parameter_self() -> None:
    def inner(self: str) -> str:
        return self

    assert App().task(inner)("a") == "a"


# names


@pytest.mark.bad_input("B44")
def test_the_same_function_made_again_takes_its_own_place() -> None:
    app = App()

    def make() -> Any:
        def inner() -> None: ...

        return app.task(inner)

    first, second = make(), make()
    assert first is not second
    assert app.definition("inner") is second


@pytest.mark.bad_input("B44")
def test_another_function_of_the_same_name_is_refused_with_both_places() -> None:
    app = App()
    first = app.task(name="charge")(coroutine)
    with pytest.raises(DefinitionError) as refused:
        app.task(charge)
    assert f"{__file__}:{charge.__code__.co_firstlineno}" in str(refused.value)
    assert first.location in str(refused.value)
    assert app.definition("charge") is first
    with pytest.raises(DefinitionError):
        app.task(name="charge")(functools.partial(charge, "o"))


@pytest.mark.bad_input("B44")
def test_two_partials_of_one_name_are_two() -> None:
    app = App()
    app.task(name="p")(functools.partial(charge, "o"))
    with pytest.raises(DefinitionError):
        app.task(name="p")(functools.partial(charge, "o"))


def test_a_cell_that_is_edited_and_run_again_replaces_what_it_made() -> None:
    app = App()
    for number, file in enumerate(
        [
            "/tmp/ipykernel_4711/123.py",
            "/tmp/ipykernel_4711/456.py",
            "<ipython-input-3-abc>",
            "<python-input-7>",
            "<stdin>",
        ]
    ):
        source = "\n" * number + "def cell(): ..."
        scope: dict[str, Any] = {}
        exec(compile(source, file, "exec"), scope)
        made = app.task(scope["cell"])
        assert _place(made)[0] == "<cell>"
        assert app.definition("cell") is made


def test_a_module_that_is_run_and_imported_too_defines_once(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from flowgen import app, task\n"
        "@task\n"
        "def charge(order: str) -> str: return order\n"
        "import shop\n"
        "if __name__ == '__main__': print(list(app.definitions), app.definition('charge') is charge)\n"
    )
    done = subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "['charge'] False\n"


def test_the_package_is_imported_quickly_and_without_the_driver() -> None:
    code = (
        "import flowgen, sys; print([name for name in ('psycopg', 'psycopg_pool', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_everything_public_is_importable_from_the_package() -> None:
    from flowgen import errors

    assert set(errors.__all__) <= set(flowgen.__all__)
    assert list(flowgen.__all__) == sorted(flowgen.__all__)
    for name in flowgen.__all__:
        assert getattr(flowgen, name) is not None
