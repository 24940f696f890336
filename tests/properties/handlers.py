"""Random handlers: programs as plain data, and two handlers that run them, a generator and a coroutine.

A program is a list of nodes (JSON), so it is the input of its run; both handlers make the same commands of it. What a
handler is sent goes into one list, `seen`, together with what the context says at that moment: two executions that
were sent the same have equal lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from flowgen.core.commands import (
    Checkpoint,
    Choose,
    CompletionToken,
    ContinueAsNew,
    Emit,
    Flow,
    Gather,
    Graph,
    GraphResult,
    Invoke,
    Map,
    Now,
    Patch,
    Race,
    Random,
    Saga,
    Schedule,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Sleep,
    Start,
    Step,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.context import Context, current
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.core.retry import Retry
from flowgen.errors import OutcomeError

Node = dict[str, Any]
Program = dict[str, Any]
ONCE = DefinitionOptions(retry=Retry(1))


def work(label: str, fails: int) -> str:
    """A step; the scheduler answers for it: it fails as often as `fails` says, for good when that is negative."""
    raise NotImplementedError


def save(conn: Any, label: str, fails: int) -> str:
    raise NotImplementedError


def each_of(item: list[Any]) -> str:
    """A step of a Map: `item` is what `work` takes."""
    raise NotImplementedError


def choose(names: list[str]) -> Choose:
    raise NotImplementedError


def child(label: str) -> str:
    raise NotImplementedError


def undone(node: Node, command: Any) -> Any:
    """The command, with what undoes it if the node says so."""
    undo = node.get("undo")
    if undo is None:
        return command
    return command.opts(compensate=lambda value: Step(work, f"undo {value}", undo).opts(retry=Retry(2, initial=1)))


CHILD: Task[Any, Any, Any] = Task(child, None, ONCE)


DEPLOYED = [True]
"""Whether the code that guards its changes is deployed; before, there is the old way only."""


class Boom(Exception):
    """What a handler raises by itself."""


def named(command: Any, node: Node) -> Any:
    return command if node.get("name") is None else command.opts(name=node["name"])


def of_events(node: Node, label: str) -> Any:
    if node["do"] == "emit":
        return Emit("e", {"n": label})
    where = {"n": {"exists": True}} if node["some"] else None
    return named(WaitEvent("e", where, timeout=node["timeout"]), node)


def command_of(node: Node, page: int) -> Any:
    """The command of a node that is one."""
    label = f"{node.get('label', '')}{page}"
    match node["do"]:
        case "step":
            step: Any = Step(work, label, node["fails"]).opts(
                retry=Retry(node["attempts"], initial=node["wait"], maximum=60, jitter=0), at_most_once=node["once"]
            )
            return undone(node, named(step, node))
        case "save":
            return undone(node, named(Transaction(save, label, node["fails"]), node))
        case "sleep":
            return named(Sleep(node["seconds"]), node)
        case "invoke":
            invoke: Any = Invoke(CHILD, label)
            return named(invoke if node["timeout"] is None else invoke.opts(timeout=node["timeout"]), node)
        case "start":
            return Start(CHILD, label)
        case "now":
            return Now()
        case "uuid":
            return Uuid()
        case "random":
            return Random()
        case "commit":
            return Checkpoint()
        case "progress":
            return SetProgress({"at": label})
        case "deadline":
            return SetDeadline("3000d")
        case "schedule":
            return Schedule(CHILD.call("x"), "s", cron="* * * * *")
        case "unschedule":
            return Unschedule(CHILD, "s")
        case _:
            return message_of(node, label)


def opening(node: Node, page: int) -> Any:
    """What gives something to wait for."""
    return command_of(node, page) if node["do"] == "start" else CompletionToken(str, timeout=node["timeout"])


def message_of(node: Node, payload: str) -> Any:
    """The run sends to itself, and reads what it has sent."""
    if node["do"] in ("emit", "event"):
        return of_events(node, payload)
    if node["do"] == "tell":
        return Signal(current().run_id, node["label"], payload)
    assert node["do"] == "hear", node
    return named(WaitSignal(node["label"], str, timeout=node["timeout"]), node)


def flow_of(item: list[Any]) -> Flow[list[str]]:
    """A flow of a Map."""
    first = yield from Step(work, *item).opts(retry=Retry(1))
    return [first, (yield from Step(work, item[0], 0))]


MAPPED: dict[str, Any] = {"step": each_of, "flow": flow_of, "run": CHILD}


def map_of(node: Node, page: int) -> Any:
    items: list[Any] = [[f"{node['label']}{page}", fails] for fails in node["items"]]
    if node["of"] == "run":
        items = [f"{label} {fails}" for label, fails in items]
    made: Any = Map(MAPPED[node["of"]], items, limit=node["limit"], on_failure=node["on_failure"])
    made = made.opts(as_runs=True) if node["of"] == "run" else made
    made = made.opts(retry=Retry(2, initial=1, jitter=0)) if node["of"] == "step" else made
    return named(made, node)


def odd(done: GraphResult) -> bool:
    return len(done) % 2 == 1


def graph_of(node: Node, page: int, run: Any) -> Any:
    """`run` makes a flow of the body of a node that has one."""
    nodes: list[Any] = []
    for place, each in enumerate(node["nodes"]):
        name = f"n{place}"
        after = [f"n{other}" for other in each["after"] if other < place]
        if "body" in each:
            made: Any = Scope(name, run(each["body"], page))
        elif each["do"] == "choose":
            found = [
                f"n{other}" for other, more in enumerate(node["nodes"]) if place in more["after"] and other > place
            ]
            made = Step(choose, found[: each["count"]]).opts(name=name)
        else:
            made = (map_of if each["do"] == "map" else command_of)(each, page).opts(name=name)
        made = made.opts(after=after, join=each["join"] if after else None, when=odd if each["odd"] else None)
        nodes.append(made)
    return named(Graph(*nodes), node)


def shown_graph(done: GraphResult) -> list[Any]:
    return [str(list(done)), str(dict(done.skipped)), str(list(done.failed))]


FACTS = ["now", "uuid", "random", "commit", "schedule", "unschedule", "progress", "deadline"]
SIMPLE = {"step", "save", "sleep", "invoke", "emit", "event", "tell", "hear", *FACTS}


def around(node: Node, inside: Any) -> Any:
    return Scope(node["name"], inside) if node["do"] == "scope" else Saga(inside)


def see(what: str, value: Any) -> None:
    ctx = current()
    shown = value if value is None or isinstance(value, bool | int | str | list) else str(value)
    ctx.services.append([what, shown, str(ctx.now), ctx.next_sequence, len(ctx.get_dependency_result_keys())])


def errors(node: Node) -> Any:
    return {"outcome": OutcomeError, "all": Exception, "base": BaseException, None: ()}[node["catch"]]


# the generator


def flow(nodes: list[Node], page: int) -> Flow[list[Any]]:
    done: list[Any] = []
    for node in nodes:
        value = yield from run_node(node, page)
        see(node["do"], value)
        done.append(node["do"])
    return done


def inner_flow(nodes: list[Node], page: int) -> Flow[list[Any]]:
    return (yield from flow(nodes, page))


def run_node(node: Node, page: int) -> Flow[Any]:
    do = node["do"]
    if do in SIMPLE:
        if node.get("plain"):
            return (yield command_of(node, page))
        return (yield from command_of(node, page))
    match do:
        case "start" | "token":
            ref = yield from opening(node, page)
            values = []
            for _ in range(node["waits"]):
                values.append((yield from Wait(ref)))
            return values
        case "gather":
            parts = [
                flow(each["body"], page) if "body" in each else command_of(each, page) for each in node["branches"]
            ]
            found = yield from named(Gather(*parts, return_exceptions=node["keep"]), node)
            return [str(each) for each in found]
        case "map" | "race" | "graph":
            return (yield from run_fanned(node, page))
        case "scope" | "saga":
            return (yield from around(node, flow(node["body"], page)))
        case "change":
            new = DEPLOYED[0] and (yield from Patch(node["id"]))
            return (yield from flow(node["new" if new else "old"], page))
        case "inline":
            return (yield from INNER(node["body"], page))
        case "try":
            try:
                return (yield from flow(node["body"], page))
            except errors(node) as error:
                see("except", type(error).__name__)
                return (yield from flow(node["handler"], page))
            finally:
                if node["finally"]:
                    yield from flow(node["finally"], page)
        case _:
            raise Boom(node["do"])


def run_fanned(node: Node, page: int) -> Flow[Any]:
    match node["do"]:
        case "map":
            return [str(each) for each in (yield from map_of(node, page))]
        case "race":
            tags = {
                f"b{place}": flow(each["body"], page) if "body" in each else command_of(each, page)
                for place, each in enumerate(node["branches"])
            }
            won = yield from named(Race(**tags), node)
            return [won.tag, str(won.value)]
        case _:
            return shown_graph((yield from graph_of(node, page, flow)))


def program_flow(ctx: Context[Any], spec: Program) -> Flow[Any]:
    yield from flow(spec["prologue"], 0)
    seen = ctx.services
    if not spec["pages"]:
        return (yield from on(spec, seen))
    if ctx.has_checkpoint():
        seen[:] = ctx.accumulated_results
    for page in range(ctx.checkpoint_cursor or 0, spec["pages"]):
        yield from flow(spec["body"], page)
        yield from Checkpoint(page + 1, page + 1, list(seen))
    yield from Scope("rest", flow(spec["rest"], 0))  # names of the loop's body are kept, and mean other commands here
    return (yield from on(spec, seen))


def on(spec: Program, seen: list[Any]) -> Flow[Any]:
    """The end of a pass: of the last one, or of one that the next follows."""
    if spec.get("again"):
        return (yield from ContinueAsNew({**spec, "again": spec["again"] - 1}))
    return [each[:2] for each in seen]


# the coroutine


async def aflow(nodes: list[Node], page: int) -> list[Any]:
    done: list[Any] = []
    for node in nodes:
        value = await arun_node(node, page)
        see(node["do"], value)
        done.append(node["do"])
    return done


async def inner_coroutine(nodes: list[Node], page: int) -> list[Any]:
    return await aflow(nodes, page)


async def arun_node(node: Node, page: int) -> Any:
    do = node["do"]
    if do in SIMPLE:
        return await command_of(node, page)
    match do:
        case "start" | "token":
            ref = await opening(node, page)
            return [await Wait(ref) for _ in range(node["waits"])]
        case "gather":
            parts = [
                aflow(each["body"], page) if "body" in each else command_of(each, page) for each in node["branches"]
            ]
            found: Any = await named(Gather(*parts, return_exceptions=node["keep"]), node)
            return [str(each) for each in found]
        case "map" | "race" | "graph":
            return await arun_fanned(node, page)
        case "scope" | "saga":
            return await around(node, aflow(node["body"], page))
        case "change":
            new = DEPLOYED[0] and await Patch(node["id"])
            return await aflow(node["new" if new else "old"], page)
        case "inline":
            return await AINNER(node["body"], page)
        case "try":
            try:
                return await aflow(node["body"], page)
            except errors(node) as error:
                see("except", type(error).__name__)
                return await aflow(node["handler"], page)
            finally:
                if node["finally"]:
                    await aflow(node["finally"], page)
        case _:
            raise Boom(node["do"])


async def arun_fanned(node: Node, page: int) -> Any:
    match node["do"]:
        case "map":
            return [str(each) for each in await map_of(node, page)]
        case "race":
            tags = {
                f"b{place}": aflow(each["body"], page) if "body" in each else command_of(each, page)
                for place, each in enumerate(node["branches"])
            }
            won = await named(Race(**tags), node)
            return [won.tag, str(won.value)]
        case _:
            return shown_graph(await graph_of(node, page, aflow))


async def program_coroutine(ctx: Context[Any], spec: Program) -> Any:
    await aflow(spec["prologue"], 0)
    seen = ctx.services
    if not spec["pages"]:
        return await aon(spec, seen)
    if ctx.has_checkpoint():
        seen[:] = ctx.accumulated_results
    for page in range(ctx.checkpoint_cursor or 0, spec["pages"]):
        await aflow(spec["body"], page)
        await Checkpoint(page + 1, page + 1, list(seen))
    await Scope("rest", aflow(spec["rest"], 0))
    return await aon(spec, seen)


async def aon(spec: Program, seen: list[Any]) -> Any:
    if spec.get("again"):
        return await ContinueAsNew({**spec, "again": spec["again"] - 1})
    return [each[:2] for each in seen]


INNER: Workflow[Any, Any, Any] = Workflow(inner_flow, "inner", ONCE)
AINNER: Workflow[Any, Any, Any] = Workflow(inner_coroutine, "inner", ONCE)


def definitions(attempts: int = 1, ahead: bool = False) -> list[Workflow[Any, Any, Any]]:
    """The program as a generator and as a coroutine, with a run-level retry policy. `ahead`: of their commits."""
    options = DefinitionOptions(
        retry=Retry(attempts, initial=1, jitter=0), durability="checkpoint" if ahead else "step"
    )
    return [Workflow(program_flow, "program", options), Workflow(program_coroutine, "program", options)]


# random programs


def often(strategy: st.SearchStrategy[Node], times: int) -> list[st.SearchStrategy[Node]]:
    """So many that are alike: `one_of` takes the same one once only, and what it is made of apart."""
    return [strategy.map(dict) for _ in range(times)]


def names(prefix: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, None, None, f"{prefix}1", f"{prefix}2"])


steps = st.fixed_dictionaries(
    {
        "do": st.just("step"),
        "label": st.sampled_from("ab"),
        "fails": st.sampled_from([0, 0, 0, 1, 2, -1]),
        "attempts": st.integers(1, 3),
        "wait": st.sampled_from([0, 1, 20]),
        "once": st.sampled_from([False, False, True]),
        "plain": st.booleans(),
        "name": names("n"),
        "undo": st.sampled_from([None, None, 0, 1, -1]),
    }
)
facts = st.sampled_from(FACTS).map(lambda do: {"do": do})
simple = st.one_of(
    *often(steps, 3),
    st.fixed_dictionaries(
        {"do": st.just("save"), "label": st.sampled_from("ab"), "fails": st.sampled_from([0, 1]), "name": names("t")}
    ),
    st.fixed_dictionaries({"do": st.just("sleep"), "seconds": st.sampled_from([0, 1, 7]), "name": names("z")}),
    st.fixed_dictionaries(
        {
            "do": st.just("invoke"),
            "label": st.sampled_from("ab"),
            "timeout": st.sampled_from([None, 3]),
            "name": names("i"),
        }
    ),
    *often(facts, 3),
    st.fixed_dictionaries({"do": st.just("tell"), "label": st.sampled_from("xy")}),
    st.fixed_dictionaries(
        {"do": st.just("hear"), "label": st.sampled_from("xy"), "timeout": st.sampled_from([1, 9]), "name": names("h")}
    ),
    st.just({"do": "emit"}),
    st.fixed_dictionaries(
        {"do": st.just("event"), "some": st.booleans(), "timeout": st.sampled_from([2, 40]), "name": names("e")}
    ),
)
starts = st.fixed_dictionaries({"do": st.just("start"), "label": st.just("c"), "waits": st.integers(0, 2)})
tokens = st.fixed_dictionaries(
    {"do": st.just("token"), "timeout": st.sampled_from([2, 40]), "waits": st.integers(0, 2)}
)
leaves = st.one_of(
    *often(simple, 4),
    *often(starts, 6),
    *often(tokens, 6),
    *often(st.just({"do": "raise"}), 2),
)


maps = st.fixed_dictionaries(
    {
        "do": st.just("map"),
        "of": st.sampled_from(["step", "flow", "run"]),
        "label": st.just("m"),
        "items": st.lists(st.sampled_from([0, 0, 1, -1]), max_size=4),
        "limit": st.sampled_from([None, 1, 2]),
        "on_failure": st.sampled_from(["fail_fast", "continue"]),
        "name": names("m"),
    }
)


def graphs(inside: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    what = st.one_of(
        simple,
        maps,
        st.fixed_dictionaries({"body": st.lists(inside, max_size=2)}),
        st.fixed_dictionaries({"do": st.just("choose"), "count": st.integers(0, 2)}),
    )
    options = st.fixed_dictionaries(
        {
            "after": st.sets(st.integers(0, 3), max_size=2).map(sorted),
            "join": st.sampled_from(["all_success", "all_done", "any_success"]),
            "odd": st.sampled_from([False, False, True]),
        }
    )
    nodes = st.lists(st.builds(lambda node, more: {**node, **more}, what, options), max_size=5)
    return st.fixed_dictionaries({"do": st.just("graph"), "nodes": nodes, "name": names("d")})


def composites(inside: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    bodies = st.lists(inside, max_size=3)
    return st.one_of(
        maps,
        graphs(inside),
        st.fixed_dictionaries(
            {
                "do": st.just("race"),
                "branches": st.lists(simple | st.fixed_dictionaries({"body": bodies}), min_size=1, max_size=3),
                "name": names("r"),
            }
        ),
        st.fixed_dictionaries(
            {
                "do": st.just("gather"),
                "branches": st.lists(simple | st.fixed_dictionaries({"body": bodies}), max_size=3),
                "keep": st.booleans(),
                "name": names("g"),
            }
        ),
        st.fixed_dictionaries({"do": st.just("inline"), "body": bodies}),
        st.fixed_dictionaries({"do": st.just("saga"), "body": bodies}),
        st.fixed_dictionaries(
            {"do": st.just("change"), "id": st.sampled_from(["c1", "c2"]), "new": bodies, "old": bodies}
        ),
        st.fixed_dictionaries({"do": st.just("scope"), "name": st.sampled_from(["s1", "s2", "s3"]), "body": bodies}),
        st.fixed_dictionaries(
            {
                "do": st.just("try"),
                "body": bodies,
                "catch": st.sampled_from(["outcome", "all", "base", None]),
                "handler": bodies,
                "finally": st.lists(inside, max_size=1),
            }
        ),
    )


nodes = st.recursive(leaves, composites, max_leaves=8)


def programs() -> st.SearchStrategy[Program]:
    """Programs with a prologue, and maybe a loop that saves its progress."""
    return st.fixed_dictionaries(
        {
            "prologue": st.lists(nodes, max_size=3),
            "pages": st.sampled_from([0, 2, 3]),
            "body": st.lists(nodes, max_size=3),
            "rest": st.lists(nodes, max_size=1),
            "again": st.sampled_from([0, 0, 0, 1, 2]),
        }
    )


def walk(program: Program) -> Iterator[Node]:
    """Every node of a program."""
    stack: list[Any] = [*program["prologue"], *program["body"], *program["rest"]]
    while stack:
        node = stack.pop()
        yield node
        for part in ("body", "handler", "finally", "branches", "nodes", "new", "old"):
            stack.extend(node.get(part, ()))
