"""From messages to rows: payloads, and the metadata for those who read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ...metadata import EXT, SCHEMA, VALUE, Origin

if TYPE_CHECKING:
    from confluent_kafka import Message

_PAYLOADS = pa.schema([pa.field(VALUE, pa.binary())])
_MS = 1_000_000
"""Nanoseconds of a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class MessageOrigin(Origin):
    """Where messages came from; what of it is columns is made only for those who read it."""

    messages: Sequence[Message] = ()
    """The messages, one a row."""

    def columns(self, rows: int) -> list[pa.Array]:
        """Return the metadata, in the order of ``metadata.SCHEMA``."""
        messages = self.messages
        return [
            pa.repeat(pa.scalar(self.source), rows),
            pa.array([message.partition() for message in messages], pa.uint32()),
            pa.array([message.offset() for message in messages], pa.uint64()),
            pa.array([message.key() for message in messages], pa.binary()),
            pa.array([_timestamp(message) for message in messages], pa.timestamp("ns")),
            pa.repeat(pa.scalar(self.ingest_time, pa.timestamp("ns")), rows),
            pa.array([_ext(message) for message in messages], SCHEMA.field(EXT).type),
        ]


def payloads(messages: Sequence[Message]) -> pa.RecordBatch:
    """Return the payloads, one a row; null for a tombstone."""
    values = pa.array([message.value() for message in messages], pa.binary())
    return pa.RecordBatch.from_arrays([values], schema=_PAYLOADS)


def parts(messages: Sequence[Message], max_bytes: int) -> Iterator[list[Message]]:
    """Part messages so that the payloads of each part fit into ``max_bytes``, or are one."""
    sizes = [len(message) for message in messages]
    if sum(sizes) <= max_bytes:
        yield list(messages)
        return
    start = held = 0
    for index, size in enumerate(sizes):
        if index > start and held + size > max_bytes:
            yield list(messages[start:index])
            start, held = index, 0
        held += size
    yield list(messages[start:])


def _timestamp(message: Message) -> int | None:
    kind, at = message.timestamp()
    return at * _MS if kind else None


def _ext(message: Message) -> list[tuple[str, str]]:
    told = {"topic": message.topic() or ""}
    headers: Any = message.headers() or ()
    for name, value in headers:  # of several with one name the last counts, as elsewhere in Kafka
        told[name if name != "topic" else "header.topic"] = (value or b"").decode("utf-8", "backslashreplace")
    return list(told.items())
