"""Emit and WaitEvent against a history: what is asked for, what answers, and what a replay asks again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flowgen.core.branches import REMEMBERED
from flowgen.core.commands import Checkpoint, ContinueAsNew, Emit, Flow, Gather, Race, Scope, Sleep, WaitEvent
from flowgen.core.context import Context
from flowgen.core.decision import Completed, EmitRequest, Failed, ListenRequest
from flowgen.core.definitions import DefinitionOptions, Workflow
from flowgen.core.entries import EntryKind, Message, MessageKind
from flowgen.core.retry import Retry
from flowgen.core.semantics.events import letter, opened
from flowgen.errors import WaitTimedOut
from flowgen.testing.bench import BEGINNING, Bench

ONCE = DefinitionOptions(retry=Retry(1))


def at(seconds: float) -> Any:
    return BEGINNING + timedelta(seconds=seconds)


class Heard(Bench):
    """A bench that notes what is registered and emitted, and to which events can be told."""

    __slots__ = ("emitted", "listening", "sent")

    def __init__(self, handler: Any, input: str = "{}") -> None:
        self.listening: dict[str, ListenRequest] = {}
        self.emitted: list[EmitRequest] = []
        self.sent = 100
        super().__init__(definition=Workflow(handler, None, ONCE), input=input)
        self.go()

    def _carry_out(self, decision: Any) -> Any:
        self.listening |= {each.key: each for each in decision.listens}
        self.emitted += decision.emits
        for key in decision.quits:
            self.listening.pop(key, None)
            gone = [each.id for each in self.letters if (each.kind, each.key) == (MessageKind.EVENT, key)]
            for number in gone:
                del self._inbox[number]
        return super()._carry_out(decision)

    def tell(self, key: str, payload: str, place: float, of: str | None = None) -> None:
        self.sent += 1
        text = letter(payload, at(place), self.listening[key].fingerprint if of is None else of)
        self._inbox[self.sent] = message = Message(self.sent, MessageKind.EVENT, key, text)
        self.execution.post([message])
        self.go()


def test_a_letter_keeps_the_very_characters_of_a_payload() -> None:
    for payload in ("1e22", '{"b":1,"a":",\\"at\\":7"}', "-0.0", "null"):
        assert opened(letter(payload, at(3.000001), 'event:a",at":b:0')) == (payload, at(3.000001), 'event:a",at":b:0')


def test_a_wait_is_registered_once_and_again_after_a_replay() -> None:
    def handler() -> Flow[Any]:
        return (yield from WaitEvent("paid", {"id": 1}, timeout=60))

    bench = Heard(handler)
    request = bench.listening["paid"]
    assert (request.name, request.filter, request.after) == ("paid", '[[["id"],"eq",1]]', None)
    assert [entry.kind for entry in bench.items] == [EntryKind.ARMED]
    assert bench.due_at == at(60)
    bench.listening.clear()
    bench.go()
    assert not bench.listening
    bench.restart()
    bench.go()
    assert bench.listening == {"paid": request}
    assert len(bench.items) == 1
    bench.tell("paid", '{"id":1}', 5)
    assert bench.finish == Completed('{"id":1}')
    assert not bench.listening
    assert not bench.letters


def test_an_emit_records_its_id_and_asks_for_it_once() -> None:
    def handler() -> Flow[Any]:
        one = yield from Emit("paid", {"id": 1})
        two = yield from Emit("paid")
        return [one, two]

    bench = Heard(handler)
    assert [(each.name, each.payload) for each in bench.emitted] == [("paid", '{"id":1}'), ("paid", "null")]
    assert bench.output == f'["{bench.emitted[0].event_id}","{bench.emitted[1].event_id}"]'
    assert [entry.key for entry in bench.items] == ["emit:paid", "emit:paid#2"]


def test_a_wait_goes_on_behind_the_event_of_the_one_before_it_wherever_that_stood() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        heard = list(ctx.accumulated_results or [])
        while len(heard) < 4:
            if len(heard) % 2:
                found = yield from Race(a=WaitEvent("n"), b=Sleep(600))
                heard.append(found.value)
            else:
                heard.append((yield from Scope(f"s{len(heard)}", inner())))
            yield Checkpoint(len(heard), None, heard)
        return heard

    def inner() -> Flow[Any]:
        return (yield from WaitEvent("n"))

    bench = Heard(handler)
    for place in range(1, 5):
        ((key, request),) = bench.listening.items()
        assert request.after == (None if place == 1 else at(place - 1))
        if place == 3:
            bench.restart()
            bench.go()
            assert bench.listening[key].after == at(2)
        bench.tell(key, str(place), place)
    assert bench.finish == Completed("[1,2,3,4]")


def test_what_came_twice_or_for_another_wait_answers_nothing() -> None:
    def handler() -> Flow[Any]:
        first = yield from WaitEvent("n")
        second = yield from WaitEvent("n").opts(name="again")
        return [first, second]

    bench = Heard(handler)
    fingerprint = bench.listening["n"].fingerprint
    bench.tell("n", "1", 1)
    bench.tell("again", "1", 1)
    bench.tell("again", "2", 2, of="event:n:other")
    assert bench.finish is None
    bench.tell("again", "3", 3, of=fingerprint)
    assert bench.finish == Completed("[1,3]")


def test_branches_beside_each_other_wait_each_for_themselves() -> None:
    def twice() -> Flow[Any]:
        one = yield from WaitEvent("n")
        two = yield from WaitEvent("n")
        return [one, two]

    def handler() -> Flow[Any]:
        found = yield from Gather(twice(), WaitEvent("n"))
        last = yield from WaitEvent("n")
        return [*found, last]

    bench = Heard(handler)
    bench.tell("gather/0/n", "1", 1)
    assert bench.listening["gather/0/n#2"].after == at(1)
    assert bench.listening["gather/1/n"].after is None
    bench.tell("gather/1/n", "1", 1)
    bench.tell("gather/0/n#2", "2", 2)
    assert bench.listening["n"].after == at(2)
    bench.tell("n", "3", 3)
    assert bench.finish == Completed("[[1,2],1,3]")


def test_a_wait_that_times_out_or_loses_is_registered_no_longer() -> None:
    def handler() -> Flow[Any]:
        lost = yield from Race(a=WaitEvent("n"), b=Sleep(5))
        try:
            yield WaitEvent("n", timeout=10)
        except WaitTimedOut as error:
            return [lost.tag, str(error)]

    bench = Heard(handler)
    assert list(bench.listening) == ["race/a/n"]
    bench.move_to(at(5))
    assert list(bench.listening) == ["n"]
    bench.move_to(at(15))
    assert bench.finish == Completed('["b","n: no event \'n\' came within 10 s"]')
    assert not bench.listening


def test_a_wait_that_is_cut_off_with_its_run_is_registered_no_longer() -> None:
    def handler() -> Flow[Any]:
        yield Gather(WaitEvent("n"), failing())

    def failing() -> Flow[Any]:
        yield Sleep(1)
        raise ValueError("no")

    bench = Heard(handler)
    bench.move_to(at(1))
    assert isinstance(bench.finish, Failed)
    assert not bench.listening


def test_a_new_pass_goes_on_behind_the_events_of_the_passes_before_and_of_no_other_filter() -> None:
    def handler(seen: list[int]) -> Flow[Any]:
        seen = [*seen, (yield from WaitEvent("n", {"a": 1}))["n"]]
        if len(seen) < 3:
            yield from ContinueAsNew(seen)
        return [*seen, (yield from WaitEvent("n"))]

    bench = Heard(handler, '{"seen":[]}')
    for place in (1, 2, 3):
        assert bench.listening["n"].after == (None if place == 1 else at(place - 1))
        assert [entry.kind for entry in bench.items] == [EntryKind.PASS] * (place > 1) + [EntryKind.ARMED]
        bench.restart()
        bench.go()
        assert bench.listening["n"].after == (None if place == 1 else at(place - 1))
        bench.tell("n", f'{{"a":1,"n":{place}}}', place)
    assert bench.listening["n#2"].after is None
    bench.tell("n#2", "0", 4)
    assert bench.finish == Completed("[1,2,3,0]")


def test_a_pass_and_a_checkpoint_remember_the_latest_hundred_waits_and_those_that_are_still_waited_for() -> None:
    def handler(ctx: Context[Any], passes: int) -> Flow[Any]:
        for n in range(ctx.checkpoint_cursor or 0, REMEMBERED + 5):
            won = yield from Race(each=WaitEvent("n", {"id": n}), stays=WaitEvent("stays"))
            if n == 0:
                assert won.tag == "stays"
            if n % 50 == 1:
                yield Checkpoint(n + 1)
        if passes:
            yield from ContinueAsNew(passes - 1)
        return (yield from Race(each=WaitEvent("n", {"id": 0}), stays=WaitEvent("stays")))

    bench = Heard(handler, '{"passes":0}')
    bench.tell("race/stays/stays", "1", 1)
    for n in range(1, REMEMBERED + 5):
        ((key, request),) = [each for each in bench.listening.items() if "each" in each[0]]
        assert request.after is None
        bench.tell(key, "{}", n + 1)
    saved = bench.execution.view.saved
    assert saved is not None
    assert len(saved.heard) == REMEMBERED
    assert any("stays" in each for each in saved.heard), "it was given its event before all others"
    afters = {each.name: each.after for each in bench.listening.values()}
    assert afters == {"n": None, "stays": at(1)}
