"""Where messages of AMQP came from, for those who read the metadata."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ...metadata import EXT, SCHEMA, Origin

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

_PROPERTIES = {
    "content_type": "content_type",
    "content_encoding": "content_encoding",
    "correlation_id": "correlation_id",
    "reply_to": "reply_to",
    "expiration": "expiration",
    "message_id": "message_id",
    "message_type": "type",
    "user_id": "user_id",
    "app_id": "app_id",
    "priority": "priority",
    "delivery_mode": "delivery_mode",
}
"""Properties as the client calls them, and as they are called here."""
_SECOND = 1_000_000_000
_MAX_SECONDS = (1 << 63) // _SECOND


@dataclass(frozen=True, slots=True, eq=False)
class MessageOrigin(Origin):
    """Where messages came from; what of it is columns is made only for those who read it."""

    messages: Sequence[DeliveredMessage] = ()
    """The messages, one a row."""
    queue: str = ""
    """The queue that they were read from."""

    def columns(self, rows: int) -> list[pa.Array]:
        """Return the metadata, in the order of ``metadata.SCHEMA``."""
        return [
            pa.repeat(pa.scalar(self.source), rows),
            pa.repeat(pa.scalar(self.partition, pa.uint32()), rows),
            pa.nulls(rows, pa.uint64()),
            pa.array([(message.routing_key or "").encode() for message in self.messages], pa.binary()),
            pa.array([_timestamp(message) for message in self.messages], pa.timestamp("ns")),
            pa.repeat(pa.scalar(self.ingest_time, pa.timestamp("ns")), rows),
            pa.array([list(self._describe(message).items()) for message in self.messages], SCHEMA.field(EXT).type),
        ]

    def _describe(self, message: DeliveredMessage) -> dict[str, str]:
        properties = message.header.properties
        found = ((ours, getattr(properties, theirs)) for theirs, ours in _PROPERTIES.items())
        told = {name: str(value) for name, value in found if value is not None}
        told["queue"], told["exchange"] = self.queue, message.exchange or ""
        told["routing_key"] = message.routing_key or ""
        told["redelivered"] = "true" if message.redelivered else "false"
        for name, value in (properties.headers or {}).items():
            told[f"header.{name}" if name in told else name] = _text(value)
        return told


def _timestamp(message: DeliveredMessage) -> int | None:
    at = message.header.properties.timestamp
    seconds = int(at.timestamp()) if isinstance(at, datetime.datetime) else None
    return seconds * _SECOND if seconds is not None and abs(seconds) < _MAX_SECONDS else None


def _text(value: Any) -> str:
    """Return a value of a header as text: tables and lists as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return json.dumps(value, default=_text)
