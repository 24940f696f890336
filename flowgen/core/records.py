"""Records: the shapes of attrs classes, dataclasses, TypedDicts, NamedTuples and pydantic models.

Never imports pydantic: its models are known by what they can do. The invariant: a record is stored with all its
fields, and comes back as the very class that the annotation names; an instance of a subclass is refused.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import typing_extensions

from flowgen.core.shapes import Shape, mismatch
from flowgen.core.trees import Refused, show_type

__all__ = ["is_record", "record_shape"]

Resolve = Callable[[Any], Shape]


@attrs.frozen
class Field:
    """One field: its attribute, its parameter of the class, its annotation; `required` when it has no default."""

    name: str
    parameter: str
    annotation: Any
    required: bool
    keyword: bool = True


def is_record(cls: Any) -> bool:
    """Whether `cls` is a class that this module can store."""
    return isinstance(cls, type) and (
        attrs.has(cls)
        or dataclasses.is_dataclass(cls)
        or _is_pydantic(cls)
        or typing_extensions.is_typeddict(cls)
        or _is_named_tuple(cls)
    )


def record_shape(cls: Any, arguments: Mapping[Any, Any], resolve: Resolve) -> Shape:
    """The shape of a record class; `arguments` are the values of its type parameters."""
    if _is_pydantic(cls):
        return _pydantic_shape(cls)
    hints = _hints(cls)
    if _is_named_tuple(cls):
        fields = [Field(name, name, hints.get(name, Any), name not in cls._field_defaults) for name in cls._fields]
        return _named_tuple_shape(cls, _resolved(fields, arguments, resolve))
    if typing_extensions.is_typeddict(cls):
        fields = [Field(name, name, hint, _is_required(cls, name, hint)) for name, hint in hints.items()]
        return _typed_dict_shape(cls, frozenset(hints), _resolved(fields, arguments, resolve))
    if attrs.has(cls):
        fields = [
            Field(each.name, each.alias or each.name, hints.get(each.name, Any), each.default is attrs.NOTHING)
            for each in attrs.fields(cls)
            if each.init
        ]
    else:
        fields = [
            Field(
                each.name,
                each.name,
                hints.get(each.name, Any),
                each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING,
            )
            for each in dataclasses.fields(cls)
            if each.init
        ]
    return _class_shape(cls, frozenset(each.name for each in fields), _resolved(fields, arguments, resolve))


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing_extensions.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise Refused(
            f"the annotations of {show_type(cls)} cannot be resolved ({type(error).__name__}: {error}): "
            "import what they name at run time, at module level"
        ) from None


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    origin = typing_extensions.get_origin(hint)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired):
        # The class does not see these in annotations that are strings.
        return origin is typing_extensions.Required
    return name in cls.__required_keys__


def _resolved(
    fields: list[Field], arguments: Mapping[Any, Any], resolve: Resolve
) -> Callable[[], list[tuple[Field, Shape]]]:
    # At the first use and not before: a record may name itself.
    done: list[tuple[Field, Shape]] = []

    def get() -> list[tuple[Field, Shape]]:
        nonlocal done
        if not done:
            made: list[tuple[Field, Shape]] = []
            for field in fields:
                try:
                    made.append((field, resolve(substitute(field.annotation, arguments))))
                except Refused as refused:
                    raise refused.at(field.name) from None
            done = made
        return done

    return get


def substitute(annotation: Any, arguments: Mapping[Any, Any]) -> Any:
    """Put the values of type parameters in the place of these."""
    if not arguments:
        return annotation
    if isinstance(annotation, typing.TypeVar):
        return arguments.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    return annotation[tuple(arguments.get(each, each) for each in parameters)]


def _construct(make: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return make(**arguments)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{name} refused its fields: {type(error).__name__}: {error}") from None


def _class_shape(cls: Any, names: frozenset[str], fields: Callable[[], list[tuple[Field, Shape]]]) -> Shape:
    name = show_type(cls)

    def lower(value: Any) -> Any:
        if type(value) is not cls:
            advice = f"; as {name} it would lose what it adds: name it in the annotation" * isinstance(value, cls)
            raise Refused(f"found {show_type(value)}, allowed: {name}{advice}")
        done: dict[str, Any] = {}
        field = None
        try:
            for field, shape in fields():
                member = getattr(value, field.name)
                done[field.name] = member if type(member) is shape.atom else shape.lower(member)
        except Refused as refused:
            raise (refused.at(field.name) if field is not None else refused) from None
        return done

    def lift(tree: Any) -> Any:
        return _construct(cls, _lift_fields(fields(), tree, name), name)

    return Shape(name, lower, lift, lambda value: isinstance(value, cls), frozenset({dict}), fields=names)


def _lift_fields(fields: list[tuple[Field, Shape]], tree: Any, name: str) -> dict[str, Any]:
    if type(tree) is not dict:
        raise mismatch(tree, f"an object with the fields of {name}")
    done: dict[str, Any] = {}
    for field, shape in fields:
        if field.name in tree:
            member = tree[field.name]
            try:
                done[field.parameter] = member if type(member) is shape.atom else shape.lift(member)
            except Refused as refused:
                raise refused.at(field.name) from None
        elif field.required:
            raise Refused(f"no value for the field {field.name!r} of {name}, which has no default").at(field.name)
    return done


def _typed_dict_shape(cls: Any, names: frozenset[str], fields: Callable[[], list[tuple[Field, Shape]]]) -> Shape:
    name = show_type(cls)

    def lower(value: Any) -> Any:
        if not isinstance(value, dict):
            raise mismatch(value, name)
        unknown = next((key for key in value if key not in names), None)
        if unknown is not None:
            raise Refused(f"found the key {ascii(unknown)[:60]}, allowed: the keys of {name}")
        done: dict[str, Any] = {}
        known = {field.name: (field, shape) for field, shape in fields()}
        for key, member in value.items():
            try:
                done[key] = known[key][1].lower(member)
            except Refused as refused:
                raise refused.at(key) from None
        for field, _ in known.values():
            if field.required and field.name not in done:
                raise Refused(f"the key {field.name!r} of {name} is missing").at(field.name)
        return done

    def lift(tree: Any) -> Any:
        done = _lift_fields(fields(), tree, name)
        # The order of the stored text is the author's.
        return {key: done[key] for key in tree if key in done}

    return Shape(name, lower, lift, lambda value: isinstance(value, dict), frozenset({dict}), fields=names)


def _named_tuple_shape(cls: Any, fields: Callable[[], list[tuple[Field, Shape]]]) -> Shape:
    name = show_type(cls)

    def lower(value: Any) -> Any:
        if not isinstance(value, cls):
            raise mismatch(value, name)
        done: list[Any] = []
        for (field, shape), member in zip(fields(), value, strict=True):
            try:
                done.append(shape.lower(member))
            except Refused as refused:
                raise refused.at(field.name) from None
        return done

    def lift(tree: Any) -> Any:
        if type(tree) is not list:
            raise mismatch(tree, f"a list of the fields of {name}")
        known = fields()
        if len(tree) > len(known):
            raise Refused(f"found {len(tree)} items, allowed: the {len(known)} fields of {name}")
        done: dict[str, Any] = {}
        for (field, shape), member in zip(known, tree, strict=False):
            try:
                done[field.name] = shape.lift(member)
            except Refused as refused:
                raise refused.at(field.name) from None
        return _construct(cls, done, name)

    return Shape(name, lower, lift, lambda value: isinstance(value, cls), frozenset({list}))


def _pydantic_shape(cls: Any) -> Shape:
    name = show_type(cls)

    def lower(value: Any) -> Any:
        if type(value) is not cls:
            raise mismatch(value, name)
        try:
            return value.model_dump(mode="json", by_alias=True, round_trip=True)
        except Exception as error:
            raise Refused(f"pydantic cannot write {name}: {error}") from None

    def lift(tree: Any) -> Any:
        try:
            # From text, for models that are strict about Python types.
            return cls.model_validate_json(json.dumps(tree))
        except Exception as error:
            raise Refused(f"pydantic refused {name}: {error}") from None

    fields = frozenset(each.alias or key for key, each in cls.model_fields.items())
    return Shape(name, lower, lift, lambda value: isinstance(value, cls), frozenset({dict}), fields=fields)


def _is_pydantic(cls: Any) -> bool:
    return hasattr(cls, "__pydantic_core_schema__") and hasattr(cls, "model_validate_json")


def _is_named_tuple(cls: Any) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")
