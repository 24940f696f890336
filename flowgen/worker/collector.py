"""The garbage collector of a process that is a worker and nothing else."""

from __future__ import annotations

import gc

__all__ = ["calm"]

GENERATIONS = (50_000, 20, 50)
"""How many more objects than before, and how many looks at the younger ones, set the collector going."""


def calm() -> None:
    """Let it look seldom, and not at what the imports made.

    A run that ends leaves nothing that only the collector can free, but thousands of live ones are what it would look
    at again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GENERATIONS)
