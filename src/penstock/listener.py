"""HTTP listeners shared by everything in this process that serves at the same address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Asgi: TypeAlias = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Listeners:
    """One HTTP server for each address, started with its first route and stopped with its last."""

    @asynccontextmanager
    async def mount(self, address: str, path: str, app: Asgi) -> AsyncIterator[int]:
        """Serve ``app`` at ``path`` of ``host:port`` while open; yields the port, which port 0 leaves to the system.

        ``path`` may have parts like ``{table}``, found in ``scope["path_params"]``.
        Raises ConnectionLost if the address cannot be bound, ConfigError if the path is taken.
        """
        yield 0
