"""Rows as messages of Kafka topics."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ...clients.kafka import Connection
from ...component import Output, Writer
from ...context import Context
from ...duration import Duration
from ...runtime.threads import Workers
from ...sql.expression import Expr

TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_OWN = frozenset(
    {
        "enable.idempotence",
        "acks",
        "request.required.acks",
        "compression.codec",
        "compression.type",
        "compression.level",
        "linger.ms",
        "queue.buffering.max.ms",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "message.max.bytes",
        "transactional.id",
        "transaction.timeout.ms",
        "delivery.report.only.error",
        "partitioner",
    }
)
"""The settings of librdkafka that options stand for, or that nothing may change."""


class Kafka(Connection, Output, type="kafka"):
    """Send rows to topics of Kafka, one message each.

    A write returns when the servers have acknowledged every message. The producer is idempotent: what it sends again
    by itself is there once, and in order. `topic`, `key`, `partition` and `headers` are texts or SQL expressions for
    each row. Without a `codec` the cells of `__value__` are sent as they are, null as a tombstone; other rows as JSON.

    A message that is too large, a topic that does not exist or a partition that a topic does not have refuses that row
    alone. What is the matter with the servers, with rights or with a topic that is the same for all rows is waited for.

    With `exactly_once` each write is one transaction, which readers with `isolation.level=read_committed` see as a
    whole or not at all. With `checkpoint: output` in the stream as well, the positions of its `kafka` input are part of
    it: each message is there exactly once. Of several processes with one `transactional_id` the last to start wins, and
    the others stop; give each replica its own, for example from a variable. Without one the process makes up its own,
    and what a crash has left open is undone after `transaction_timeout`.

    Example::

        type: kafka
        brokers: ["127.0.0.1:9092"]
        topic: readings
        key: {type: expr, expr: "sensor"}
        compression: zstd
    """

    extra: ClassVar[str] = "kafka"

    topic: Expr
    """The topic."""
    key: Expr | None = None
    """The key of the message; null for none."""
    partition: Expr | None = None
    """The number of the partition; null, or no expression, for that of the key."""
    headers: dict[str, Expr] = {}
    """The headers, by name; one that is null is left out."""
    value_field: str | None = None
    """The column that is sent as it is, text or binary; null as a tombstone."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """How messages are compressed."""
    compression_level: int = Field(-1, ge=-1, le=12)
    """How hard, where the compression has levels; -1 for its default."""
    acks: Literal["all", "-1", "1", -1, 1] = "all"
    """Who must have a message: all replicas in sync, or the leader alone, which may lose it."""
    linger: Duration = Field(0.002, ge=0.0, le=60.0)
    """How long the producer waits for more messages before it sends some."""
    max_message_bytes: int = Field(1_000_000, ge=1000, le=1_000_000_000)
    """How large a message may be, with key and headers."""
    delivery_timeout: Duration = Field(30.0, ge=1.0)
    """How long a message may take to be acknowledged before the write is tried again."""
    partitioner: Literal["murmur2_random", "consistent_random", "random", "fnv1a_random"] = "murmur2_random"
    """How a key is turned into a partition; the default is that of Kafka's own clients."""
    exactly_once: bool = False
    """Whether each write is a transaction."""
    transactional_id: str | None = Field(None, min_length=1)
    """The name of the producer in transactions, one for each process that writes."""
    transaction_timeout: Duration = Field(60.0, ge=1.0)
    """After how long the servers undo a transaction that was left open."""

    refused_keys = {
        "offset_commit_group": "write `checkpoint: output` in the stream: then the group of its input is committed for",
    }

    @field_validator("acks", mode="before")
    @classmethod
    def _check_acks(cls, acks: Any) -> Any:
        if acks in ("0", 0):
            raise ValueError("0 would lose messages without a word; expected all or 1")
        return acks

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.refuse_settings(_OWN)
        if self.topic.constant is not None and not TOPIC.fullmatch(self.topic.constant):
            raise ValueError(f"topic: {self.topic.constant!r} is not the name of a topic: letters, digits, and . _ -")
        if self.value_field is not None and self.codec is not None:
            raise ValueError("`value_field` is sent as it is: expected no `codec` beside it")
        if self.transactional_id is not None and not self.exactly_once:
            raise ValueError("`transactional_id` is for `exactly_once: true`")
        if self.exactly_once and self.acks in ("1", 1):
            raise ValueError("`exactly_once` needs `acks: all`")
        return self

    def settings(self, transactional_id: str | None) -> dict[str, Any]:
        """Return the settings of librdkafka."""
        everybody = self.acks in ("all", "-1", -1)
        own = {
            "enable.idempotence": everybody,
            "acks": "all" if everybody else "1",
            "compression.type": self.compression,
            "compression.level": self.compression_level,
            "linger.ms": int(self.linger * 1000),
            "message.timeout.ms": int(self.delivery_timeout * 1000),
            "message.max.bytes": self.max_message_bytes,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "partitioner": self.partitioner,
        }
        if transactional_id is not None:
            timeout = int(self.transaction_timeout * 1000)
            own |= {"transactional.id": transactional_id, "transaction.timeout.ms": timeout}
            own["message.timeout.ms"] = min(timeout, int(self.delivery_timeout * 1000))
        return self.connection_settings(own)

    @property
    def call_timeout(self) -> float:
        """Seconds after which a call of the library hangs: it has limits of its own, but does not keep to all."""
        return self.delivery_timeout + 4 * self.request_timeout

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect, and look for the topic where it is the same for all rows."""
        from .transactions import TransactionalKafkaWriter
        from .writer import KafkaWriter

        workers = Workers("kafka", self.call_timeout)
        make = TransactionalKafkaWriter if self.exactly_once else KafkaWriter
        writer = make(self, context, workers)
        try:
            await writer.connect()
            yield writer
        finally:
            await writer.close()
            workers.close()
