"""A rule of the store: what has to hold, and the store with the rule taken out, where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import attrs
import pytest

from flowgen.errors import DatabaseError
from tests.integration.postgres.store import Store

EXPECTED = {"40P01", "57014", "22P05"}
"""Deadlock, a wait beyond the statement's timeout, a text that jsonb does not take."""

Check = Callable[[Store], None]
Without = Callable[[Store], AbstractContextManager[None]]


@attrs.frozen
class Rule:
    """`check` holds of the store as it is, and is seen to fail while the rule is taken out."""

    check: Check
    without: Without
    since: int = 14
    """The server on which taking it out does harm."""

    def holds(self, store: Store) -> None:
        self.check(store)

    def is_needed(self, store: Store) -> None:
        if store.conn.info.server_version < self.since * 10_000:
            pytest.skip(f"harmless before PostgreSQL {self.since}")
        with self.without(store), pytest.raises((AssertionError, DatabaseError)) as seen:
            self.check(store)
        if isinstance(seen.value, DatabaseError):  # and not a mistake in how the rule was taken out
            assert seen.value.sqlstate in EXPECTED, seen.value
        print(f"without the rule: {str(seen.value).splitlines()[0]}")  # shown by pytest -s


def proofs_of(rules: Mapping[str, Rule]) -> tuple[Callable[[Store, str], None], Callable[[Store, str], None]]:
    """Two tests for each rule, named by what is guaranteed."""

    @pytest.mark.parametrize("name", rules)
    def test_guarantee(store: Store, name: str) -> None:
        rules[name].holds(store)

    @pytest.mark.parametrize("name", rules)
    def test_without_the_rule_it_fails(store: Store, name: str) -> None:
        rules[name].is_needed(store)

    return test_guarantee, test_without_the_rule_it_fails
