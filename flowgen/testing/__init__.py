"""What serves the tests of programs that use flowgen: no database, no sleeps, the same core as in production."""

from flowgen.testing.contexts import context
from flowgen.testing.driven import Driven
from flowgen.testing.driving import drive
from flowgen.testing.manual import Manual
from flowgen.testing.replaying import replay
from flowgen.testing.simulated import Called, Simulated
from flowgen.testing.simulating import simulate

__all__ = ["Called", "Driven", "Manual", "Simulated", "context", "drive", "replay", "simulate"]
