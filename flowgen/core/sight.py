"""What a step may read of other steps: in a Graph its ancestors, by their names there, and what was before the Graph.

Never what merely happened to be done: what a function is shown is the same in each attempt and after each crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from flowgen.core.branches import Branch

__all__ = ["seen_from"]

Ancestors = Mapping[str, str | None]


def seen_from(branch: Branch, results: Mapping[str, str]) -> Mapping[str, str] | None:
    """The results that a step of this branch may read, by key; None: all of them."""
    graphs: list[tuple[str, str, Callable[[], Ancestors]]] = []
    while (composite := branch.parent) is not None:
        found = composite.join.sight(branch.position)
        if found is not None:
            graphs.append((f"{composite.key}/", *found))
        branch = composite.branch
    if not graphs:
        return None
    for graph in reversed(graphs):
        results = _NodeResults(results, *graph)
    return results


class _NodeResults(Mapping[str, str]):
    """What a node of the Graph at `path` sees of `results`. Looked up when it is asked for: few functions ask."""

    def __init__(self, results: Mapping[str, str], path: str, name: str, known: Callable[[], Ancestors]) -> None:
        self._results = results
        self._path = path
        self._own = f"{path}{name}/"
        self._known = known

    @cached_property
    def _ancestors(self) -> Ancestors:
        return self._known()

    def __getitem__(self, key: str) -> str:
        if key.startswith(self._own):
            return self._results[key]
        if key.partition("/")[0] in self._ancestors:
            text = self._ancestors.get(key)
            return self._results[self._path + key] if text is None else text
        if key.startswith(self._path):
            raise KeyError(key)
        return self._results[key]

    def __iter__(self) -> Iterator[str]:
        for name, text in self._ancestors.items():
            if text is not None:
                yield name
        for key in list(self._results):
            if key.startswith(self._own):
                yield key
            elif key.startswith(self._path):
                short = key.removeprefix(self._path)
                if short.partition("/")[0] in self._ancestors:
                    yield short
            elif key.partition("/")[0] not in self._ancestors:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)
