"""Time windows: when runs of a definition are worked at; one without a row, at any time.

    declare(names, windows) -> Op[None]              at a worker's start: those of its own definitions, and nothing else

Claims heed them, `claims.hold` takes ready runs of closed ones out of the way, `claims.put_back` gives them back, and
`care.look` names the closed ones. The invariant: only the database says what is open, so that all workers agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from flowgen.core.windows import Window
from flowgen.postgres.database import Op, Statement

__all__ = ["declare"]


def declare(windows: Mapping[str, Sequence[Window]]) -> Op[None]:
    """Make these the windows of each of these definitions; those of all others stay as they are."""
    rows = [
        {"name": name, "number": number, "opens": each.opens, "closes": each.closes, "timezone": each.timezone}
        for name, several in windows.items()
        for number, each in enumerate(several, start=1)
    ]
    yield Statement("windows_declare", {"names": sorted(windows), "windows": json.dumps(rows)})
