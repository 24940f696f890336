"""Values and their JSON text: what is kept, what is refused, and how it is told."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest
from typing_extensions import TypeAliasType

from flowgen.core.codec import MAX_DEPTH, Codec, check_size, converter, decode, encode, structure
from flowgen.errors import CodecError

T = TypeVar("T")


class Color(enum.Enum):
    RED = "r"
    TWO = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Size(enum.StrEnum):
    BIG = "big"


@attrs.frozen
class Item:
    sku: str
    price: Decimal
    tags: set[str] = attrs.field(factory=set)
    _hidden: int = 0


@dataclasses.dataclass
class Order:
    id: UUID
    items: list[Item]
    parent: Order | None = None


@dataclasses.dataclass
class Bigger(Order):
    extra: int = 0


@attrs.frozen
class Page(Generic[T]):
    items: list[T]


@attrs.frozen
class Cat:
    kind: Literal["cat"]
    name: str


@attrs.frozen
class Dog:
    kind: Literal["dog"]
    name: str


@attrs.frozen
class Left:
    x: int


@attrs.frozen
class Right:
    x: int


@attrs.frozen
class Wide:
    x: int
    y: int = 0


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Movie(TypedDict):
    title: str
    at: NotRequired[date]


class Model(pydantic.BaseModel):
    name: str
    at: datetime
    tags: set[int] = pydantic.Field(default_factory=set, alias="labels")


class Positive(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    id: UUID
    count: int = pydantic.Field(gt=0)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


class Shouty(str):
    def __str__(self) -> str:
        return "never asked"


class Apart(str):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


UserId = NewType("UserId", int)
Ids = TypeAliasType("Ids", list[UUID])
U = UUID(int=7)


@pytest.mark.bad_input("B3", "B7", "B9", "B12", "B24")
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**63,
        10**40,
        1.0,
        1e22,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        "",
        "é☃😀",
        "\0",
        "\u2400",
        "\u24000",
        "\0\u24000\u2400\u2400",
        "\\u0000",
        "\\\0",
        {"\0": 1, "\u24000": 2, "\u2400": 3},
        {"b": 1, "a": [1, [2, {}]], "": None},
        {"$type": "os.system", "__class__": "x", "t": 1, "v": 2},
        [[]] * 30,
        list(range(100)),
        {str(number): number for number in range(100)},
    ],
)
def test_plain_values_come_back_exactly(value: object) -> None:
    text = encode(value)
    assert "\\u0000" not in text.replace("\\\\", "")
    back = decode(text)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert decode(text.encode()) == value


@pytest.mark.bad_input("B6", "B10", "B11", "B13")
@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (None, None),
        (None, type(None)),
        (5, int),
        (2.5, float),
        (Decimal("1.50"), Decimal),
        (Decimal("1E+400"), Decimal),
        (U, UUID),
        (b"\x00\xff", bytes),
        (b"", bytes),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-23, minutes=-59))), datetime),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=1, seconds=7))), datetime),
        (date(2026, 1, 31), date),
        (time(12, 30), time),
        (time(12, 30, tzinfo=UTC), time),
        (timedelta(0), timedelta),
        (timedelta(days=1), timedelta),
        (timedelta(hours=1, minutes=30, microseconds=5), timedelta),
        (timedelta(days=-1, microseconds=5), timedelta),
        (timedelta.max, timedelta),
        (Path("/a/b"), Path),
        (PurePosixPath("a"), PurePosixPath),
        (Color.TWO, Color),
        (Level.LOW, Level),
        (Size.BIG, Size),
        (Access.READ | Access.WRITE, Access),
        (Item("a", Decimal("1.5"), {"z", "a"}, 3), Item),
        (Order(U, [Item("a", Decimal(1))], Order(U, [])), Order),
        (Page([U]), Page[UUID]),
        (Page([Page([1])]), Page[Page[int]]),
        (Point(1, 2.5), Point),
        ({"title": "x", "at": date(2026, 1, 1)}, Movie),
        ({"title": "x"}, Movie),
        (Model(name="n", at=datetime(2026, 1, 1, tzinfo=UTC), labels={1, 2}), Model),
        (Positive(id=U, count=2), Positive),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ((), tuple[()]),
        ((1,), tuple),
        ({3, 1}, set[int]),
        (frozenset({U}), frozenset[UUID]),
        ({Color.RED}, set[Color]),
        ([U], Sequence[UUID]),
        (collections.deque([1]), collections.deque[int]),
        ({1: "a"}, dict[int, str]),
        ({None: 1}, dict[None, int]),
        ({True: 1, False: 2}, dict[bool, int]),
        ({1.5: 1}, dict[float, int]),
        ({U: [date(2026, 1, 1)]}, Mapping[UUID, list[date]]),
        ({Color.TWO: 1, Color.RED: 2}, dict[Color, int]),
        ({Size.BIG: 1}, dict[Size, int]),
        (collections.OrderedDict(b=1, a=2), collections.OrderedDict[str, int]),
        (collections.Counter("aab"), collections.Counter[str]),
        ("a", Literal["a", 1]),
        (5, UserId),
        (5, Annotated[int, "x"]),
        (5, Annotated[int, []]),
        ([U], Ids),
        ([1], list[T]),  # type: ignore[valid-type]
        (None, int | None),
        (5, int | None),
        (True, int | bool),
        (1, int | float),
        (1.0, int | float),
        ("abcd", bytes | str),
        (b"abcd", bytes | str),
        ("\0=abcd", bytes | str),
        (str(U), UUID | str),
        (U, str | UUID),
        (date(2026, 1, 1), datetime | date),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime | date),
        ("r", Color | str),
        (Color.RED, str | Color),
        (Cat("cat", "x"), Dog | Cat),
        (Wide(1), Left | Wide),
        (Left(1), Wide | Left),
        ([Left(1), 5, "x"], list[Left | int | str]),
        ([1, "a", None], list[Any]),
        ({"a": [1]}, dict[str, Any]),
        (5, object),
    ],
)
def test_annotated_values_come_back_as_their_type(value: object, annotation: object) -> None:
    back = decode(encode(value, annotation), annotation)
    assert back == value
    assert type(back) is type(value)


def test_stored_forms_are_readable() -> None:
    assert encode(timedelta(hours=1, minutes=30)) == '"PT1H30M"'
    assert encode(U) == '"00000000-0000-0000-0000-000000000007"'
    assert encode({"é": (1, Color.RED, Level.LOW)}) == '{"é":[1,"r",1]}'
    assert encode(Item("a", Decimal("1.50"), {"z", "b"})) == '{"sku":"a","price":"1.50","tags":["b","z"],"_hidden":0}'
    assert encode({3, 1, 2}, set[int]) == "[1,2,3]"
    assert encode(b"abc", bytes) == '"YWJj"'
    assert encode("a\0b") == '"a\u24000b"'


@pytest.mark.bad_input("B1", "B2", "B5", "B6", "B11", "B13")
@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"items": [1, 2, 3, {"price": math.nan}]}, "$.items[3].price", "float nan"),
        ([math.inf], "$[0]", "float inf"),
        ({"a": -math.inf}, "$.a", "float -inf"),
        ({"a b": Decimal("NaN")}, "$['a b']", "Decimal NaN"),
        ([datetime(2026, 1, 1)], "$[0]", "naive datetime"),
        (["\ud800"], "$[0]", "lone surrogate"),
        ({"\udc80": 1}, "$['\\udc80']", "lone surrogate"),
        ([{1, 2}], "$[0]", "set without an annotation"),
        ({"a": b"x"}, "$.a", "bytes without an annotation"),
        ({"a": bytearray(b"x")}, "$.a", "found bytearray"),
        ({"a": memoryview(b"x")}, "$.a", "found memoryview"),
        ({"a": (x for x in ())}, "$.a", "found generator"),
        ({"a": lambda: 0}, "$.a", "found function"),
        ({"a": object()}, "$.a", "found object"),
        ({"a": int}, "$.a", "found type"),
        ({"a": 1j}, "$.a", "found complex"),
        ({"a": range(3)}, "$.a", "found range"),
        ({"a": collections.deque([1j])}, "$.a[0]", "found complex"),
        ({"a": ValueError()}, "$.a", "found ValueError"),
        ({"a": {1: "x"}}, "$.a", "the key 1 is of type int"),
        ({None: 1}, "$", "the key None is of type NoneType"),
        ({True: 1, "True": 2}, "$", "the key True is of type bool"),
        ({"a": {(1, 2): "x"}}, "$.a", "of type tuple"),
        ([Order(U, [Item("a", Decimal("Infinity"))])], "$[0].items[0].price", "Decimal Infinity"),
        ([time(1, tzinfo=ZoneInfo("Europe/Berlin"))], "$[0]", "offset depends on the date"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_path(value: object, path: str, reason: str) -> None:
    with pytest.raises(CodecError) as caught:
        encode(value, what="Step charge's result")
    message = str(caught.value)
    assert message.startswith(f"Step charge's result cannot be stored at {path}: ")
    assert reason in message


@pytest.mark.bad_input("B1")
def test_a_socket_is_refused() -> None:
    with socket.socket() as opened, pytest.raises(CodecError, match="found socket.socket, which has no JSON form"):
        encode(opened)


@pytest.mark.bad_input("B8")
def test_an_integer_of_4300_digits_is_kept_and_a_longer_one_refused() -> None:
    longest = 10 ** (sys.get_int_max_str_digits() - 1)
    assert decode(encode(longest)) == longest
    for value in (longest * 10, [longest * 10]):
        with pytest.raises(CodecError, match="4300 digits are allowed"):
            encode(value)
    with pytest.raises(CodecError, match="Exceeds the limit"):
        decode("1" * 5000)


@pytest.mark.bad_input("B14")
@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner,)])
def test_a_value_at_the_greatest_depth_is_kept_and_a_deeper_one_refused(make: Any) -> None:
    value = make(1)
    for _ in range(MAX_DEPTH - 1):
        value = make(value)
    decode(encode(value))
    with pytest.raises(CodecError, match="nested deeper than 200"):
        encode(make(value))
    for _ in range(100_000):
        value = make(value)
    with pytest.raises(CodecError, match="deep"):
        encode(value)
    while value and value != 1:
        value = value["a"] if isinstance(value, dict) else value[0]


@pytest.mark.bad_input("B14")
def test_a_deep_tree_of_records_is_refused() -> None:
    for count in (250, 5000):
        order = Order(U, [])
        for _ in range(count):
            order = Order(U, [], order)
        with pytest.raises(CodecError, match="deep"):
            encode(order, Order)
        while order.parent is not None:
            order = order.parent


@pytest.mark.bad_input("B15")
def test_circular_values_are_refused() -> None:
    items: list[Any] = []
    items.append(items)
    table: dict[str, Any] = {"items": items}
    items.append(table)
    order = Order(U, [])
    order.parent = order
    for value in (items, table, order, [order]):
        with pytest.raises(CodecError, match="circular"):
            encode(value)


@pytest.mark.bad_input("B14", "B22")
def test_deep_text_is_an_error_of_ours() -> None:
    with pytest.raises(CodecError, match="too deep"):
        decode("[" * 200_000 + "]" * 200_000)


@pytest.mark.bad_input("B10", "B11")
@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (5, str, r"\$: found int, allowed: str"),
        ("5", int, r"\$: found str, allowed: int"),
        (None, int, "found NoneType, allowed: int"),
        (5, None, "found int, allowed: None"),
        (1.0, int, "found float, allowed: int"),
        ("abc", list[str], r"found str, allowed: list\[str\]"),
        ([1, "a"], list[int], r"\$\[1\]: found str, allowed: int"),
        ({"a": {"b": 1.5}}, dict[str, dict[str, int]], r"\$\.a\.b: found float"),
        ((1, 2, 3), tuple[int, str], r"found 3 items, allowed: 2"),
        ((1, 2), tuple[int, str], r"\$\[1\]: found int"),
        (Order("x", []), Order, r"\$\.id: found str, allowed: UUID"),  # type: ignore[arg-type]
        (Bigger(U, []), Order, "would lose what it adds"),
        ({"sku": "a"}, Item, "found dict, allowed: .*Item"),
        ("x", Literal["a", 1], "allowed: Literal"),
        (True, Literal[1], "allowed: Literal"),
        (Color.RED, Level, "allowed: .*Level"),
        (datetime(2026, 1, 1, tzinfo=UTC), date, "allowed: date"),
        ({1, "a"}, set[int | str], "no order"),
        ({None, 1}, set[int | None], "no order"),
        ([1], set[int], "found list, allowed: set"),
        ({1}, list[int], "found set, allowed: list"),
        ({1: 1, "1": 2}, dict[int | str, int], "the key 1 of type int would come back as '1'"),
        ({Apart("a"): 1, Apart("a"): 2}, dict[str, int], "two keys become the one JSON key"),
        ({Apart("a"): 1, Apart("a"): 2}, Any, "two keys become the one JSON key"),
        ({Left(1): 1}, dict[Left, int], "the key .* would come back as|is no JSON|found"),
        (Right(1), Left | Right, "would come back as .*Left"),
        (5.5, int | str, "found float, allowed: int | str"),
        (bytearray(b""), bytearray, "bytearray is not stored"),
        ({"title": "x", "year": 1}, Movie, "the key 'year'"),
        ({"at": date(2026, 1, 1)}, Movie, r"\$\.title: the key 'title' of .* is missing"),
        (Money(1), Money, "no rule for the annotation"),
        (5, "Nowhere", "names nothing that could be found"),
        (timedelta.min, timedelta, "no positive counterpart"),
        (5, tuple[int], "found int, allowed: tuple"),
        (5, dict[str, int], "found int, allowed: dict"),
        (5, Point, "found int, allowed: .*Point"),
        (Point("a", 1.0), Point, r"\$\.x: found str"),  # type: ignore[arg-type]
        (5, Movie, "found int, allowed: .*Movie"),
        ({"title": 5}, Movie, r"\$\.title: found int"),
        (5, Model, "found int, allowed: .*Model"),
        (time(12), datetime, "found datetime.time, allowed: datetime"),
        (Model(name="n\ud800", at=datetime(2026, 1, 1, tzinfo=UTC)), Model, "surrogate|pydantic"),
    ],
)
def test_a_value_of_another_type_than_annotated_is_refused(value: object, annotation: object, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode(value, annotation)


@pytest.mark.bad_input("B13", "B22")
@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ('{"sku":"a","price":1}', Item, r"\$\.price: found int, allowed: Decimal"),
        ('{"sku":"a"}', Item, r"\$\.price: no value for the field 'price'"),
        ("[]", Item, "found list"),
        ('{"id":"x","items":[]}', Order, r"\$\.id: found the text 'x', allowed: UUID"),
        ('{"items":["x"]}', Page[int], r"\$\.items\[0\]: found str, allowed: int"),
        ("[1]", Order | int, "found list, allowed"),
        ('"2026-01-01T00:00:00"', datetime, "naive datetime"),
        ('"P"', timedelta, "ISO 8601 duration"),
        ('"infinity"', datetime, "allowed: datetime"),
        ('"Infinity"', Decimal, "allowed: Decimal"),
        ('"%%"', bytes, "base64"),
        ('"blue"', Color, "a member of"),
        ("[1,2,3]", Point, "found 3 items"),
        ("[]", Point, "x"),
        ('{"a":1}', dict[int, int], "no valid JSON"),
        ('{"id":"00000000-0000-0000-0000-000000000007","count":0}', Positive, "(?s)pydantic refused .*greater than 0"),
        ("{}", list[int], "found dict, allowed"),
        ("{}", set[int], "found dict, allowed"),
        ("{}", tuple[int, str], "found dict, allowed"),
        ("[]", dict[str, int], "found list, allowed"),
        ('{"a":"x"}', dict[str, int], r"\$\.a: found str, allowed: int"),
        ("{}", Point, "found dict, allowed"),
        ('["a"]', Point, r"\$\.x: found str"),
        ("5", UUID, "found int, allowed: UUID"),
        ('"b"', Literal["a"], "allowed: Literal"),
        ("1e400", Any, "beyond the range"),
        ("NaN", Any, "NaN is no JSON"),
        ("-Infinity", Any, "is no JSON"),
        ("", Any, "no valid JSON"),
        ("{", Any, "no valid JSON"),
        ("1 2", Any, "no valid JSON"),
        (b"\xff", Any, "no UTF-8"),
    ],
)
def test_stored_text_that_does_not_fit_is_told_with_path_and_types(
    text: str | bytes, annotation: object, message: str
) -> None:
    with pytest.raises(CodecError, match=message) as caught:
        decode(text, annotation, what="input")
    assert str(caught.value).startswith("input cannot be read")


def test_a_class_that_refuses_its_fields_is_an_error_of_the_codec() -> None:
    @dataclasses.dataclass
    class Grumpy:
        x: int

        def __post_init__(self) -> None:
            raise RuntimeError("no")

    with pytest.raises(CodecError, match=r"Grumpy refused its fields: RuntimeError: no"):
        decode('{"x":1}', Grumpy)


def test_annotations_of_a_class_that_cannot_be_resolved_are_told() -> None:
    @dataclasses.dataclass
    class Lost:
        x: Nowhere  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(CodecError, match="annotations of .*Lost cannot be resolved .*Nowhere"):
        encode(Lost(1), Lost)


@pytest.mark.bad_input("B42")
def test_a_value_is_handed_out_fresh() -> None:
    text = encode({"a": [1]})
    first, second = decode(text), decode(text)
    first["a"].append(2)
    assert second == {"a": [1]}


@pytest.mark.bad_input("B20")
def test_later_mutation_is_not_stored() -> None:
    value = {"a": [1]}
    text = encode(value)
    value["a"].append(2)
    assert decode(text) == {"a": [1]}


@pytest.mark.bad_input("B10")
def test_what_is_unannotated_is_the_same_on_every_replay() -> None:
    for value in ((1, (2, 3)), Point(1, 2.0), Item("a", Decimal(1)), Level.LOW, Shouty("x"), {"k": Size.BIG}, [U]):
        live = decode(encode(value))
        assert decode(encode(live)) == live
        assert encode(live) == encode(value)
    assert encode(Shouty("x")) == '"x"'
    assert encode({Size.BIG: 1}) == '{"big":1}'


def test_a_plain_annotation_seen_before_does_not_change_what_is_unannotated() -> None:
    encode({1}, set)
    encode(b"", bytes)
    for value in ({1}, b""):
        with pytest.raises(CodecError, match="without an annotation"):
            encode(value)


def test_members_of_a_union_are_found_in_any_order_of_writing() -> None:
    for left, right in ((UUID, str), (bytes, str), (Left, Wide), (Color, str), (int, float)):
        for annotation in (list[left | right], list[right | left]):
            assert decode(encode([], annotation), annotation) == []
    assert decode('"r"', str | Color) is Color.RED
    assert decode('"r"', Color | str) is Color.RED


def test_records_of_older_code_are_read_by_the_class_that_they_fit_best() -> None:
    assert decode('{"x":1}', Wide) == Wide(1)
    assert decode('{"x":1,"gone":2}', Left) == Left(1)
    assert decode('{"x":1,"y":2}', Left | Wide) == Wide(1, 2)


@pytest.mark.bad_input("B21")
def test_a_registered_hook_stores_a_type_of_the_users() -> None:
    class Coin(Money):
        pass

    converter.register_unstructure_hook(Coin, lambda coin: {"cents": coin.cents})
    converter.register_structure_hook(Coin, lambda tree, _: Coin(tree["cents"]))
    assert encode([Coin(5)], list[Coin]) == '[{"cents":5}]'
    assert decode('[{"cents":5}]', list[Coin]) == [Coin(5)]
    assert encode({"a": Coin(5)}) == '{"a":{"cents":5}}'
    with pytest.raises(CodecError, match=r"\$\[0\]: the structure hook of .*Coin failed: KeyError"):
        decode("[{}]", list[Coin])


@pytest.mark.bad_input("B21")
def test_a_hook_that_gives_what_is_no_json_is_refused() -> None:
    class Bad:
        pass

    converter.register_unstructure_hook(Bad, lambda _: object())
    converter.register_structure_hook(Bad, lambda tree, _: Bad())
    with pytest.raises(CodecError, match="found object, which has no JSON form"):
        encode(Bad(), Bad)


@pytest.mark.bad_input("B21")
def test_a_type_whose_hooks_are_not_symmetric_is_refused_when_it_is_stored() -> None:
    class Rounded(Money):
        def __repr__(self) -> str:
            return f"Rounded({self.cents})"

    class Write(Money):
        pass

    class Once:
        def __init__(self, n: int) -> None:
            self.n = n

    converter.register_unstructure_hook(Rounded, lambda money: money.cents // 100)
    converter.register_structure_hook(Rounded, lambda tree, _: Rounded(tree * 100))
    converter.register_unstructure_hook(Write, lambda money: [money.cents])
    converter.register_structure_hook(Write, lambda tree, _: Write(tree["cents"]))
    converter.register_unstructure_hook(Once, lambda once: once.n)
    converter.register_structure_hook(Once, lambda tree, _: Once(tree))
    assert decode(encode(Rounded(500), Rounded), Rounded) == Rounded(500)
    with pytest.raises(CodecError) as lossy:
        encode([Rounded(550)], list[Rounded], what="the result of pay")
    assert re.fullmatch(
        r"the result of pay cannot be stored at \$\[0\]: the hooks of .*Rounded are not symmetric: Rounded\(550\) w"
        r"ould come back as Rounded\(500\); the structure hook has to give what the unstructure hook was given",
        str(lossy.value),
    )
    with pytest.raises(
        CodecError, match=r"cannot be stored at \$: the structure hook of .*Write failed: TypeError: list"
    ):
        encode(Write(1), Write)
    assert decode(encode(Once(1), Once), Once).n == 1, "a type without an equality of its own is taken at its word"


def test_parsed_json_is_structured() -> None:
    assert structure({"sku": "a", "price": "1"}, Item) == Item("a", Decimal(1))
    with pytest.raises(CodecError, match=r"^payload cannot be read at \$\.sku: found int, allowed: str$"):
        structure({"sku": 1, "price": "1"}, Item, what="payload")


def test_space_around_stored_text_is_allowed() -> None:
    assert decode(' {"a" : 1}\n') == {"a": 1}


def test_escapes_written_by_others_are_read() -> None:
    assert decode('"\\u24000"') == "\0"
    assert decode('"\\u0000"') == "\0"
    assert decode('"\u2400x"') == "\u2400x"


@pytest.mark.bad_input("B16")
def test_a_text_warns_over_one_size_and_is_refused_over_another() -> None:
    assert not check_size("x" * 10, what="input", warn=10, limit=20)
    assert check_size("x" * 11, what="input", warn=10, limit=20)
    assert check_size("é" * 6, what="input", warn=10, limit=20)
    with pytest.raises(CodecError, match="input is 22 bytes of JSON, over the limit of 20"):
        check_size("é" * 11, what="input", warn=10, limit=20)
    with pytest.raises(
        CodecError, match="input is 11 bytes of JSON, over the limit of 10: store it elsewhere and pass"
    ):
        check_size("x" * 11, what="input", limit=10)


def test_a_limit_far_below_the_warning_holds() -> None:
    with pytest.raises(CodecError, match="the limit of 20"):
        check_size("x" * 21, what="input", limit=20)


def test_a_codec_is_anything_with_both_directions() -> None:
    class Reverse:
        def encode(self, text: str) -> str:
            return text[::-1]

        def decode(self, text: str) -> str:
            return text[::-1]

    codec: Codec = Reverse()
    assert decode(codec.decode(codec.encode(encode({"a": 1})))) == {"a": 1}
