"""Commands whose value is a fact that a replay must not make anew: Now, Uuid, Random.

They never read a clock or a source of randomness; whoever records the fact does.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command
from flowgen.core.options import CommandOptions

__all__ = ["Now", "Random", "Uuid"]


@attrs.frozen(eq=False, repr=False)
class Now(Command[datetime]):
    """The time of the database, recorded once."""

    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "now"
    stores = False


@attrs.frozen(eq=False, repr=False)
class Uuid(Command[UUID]):
    """A random UUID (version 4), recorded once."""

    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "uuid"
    stores = False


@attrs.frozen(eq=False, repr=False)
class Random(Command[float]):
    """A random float in [0, 1), recorded once."""

    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "random"
    stores = False
