"""Shapes: how the values of one annotation become JSON trees and come back; here those without parts, and unions.

Never resolves an annotation (`annotations` does) and never coerces: a value that is of no allowed type is refused.
The invariant: `lift(lower(x))` is `x`, of the same type; where that cannot be, `lower` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from flowgen.core.scalars import Scalar
from flowgen.core.trees import Refused, show_type

__all__ = ["Shape", "atom_shape", "enum_shape", "literal_shape", "mismatch", "scalar_shape", "union_shape"]

# Before a str in a union with types that are stored as text; user text that starts so gets it too.
_REALLY_TEXT: Final = "\0="


@attrs.frozen(eq=False)
class Shape:
    """A compiled annotation. `lower` and `lift` raise Refused; `kinds` are the tree types that `lift` may accept."""

    name: str
    lower: Callable[[Any], Any]
    lift: Callable[[Any], Any]
    accepts: Callable[[Any], bool]
    """Whether a live value looks like one of this shape, by its own type only."""
    kinds: frozenset[type]
    atom: type | None = None
    """Set when the live value is the tree, and only this exact type passes unlooked."""
    anything: bool = False
    """Set for Any: whole plain trees need no look at their parts."""
    rank: int = 1
    """Which member of a union is tried first: unions are equal in any order, so the order written cannot decide."""
    fields: frozenset[str] | None = None


def mismatch(value: object, allowed: str) -> Refused:
    """The error for a value of a type that the annotation does not allow."""
    return Refused(f"found {show_type(value)}, allowed: {allowed}")


def atom_shape(cls: type) -> Shape:
    """None, bool, int, float or str. An int may stand where a float is named, as type checkers allow."""
    wider: tuple[type, ...] = {float: (float, int), int: (int,)}.get(cls, (cls,))
    kinds = frozenset({float: (float, int, bool), int: (int, bool)}.get(cls, (cls,)))
    name = "None" if cls is type(None) else cls.__name__

    def lower(value: Any) -> Any:
        if type(value) in kinds:
            return value
        if isinstance(value, wider):
            return to_builtin(value)
        raise mismatch(value, name)

    def lift(tree: Any) -> Any:
        if type(tree) in kinds:
            return tree
        raise mismatch(tree, name)

    return Shape(
        name,
        lower,
        lift,
        lambda value: isinstance(value, wider),
        kinds,
        atom=cls,
        rank={bool: 2, int: 3, float: 4, str: 8}.get(cls, 0),
    )


def to_builtin(value: Any) -> Any:
    """The exact str, int or float inside an instance of a subclass, such as a member of an IntEnum."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def scalar_shape(scalar: Scalar) -> Shape:
    """A builtin type that is stored as one string."""
    name = scalar.cls.__name__
    read = scalar.read

    def lower(value: Any) -> str:
        if not isinstance(value, scalar.cls) or (name == "date" and hasattr(value, "hour")):
            raise mismatch(value, name)
        return scalar.write(value)

    def lift(tree: Any) -> Any:
        if type(tree) is not str:
            raise mismatch(tree, f"{name} ({scalar.form})")
        try:
            return read(tree)
        except (ValueError, OverflowError):
            raise Refused(f"found the text {tree[:60]!a}, allowed: {name} ({scalar.form})") from None

    return Shape(name, lower, lift, lambda value: isinstance(value, scalar.cls), frozenset({str}), rank=5)


def enum_shape(cls: type[Enum], value_shape: Shape) -> Shape:
    """An enum, stored as the value of its member."""
    name = show_type(cls)
    by_tree = [(value_shape.lower(member.value), member) for member in cls]

    def lower(value: Any) -> Any:
        if not isinstance(value, cls):
            raise mismatch(value, name)
        return value_shape.lower(value.value)

    def lift(tree: Any) -> Any:
        for known, member in by_tree:
            if type(known) is type(tree) and known == tree:
                return member
        try:
            # Combined members of a Flag, and those of a `_missing_` hook.
            return cls(tree)
        except Exception:
            raise Refused(f"found {ascii(tree)[:60]}, allowed: the value of a member of {name}") from None

    kinds = frozenset(type(known) for known, _ in by_tree) or frozenset({int, str})
    return Shape(name, lower, lift, lambda value: isinstance(value, cls), kinds, rank=0)


def literal_shape(values: Sequence[Any], lower_value: Callable[[Any], Any]) -> Shape:
    """One of the values that a Literal names."""
    known = [(lower_value(value), value) for value in values]
    name = f"Literal[{', '.join(repr(value) for value in values)}]"

    def lower(value: Any) -> Any:
        for tree, member in known:
            if type(member) is type(value) and member == value:
                return tree
        raise Refused(f"found {ascii(value)[:60]} of type {show_type(value)}, allowed: {name}")

    def lift(tree: Any) -> Any:
        for stored, member in known:
            if type(stored) is type(tree) and stored == tree:
                return member
        raise Refused(f"found {ascii(tree)[:60]}, allowed: {name}")

    def accepts(value: Any) -> bool:
        return any(type(member) is type(value) and member == value for _, member in known)

    return Shape(name, lower, lift, accepts, frozenset(type(tree) for tree, _ in known), rank=0)


def union_shape(members: Sequence[Shape]) -> Shape:
    """One of several shapes, found again by the tree alone; a value that would come back as another is refused."""
    ordered = sorted(members, key=lambda shape: (shape.rank, shape.name))
    name = " | ".join(shape.name for shape in members)
    kinds = frozenset(kind for shape in ordered for kind in shape.kinds)
    shared = any(sum(kind in shape.kinds for shape in ordered) > 1 for kind in kinds)
    marks_text = shared and any(shape.atom is str for shape in ordered)

    def lower(value: Any) -> Any:
        tree, refused = _lower_by(ordered, value, name)
        if refused is not None:
            raise refused
        if not shared:
            return tree
        if marks_text and type(value) is str and type(tree) is str:
            return _REALLY_TEXT + tree if tree.startswith(_REALLY_TEXT) or type(lift(tree)) is not str else tree
        if not _same(lift(tree), value):
            raise Refused(
                f"found {show_type(value)}, which would come back as {show_type(lift(tree))} of {name}: "
                "give the types fields that tell them apart, such as a Literal"
            )
        return tree

    def lift(tree: Any) -> Any:
        if marks_text and type(tree) is str and tree.startswith(_REALLY_TEXT):
            return tree[len(_REALLY_TEXT) :]
        return _lift_by(ordered, tree, name)

    return Shape(name, lower, lift, lambda value: any(each.accepts(value) for each in ordered), kinds, rank=7)


def _lower_by(ordered: Sequence[Shape], value: Any, name: str) -> tuple[Any, Refused | None]:
    refused: Refused | None = None
    for shape in ordered:
        if shape.atom is type(value) or shape.accepts(value):
            try:
                return shape.lower(value), None
            except Refused as error:
                refused = refused or error
    return None, refused or mismatch(value, name)


def _lift_by(ordered: Sequence[Shape], tree: Any, name: str) -> Any:
    kind = type(tree)
    fitting = [shape for shape in ordered if kind in shape.kinds]
    if kind is dict and len(fitting) > 1:
        fitting.sort(key=lambda shape: _distance(shape, tree))
    refused: Refused | None = None
    for shape in fitting:
        try:
            return shape.lift(tree)
        except Refused as error:
            refused = refused or error
    if len(fitting) == 1 and refused is not None:
        raise refused
    raise mismatch(tree, name)


def _distance(shape: Shape, tree: dict[str, Any]) -> int:
    # Records are told apart by their fields; one that was stored by older code may lack some, never have more.
    return len(shape.fields.symmetric_difference(tree)) if shape.fields is not None else 10_000


def _same(back: Any, value: Any) -> bool:
    if type(back) is type(value):
        return not isinstance(value, dict | list | tuple | set | frozenset) or bool(back == value)
    # A list may come back for a tuple, a plain int for an IntEnum: the same fact in its builtin form.
    return isinstance(value, list | tuple | str | int | float | dict) and bool(
        back == value or (isinstance(value, tuple) and back == list(value))
    )
