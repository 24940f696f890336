"""Patch: True for a run that comes to a change first, False for one that is past it; every replay says the same."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core.commands import Checkpoint, Flow, Gather, Graph, Invoke, Map, Now, Patch, Race, Scope, Sleep, Step
from flowgen.core.context import Context
from flowgen.core.decision import Parked, Raised, Returned
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.errors import DefinitionError
from flowgen.testing.bench import Bench

from .running import NO_RETRY, begun, fails, gives, keys, over, replayed, result, task, workflow


def work(what: str) -> Any:
    raise NotImplementedError


def step(what: str) -> Step[Any]:
    return Step(work, what).opts(name=what, retry=NO_RETRY)


def deployed(bench: Bench, fn: Any, **options: Any) -> Bench:
    """The run goes on with other code, after a crash."""
    bench.definition = workflow(fn, bench.definition.name, **options)
    bench.restart()
    bench.go()
    return bench


def lawful(bench: Bench) -> None:
    """Every later replay stands where the run stands, whatever of its history it begins from."""
    execution, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert not isinstance(bench.finish, Parked), bench.finish
    assert [leaf.key for leaf in execution.outstanding()] == [leaf.key for leaf in bench.execution.outstanding()]


def before() -> Flow[Any]:
    return [(yield from step("a")), (yield from step("old")), (yield from step("z"))]


def after() -> Flow[Any]:
    first = yield from step("a")
    second = (yield from step("new")) if (yield from Patch("change")) else (yield from step("old"))
    return [first, second, (yield from step("z"))]


def removed() -> Flow[Any]:
    return [(yield from step("a")), (yield from step("new")), (yield from step("z"))]


def test_a_new_run_takes_the_new_way_and_removing_the_patch_later_is_no_divergence() -> None:
    bench = begun(workflow(after, "flow"))
    gives(bench, "a", "a")
    lawful(bench)
    gives(bench, "new", "new")
    assert keys(bench) == ["a", "patch:change", "new"]
    deployed(bench, removed)
    gives(bench, "z", "z")
    assert result(bench) == ["a", "new", "z"]
    lawful(bench)


@pytest.mark.parametrize("past", [["a", "old"], ["a", "old", "z"]])
def test_a_run_that_is_past_the_place_takes_the_old_way_and_its_history_is_as_it_was(past: list[str]) -> None:
    bench = begun(workflow(before, "flow"))
    for key in past[:-1]:
        gives(bench, key, key)
    if past[-1] == "z":
        deployed(bench, after)
    gives(bench, past[-1], past[-1])
    deployed(bench, after)
    lawful(bench)
    if past[-1] != "z":
        gives(bench, "z", "z")
    assert result(bench) == ["a", "old", "z"]
    assert keys(bench) == ["a", "old", "z"]


def test_a_run_that_stands_before_the_place_takes_the_new_way() -> None:
    for done in ([], ["a"]):
        bench = begun(workflow(before, "flow"))
        for key in done:
            gives(bench, key, key)
        deployed(bench, after)
        for key in ["a", "new", "z"][len(done) :]:
            gives(bench, key, key)
        assert result(bench) == ["a", "new", "z"]
        lawful(bench)


def test_a_crash_right_after_the_answer_changes_nothing() -> None:
    bench = begun(workflow(after, "flow"))
    gives(bench, "a", "a")
    told = bench.items[:2]
    assert [entry.key for entry in told] == ["a", "patch:change"]
    for items in (bench.items[:1], told):
        execution = over(bench, items=list(items))
        decision = execution.advance(bench.now)
        named = [entry.key for entry in decision.entries] or [call.key for call in decision.calls]
        assert named == (["patch:change"] if len(items) == 1 else ["new"])


@pytest.mark.parametrize("kind", ["attempt", "armed", "child"])
def test_what_was_only_begun_behind_the_place_is_past_it_too(kind: str) -> None:
    def sub() -> None:
        raise NotImplementedError

    def later() -> Any:
        return {"attempt": step("old"), "armed": Sleep(60), "child": Invoke(task(sub))}[kind]

    def before() -> Flow[Any]:
        yield from step("a")
        yield later()
        return "old"

    def after() -> Flow[Any]:
        yield from step("a")
        if (yield Patch("change")):
            yield from step("new")
            return "new"
        yield later()
        return "old"

    bench = begun(workflow(before, "flow"))
    gives(bench, "a", "a")
    if kind == "attempt":
        bench.items.append(Entry(2, EntryKind.ATTEMPT, "old", step("old").fingerprint(), attempt=1, value="null"))
    deployed(bench, after)
    assert "patch:change" not in keys(bench)
    assert bench.execution.outstanding()[0].command.kind in ("step", "sleep", "invoke")
    lawful(bench)


def test_a_change_has_one_answer_in_a_loop_and_records_it_once() -> None:
    def before() -> Flow[Any]:
        for n in range(3):
            yield from step(f"old{n}")

    def after() -> Flow[Any]:
        done = []
        for n in range(3):
            done.append((yield from Patch("change")))
            yield from step(f"new{n}" if done[-1] else f"old{n}")
        return done

    bench = begun(workflow(after, "loop"))
    for n in range(3):
        gives(bench, f"new{n}", n)
        lawful(bench)
    assert result(bench) == [True, True, True]
    assert keys(bench).count("patch:change") == 1
    assert len(bench.items) == 4

    bench = begun(workflow(before, "loop"))
    gives(bench, "old0", 0)
    deployed(bench, after)
    for n in (1, 2):
        lawful(bench)
        gives(bench, f"old{n}", n)
    assert result(bench) == [False, False, False]


def branches(*, patched: bool, long: bool) -> Any:
    def one(name: str) -> Flow[Any]:
        yield from step(f"{name}1")
        if patched and (yield Patch(f"in-{name}")):
            yield from step(f"{name}-new")
            return "new"
        if long:
            yield from step(f"{name}2")
        return "old"

    def both() -> Flow[Any]:
        found = yield Gather(one("p"), one("q"))
        yield from step("end")
        return found

    return both


def test_what_stands_beside_a_branch_says_nothing_of_its_place() -> None:
    bench = begun(workflow(branches(patched=False, long=True), "both"))
    gives(bench, "gather/0/p1", 1)
    gives(bench, "gather/1/q1", 1)
    gives(bench, "gather/1/q2", 1)
    deployed(bench, branches(patched=True, long=True))
    lawful(bench)
    gives(bench, "gather/0/p-new", 1)
    gives(bench, "end", 1)
    assert result(bench) == ["new", "old"]
    lawful(bench)


@pytest.mark.parametrize("long", [False, True])
def test_a_branch_that_has_ended_is_past_every_place_in_it(long: bool) -> None:
    bench = begun(workflow(branches(patched=False, long=long), "both"))
    for name in ("q1", "p1") if not long else ("p1", "q1", "q2", "p2"):
        gives(bench, f"gather/{'pq'.index(name[0])}/{name}", 1)
    gives(bench, "end", 1)
    assert result(bench) == ["old", "old"]
    # What it completed with is not in the history: the last step is, and it stands behind both branches.
    execution, decision = replayed(bench, definition=workflow(branches(patched=True, long=long), "both"))
    assert decision.finish == bench.finish
    assert execution.problem is None


@pytest.mark.parametrize("kind", ["map", "graph"])
def test_a_branch_that_made_room_for_another_is_past_every_place_in_it(kind: str) -> None:
    def part(patched: bool, name: str) -> Flow[Any]:
        yield from step(name)
        return "new" if patched and (yield Patch("change")) else "old"

    def flow(patched: bool) -> Any:
        def each(name: str) -> Flow[Any]:
            return (yield from part(patched, name))

        def handler() -> Flow[Any]:
            if kind == "map":
                return (yield from Map(each, ["p", "q", "r"], limit=1))
            done = yield from Graph(Scope("one", part(patched, "p")), Step(work, "q").opts(name="two", after=["one"]))
            return [done["one"], done["two"]]

        return handler

    keys = {"map": ["map/0/p", "map/1/q", "map/2/r"], "graph": ["graph/one/p", "graph/two"]}[kind]
    bench = begun(workflow(flow(False), "room"))
    for place, key in enumerate(keys):
        if place == 2 or (kind == "graph" and place == 1):
            bench.items.append(Entry(9, EntryKind.ATTEMPT, key, bench.leaf(key).fingerprint, attempt=1, value="null"))
            deployed(bench, flow(True))
            lawful(bench)
        gives(bench, key, "old")
    assert result(bench) == ["old"] * len(keys)


def test_a_branch_that_is_cut_at_its_patch_is_cut_there_again() -> None:
    def loser() -> Flow[Any]:
        yield from step("p1")
        if (yield Patch("change")):
            try:
                yield from step("p-new")
            finally:
                yield from step("p-clean")

    def handler() -> Flow[Any]:
        try:
            yield Gather(loser(), step("q"))
        except Exception:
            yield from step("end")
        return "done"

    bench = begun(workflow(handler, "cut"))
    p1 = bench.execution.settle("gather/0/p1", Returned("p"))
    q = bench.execution.settle("gather/1/q", Raised(ValueError("q")))
    assert p1 is not None
    assert q is not None
    bench.calls.clear()
    # One commit holds both: the Patch is yielded, and its branch is cancelled before it is asked.
    bench.go([bench._commit(p1), bench._commit(q)])
    assert [leaf.key for leaf in bench.execution.outstanding()] == ["end"]
    lawful(bench)
    gives(bench, "end", 1)
    lawful(bench)
    assert result(bench) == "done"


def test_a_run_that_is_cancelled_at_the_place_is_cancelled_there_again() -> None:
    def handler() -> Flow[Any]:
        yield from step("a")
        try:
            yield Patch("change")
        finally:
            yield from step("clean")

    bench = begun(workflow(handler, "cancelled"))
    entry = bench.execution.settle("a", Returned("a"))
    assert entry is not None
    bench.calls.clear()
    (cancellation,) = bench.execution.cancel("why").entries
    bench.go([bench._commit(entry), bench._commit(cancellation)])
    lawful(bench)
    gives(bench, "clean", 1)
    lawful(bench)


def test_in_a_scope_and_an_inline_definition() -> None:
    def part(patched: bool) -> Flow[Any]:
        yield from step("s1")
        if patched and (yield Patch("change")):
            return "new"
        yield from step("s2")
        return "old"

    def flow(patched: bool) -> Any:
        inner = workflow(part, "part")

        def handler() -> Flow[Any]:
            return [(yield Scope("s", part(patched))), (yield from inner(patched)), (yield from step("end"))]

        return handler

    bench = begun(workflow(flow(False), "scopes"))
    for key in ("s/s1", "s/s2", "part/s1", "part/s2"):
        gives(bench, key, 1)
    deployed(bench, flow(True))
    lawful(bench)
    gives(bench, "end", 1)
    assert result(bench) == ["old", "old", 1]


def loop(patched: bool, prologue: bool = False) -> Any:
    def handler(ctx: Context) -> Flow[Any]:
        yield from step("first")
        early = (yield Patch("early")) if patched and prologue else None
        done = list(ctx.accumulated_results or [])
        for page in range(ctx.checkpoint_cursor or 0, 4):
            new = patched and (yield Patch("change"))
            yield Step(work, f"{'new' if new else 'old'} {page}")
            done.append(bool(new))
            yield Checkpoint(page + 1, page + 1, done)
        return [early, done]

    return handler


def test_a_segment_that_was_begun_ends_the_old_way_and_the_next_takes_the_new_one() -> None:
    bench = begun(workflow(loop(False), "loop"))
    gives(bench, "first", 1)
    gives(bench, "work", 1)
    bench.items.append(
        Entry(bench.items[-1].index + 1, EntryKind.ATTEMPT, "work", Step(work, "old 1").fingerprint(), attempt=1)
    )
    deployed(bench, loop(True))
    lawful(bench)
    gives(bench, "work", 1)
    lawful(bench)
    # The answer True is kept: no later segment records it again.
    gives(bench, "work", 1)
    lawful(bench)
    bench.restart()
    bench.go()
    gives(bench, "work", 1)
    assert result(bench) == [None, [False, False, True, True]]
    assert keys(bench).count("patch:change") == 1


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_a_place_in_the_prologue_is_past_when_a_segment_was_begun(pages: int) -> None:
    bench = begun(workflow(loop(False), "loop"))
    gives(bench, "first", 1)
    for _ in range(pages):
        gives(bench, "work", 1)
    deployed(bench, loop(True, prologue=True))
    for _ in range(4 - pages):
        lawful(bench)
        bench.restart()
        bench.go()
        gives(bench, "work", 1)
    early, done = result(bench)
    assert early is (pages == 0)
    assert done == [False] * pages + [True] * (4 - pages)


def test_a_retry_that_sets_the_old_way_aside_may_take_the_new_one() -> None:
    def failing(patched: bool) -> Any:
        def handler() -> Flow[Any]:
            yield from step("a")
            if patched and (yield Patch("change")):
                return "new"
            yield from step("old")

        return handler

    bench = begun(workflow(failing(False), "flow"))
    gives(bench, "a", 1)
    fails(bench, "old", ValueError("old"))
    assert [entry.status for entry in bench.items] == [OutcomeKind.VALUE, OutcomeKind.FAILURE]
    bench.finish = None
    bench.items.append(
        Entry(3, EntryKind.SET_ASIDE, "", value='{"indexes": [2], "why": "retry", "who": "me"}', named=True)
    )
    deployed(bench, failing(True))
    assert result(bench) == "new"
    lawful(bench)


def test_other_facts_behind_the_place_are_behind_it_also_when_they_are_left_out() -> None:
    def before() -> Flow[Any]:
        yield Now()
        yield from step("a")

    def after() -> Flow[Any]:
        return (yield Patch("change"))

    bench = begun(workflow(before, "flow"))
    execution, decision = replayed(bench, definition=workflow(after, "flow"))
    assert execution.problem is None
    assert decision.finish is not None
    assert getattr(decision.finish, "output", None) == "false"


def test_an_answer_that_stands_behind_what_was_left_out_holds() -> None:
    def before() -> Flow[Any]:
        yield Now()
        return [(yield Patch("change")), (yield from step("a"))]

    def after() -> Flow[Any]:
        return [(yield Patch("change")), (yield from step("a"))]

    bench = begun(workflow(before, "flow"))
    gives(bench, "a", 1)
    _, decision = replayed(bench, definition=workflow(after, "flow"))
    assert decision.finish == bench.finish


@pytest.mark.parametrize("bad", ["", "a/b", "a#2", None, 3])
def test_an_id_is_a_name(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="the id of a change"):
        Patch(bad)


def test_it_is_told_apart_by_its_id() -> None:
    assert Patch("a") != Patch("b")
    assert Patch("a").opts(name="n").options.name == "n"


def test_what_is_recorded_after_its_branch_was_cut_off_holds_for_the_next_segment_too() -> None:
    def changed() -> Flow[None]:
        if (yield from Patch("c1")):
            yield Sleep(60)

    def handler(ctx: Context) -> Flow[None]:
        for page in range(ctx.checkpoint_cursor or 0, 2):
            yield from Race(a=Step(work, "a"), b=changed())
            yield Checkpoint(page + 1)

    bench = Bench(definition=workflow(handler), input="{}", hold=lambda leaf: leaf.command.kind == "patch")
    bench.go()
    won = bench.execution.settle("race/a/work", Returned("a"))
    assert won is not None
    bench.go([bench._commit(won), bench._commit(bench.held.pop("race/b/patch:c1"))])  # noqa: SLF001 - one commit
    asked = [leaf.key for leaf in bench.execution.outstanding()]
    execution, _ = replayed(bench)
    assert asked == [leaf.key for leaf in execution.outstanding()] == ["race/a/work", "race/b/sleep"]
    bench.execution.close()
