"""Threads: what their jobs came to is told on the loop, whatever one of those who are told does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from flowgen.worker.threads import Threads


def test_one_that_raises_when_it_is_told_takes_no_end_from_the_others() -> None:
    told: list[int] = []
    troubles: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: troubles.append(context["exception"]))
        all_told = asyncio.Event()
        ended = threading.Semaphore(0)

        def done(number: int, value: Any, error: BaseException | None) -> None:
            told.append(number)
            if len(told) == 4:
                all_told.set()
            if number % 2 == 0:
                raise ValueError(number)

        threads = Threads(1, loop)
        for number in range(4):
            threads.submit(lambda _: ended.release(), number, done)
        for _ in range(4):
            assert ended.acquire(timeout=10)
        await asyncio.wait_for(all_told.wait(), 10)
        threads.close()

    asyncio.run(main())
    assert told == [0, 1, 2, 3]
    assert [str(each) for each in troubles] == ["0", "2"]
