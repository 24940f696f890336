"""A function may fork. The child has this process's connections and must never use them: it ends, or becomes another.

A child that returns from the function would go on as a second worker on the same connections, so it ends there. One
that calls `os._exit`, `os.exec...` or goes on inside the function, as those of `multiprocessing` do, is not touched.
"""

from __future__ import annotations

import os

__all__ = ["end_child"]

_forked: list[int] = []
"""The pid of this process last, when it was forked since this was imported."""


def end_child(worker: int) -> None:
    """Call when a function has returned: in a child of the process `worker` that is the end."""
    if _forked and _forked[-1] != worker:
        os._exit(0)


os.register_at_fork(after_in_child=lambda: _forked.append(os.getpid()))
