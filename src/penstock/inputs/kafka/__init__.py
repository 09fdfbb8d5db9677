"""Messages of Kafka topics, read as a member of a consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...clients.kafka import Connection
from ...clients.kafka.options import Names
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration

_OWN = frozenset(
    {
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "partition.assignment.strategy",
        "enable.partition.eof",
        "isolation.level",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "fetch.min.bytes",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "max.partition.fetch.bytes",
        "fetch.wait.max.ms",
        "allow.auto.create.topics",
    }
)
"""The settings of librdkafka that options stand for, or that nothing may change."""


class Kafka(Connection, Input, type="kafka"):
    """Read topics of Kafka as a member of a consumer group.

    Up to `batch_max_rows` messages of all partitions travel together. Without a `codec` a row is a payload; a message
    without one (a tombstone) is a row of nulls. `__meta_partition`, `__meta_offset`, `__meta_key` and
    `__meta_timestamp` are those of the message, and `__meta_ext` has its `topic` and its headers, by their names.

    The group keeps the positions: of each partition, what is settled without a gap is committed. When a partition is
    taken away, what is in flight is settled first, for up to 10 seconds; nothing of it is committed afterwards, and
    its new owner reads on behind it. With `checkpoint: output` the output keeps the positions in the transaction of
    its rows, so that each row is there exactly once; an output to the same Kafka commits them to the group. If
    partitions are lost then while their rows are in flight, the stream starts anew from what is committed.

    Where the servers are away it connects again by itself, for as long as it takes, and the health page says so.
    Where messages were deleted before they were read, that is reported as a gap.

    Example::

        type: kafka
        brokers: ["127.0.0.1:9092"]
        topics: [readings]
        consumer_group: penstock
        codec: json
    """

    extra: ClassVar[str] = "kafka"

    topics: Names
    """The topics; one that begins with `^` is a pattern for their names."""
    consumer_group: str = Field(min_length=1)
    """The group, whose members share the partitions and whose positions the servers keep."""
    start_from_latest: bool = False
    """Whether a group without positions begins with what comes from now on, not with the oldest message there is."""
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """Whether messages of transactions that are not committed are left out."""
    batch_max_rows: int = Field(8192, ge=1, le=1_000_000)
    """How many messages travel together at most."""
    batch_max_bytes: int = Field(8 << 20, ge=1)
    """How many bytes of payloads travel together at most, unless one message is larger."""
    batch_linger: Duration = Field(0.01, ge=0.0, le=10.0)
    """How long a batch waits for more once it has a message."""
    session_timeout: Duration = Field(45.0, ge=1.0)
    """After how long without a sign of life the servers give its partitions to other members."""
    max_poll_interval: Duration = Field(300.0, ge=1.0)
    """How long a rebalance waits for this member."""
    group_instance_id: str | None = None
    """A name of this member that outlives a restart, so that a short one moves no partitions (static membership)."""
    fetch_min_bytes: int = Field(1, ge=1)
    """How many bytes a server waits for before it answers."""
    fetch_max_bytes: int = Field(52_428_800, ge=1)
    """How many bytes a server answers with at most."""
    fetch_max_partition_bytes: int = Field(1_048_576, ge=1)
    """How many bytes of one partition an answer holds at most."""
    fetch_wait_max_ms: int = Field(500, ge=0, le=300_000)
    """How many milliseconds a server waits for `fetch_min_bytes`."""

    refused_keys = {
        "transactional_offsets": "write `checkpoint: output` in the stream: then the output commits the positions",
    }

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.refuse_settings(_OWN)
        if self.fetch_wait_max_ms + 1000 > self.request_timeout * 1000:
            raise ValueError("`fetch_wait_max_ms` must be at least a second shorter than `request_timeout`")
        if self.session_timeout > self.max_poll_interval:
            raise ValueError("`session_timeout` must not be longer than `max_poll_interval`")
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of librdkafka."""
        static = {"group.instance.id": self.group_instance_id} if self.group_instance_id else {}
        return self.connection_settings(
            {
                "group.id": self.consumer_group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # so that what is gone is told
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.partition.eof": True,
                "isolation.level": self.isolation_level,
                "session.timeout.ms": int(self.session_timeout * 1000),
                "heartbeat.interval.ms": min(3000, int(self.session_timeout * 1000) // 3),
                "max.poll.interval.ms": int(self.max_poll_interval * 1000),
                "fetch.min.bytes": self.fetch_min_bytes,
                "fetch.max.bytes": max(self.fetch_max_bytes, self.fetch_max_partition_bytes),
                "max.partition.fetch.bytes": self.fetch_max_partition_bytes,
                "fetch.wait.max.ms": self.fetch_wait_max_ms,
                "allow.auto.create.topics": False,
                **static,
            }
        )

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and look for the topics; it joins the group when it is first read."""
        from .reader import KafkaReader

        async with KafkaReader(self, context) as reader:
            yield reader
