"""Async functions: so many at a time, and a place that was taken is given back."""

from __future__ import annotations

import asyncio
from typing import Any

from flowgen import Step
from flowgen.core.decision import FunctionCall, Returned
from flowgen.worker.executor import Executor, RunningCall


def test_a_call_that_is_aborted_before_its_task_has_begun_gives_its_place_back() -> None:
    called: list[str] = []

    async def function(name: str) -> str:
        called.append(name)
        return name

    async def aborts() -> Any:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        executor = Executor(asyncio.get_running_loop(), threads=1, tasks=1, interrupted=lambda: None)

        def made(name: str) -> RunningCall:
            run: Any = None  # nobody asks for the context
            call = FunctionCall(name, Step(function, name), 1)
            return RunningCall(call, run, lambda _, result: ended.set_result(result), lambda _, report: None)

        first = made("first")
        executor.submit(first)
        executor.abort(first, "nobody wants it")
        executor.submit(made("second"))
        async with asyncio.timeout(5):
            result = await ended
        executor.close()
        assert executor.pending == 0
        return result

    assert asyncio.run(aborts()) == Returned("second")
    assert called == ["second"]
