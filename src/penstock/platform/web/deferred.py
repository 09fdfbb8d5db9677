"""An ASGI application that is made with the first request to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...serving.asgi import Asgi, Receive, Scope, Send


class Deferred:
    """Make an application in a thread once somebody asks for it, so that its packages cost nothing before."""

    def __init__(self, make: Callable[[], Asgi]) -> None:
        self._make = make
        self._making: asyncio.Task[Asgi] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; the first ones wait until the application is made."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        app = await asyncio.shield(self._making)
        scope["root_path"] = ""  # the routes of the API are whole paths, wherever they are mounted
        await app(scope, receive, send)
