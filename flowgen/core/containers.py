"""Containers: the shapes of lists, tuples, sets and mappings.

Never accepts a string for a sequence, and never loses an entry. The invariant: an error inside carries the index or
the key that leads to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from flowgen.core.shapes import Shape, mismatch
from flowgen.core.trees import Refused, from_text, is_plain, show_type, to_text

__all__ = ["list_shape", "mapping_shape", "set_shape", "tuple_shape"]

_SEQUENCES: Final = (list, tuple, deque)


def _items(convert: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    done: list[Any] = []
    try:
        for value in values:
            done.append(convert(value))
    except Refused as refused:
        raise refused.at(len(done)) from None
    return done


def list_shape(item: Shape, build: Callable[[list[Any]], Any] | None = None) -> Shape:
    """A sequence of any length; `build` makes another type than list of it."""
    name = f"list[{item.name}]"
    exact = {item.atom}
    plain = item.atom is not None

    def lower(value: Any) -> Any:
        if type(value) is list and plain and set(map(type, value)) <= exact:
            return value
        if item.anything and type(value) is list and is_plain(value):
            return value
        if not isinstance(value, _SEQUENCES):
            raise mismatch(value, name)
        return _items(item.lower, value)

    def lift(tree: Any) -> Any:
        if type(tree) is not list:
            raise mismatch(tree, name)
        whole = item.anything or (plain and set(map(type, tree)) <= exact)
        done = tree if whole else _items(item.lift, tree)
        return done if build is None else build(done)

    return Shape(name, lower, lift, lambda value: isinstance(value, _SEQUENCES), frozenset({list}), rank=6)


def tuple_shape(items: Sequence[Shape]) -> Shape:
    """A tuple of fixed length, stored as a list."""
    name = f"tuple[{', '.join(item.name for item in items) or '()'}]"

    def convert(values: Any, verb: str) -> list[Any]:
        if len(values) != len(items):
            raise Refused(f"found {len(values)} items, allowed: {len(items)} of {name}")
        shapes = iter(items)
        return _items(lambda value: getattr(next(shapes), verb)(value), values)

    def lower(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise mismatch(value, name)
        return convert(value, "lower")

    def lift(tree: Any) -> Any:
        if type(tree) is not list:
            raise mismatch(tree, name)
        return tuple(convert(tree, "lift"))

    return Shape(name, lower, lift, lambda value: isinstance(value, list | tuple), frozenset({list}), rank=6)


def set_shape(item: Shape, build: Callable[[list[Any]], Any]) -> Shape:
    """A set, stored as a sorted list, so that the text does not depend on the order of hashing."""
    name = f"set[{item.name}]"

    def lower(value: Any) -> Any:
        if not isinstance(value, set | frozenset):
            raise mismatch(value, name)
        trees = [item.lower(member) for member in value]
        try:
            return sorted(trees)
        except TypeError:
            raise Refused(
                f"the members of the {show_type(value)} have no order, so its text would change from run to run: "
                "give members of one type that can be sorted, or a list"
            ) from None

    def lift(tree: Any) -> Any:
        if type(tree) is not list:
            raise mismatch(tree, name)
        return build(_items(item.lift, tree))

    return Shape(name, lower, lift, lambda value: isinstance(value, set | frozenset), frozenset({list}), rank=6)


def mapping_shape(key: Shape, value: Shape, build: Callable[[dict[Any, Any]], Any] | None = None) -> Shape:
    """A mapping, stored as an object; keys that are no str are stored as their JSON text and come back by `key`."""
    name = f"dict[{key.name}, {value.name}]"
    text_keys = key.atom is str
    exact = {value.atom}
    plain = text_keys and value.atom is not None

    def lower(table: Any) -> Any:
        if type(table) is dict and plain and set(map(type, table)) <= {str} and set(map(type, table.values())) <= exact:
            return table
        if value.anything and text_keys and type(table) is dict and is_plain(table):
            return table
        if not isinstance(table, Mapping):
            raise mismatch(table, name)
        done: dict[str, Any] = {}
        for name_, member in table.items():
            text = key.lower(name_) if text_keys else _lower_key(key, name_)
            if text in done:
                raise Refused(f"two keys become the one JSON key {text!a}: entries would be lost")
            try:
                done[text] = value.lower(member)
            except Refused as refused:
                raise refused.at(text) from None
        return done

    def lift(tree: Any) -> Any:
        if type(tree) is not dict:
            raise mismatch(tree, name)
        if text_keys and (value.anything or (plain and set(map(type, tree.values())) <= exact)):
            return tree if build is None else build(tree)
        done = {}
        for text, member in tree.items():
            try:
                done[text if text_keys else _lift_key(key, text)] = value.lift(member)
            except Refused as refused:
                raise refused.at(text) from None
        return done if build is None else build(done)

    return Shape(name, lower, lift, lambda table: isinstance(table, Mapping), frozenset({dict}), rank=6)


def _lower_key(key: Shape, live: Any) -> str:
    tree = key.lower(live)
    text = tree if isinstance(tree, str) else to_text(tree)
    back = _lift_key(key, text)
    if isinstance(tree, list | dict) or type(back) is not type(live) or back != live:
        raise Refused(f"the key {ascii(live)[:60]} of type {show_type(live)} would come back as {ascii(back)[:60]}")
    return text


def _lift_key(key: Shape, text: str) -> Any:
    if str in key.kinds:
        try:
            return key.lift(text)
        except Refused:
            if key.kinds == {str}:
                raise
    return key.lift(from_text(text))
