"""Ask whether the systems that an application needs answer, once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal

from ..clock import Clock
from ..errors import PenstockError
from .cache import Cache, SingleFlight

log = logging.getLogger("penstock")

PROBE_TTL = 1.0
"""Seconds for which the state of a system is believed, so that probes cannot wear it out."""
PROBE_TIMEOUT = 3.0
"""Seconds after which a system that does not answer is down."""

Condition = Literal["up", "down", "off"]
"""How a system is; ``off`` is one that is not configured."""


class Probes:
    """Look at several systems; ``checks`` raise for one that is down, and None stands for one that is off."""

    def __init__(
        self,
        checks: Mapping[str, Callable[[], Awaitable[None]] | None],
        *,
        ttl: float = PROBE_TTL,
        timeout: float = PROBE_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        self._checks, self._timeout = checks, timeout
        self._recent: Cache[str, Condition] = Cache(ttl=ttl, size=max(len(checks), 1), clock=clock)
        self._looking: SingleFlight[str, Condition] = SingleFlight(size=max(len(checks), 1))

    async def look(self) -> dict[str, Condition]:
        """Return how each system is; takes at most ``timeout`` seconds."""
        found: dict[str, Condition] = {
            name: "off" if check is None else self._recent.get(name) or "down" for name, check in self._checks.items()
        }
        asked = {
            name: self._looking.start(name, partial(self._look, name, check))
            for name, check in self._checks.items()
            if check is not None and self._recent.get(name) is None
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=self._timeout)
        return found | {name: call.result() for name, call in asked.items() if call.done()}

    async def _look(self, name: str, check: Callable[[], Awaitable[None]]) -> Condition:
        condition: Condition = "up"
        try:
            await check()
        except PenstockError as error:
            log.warning("%s is not ready: %s", name, error)
            condition = "down"
        except Exception:  # No connection of the pool is free, for example.
            log.warning("%s is not ready", name, exc_info=True)
            condition = "down"
        self._recent.put(name, condition)
        return condition
