"""Checkpoint: progress that survives, a prologue that is kept, and segments that end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Checkpoint, Flow, Gather, Scope, Sleep, Step
from flowgen.core.context import Context
from flowgen.core.decision import Parked
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.history import History
from flowgen.errors import DefinitionError, PermanentError, StepFailed
from flowgen.testing.bench import Bench

from .running import begun, fails, gives, keys, kinds, replayed, result, workflow


def count_pages(source: str) -> int:
    raise NotImplementedError


def load_page(page: int) -> int:
    raise NotImplementedError


def load(ctx: Context[Any], source: str) -> Flow[Any]:
    pages = yield from Step(count_pages, source)
    total = (ctx.accumulated_results or {"n": 0})["n"]
    for page in range(ctx.checkpoint_cursor or 0, pages):
        total += yield from Step(load_page, page)
        yield Checkpoint(page + 1, page + 1, {"n": total})
    return total


def at_page(number: int) -> Bench:
    """The run with so many pages loaded."""
    bench = begun(load, source="s")
    gives(bench, "count_pages", 5)
    for page in range(number):
        gives(bench, "load_page", 10 + page)
    return bench


def test_it_goes_on_where_it_was_with_a_bounded_history() -> None:
    bench = at_page(3)
    assert bench.base == bench.items[-1].index
    history = History.of(bench.items, base=bench.base, prologue=bench.prologue)
    assert [entry.key for entry in history.ordered] == ["count_pages"]
    assert history.saved is not None
    assert (history.saved.cursor, history.saved.items_processed) == (3, 3)
    execution, decision = replayed(bench)
    assert [(call.key, call.command.args) for call in decision.calls] == [("load_page", (3,))]
    assert execution.context.accumulated_results == {"n": 33}


def test_live_and_replayed_go_on_alike() -> None:
    bench = at_page(2)
    _, decision = replayed(bench)
    assert list(bench.calls.values()) == list(decision.calls)


def test_a_restart_before_the_first_checkpoint_keeps_the_prologue_apart() -> None:
    bench = at_page(0)
    bench.restart()
    bench.go()
    gives(bench, "load_page", 10)
    assert bench.prologue == 2
    bench.restart()
    bench.go()
    gives(bench, "load_page", 11)
    execution, decision = replayed(bench)
    assert [call.command.args for call in decision.calls] == [(2,)]
    assert execution.prologue == 2


def test_an_outcome_of_an_earlier_item_is_never_given_to_a_later_one() -> None:
    bench = at_page(0)
    for page in range(5):
        bench.restart()
        bench.go()
        assert bench.calls["load_page"].command.args == (page,)
        gives(bench, "load_page", page)
    assert result(bench) == 10


def test_it_consumes_no_attempt_and_needs_no_outcome() -> None:
    bench = at_page(1)
    assert kinds(bench) == ["OUTCOME", "OUTCOME", "CHECKPOINT"]
    assert keys(bench) == ["count_pages", "load_page"]


def test_a_bare_one_is_an_outcome_like_others() -> None:
    def handler() -> Flow[Any]:
        yield Checkpoint()
        yield Gather(Checkpoint(), Checkpoint().opts(name="again"))
        return "done"

    bench = begun(handler)
    assert result(bench) == "done"
    assert keys(bench) == ["checkpoint", "gather/0/checkpoint", "gather/1/again"]
    assert bench.base == 0


def test_falsy_progress_is_progress() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        if not ctx.has_checkpoint():
            yield Checkpoint(0)
            yield Step(load_page, 1)
        return [ctx.checkpoint_cursor, ctx.checkpoint_items_processed, ctx.accumulated_results]

    bench = begun(handler)
    bench.restart()
    bench.go()
    assert result(bench) == [0, 0, None]


def test_what_is_saved_replaces_what_was() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        seen = [ctx.checkpoint]
        yield Checkpoint(1, 5, {"a": 1})
        seen.append(ctx.checkpoint)
        yield Checkpoint(2)
        return [*seen, ctx.checkpoint]

    assert result(begun(handler)) == [
        None,
        {"cursor": 1, "items_processed": 5, "accumulated_results": {"a": 1}},
        {"cursor": 2, "items_processed": 0, "accumulated_results": None},
    ]


def test_with_data_in_a_handler_that_has_not_read_it_is_refused_with_the_idiom() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Checkpoint(1)
        except DefinitionError as error:
            return str(error)

    assert "ctx.checkpoint_cursor or 0" in result(begun(handler))


def test_with_data_in_a_branch_is_refused() -> None:
    def branch() -> Flow[Any]:
        yield Checkpoint(1)

    def handler(ctx: Context[Any]) -> Flow[Any]:
        ctx.has_checkpoint()
        try:
            yield Scope("s", branch())
        except DefinitionError as error:
            return str(error)

    assert "inside a branch or scope" in result(begun(handler))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cursor": {"at": object()}}, "the cursor of the checkpoint cannot be stored at $.at:"),
        ({"accumulated_results": [object()]}, "the accumulated_results of the checkpoint cannot be stored at $[0]:"),
    ],
)
def test_data_that_cannot_be_stored_is_refused_at_the_yield(data: dict[str, Any], said: str) -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        ctx.has_checkpoint()
        try:
            yield Checkpoint(**data)
        except ValueError as error:
            return str(error)

    assert said in result(begun(handler))


def test_reading_in_a_branch_does_not_end_the_prologue() -> None:
    def branch(ctx: Context[Any]) -> Flow[Any]:
        ctx.has_checkpoint()
        return (yield from Step(load_page, 1))

    def handler(ctx: Context[Any]) -> Flow[Any]:
        first, second = yield from Gather(branch(ctx), Step(load_page, 2))
        for page in range(ctx.checkpoint_cursor or 0, 2):
            yield Step(load_page, page)
            yield Checkpoint(page + 1)
        return [first, second]

    bench = begun(handler)
    gives(bench, "gather/0/load_page", 1)
    gives(bench, "gather/1/load_page", 2)
    gives(bench, "load_page", 3)
    assert bench.prologue == 3
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["load_page"]


class TestNames:
    def test_what_the_author_named_is_kept(self) -> None:
        def handler(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 3):
                token = yield from Step(load_page, 0).opts(name="token")
                yield Step(load_page, page)
                yield Checkpoint(page + 1, None, token)
            return ctx.accumulated_results

        bench = begun(handler)
        gives(bench, "token", 7)
        gives(bench, "load_page", 0)
        assert list(bench.calls) == ["load_page"]
        _, decision = replayed(bench)
        assert list(bench.calls.values()) == list(decision.calls)
        gives(bench, "load_page", 1)
        gives(bench, "load_page", 2)
        assert result(bench) == 7

    def test_a_name_inside_of_an_automatic_scope_is_not_kept(self) -> None:
        def handler(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 2):
                yield Gather(Step(load_page, page).opts(name="part"))
                yield Checkpoint(page + 1)

        bench = begun(handler)
        gives(bench, "gather/0/part", 1)
        assert bench.calls["gather/0/part"].command.args == (1,)
        _, decision = replayed(bench)
        assert list(bench.calls.values()) == list(decision.calls)

    def test_a_name_inside_of_named_scopes_is_kept(self) -> None:
        def handler(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 2):
                yield Gather(Step(load_page, 0).opts(name="part")).opts(name="all")
                yield Checkpoint(page + 1)
            return "done"

        bench = begun(handler)
        gives(bench, "all/0/part", 1)
        assert result(bench) == "done"

    def test_a_kept_outcome_of_another_kind_is_a_divergence(self) -> None:
        def before(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 3):
                yield Step(load_page, 0).opts(name="x")
                yield Step(load_page, page)
                yield Checkpoint(page + 1)

        def after(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 3):
                yield Sleep(5).opts(name="x")
                yield Checkpoint(page + 1)

        bench = begun(workflow(before, "h"))
        gives(bench, "x", 1)
        gives(bench, "load_page", 1)
        _, decision = replayed(bench, definition=workflow(after, "h"))
        assert isinstance(decision.finish, Parked)

    def test_inline_definitions_are_named_alike_live_and_replayed(self) -> None:
        def loader(ctx: Context[Any], source: str) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 2):
                yield Step(load_page, page)
                yield Checkpoint(page + 1)

        load_inline = workflow(loader)

        def handler() -> Flow[Any]:
            yield from load_inline("a")
            yield Step(count_pages, "s")
            yield from load_inline("b")
            yield Step(count_pages, "t")

        bench = begun(handler)
        for key in ("loader/load_page", "loader/load_page", "count_pages"):
            _, decision = replayed(bench)
            assert list(bench.calls.values()) == list(decision.calls)
            gives(bench, key, 1)
        _, decision = replayed(bench)
        assert list(bench.calls.values()) == list(decision.calls)

    def test_an_inline_definition_of_the_prologue_keeps_its_number(self) -> None:
        def helper(page: int) -> Flow[Any]:
            yield Step(load_page, page)

        inline = workflow(helper)

        def handler(ctx: Context[Any]) -> Flow[Any]:
            yield from inline(0)
            for page in range(ctx.checkpoint_cursor or 0, 3):
                yield from inline(page)
                yield Checkpoint(page + 1)

        bench = begun(handler)
        gives(bench, "helper/load_page", 0)
        for _ in range(2):
            gives(bench, "helper#2/load_page", 0)
            _, decision = replayed(bench)
            assert [call.key for call in decision.calls] == ["helper#2/load_page"] == list(bench.calls)


class TestMidLoop:
    @staticmethod
    def handler(ctx: Context[Any]) -> Flow[Any]:
        for page in range(ctx.checkpoint_cursor or 0, 3):
            yield Step(load_page, page)
            yield Checkpoint(page + 1)
            yield Step(count_pages, str(page))
        return "done"

    def test_an_outcome_that_is_not_asked_for_is_no_divergence(self) -> None:
        bench = begun(workflow(self.handler))
        gives(bench, "load_page", 0)
        gives(bench, "count_pages", 0)
        _, decision = replayed(bench)
        assert [call.command.args for call in decision.calls] == [(1,)]

    def test_it_is_not_given_to_another_pass_of_the_loop(self) -> None:
        bench = begun(workflow(self.handler))
        gives(bench, "load_page", 0)
        gives(bench, "count_pages", 0)
        bench.restart()
        bench.go()
        gives(bench, "load_page", 1)
        assert bench.calls["count_pages"].command.args == ("1",)
        gives(bench, "count_pages", 1)
        gives(bench, "load_page", 2)
        gives(bench, "count_pages", 1)
        assert result(bench) == "done"

    def test_out_of_order_it_answers_when_it_is_asked_for(self) -> None:
        def sometimes(ctx: Context[Any]) -> Flow[Any]:
            start = ctx.checkpoint_cursor or 0
            for page in range(start, 4):
                yield Step(load_page, page)
                if page == 1 and start == 0:
                    yield Checkpoint(2)
                yield Step(count_pages, "same")

        bench = begun(sometimes)
        gives(bench, "load_page", 0)
        gives(bench, "count_pages", 0)
        gives(bench, "load_page#2", 0)
        gives(bench, "count_pages", 0)
        bench.restart()
        bench.go()
        gives(bench, "load_page", 0)
        assert list(bench.calls) == ["load_page#2"]

    def test_another_kind_under_its_key_is_a_divergence(self) -> None:
        def changed(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 3):
                yield Sleep(0)
                yield Step(load_page, page).opts(name="y")

        bench = begun(workflow(self.handler, "h"))
        gives(bench, "load_page", 0)
        gives(bench, "count_pages", 0)
        odd = bench.items[-1]
        bench.items[-1] = Entry(odd.index, odd.kind, "y", odd.fingerprint, odd.status, value=odd.value)
        sleep = Entry(odd.index + 1, EntryKind.OUTCOME, "sleep", Sleep(0).fingerprint(), 1, value="null")
        bench.items.append(sleep)
        _, decision = replayed(bench, definition=workflow(changed, "h"))
        assert isinstance(decision.finish, Parked)


def test_a_timer_of_a_closed_segment_says_nothing_in_the_next() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        for page in range(ctx.checkpoint_cursor or 0, 2):
            try:
                yield Gather(Sleep(1000), Step(load_page, page))
            except StepFailed:
                yield Checkpoint(page + 1)

    bench = begun(handler)
    began = bench.now
    bench.now += timedelta(seconds=50)
    fails(bench, "gather/1/load_page", PermanentError("x"))
    assert bench.execution.due_at == began + timedelta(seconds=1050)
    execution, _ = replayed(bench)
    assert execution.due_at == bench.execution.due_at


def test_a_checkpoint_while_cancelled_saves_nothing_and_closes_nothing() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        ctx.has_checkpoint()
        try:
            yield Step(load_page, 1)
        finally:
            yield Checkpoint(1)

    bench = begun(handler)
    bench.cancel("enough")
    assert bench.status == "cancelled"
    assert kinds(bench) == ["OUTCOME", "OUTCOME"]
    _, decision = replayed(bench)
    assert decision.finish == bench.finish


@pytest.mark.parametrize("base", [0, 3])
def test_indexes_begin_at_one(base: int) -> None:
    assert History.of([], base=base).next_index == 1
