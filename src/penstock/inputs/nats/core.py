"""Messages that pass by: a subscription of core NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...clients.arrivals import Arrivals
from ...context import Context
from ...delivery import Delivery
from ...metadata import payloads
from .origin import origin

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

MAX_WAITING = 65_536
MAX_WAITING_SIZE = 64 << 20
"""Messages and bytes that wait to be read at most: NATS does not wait, so what comes then is lost."""


class CoreReader:
    """Reads what a subscription hands over."""

    def __init__(self, rows: int, linger: float, context: Context) -> None:
        self._arrivals: Arrivals[Msg] = Arrivals(rows, linger)
        self._context = context

    async def subscribe(self, client: Client, subject: str, queue: str) -> None:
        """Listen to a subject from now on."""
        await client.subscribe(
            subject,
            queue=queue,
            cb=self._arrivals.put_patiently,
            pending_msgs_limit=MAX_WAITING,
            pending_bytes_limit=MAX_WAITING_SIZE,
        )
        await client.flush()

    def lost(self, error: Exception) -> None:
        """End reading with ``error``, once what has arrived is read."""
        self._arrivals.fail(error)

    def failed(self, error: Exception) -> None:
        """Note what went wrong on the connection."""
        from nats.errors import SlowConsumerError

        if isinstance(error, SlowConsumerError):
            self._context.report_gap("messages came faster than they could be written, and NATS does not wait")

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        messages = await self._arrivals.take()
        return Delivery(payloads([message.data for message in messages]), (), origin(messages))
