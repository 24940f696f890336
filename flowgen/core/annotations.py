"""Annotations: from a type annotation to its shape, compiled once and kept.

Never runs user code other than classes' own hooks. The invariant: equal annotations have one shape, whatever the order
in which the members of their unions are written.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import inspect
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import cattrs
import typing_extensions
from cattrs.errors import StructureHandlerNotFoundError

from flowgen.core.containers import list_shape, mapping_shape, set_shape, tuple_shape
from flowgen.core.records import is_record, record_shape, substitute
from flowgen.core.scalars import SCALARS
from flowgen.core.shapes import Shape, atom_shape, enum_shape, literal_shape, scalar_shape, to_builtin
from flowgen.core.shapes import union_shape as _union_shape
from flowgen.core.trees import MAX_DEPTH, Refused, from_text, is_plain, show_type, to_text

__all__ = ["converter", "shape_of"]

converter: Final = cattrs.Converter(
    unstructure_fallback_factory=lambda cls: _unknown(cls), structure_fallback_factory=lambda cls: _unknown(cls)
)
"""Where an application registers cattrs hooks for types of its own, before it uses them."""

_shapes: Final[dict[Any, Shape]] = {}
# Apart from _shapes: an annotation that was seen must not change what is unannotated.
_custom_shapes: Final[dict[type, Shape]] = {}
_SCALAR_SHAPES: Final = {scalar.cls: scalar_shape(scalar) for scalar in SCALARS}
_IMPLIED: Final = tuple(scalar.cls for scalar in SCALARS if scalar.implied)
_ATOMS: Final = {cls: atom_shape(cls) for cls in (type(None), bool, int, float, str)}
_WRAPPERS: Final = (
    typing.Annotated,
    typing.Final,
    typing.ClassVar,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)
_ALIASES: Final = tuple(
    {typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType)}
)
_LISTS: Final[dict[Any, Callable[[list[Any]], Any] | None]] = {
    list: None,
    abc.Sequence: None,
    abc.MutableSequence: None,
    abc.Collection: None,
    abc.Iterable: None,
    collections.deque: collections.deque,
}
_SETS: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    set: set,
    abc.Set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
}
_MAPPINGS: Final[dict[Any, Callable[[dict[Any, Any]], Any] | None]] = {
    dict: None,
    abc.Mapping: None,
    abc.MutableMapping: None,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
    collections.defaultdict: lambda table: collections.defaultdict(None, table),
}


def shape_of(annotation: Any) -> Shape:
    """The shape of an annotation. Raises Refused when there is no rule for it."""
    try:
        return _shapes[annotation]
    except KeyError:
        return _shapes.setdefault(annotation, _compile(annotation))
    except TypeError:
        # Not hashable, as Annotated[int, []]: compiled at each use.
        return _compile(annotation)


def _compile(annotation: Any) -> Shape:
    origin = typing_extensions.get_origin(annotation)
    if annotation is None:
        return _ATOMS[type(None)]
    if isinstance(annotation, str | typing.ForwardRef):
        raise Refused(f"the annotation {annotation!r} names nothing that could be found")
    if origin in _WRAPPERS:
        return shape_of(typing_extensions.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return shape_of(annotation.__supertype__)
    if isinstance(annotation, _ALIASES):
        return _alias_shape(annotation)
    if isinstance(origin, _ALIASES):
        arguments = dict(zip(origin.__type_params__, typing_extensions.get_args(annotation), strict=False))
        return shape_of(substitute(origin.__value__, arguments))
    if isinstance(annotation, typing.TypeVar):
        members = annotation.__constraints__ or (annotation.__bound__ or Any,)
        return shape_of(typing.Union[members])  # noqa: UP007 - of a tuple
    if origin is typing.Union or origin is types.UnionType:
        return _union_of(typing_extensions.get_args(annotation))
    if origin in (typing.Literal, typing_extensions.Literal):
        return literal_shape(typing_extensions.get_args(annotation), _lower_any)
    return _compile_class(annotation, origin)


def _alias_shape(alias: Any) -> Shape:
    # Resolved at each use and not before: an alias may name itself, as that of JSON does.
    return Shape(
        alias.__name__,
        lambda value: shape_of(alias.__value__).lower(value),
        lambda tree: shape_of(alias.__value__).lift(tree),
        lambda value: shape_of(alias.__value__).accepts(value),
        _ANY.kinds,
        rank=6,
    )


def _union_of(members: tuple[Any, ...]) -> Shape:
    if any(member in (Any, object) for member in members):
        return _ANY
    return _union_shape([shape_of(member) for member in members])


def _compile_class(annotation: Any, origin: Any) -> Shape:
    cls = origin or annotation
    if cls in _SCALAR_SHAPES:
        return _SCALAR_SHAPES[cls]
    if isinstance(cls, type) and issubclass(cls, Enum):
        return enum_shape(cls, _ANY)
    if cls is tuple or cls in _LISTS or cls in _SETS or cls in _MAPPINGS:
        return _compile_container(cls, annotation)
    arguments = typing_extensions.get_args(annotation)
    if is_record(cls):
        return record_shape(cls, dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False)), shape_of)
    if cls in (bytearray, memoryview):
        raise Refused(f"{cls.__name__} is not stored: annotate and return bytes")
    return _ANY if getattr(cls, "_is_protocol", False) else _custom_shape(annotation)


def _compile_container(cls: Any, annotation: Any) -> Shape:
    arguments = typing_extensions.get_args(annotation)
    if cls is tuple:
        if not arguments and annotation is not tuple and annotation is not typing.Tuple:  # noqa: UP006 - users write it
            return tuple_shape(())
        if not arguments or arguments[-1] is Ellipsis:
            return list_shape(shape_of(arguments[0] if arguments else Any), tuple)
        return tuple_shape([shape_of(each) for each in arguments])
    if cls in _MAPPINGS:
        if cls is collections.Counter:
            arguments = (*arguments, int) if arguments else (Any, int)
        key, value = arguments or (Any, Any)
        return mapping_shape(_ANY_KEY if key in (Any, object) else shape_of(key), shape_of(value), _MAPPINGS[cls])
    item = shape_of(arguments[0] if arguments else Any)
    return set_shape(item, _SETS[cls]) if cls in _SETS else list_shape(item, _LISTS[cls])


def _custom_shape(annotation: Any) -> Shape:
    name = show_type(annotation) if isinstance(annotation, type) else str(annotation)
    try:
        write = converter.get_unstructure_hook(annotation)
        read = converter.get_structure_hook(annotation)
    except StructureHandlerNotFoundError as error:
        raise Refused(f"there is no rule for the annotation {name}: {error}") from None

    def guarded(convert: Callable[[Any], Any], verb: str) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            try:
                return convert(value)
            except Refused:
                raise
            except Exception as error:
                raise Refused(f"the {verb} hook of {name} failed: {type(error).__name__}: {error}") from None

        return run

    guarded_write = guarded(write, "unstructure")
    lift = guarded(lambda tree: read(tree, annotation), "structure")

    def lower(value: Any) -> Any:
        written = guarded_write(value)
        if written is value:
            raise _no_form(value)
        tree = _lower_any(written)
        back = lift(from_text(to_text(tree)))
        if not _comes_back(value, back):
            raise Refused(
                f"the hooks of {name} are not symmetric: {_shown(value)} would come back as {_shown(back)}; the "
                "structure hook has to give what the unstructure hook was given"
            )
        return tree

    return Shape(
        name,
        lower,
        lift,
        lambda value: isinstance(value, annotation) if isinstance(annotation, type) else True,
        _ANY.kinds,
    )


def _comes_back(value: Any, back: Any) -> bool:
    try:
        return vars(object)["__eq__"] is type(value).__eq__ or bool(back == value)
    except Exception:  # an equality of its own kind, as that of an array
        return True


def _shown(value: Any) -> str:
    try:
        return ascii(value)[:60]
    except Exception:
        return show_type(value)


def _unknown(cls: Any) -> typing.NoReturn:
    raise Refused(
        f"there is no rule for the annotation {cls!r}: use builtin types, dataclasses, attrs classes or pydantic "
        "models, or register a cattrs hook for it"
    )


def _lower_any(value: Any) -> Any:
    return value if is_plain(value) else _lower_by_type(value, 1)


def _lower_by_type(value: Any, depth: int) -> Any:
    if type(value) in _ATOMS:
        return value
    if depth > MAX_DEPTH:
        raise Refused(f"nested deeper than {MAX_DEPTH} levels, or circular: flatten it, or store a reference")
    if isinstance(value, Enum):
        return _lower_by_type(value.value, depth)
    if is_record(type(value)):
        return shape_of(type(value)).lower(value)
    if isinstance(value, str | int | float):
        return to_builtin(value)
    done: Any
    part: Any = None
    try:
        if isinstance(value, abc.Mapping):
            done = {}
            for key, member in value.items():
                part = None
                name = _ANY_KEY.lower(key)
                if name in done:
                    raise Refused(f"two keys become the one JSON key {name!a}: entries would be lost")
                part = name
                done[name] = _lower_by_type(member, depth + 1)
            return done
        if isinstance(value, list | tuple | collections.deque):
            done = []
            for member in value:
                part = len(done)
                done.append(_lower_by_type(member, depth + 1))
            return done
    except Refused as refused:
        raise (refused.at(part) if isinstance(part, int | str) else refused) from None
    return _lower_leaf(value)


def _lower_leaf(value: Any) -> Any:
    for cls in _IMPLIED:
        if isinstance(value, cls):
            return _SCALAR_SHAPES[cls].lower(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise Refused(f"found {show_type(value)} without an annotation: return bytes and annotate it as bytes")
    if isinstance(value, set | frozenset):
        raise Refused(
            f"found {show_type(value)} without an annotation: annotate it, as set[str], or return a sorted list"
        )
    cls = type(value)
    if cls not in _custom_shapes:
        try:
            _custom_shapes[cls] = _custom_shape(cls)
        except Refused:
            raise _no_form(value) from None
    return _custom_shapes[cls].lower(value)


def _no_form(value: Any) -> Refused:
    return Refused(
        f"found {show_type(type(value))}, which has no JSON form, allowed: None, bool, int, float, str, lists, dicts, "
        "enums, dates, UUID, Decimal, Path, dataclasses, attrs classes, pydantic models"
    )


def _lower_any_key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise Refused(
        f"the key {ascii(key)[:60]} is of type {show_type(key)}, and JSON has only text keys: "
        f"annotate the dict, as dict[{type(key).__name__}, ...], or make the keys str"
    )


_ANY: Final = Shape(
    "Any",
    _lower_any,
    lambda tree: tree,
    lambda value: True,
    frozenset({type(None), bool, int, float, str, list, dict}),
    anything=True,
    rank=9,
)
_ANY_KEY: Final = Shape(
    "str", _lower_any_key, _ATOMS[str].lift, lambda key: isinstance(key, str), frozenset({str}), atom=str
)
_shapes.update({Any: _ANY, object: _ANY, inspect.Parameter.empty: _ANY, typing_extensions.Any: _ANY})
_shapes.update(_ATOMS)
