"""Read messages from NATS: from a stream that JetStream keeps, or as they pass by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...clients.nats import Auth, Server, Url, connected
from ...clients.tls import Tls
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from ...options import Options
from .core import CoreReader
from .jetstream import JetStreamReader, ensure_consumer


class Regular(Options):
    """Messages as they pass by: what is sent while nobody listens is gone."""

    type: Literal["regular"] = "regular"
    """The kind of messages."""
    subject: str = Field(min_length=1)
    """The subject to listen to; `*` stands for one part, `>` for all that follow."""
    queue_group: str | None = None
    """The group whose members share the messages; without one each gets all."""


class JetStream(Options):
    """Messages of a stream, which is read by a consumer that remembers what was acked."""

    type: Literal["jet_stream"] = "jet_stream"
    """The kind of messages."""
    stream: str = Field(min_length=1, pattern=r"^[^\s.*>/\\]+$")
    """The stream, which has to be there."""
    consumer_name: str = Field(min_length=1, pattern=r"^[^\s.*>/\\]+$")
    """The consumer, shared by all who read with this name; made as a durable one unless it is there."""
    durable_name: str | None = Field(None, min_length=1, pattern=r"^[^\s.*>/\\]+$")
    """The name of the durable consumer, instead of `consumer_name`."""
    subjects: Sequence[str] = ()
    """The only subjects to read, for a consumer that is made; by default all of the stream."""
    deliver: Literal["all", "last", "new"] = "all"
    """Where a consumer that is made begins: with the first message, the last one, or the next."""
    ack_wait: Duration = Field(30.0, gt=0)
    """After how long a consumer that is made delivers again what was not acked, as after a crash. While messages are
    worked on, that is put off."""
    max_deliver: int | None = Field(None, ge=1)
    """How often a message is tried: one that was delivered more often, since the process died of it, is refused. By
    default as often as it takes."""
    nak_delay: Duration = Field(5.0, ge=0)
    """How long a message waits before it is delivered again, after the stream failed because of it."""
    domain: str | None = None
    """The domain of JetStream, where it has several."""

    @property
    def consumer(self) -> str:
        """The name of the consumer that is used."""
        return self.durable_name or self.consumer_name


class Nats(Input, type="nats"):
    """Read messages from NATS.

    With `mode: {type: jet_stream}` the messages of a stream are pulled, many at once, and acked once their rows are
    durable: what is not acked is delivered again, also after a crash, so a row may come twice and none is lost. A
    consumer that is not there is made. Several processes may share one. With `mode: {type: regular}` messages are read
    as they pass by, and those that nobody reads are lost: `durability` keeps them from the moment they are read.

    A message is one payload. `__meta_ext` has its `subject`, its `stream` and its headers, `__meta_offset` its number
    in the stream, `__meta_timestamp` when it was stored. A connection that is lost is opened again for as long as it
    takes.

    Example::

        type: nats
        url: nats://127.0.0.1:4222
        auth: {username: reader, password: not-a-secret}
        mode: {type: jet_stream, stream: readings, consumer_name: penstock}
        codec: json
    """

    extra: ClassVar[str] = "nats"

    url: Url
    """Where the server is, for example `nats://127.0.0.1:4222`; several, separated by commas, if it is a cluster."""
    mode: Annotated[Regular | JetStream, Field(discriminator="type")]
    """What is read."""
    auth: Auth | None = None
    """How to show who connects; instead of user and password in the URL."""
    tls: Tls | None = None
    """How to know the server by TLS; used anyway with `tls://` and where the server asks for it."""
    batch_size: int = Field(8192, ge=1)
    """The most messages in one batch."""
    linger: Duration = Field(0.02, ge=0)
    """How long a batch waits for more messages after the first."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and each answer of the server may take."""

    @property
    def server(self) -> Server:
        """Where the server is and how to connect."""
        return Server.model_construct(url=self.url, auth=self.auth, tls=self.tls)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and subscribe, or find the consumer; raises ConnectionLost if that fails."""
        if isinstance(self.mode, Regular):
            core = CoreReader(self.batch_size, self.linger, context)
            async with connected(
                self.server, timeout=self.timeout, name=context.name, lost=core.lost, failed=core.failed
            ) as client:
                await core.subscribe(client, self.mode.subject, self.mode.queue_group or "")
                yield core
            return
        reader = JetStreamReader(self.mode, self.batch_size, self.linger, self.timeout, context)
        async with connected(
            self.server, timeout=self.timeout, name=context.name, lost=reader.lost, failed=reader.failed
        ) as client:
            await ensure_consumer(client, self.server, self.mode, 16 * self.batch_size, self.timeout)
            async with reader.pulling(client):
                yield reader
