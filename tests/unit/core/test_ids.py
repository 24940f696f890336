"""What UUIDs of runs promise."""

from __future__ import annotations

from hashlib import sha256
from uuid import RFC_4122, UUID

import pytest

from flowgen.core.ids import ENTROPY, uuid7, uuid7s, uuid_of_id


def test_a_uuid7_has_its_version_its_variant_and_its_time() -> None:
    made = uuid7(0x0123456789AB, bytes(range(ENTROPY)))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == 0x0123456789AB


@pytest.mark.parametrize("entropy", [bytes(ENTROPY), b"\xff" * ENTROPY])
def test_entropy_never_touches_version_variant_or_time(entropy: bytes) -> None:
    for milliseconds in (0, 1, (1 << 48) - 1):
        made = uuid7(milliseconds, entropy)
        assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, milliseconds)


def test_all_74_random_bits_are_used() -> None:
    zero = uuid7(1, bytes(ENTROPY)).int
    ones = uuid7(1, b"\xff" * ENTROPY).int
    assert (zero ^ ones).bit_count() == 74


def test_uuid7s_sort_by_time() -> None:
    assert uuid7(1, b"\xff" * ENTROPY) < uuid7(2, bytes(ENTROPY))


@pytest.mark.parametrize("word", [0, (1 << 64) - 1])
def test_uuid7s_of_one_time_sort_in_the_order_of_the_list_whatever_their_randomness(word: int) -> None:
    made = uuid7s(5, [word ^ (-(at % 2) & (1 << 64) - 1) for at in range(5000)])
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    assert {each.int >> 80 for each in made} == {5, 6}


@pytest.mark.parametrize(("milliseconds", "entropy"), [(-1, bytes(10)), (1 << 48, bytes(10)), (1, bytes(9))])
def test_a_time_or_entropy_that_does_not_fit_is_refused(milliseconds: int, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="uuid7 takes"):
        uuid7(milliseconds, entropy)


def test_the_uuid_of_an_id_is_the_hash_of_schema_and_id_in_version_8() -> None:
    made = uuid_of_id("flowgen", "order-o-1")
    assert (made.version, made.variant) == (8, RFC_4122)
    digest = bytearray(sha256(b"flowgen\x1forder-o-1").digest()[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    assert made == UUID(bytes=bytes(digest))


def test_the_uuid_of_an_id_never_changes() -> None:
    assert str(uuid_of_id("flowgen", "order-o-1")) == "22de517d-926f-8496-988f-9c19205aa709"


def test_schemas_do_not_share_ids() -> None:
    assert uuid_of_id("a", "x") != uuid_of_id("b", "x")
    assert uuid_of_id("a", "x") != uuid_of_id("a", "y")
