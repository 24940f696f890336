"""Checkpoint: commit and continue, with progress or without.

Never merges: what is saved replaces what was. The invariant: one with data has no name, for it ends the segment that a
name would be in.
"""

from __future__ import annotations

from typing import Any, Self

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command
from flowgen.core.options import After, CommandOptions, JoinRule, When
from flowgen.errors import DefinitionError

__all__ = ["Checkpoint"]


@attrs.frozen(eq=False, repr=False)
class Checkpoint(Command[None]):
    """Commit and continue. With data it saves progress and closes the segment; bare it only commits."""

    cursor: Any = None
    items_processed: int | None = None
    accumulated_results: Any = None
    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "checkpoint"

    def __attrs_post_init__(self) -> None:
        count = self.items_processed
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise DefinitionError(f"Checkpoint(items_processed=) is how many items are done: 0 or more, not {count!r}")

    @property
    def has_data(self) -> bool:
        return not (self.cursor is None and self.items_processed is None and self.accumulated_results is None)

    @property
    def arguments(self) -> object:
        return [self.cursor, self.items_processed, self.accumulated_results]

    def _shown(self) -> list[str]:
        given = [self.cursor, self.items_processed, self.accumulated_results]
        while given and given[-1] is None:
            given.pop()
        return [repr(value) for value in given]

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
    ) -> Self:
        if self.has_data and name is not None:
            raise DefinitionError("a Checkpoint with data takes no name: it closes the segment that a name would be in")
        return super().opts(name=name, after=after, when=when, join=join)
