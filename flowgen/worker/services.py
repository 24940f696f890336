"""The lifespan of an App's services: entered when a worker starts, left when it stops."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from typing import Any

from flowgen.errors import DefinitionError

__all__ = ["enter_services"]


async def enter_services(services: Any, stack: AsyncExitStack) -> Any:
    """What `ctx.services` is: a value as it is, what a context manager gives, or what a factory of either gives.

    Raises DefinitionError for a generator, which nobody would drive.
    """
    if inspect.isfunction(services) or inspect.ismethod(services) or inspect.isclass(services):
        services = services()
    if inspect.isawaitable(services):
        services = await services
    if inspect.isgenerator(services) or inspect.isasyncgen(services):
        cure = "@contextmanager" if inspect.isgenerator(services) else "@asynccontextmanager"
        raise DefinitionError(
            f"App(services=) gave the generator {services.__name__}: decorate it with {cure} of contextlib, so that "
            "what it yields is opened and closed with the worker"
        )
    if hasattr(services, "__aenter__"):
        return await stack.enter_async_context(services)
    if hasattr(services, "__enter__"):
        return stack.enter_context(services)
    return services
