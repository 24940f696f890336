"""Patch: asks whether a run has come to a change of its code, or is past it already.

Never decides: whoever has the history does. The invariant: its kind and id alone make its fingerprint.
"""

from __future__ import annotations

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command, set_field
from flowgen.core.names import check_name
from flowgen.core.options import CommandOptions

__all__ = ["Patch"]


@attrs.frozen(init=False, eq=False, repr=False)
class Patch(Command[bool]):
    """Guard a change of code: True for a run that comes to it first, False for one whose history is past it."""

    change: str
    options: CommandOptions
    kind = "patch"
    stores = False
    guards = True

    def __init__(self, change: str, /) -> None:
        set_field(self, "change", check_name(change, "the id of a change"))
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.change

    @property
    def default_name(self) -> str:
        return f"patch:{self.change}"

    def _shown(self) -> list[str]:
        return [repr(self.change)]
