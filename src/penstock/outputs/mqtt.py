"""Publish rows to an MQTT broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from pydantic import Field, SecretStr

from ..clients import mqtt
from ..clients.identity import client_name
from ..clients.mqtt_session import Server, Session, connected
from ..clients.tls import Tls
from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, RowsRejected, TransientError
from ..sql.expression import Expr
from ._payloads import bodies

MAX_UNCONFIRMED = 4096
"""How many messages are on their way to the broker at once, unless it takes fewer."""
_LATER = frozenset({0x83, 0x97})
"""Codes after which the same message may be taken later."""
_NOT_AUTHORIZED = 0x87
"""The code for a topic to which the user may not publish."""


class Mqtt(Output, type="mqtt"):
    """Publish rows to an MQTT broker, by MQTT 5 or 3.1.1, one message for each.

    With QoS 1 and 2 rows are written once the broker has confirmed each of them, many on their way at once and in
    order; with QoS 0 once they are sent. What a write has sent before its connection was lost is sent again. Rows
    whose topic is null or not valid, or whose payload is too large, are refused.

    Example::

        type: mqtt
        host: 127.0.0.1
        topic: {type: expr, expr: "concat('readings/', sensor)"}
        qos: 1
        retain: true
    """

    host: str = Field(min_length=1)
    """The name or address of the broker."""
    topic: Expr
    """The topic of each row."""
    port: int | None = Field(None, ge=1, le=65_535)
    """The port; by default 1883, with `tls` 8883."""
    client_id: str | None = Field(None, min_length=1)
    """The name of the session, which nobody else may use; by default one of this stream and its folder of data."""
    username: str | None = None
    """The user name."""
    password: SecretStr | None = None
    """The password."""
    qos: Literal[0, 1, 2] = 1
    """The quality of service: with 0 the broker confirms nothing."""
    retain: bool = False
    """Whether the broker keeps the last message of each topic for those who subscribe later."""
    clean_session: bool = True
    """Accepted but without effect: nothing is left of a session that only publishes."""
    keep_alive: int = Field(30, ge=1, le=65_535)
    """Seconds of silence after which the broker is asked whether it is still there."""
    version: str | None = Field(None, pattern=r"^(3\.1\.1|5)$", coerce_numbers_to_str=True)
    """The version of the protocol, `3.1.1` or `5`; by default 5, and 3.1.1 with a broker that does not know that."""
    max_packet_size: int = Field(16 << 20, ge=1024, le=mqtt.MAX_REMAINING)
    """The largest message that is sent, in bytes."""
    tls: Tls | None = None
    """How to know the broker by TLS; without it nothing is encrypted."""
    value_field: str | None = None
    """The column whose cells are the payloads; by default the codec makes them."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting may take, and the broker to confirm a message."""

    @property
    def server(self) -> Server:
        """Where the broker is, and how to connect to it."""
        return Server.model_construct(**{name: getattr(self, name) for name in Server.model_fields})

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect; raises ConnectionLost if that fails."""
        writer = _MqttWriter(self)
        async with connected(
            self.server,
            self.client_id or client_name(context),
            clean=True,
            session_expiry=0,
            timeout=self.timeout,
            on_message=lambda message: None,
            on_ack=writer.handle_ack,
            lost=writer.lost,
        ) as session:
            writer.session = session
            yield writer


class _Message(NamedTuple):
    row: int
    topic: bytes
    payload: bytes


class _MqttWriter:
    session: Session

    def __init__(self, config: Mqtt) -> None:
        self._config = config
        self._last_id = 0
        self._unconfirmed: dict[int, int] = {}
        """The row of each packet id that is on its way."""
        self._refused: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._kept: list[_Message] = []
        """What was confirmed of a write of which other rows were refused: the next write is without those."""

    def lost(self, error: Exception) -> None:
        """End what waits for an answer with ``error``."""
        self._failure = self._failure or error
        self._changed.set()

    def handle_ack(self, type: int, number: int, code: int) -> None:
        """Note the answer to a message, and take the next step of QoS 2."""
        if type == mqtt.PUBREC and code < 128:
            self.session.send(mqtt.acks(mqtt.PUBREL, [number]))
            return
        row = self._unconfirmed.pop(number, None)
        if row is not None and code >= 128:
            self._refused[row] = code
        self._changed.set()

    async def write(self, batches: Sequence[Batch]) -> None:
        """Publish all rows; returns once the broker has confirmed them."""
        messages = await asyncio.to_thread(self._messages, batches)
        kept, self._kept = self._kept, []
        if not messages or [message[1:] for message in messages] == [message[1:] for message in kept]:
            return
        self._refused.clear()
        most = min(MAX_UNCONFIRMED, self.session.receive_maximum)
        step = max(1, most // 4)
        for start in range(0, len(messages), step):
            some = messages[start : start + step]
            await self._until(most - len(some))
            self.session.send(b"".join(map(self._packet, some)))
            async with asyncio.timeout(self._config.timeout):
                await self.session.drain()
        await self._until(0)
        if self._refused:
            self._kept = [message for message in messages if message.row not in self._refused]
            raise self._verdict(dict(self._refused))

    async def _until(self, most: int) -> None:
        """Wait until at most so many messages are not confirmed."""
        while True:
            if self._failure is not None:
                raise self._failure
            if len(self._unconfirmed) <= most:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(self._config.timeout):
                    await self._changed.wait()
            except TimeoutError:
                where = self._config.server.describe()
                raise ConnectionLost(f"{where}: no answer within {self._config.timeout:g} s") from None

    def _packet(self, message: _Message) -> bytes:
        number = 0
        if self._config.qos:
            number = self._last_id = self._last_id % 65_535 + 1
            self._unconfirmed[number] = message.row
        return mqtt.publish(
            self.session.version,
            message.topic,
            message.payload,
            self._config.qos,
            retain=self._config.retain,
            packet_id=number,
        )

    def _verdict(self, refused: Mapping[int, int]) -> PenstockError:
        version = self.session.version
        # A topic that all rows have is that of the configuration, and no row is at fault.
        passing = _LATER | {_NOT_AUTHORIZED} if self._config.topic.constant is not None else _LATER
        later = [code for code in refused.values() if code in passing]
        if later:
            return TransientError(f"{self._config.server.describe()}: {mqtt.reason(version, later[0])}")
        return RowsRejected({row: f"mqtt: {mqtt.reason(version, code)}" for row, code in refused.items()}, across=True)

    def _messages(self, batches: Sequence[Batch]) -> list[_Message]:
        """The messages of all rows; raises RowsRejected for those that cannot be sent."""
        found: list[_Message] = []
        reasons: dict[int, str] = {}
        start, most = 0, self.session.max_packet_size - 16
        for batch in batches:
            payloads = bodies(self._config, batch, self._config.value_field).to_pylist()
            topics = self._config.topic.evaluate(batch).to_pylist()
            encoded = {topic: topic.encode() for topic in {*topics} if _is_valid(topic)}
            for row, (topic, payload) in enumerate(zip(topics, payloads, strict=True), start):
                if payload is None:
                    continue
                if topic not in encoded:
                    reasons[row] = f"{topic!r} cannot be the topic of a message"
                elif len(payload) + len(encoded[topic]) > most:
                    reasons[row] = f"its {len(payload)} bytes are more than the broker takes"
                else:
                    found.append(_Message(row, encoded[topic], payload))
            start += batch.num_rows
        if reasons:
            raise RowsRejected(reasons, across=True)
        return found


def _is_valid(topic: str | None) -> bool:
    return bool(topic) and not any(c in "+#\0" for c in topic or "") and len((topic or "").encode()) <= 65_535
