"""A network that breaks at random: a worker's request does not arrive, or its answer does not.

Those of worker programs, of clients and of Transactions arrive as always. What is lost is drawn from a seed.
"""

from __future__ import annotations

import random
from typing import Any

from flowgen.errors import DatabaseError
from flowgen.worker.link import Link

__all__ = ["break_links"]


def break_links(share: float, seed: int) -> None:
    """Let each request of a worker of this process be lost with this probability, half of them after they were done."""
    draw = random.Random(seed)
    call = Link.call

    async def broken(link: Link, op: Any) -> Any:
        lost = draw.random()
        if lost < share / 2:
            op.close()
            raise DatabaseError("the server closed the connection unexpectedly", transient=True)
        answer = await call(link, op)
        if lost < share:
            raise DatabaseError("the server closed the connection unexpectedly", transient=True)
        return answer

    Link.call = broken  # type: ignore[method-assign]
