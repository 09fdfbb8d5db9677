"""Read from Redis: streams, lists, and what is published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...clients.identity import client_name
from ...clients.redis import Cluster, Mode, Single, opened
from ...clients.tls import Tls
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from ...options import Options
from .entries import StreamSource
from .fetching import Fetching
from .lists import ListSource
from .published import PublishedReader


class Channels(Options):
    """Channels by name."""

    type: Literal["channels"] = "channels"
    """Whether names or patterns are given."""
    channels: Sequence[str] = Field(min_length=1)
    """The channels."""


class Patterns(Options):
    """Channels by pattern."""

    type: Literal["patterns"] = "patterns"
    """Whether names or patterns are given."""
    patterns: Sequence[str] = Field(min_length=1)
    """The patterns, in which `*` stands for any characters and `?` for one."""


class Subscribe(Options):
    """What is published while it listens."""

    type: Literal["subscribe"] = "subscribe"
    """What is read."""
    subscribe: Annotated[Channels | Patterns, Field(discriminator="type")]
    """The channels to listen to."""


class Lists(Options):
    """The elements of lists, which are taken from their heads."""

    type: Literal["list"] = "list"
    """What is read."""
    list: Sequence[str] = Field(min_length=1)
    """The keys of the lists."""


class Streams(Options):
    """The entries of streams, shared by the members of a consumer group."""

    type: Literal["stream"] = "stream"
    """What is read."""
    streams: Sequence[str] = Field(min_length=1)
    """The keys of the streams; those that are not there are made."""
    group: str = Field("penstock", min_length=1)
    """The consumer group, which is made unless it is there."""
    consumer: str | None = Field(None, min_length=1)
    """The name among the members of the group; by default one that belongs to this stream and its folder of data."""
    start: Literal["all", "new"] = "all"
    """Where a group that is made begins: with the first entry or with the next."""
    field: str | None = None
    """The field that has the payload; by default all fields are the payload, as one JSON object."""
    claim_idle: Duration = Field(60.0, gt=0)
    """After how long entries are taken over that another member of the group has read and not acked."""


class Redis(Input, type="redis"):
    """Read from Redis.

    With `redis_type: {type: stream}` the entries of streams are read by a consumer group, many at once, and acked once
    their rows are durable. With `{type: list}` elements are moved from the list to another one, which is this stream's
    own, and removed from there once their rows are durable. In both cases none is lost, also in a crash, and after one
    some may come twice. With `{type: subscribe}` what is published is read as it passes by, and what nobody hears is
    lost: `durability` keeps it from the moment it is read.

    `__meta_ext` has the `stream` and the `id` of an entry, the `list` of an element, the `channel` of a message. A
    connection that is lost is opened again for as long as it takes.

    Example::

        type: redis
        mode: {type: single, url: "redis://127.0.0.1:6379/0"}
        redis_type: {type: stream, streams: [readings], group: penstock, field: value}
        codec: json
    """

    extra: ClassVar[str] = "redis"

    mode: Mode
    """Where the servers are, and how they are arranged."""
    redis_type: Annotated[Subscribe | Lists | Streams, Field(discriminator="type")]
    """What is read."""
    tls: Tls | None = None
    """How to know the server by TLS, with `rediss://`."""
    batch_size: int = Field(8192, ge=1)
    """The most rows in one batch."""
    linger: Duration = Field(0.02, ge=0)
    """How long a batch of published messages waits for more after the first."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and each answer of the server may take."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect, and find what was read before and not acked; raises ConnectionLost if that fails."""
        kind = self.redis_type
        if isinstance(kind, Subscribe):
            # Any member of a cluster passes on what is published at another.
            mode = Single.model_construct(url=self.mode.urls[0]) if isinstance(self.mode, Cluster) else self.mode
            async with opened(mode, self.tls, timeout=self.timeout) as client:
                published = PublishedReader(client, mode.urls_tried()[0], self.batch_size, self.linger, self.timeout)
                names = kind.subscribe.channels if isinstance(kind.subscribe, Channels) else kind.subscribe.patterns
                async with published.listening(names, isinstance(kind.subscribe, Patterns)):
                    yield published
            return
        async with opened(self.mode, self.tls, timeout=self.timeout) as client:
            source: StreamSource | ListSource
            owner = client_name(context)
            if isinstance(kind, Lists):
                source = ListSource(client, kind.list, owner, self.batch_size)
            else:
                together = not isinstance(self.mode, Cluster)
                source = StreamSource(client, kind, kind.consumer or owner, self.batch_size, together=together)
            reader = Fetching(source, self.mode.urls_tried()[0], self.timeout, context)
            async with reader.fetching():
                yield reader
