"""Wait for what nobody tells of, for as long as it takes: a test that hangs is ended by its timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

T = TypeVar("T")

LOOK_INTERVAL = 0.005
"""Seconds between two looks."""


async def until(condition: Callable[[], T | Awaitable[T]]) -> T:
    """Return what ``condition`` returns, or what that awaits, once it is true."""
    while True:
        found = condition()
        value: T = await found if isawaitable(found) else found
        if value:
            return value
        await asyncio.sleep(LOOK_INTERVAL)
