"""What each run comes to: pure functions of its input, written without the engine.

`flows.py` has the same arithmetic as commands. A run whose result may honestly differ (an interrupted at-most-once
step) has a result that says so, and `fits` knows which differences are allowed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

INTERRUPTED = "interrupted"
LARGEST = 64 << 10
"""Bytes that a payload of the workload may have (`Settings.max_payload`)."""


def pick(n: int, what: str, below: int) -> int:
    """A number under `below` that only `n` and `what` decide."""
    return int(hashlib.sha256(f"{n}/{what}".encode()).hexdigest()[:8], 16) % below


def pause(n: int, what: str, most: float = 0.1) -> float:
    """Seconds that a function takes; one in ten takes half a second longer, so that kills find it open."""
    seconds = pick(n, f"pause {what}", 1000) / 1000 * most
    return seconds + (0.5 if pick(n, f"long {what}", 10) == 0 else 0.0)


@attrs.frozen
class Expected:
    """What a run comes to: a value, or the type of the failure."""

    value: Any = None
    failure: str | None = None
    may_fail: bool = False
    """Whether it may come to either of them: others decide."""

    def fits(self, output: Any) -> bool:
        return _fits(self.value, output)


def _fits(expected: Any, output: Any) -> bool:
    if isinstance(expected, Maybe):
        return output in (expected.value, INTERRUPTED)
    if isinstance(expected, OneOf):
        return any(_fits(each, output) for each in expected.values)
    if isinstance(expected, dict) and isinstance(output, Mapping):
        return expected.keys() == output.keys() and all(_fits(each, output[key]) for key, each in expected.items())
    if isinstance(expected, list) and isinstance(output, list):
        return len(expected) == len(output) and all(map(_fits, expected, output))
    return bool(expected == output) and type(expected) is type(output)


@attrs.frozen
class Maybe:
    """A value, or the word that an at-most-once call was interrupted."""

    value: Any


@attrs.frozen
class OneOf:
    """Any of these values."""

    values: tuple[Any, ...]


def linear(n: int) -> Expected:
    return Expected(sum(n + k for k in range(steps_of(n))))


def steps_of(n: int) -> int:
    return 20 if pick(n, "many", 16) == 0 else 1 + pick(n, "steps", 8)


def wobbly(n: int) -> Expected:
    return Expected({"sync": n + 1, "async": n + 2, "broken": "ValueError: broken", "refused": "PermanentError: no"})


def far(n: int) -> Expected:
    return Expected(n + 3)


def late(n: int) -> Expected:
    return Expected({"sync": "timed out", "async": "timed out", "after": n})


def once(n: int) -> Expected:
    return Expected({"one": Maybe(n), "two": Maybe(n * 2), "flaky": Maybe(n * 3), "gathered": [Maybe(n), Maybe(-n)]})


def nap(n: int) -> Expected:
    return Expected(n)


def doomed(n: int) -> Expected:
    return Expected(failure="StepFailed")


def tree(n: int, depth: int) -> int:
    """What the child `branch` gives."""
    if depth == 0:
        return n
    return sum(tree(n + k, depth - 1) for k in range(2))


def family(n: int) -> Expected:
    return Expected(
        {
            "tree": tree(n, 2),
            "started": [n * 2, n * 3],
            "bad": "ChildFailed",
            "deep": "ChildFailed",
            "task": n + 7,
            "named": n * 5,
        }
    )


def pages_of(n: int) -> int:
    return 2 + pick(n, "pages", 4)


def pages(n: int) -> Expected:
    count = pages_of(n)
    return Expected({"pages": count, "total": sum(n + page for page in range(count)), "booked": count})


def planned(n: int) -> Expected:
    return Expected(n)


def books(n: int) -> Expected:
    return Expected({"sync": n, "async": n + 1, "flaky": n + 2, "refused": "ValueError", "both": [n + 3, n + 4]})


def fan(n: int) -> Expected:
    return Expected(
        {
            "all": [n, n + 10, n * 2, [n + 1, n + 2], n + 5],
            "some": ["ValueError", n],
            "first": "StepFailed",
            "scoped": n + 30,
        }
    )


def facts(n: int) -> Expected:
    return Expected({"same": True, "ordered": True, "inside": True, "n": n})


def coroutine(n: int) -> Expected:
    return Expected([n, n + 1, n * 2])


def lone(n: int) -> Expected:
    return Expected(n + 1)


def branch(n: int, depth: int) -> Expected:
    return Expected(tree(n, depth))


def tidy(n: int) -> Expected:
    return Expected({"one": n, "two": n + 1})


def deployed(n: int) -> Expected:
    return Expected(n * 2 + 3)


def fresh(n: int) -> Expected:
    return Expected(n + 4)


def slow(n: int) -> Expected:
    return Expected(n + 6)


def size_of(n: int) -> int:
    """Characters of a payload that is nearly as large as one may be."""
    return LARGEST - 1000 - pick(n, "size", 5000)


def heavy(n: int) -> Expected:
    return Expected({"size": size_of(n), "too large": "CodecError"})


def odd(n: int) -> Expected:
    return Expected({"nonce": 16, "big": True, "zero": True, "many": True, "order": ["z", "a", "m"], "n": n})


def poison(n: int) -> Expected:
    return Expected(failure="PoisonRun")


def strange(n: int) -> Expected:
    return Expected({"nan": "CodecError", "surrogate": "CodecError", "naive": "CodecError", "n": n})


def strict(n: int, when: str) -> Expected:
    return Expected(failure="CodecError")


def items_of(n: int) -> list[int]:
    return [n + k for k in range(2 + pick(n, "items", 4))]


def mapped(n: int) -> Expected:
    items = items_of(n)
    some = [f"not {item}" if item % 3 == 0 else item * 2 for item in items]
    return Expected({"grown": [item + 1 for item in items], "some": some, "runs": [item * 2 for item in items[:3]]})


def raced(n: int) -> Expected:
    first = (["quick", n], ["slow", n + 5], ["child", n * 3], ["late", None])
    second = (["flow", [n + 1, n + 2]], ["tree", tree(n, 1)], ["book", n])
    return Expected({"first": OneOf(first), "after": n + 1, "second": OneOf(second)})


def woven(n: int) -> Expected:
    done = {"left": n + 1} if n % 2 else {"right": n + 2, "extra": n * 2}
    done |= {"both": n + 3, "end": n + 5} | ({"rare": n + 4} if n % 3 == 0 else {})
    skipped = {"left", "right", "extra", "rare"} - done.keys()
    return Expected({"done": done, "skipped": sorted(skipped), "failed": ["broken"]})


def fails_in_the_end(n: int) -> bool:
    return pick(n, "fails", 2) == 0


def trip(n: int) -> Expected:
    if fails_in_the_end(n):
        return Expected(failure="StepFailed")
    return Expected([n + 1, n, -1, n * 2, n])


def words_of(n: int) -> int:
    """How many signals are sent."""
    return 2 + pick(n, "words", 4)


def chat(n: int) -> Expected:
    return Expected([n * 100 + k for k in range(words_of(n))])


def news_of(n: int) -> int:
    """How many events are emitted."""
    return 2 + pick(n, "news", 3)


def hub(n: int) -> Expected:
    many = news_of(n)
    return Expected([[many - 1, many - 1], list(range(many)), list(range(many))])


def promised(n: int) -> Expected:
    return Expected([f"refused {n}" if pick(n, f"token{place}", 3) == 0 else n for place in range(2)])


def verb_of(n: int) -> str:
    """What the operator decides."""
    return ("retry", "skip", "complete")[pick(n, "verb", 3)]


def mended(n: int) -> Expected:
    value = {"retry": n, "skip": -1, "complete": 7 * n}[verb_of(n)]
    return Expected([n, value, n + 1], "StepFailed", may_fail=True)


def passes_of(n: int) -> int:
    return 2 + pick(n, "passes", 5)


def rounds(n: int, turn: int = 0, total: int = 0) -> Expected:
    count = passes_of(n)
    return Expected({"turns": count, "total": sum(n + k + 1 for k in range(count)), "new": True})


def lines_of(n: int) -> int:
    return 3 + pick(n, "lines", 4)


def ahead(n: int) -> Expected:
    total = 0
    for line in range(lines_of(n)):
        total += 3 * (n + line) + (n if line % 3 == 0 else 2 * n + 1 if line % 3 == 1 else 0)
    return Expected(total)


EXPECTED: dict[str, Callable[..., Expected]] = {
    each.__name__: each
    for each in (
        linear, wobbly, far, late, once, nap, doomed, family, pages, planned, books, fan, facts, coroutine, lone,
        branch, tidy, deployed, fresh, slow, heavy, odd, poison, strange, strict, mapped, raced, woven, trip, chat, hub,
        promised, mended, rounds, ahead,
    )
}  # fmt: skip
"""By definition. Each takes the input by name."""
