"""What is published while it listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from pydantic import SecretStr

from ...clients.arrivals import Arrivals
from ...clients.redis import classify_error
from ...delivery import Delivery
from ...errors import ConnectionLost
from ...metadata import Origin, payloads

PING_INTERVAL = 2.0
"""Seconds of silence after which the server is asked whether it is still there."""


class PublishedReader:
    """Reads what a subscription hands over."""

    def __init__(self, client: Any, url: SecretStr, rows: int, linger: float, timeout: float) -> None:
        self._client, self._url, self._timeout = client, url, timeout
        self._arrivals: Arrivals[tuple[str, bytes]] = Arrivals(rows, linger)

    @asynccontextmanager
    async def listening(self, names: Sequence[str], are_patterns: bool) -> AsyncIterator[None]:
        """Listen until the end."""
        subscription = self._client.pubsub()
        try:
            await (subscription.psubscribe if are_patterns else subscription.subscribe)(*names)
            listening = asyncio.ensure_future(self._listen(subscription))
        except Exception as error:
            raise classify_error(error, self._url) from None
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            await subscription.aclose()

    async def _listen(self, subscription: Any) -> None:
        heard_at = monotonic()
        try:
            while True:
                message = await subscription.get_message(timeout=PING_INTERVAL)
                if message is not None:
                    heard_at = monotonic()
                    if message["type"] in ("message", "pmessage"):
                        channel = message["channel"].decode(errors="replace")
                        await self._arrivals.put_patiently((channel, message["data"]))
                elif monotonic() - heard_at > self._timeout:
                    raise ConnectionLost(f"nothing was heard for {self._timeout:g} s")
                else:
                    await subscription.ping()
        except Exception as error:
            self._arrivals.fail(classify_error(error, self._url))

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        messages = await self._arrivals.take()
        known = {channel: {"channel": channel} for channel in {channel for channel, _ in messages}}
        ext: Mapping[str, str] | list[Mapping[str, str]]
        ext = next(iter(known.values())) if len(known) == 1 else [known[channel] for channel, _ in messages]
        return Delivery(payloads([data for _, data in messages]), (), Origin("redis", ext=ext))
