"""A thread of one's own: for connections that block and must not be shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OwnThread:
    """Runs calls one after the other in one thread; leaving it waits for the last.

    A call whose caller is cancelled runs on to its end; the next one starts after it.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self._executor.shutdown))

    def start(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call and return its result to come."""
        return asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and return what it returns; if cancelled while it waits its turn, it does not run."""
        return await self.start(call, *args, **kwargs)
