"""Read messages from an MQTT broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from pydantic import Field, SecretStr

from ..checkpoint import Checkpoint
from ..clients import mqtt
from ..clients.arrivals import Arrivals, Receipts
from ..clients.identity import client_name
from ..clients.mqtt_session import Server, Session, connected
from ..clients.tls import Tls
from ..component import Input, Reader
from ..context import Context
from ..delivery import Batch, Delivery, Position
from ..duration import Duration
from ..metadata import Origin, payloads


class Mqtt(Input, type="mqtt"):
    """Read messages from an MQTT broker, by MQTT 5 or 3.1.1.

    A message of QoS 1 or 2 is acked once its row is durable, so none is lost, also in a crash; after one some may come
    twice. The session is kept: what is published while the stream is down comes when it is up again (QoS 1 and 2).
    Messages of QoS 0 are lost if nobody listens; `durability` keeps them from the moment they are read. Topics may have
    wildcards, and `$share/<group>/<topic>` shares the messages among the members of a group.

    `__meta_ext` has the `topic` and, with MQTT 5, the user properties. A connection that is lost is opened again for as
    long as it takes.

    Example::

        type: mqtt
        host: 127.0.0.1
        topics: [readings/+/temperature, "$share/penstock/alerts/#"]
        qos: 1
        username: reader
        password: not-a-secret
        codec: json
    """

    host: str = Field(min_length=1)
    """The name or address of the broker."""
    topics: Sequence[str] = Field(min_length=1)
    """The topics; `+` stands for one part, `#` for all that follow."""
    port: int | None = Field(None, ge=1, le=65_535)
    """The port; by default 1883, with `tls` 8883."""
    client_id: str | None = Field(None, min_length=1)
    """The name of the session, which nobody else may use; by default one of this stream and its folder of data."""
    username: str | None = None
    """The user name."""
    password: SecretStr | None = None
    """The password."""
    qos: Literal[0, 1, 2] = 1
    """The highest quality of service of the messages: 0 may lose some, 1 and 2 do not."""
    clean_session: bool = False
    """Whether to begin anew each time, so that what comes in between is lost."""
    session_expiry: Duration = Field(7 * 86_400.0, ge=0)
    """How long the broker keeps the session of a stream that is down, with MQTT 5."""
    keep_alive: int = Field(30, ge=1, le=65_535)
    """Seconds of silence after which the broker is asked whether it is still there."""
    version: str | None = Field(None, pattern=r"^(3\.1\.1|5)$", coerce_numbers_to_str=True)
    """The version of the protocol, `3.1.1` or `5`; by default 5, and 3.1.1 with a broker that does not know that."""
    max_packet_size: int = Field(16 << 20, ge=1024, le=mqtt.MAX_REMAINING)
    """The largest message that is taken, in bytes."""
    tls: Tls | None = None
    """How to know the broker by TLS; without it nothing is encrypted."""
    batch_size: int = Field(8192, ge=1)
    """The most messages in one batch."""
    linger: Duration = Field(0.02, ge=0)
    """How long a batch waits for more messages after the first."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and subscribing may take."""

    @property
    def server(self) -> Server:
        """Where the broker is, and how to connect to it."""
        return Server.model_construct(**{name: getattr(self, name) for name in Server.model_fields})

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and subscribe; raises ConnectionLost if that fails."""
        reader = MqttReader(self.batch_size, self.linger, self.timeout)
        async with connected(
            self.server,
            self.client_id or client_name(context),
            clean=self.clean_session,
            session_expiry=self.session_expiry,
            timeout=self.timeout,
            on_message=reader.take,
            on_ack=reader.handle_ack,
            lost=reader.lost,
        ) as session:
            reader.begin(session, await context.checkpoint(commit=reader.commit))
            async with asyncio.timeout(self.timeout):
                await session.subscribe(self.topics, self.qos)
            reader.is_subscribed = True
            yield reader


class _Receipt(NamedTuple):
    """What acks a message, and what tells it from another to which the broker gives the same packet id."""

    qos: int
    packet_id: int
    content: int


def _receipt(message: mqtt.Message) -> _Receipt:
    return _Receipt(message.qos, message.packet_id, hash((message.topic, message.payload)))


class _Prepared(NamedTuple):
    batch: Batch
    origin: Origin
    receipts: list[_Receipt]


class MqttReader:
    """Reads what a session hands over, and acks what is settled.

    A message whose packet id is on its way already is the same one, sent again since the connection was lost.
    """

    def __init__(self, rows: int, linger: float, timeout: float) -> None:
        self._timeout = timeout
        self._arrivals: Arrivals[mqtt.Message] = Arrivals(rows, linger)
        self._rows = rows
        self._early: list[mqtt.Message] = []
        """What comes before it is known whether the session goes on."""
        self._session: Session | None = None
        self.is_subscribed = False
        """Whether the broker has answered all that was asked, so that it need not be listened to for a while."""
        self._checkpoint: Checkpoint
        self._receipts: Receipts[_Receipt]
        self._unsettled: dict[int, _Receipt] = {}
        self._prepared: _Prepared | None = None

    def begin(self, session: Session, checkpoint: Checkpoint) -> None:
        """Begin with a session, which may be one that goes on."""
        self._checkpoint, self._receipts = checkpoint, Receipts.of(checkpoint)
        if not session.is_resumed:
            self._receipts.clear()  # the broker knows nothing of these packet ids, and will give them to others
            self._receipts.told.clear()
        self._unsettled = {receipt.packet_id: receipt for receipt in self._receipts}
        self._session = session
        for message in self._early:
            self.take(message)
        self._early.clear()

    def lost(self, error: Exception) -> None:
        """End reading with ``error``, once what has arrived is read."""
        self._arrivals.fail(error)

    def take(self, message: mqtt.Message) -> None:
        """Take a message, unless it is on its way already."""
        if self._session is None:
            self._early.append(message)
            return
        if message.qos:
            receipt = _receipt(message)
            known = self._unsettled.get(message.packet_id)
            if known == receipt:
                return
            if self._receipts.told.get(message.packet_id) == receipt:
                self._session.send(mqtt.acks(mqtt.PUBREC, [message.packet_id]))
                return
            if known is not None:  # the broker has forgotten the one before
                self._receipts.drop(known)
            self._unsettled[message.packet_id] = receipt
        self._arrivals.put(message)
        if self.is_subscribed and len(self._arrivals) >= 2 * self._rows:
            self._session.pause()

    def handle_ack(self, type: int, number: int, code: int) -> None:
        """Take the next step of QoS 2: the broker has forgotten the message, so its id may be used again."""
        if type == mqtt.PUBREL and self._session is not None:
            self._receipts.told.pop(number, None)
            self._session.send(mqtt.acks(mqtt.PUBCOMP, [number]))

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        if self._prepared is None:
            self._prepared = _prepare(await self._arrivals.take())
            if self._session is not None and len(self._arrivals) < self._rows:
                self._session.resume()
        batch, where, receipts = self._prepared
        delivery = await self._checkpoint.deliver(batch, self._receipts.next_number, where)
        self._receipts.add(receipts)
        self._prepared = None
        return delivery

    async def commit(self, number: Position) -> None:
        """Ack all messages of deliveries up to one; what is not sent any more is acked by the next session."""
        assert self._session is not None
        receipts = list(self._receipts.through(number))
        once = [receipt.packet_id for receipt in receipts if receipt.qos == 1]
        twice = [receipt for receipt in receipts if receipt.qos == 2]
        # Nothing is awaited between sending and forgetting: an ack that is sent again later could be that of another.
        self._session.send(mqtt.acks(mqtt.PUBACK, once) + mqtt.acks(mqtt.PUBREC, [each.packet_id for each in twice]))
        self._receipts.forget(number)
        self._receipts.told.update({receipt.packet_id: receipt for receipt in twice})
        for receipt in receipts:
            self._unsettled.pop(receipt.packet_id, None)
        async with asyncio.timeout(self._timeout):
            await self._session.settle()


def _prepare(messages: list[mqtt.Message]) -> _Prepared:
    known = {topic: {"topic": topic} for topic in {message.topic for message in messages}}
    ext: Mapping[str, str] | list[Mapping[str, str]]
    if len(known) == 1 and not any(message.properties for message in messages):
        (ext,) = known.values()
    else:
        ext = [_ext(message, known) for message in messages]
    receipts = [_receipt(message) for message in messages if message.qos]
    return _Prepared(payloads([message.payload for message in messages]), Origin("mqtt", ext=ext), receipts)


def _ext(message: mqtt.Message, known: Mapping[str, Any]) -> Mapping[str, str]:
    topic: Mapping[str, str] = known[message.topic]
    return {**dict(message.properties), **topic} if message.properties else topic
