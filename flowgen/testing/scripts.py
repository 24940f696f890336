"""Scripted outcomes: what a test says that steps and children come to.

Never guesses: a command that no key fits has no outcome. The invariant: a list is used up in the order of the calls,
and one call too many says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowgen.core.commands import Command
from flowgen.core.definitions import Definition

__all__ = ["UNSCRIPTED", "Script", "as_error"]

UNSCRIPTED: Final = object()
"""The test says nothing about this command."""


class Script:
    """The `outcomes=` of one test.

    A key is a command, its key in the run ("charge#2"), the author's name, a task, workflow or function, or its name;
    the first that fits in this order counts. A value is the result, an exception, a function of the arguments, or a
    list of these for one call after the other.
    """

    def __init__(self, outcomes: Mapping[Any, object] | None) -> None:
        self._outcomes = dict(outcomes or {})
        self._used: dict[Any, int] = {}

    def next_for(self, key: str, command: Command[Any], target: object = None) -> object:
        """What this command comes to; UNSCRIPTED when no key fits. `target` is what it calls or starts."""
        for name in self._names(key, command, target):
            if _is_key(name) and name in self._outcomes:
                return self._take(name, command)
        return UNSCRIPTED

    def _names(self, key: str, command: Command[Any], target: object) -> list[Any]:
        names: list[Any] = [command, key, key.rpartition("/")[2], command.options.name, target]
        if isinstance(target, Definition):
            names.append(target.fn)
        else:
            names += [each for each in self._outcomes if isinstance(each, Definition) and each.fn is target]
        return [*names, command.target]

    def _take(self, name: Any, command: Command[Any]) -> object:
        found = self._outcomes[name]
        if not isinstance(found, list):
            return found
        used = self._used.get(name, 0)
        self._used[name] = used + 1
        if used >= len(found):
            raise AssertionError(
                f"{command!r} is call number {used + 1} of {_shown(name)}, and its list in outcomes= has {len(found)}; "
                "a result that is a list is given as [[...]]"
            )
        return found[used]


def as_error(scripted: object) -> BaseException | None:
    """The exception that was scripted, an instance or a class; None for what is no exception."""
    if isinstance(scripted, BaseException):
        return scripted
    if isinstance(scripted, type) and issubclass(scripted, BaseException):
        try:
            return scripted()
        except TypeError:
            raise AssertionError(f"{scripted.__name__} needs arguments: give an instance of it in outcomes=") from None
    return None


def _is_key(name: object) -> bool:
    if name is None or name == "":
        return False
    try:
        hash(name)
    except TypeError:
        return False
    return True


def _shown(name: object) -> str:
    shown = getattr(name, "name", None) or getattr(name, "__name__", None)
    return shown if isinstance(shown, str) else repr(name)
