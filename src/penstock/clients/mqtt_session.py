"""A session with an MQTT broker: one connection, which says once that it is over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import cast

from pydantic import Field, SecretStr

from ..errors import ConnectionLost, PenstockError, PermanentError
from ..options import Options
from . import mqtt
from .tls import Tls

RECEIVE_MAXIMUM = 65_535
MAX_IN_FLIGHT = 16_384
"""Messages that the broker may send before they are acked: some give out packet ids anew that are still in use."""
CLOSE_TIMEOUT = 2.0
_UNKNOWN_VERSION = (1, 0x84)
_REFUSED = frozenset({2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Codes of refusals that only a change of the configuration mends."""


class Server(Options):
    """Where a broker is, and how to connect to it."""

    host: str = Field(min_length=1)
    """The name or address of the broker."""
    port: int | None = Field(None, ge=1, le=65_535)
    """The port; by default 1883, with `tls` 8883."""
    username: str | None = None
    """The user name."""
    password: SecretStr | None = None
    """The password."""
    tls: Tls | None = None
    """How to know the broker by TLS; without it nothing is encrypted."""
    version: str | None = Field(None, pattern=r"^(3\.1\.1|5)$", coerce_numbers_to_str=True)
    """The version of the protocol, `3.1.1` or `5`; by default 5, and 3.1.1 with a broker that does not know that."""
    keep_alive: int = Field(30, ge=1, le=65_535)
    """Seconds of silence after which the broker is asked whether it is still there."""
    max_packet_size: int = Field(16 << 20, ge=1024, le=mqtt.MAX_REMAINING)
    """The largest message that is taken or sent, in bytes."""

    def describe(self) -> str:
        """Return where it is, for messages."""
        return f"mqtt {self.host}:{self.port_used()}"

    def port_used(self) -> int:
        """Return the port."""
        return self.port or (1883 if self.tls is None else 8883)


class Session(asyncio.Protocol):
    """One connection. What comes is handed to ``on_message`` and ``on_ack`` as it comes."""

    def __init__(
        self,
        server: Server,
        version: int,
        on_message: Callable[[mqtt.Message], None],
        on_ack: Callable[[int, int, int], None],
        lost: Callable[[Exception], None],
    ) -> None:
        """``on_ack`` is told the type, the number and the code."""
        self.version, self.is_resumed = version, False
        self.receive_maximum, self.max_packet_size = RECEIVE_MAXIMUM, server.max_packet_size
        self._server, self._on_message, self._on_ack, self._lost = server, on_message, on_ack, lost
        self._transport: asyncio.Transport
        self._left = b""
        self._answered: asyncio.Future[tuple[int, memoryview]] | None = None
        self._heeded: asyncio.Future[None] | None = None
        self._asked = self._pongs = self._awaited = 0
        """How often it was asked whether the broker is there, has answered, and is to answer."""
        self._heard_at = monotonic()
        self._is_over, self._is_paused = False, False
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._is_over or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop is of another class

    def connection_lost(self, error: Exception | None) -> None:
        """Say that it is over."""
        why = error or "the connection was closed, as happens when another client has the same client id"
        self._fail(ConnectionLost(f"{self._server.describe()}: {why}"))

    def _fail(self, error: PenstockError) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._writable.set()
        for waiting in (self._answered, self._heeded):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # nobody may be waiting any more
        self._lost(error)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand over all whole packets."""
        self._heard_at = monotonic()
        self._left = self._left + data if self._left else data
        try:
            packets, size = mqtt.divide(self._left, self._server.max_packet_size)
            for packet in packets:
                self._handle(packet)
        except (mqtt.Malformed, IndexError) as error:
            self._fail(ConnectionLost(f"{self._server.describe()}: {error}"))
            return
        self._left = self._left[size:]

    def _handle(self, packet: mqtt.Packet) -> None:
        type, body = packet.type, packet.body
        if type == mqtt.PUBLISH:
            self._on_message(mqtt.read_message(packet, self.version))
        elif type in (mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP):
            self._on_ack(type, mqtt.read_id(body), body[2] if len(body) > 2 else 0)
        elif type in (mqtt.CONNACK, mqtt.SUBACK):
            if self._answered is not None and not self._answered.done():
                self._answered.set_result((type, body))
        elif type == mqtt.PINGRESP:
            self._pongs += 1
            if self._heeded is not None and not self._heeded.done() and self._pongs >= self._awaited:
                self._heeded.set_result(None)
        elif type == mqtt.DISCONNECT:
            code = body[0] if len(body) else 0
            self._fail(ConnectionLost(f"{self._server.describe()}: {mqtt.reason(self.version, code)}"))

    def pause_writing(self) -> None:
        """Note that the broker does not read fast enough."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self._writable.set()

    def pause(self) -> None:
        """Take nothing more from the broker."""
        is_awaiting = self._heeded is not None and not self._heeded.done()
        if not self._is_paused and not self.is_over and not is_awaiting:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take more from the broker."""
        if self._is_paused and not self.is_over:
            self._is_paused = False
            self._heard_at = monotonic()
            self._transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Send packets; raises ConnectionLost if that is over."""
        if self.is_over:
            raise ConnectionLost(f"{self._server.describe()}: the connection is closed")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until most of what was sent is on its way."""
        await self._writable.wait()

    async def ask(self, data: bytes) -> tuple[int, memoryview]:
        """Send a packet and return the answer to it."""
        self._answered = asyncio.get_running_loop().create_future()
        self.send(data)
        return await self._answered

    async def subscribe(self, topics: Sequence[str], qos: int) -> None:
        """Subscribe to topics; raises PermanentError for one that is refused."""
        # A session that goes on is not sent what is retained once more, where the protocol can say so.
        options = qos | (0x10 if self.version == 5 else 0)
        _, body = await self.ask(mqtt.subscribe(self.version, 1, topics, options))
        at = 2
        if self.version == 5:
            _, at = mqtt.read_properties(body, at)
        for index, code in mqtt.refusals(body[at:]):
            why = mqtt.reason(self.version, code)
            raise PermanentError(f"{self._server.describe()}: may not subscribe to {topics[index]!r}: {why}")

    async def settle(self) -> None:
        """Return once the broker has read all that was sent: it answers in order."""
        if self._heeded is None or self._heeded.done():
            self._heeded = asyncio.get_running_loop().create_future()
        self.resume()
        self._ping()
        self._awaited = self._asked
        await asyncio.shield(self._heeded)

    def _ping(self) -> None:
        self._asked += 1
        self.send(mqtt.packet(mqtt.PINGREQ, 0, b""))

    async def keep_alive(self) -> None:
        """Ask again and again whether the broker is there; it is lost if it does not answer."""
        interval = self._server.keep_alive
        while not self.is_over:
            await asyncio.sleep(interval / 2)
            if self._is_paused:
                self._heard_at = monotonic()  # what it says lies in the socket
            elif monotonic() - self._heard_at > interval * 1.5:
                self._fail(ConnectionLost(f"{self._server.describe()}: nothing was heard for {interval * 1.5:.0f} s"))
            with suppress(ConnectionLost):
                self._ping()

    async def close(self) -> None:
        """Say goodbye."""
        if not self.is_over:
            self._is_over = True
            self._transport.write(mqtt.packet(mqtt.DISCONNECT, 0, b""))
        self._transport.close()


@asynccontextmanager
async def connected(
    server: Server,
    client_id: str,
    *,
    clean: bool,
    session_expiry: float,
    timeout: float,
    on_message: Callable[[mqtt.Message], None],
    on_ack: Callable[[int, int, int], None],
    lost: Callable[[Exception], None],
) -> AsyncIterator[Session]:
    """Yield a session; raises what connecting has failed with as an error of the engine."""
    tls = await asyncio.to_thread(server.tls.context) if server.tls is not None else None
    loop = asyncio.get_running_loop()
    session: Session | None = None
    versions = [4] if server.version == "3.1.1" else [5] if server.version == "5" else [5, 4]
    for version in versions:

        def make(version: int = version) -> Session:
            return Session(server, version, on_message, on_ack, lost)

        try:
            async with asyncio.timeout(timeout):
                _, session = await loop.create_connection(make, server.host, server.port_used(), ssl=tls)
                if await _greet(session, server, client_id, clean, session_expiry, is_last=version == versions[-1]):
                    break
        except PenstockError:
            await _close(session)
            raise
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(f"{server.describe()}: {error}") from None
        except (OSError, TimeoutError) as error:
            await _close(session)
            why = str(error) or f"no answer within {timeout:g} s"
            raise ConnectionLost(f"{server.describe()}: {why}") from None
        await _close(session)
    assert session is not None
    asking = asyncio.ensure_future(session.keep_alive())
    try:
        yield session
    finally:
        asking.cancel()
        await _close(session)


async def _close(session: Session | None) -> None:
    if session is not None:
        await session.close()


async def _greet(
    session: Session, server: Server, client_id: str, clean: bool, session_expiry: float, *, is_last: bool
) -> bool:
    """Open the session; return False if the broker does not know the version and another may be tried."""
    password = server.password.get_secret_value() if server.password is not None else None
    _, body = await session.ask(
        mqtt.connect(
            session.version,
            client_id,
            clean=clean,
            keep_alive=server.keep_alive,
            username=server.username,
            password=password,
            session_expiry=min(int(session_expiry), 0xFFFFFFFF),
            receive_maximum=MAX_IN_FLIGHT,
            most=server.max_packet_size,
        )
    )
    code = body[1]
    if code in _UNKNOWN_VERSION and not is_last:
        return False
    if code:
        text = f"{server.describe()}: {mqtt.reason(session.version, code)}"
        raise PermanentError(text) if code in _REFUSED else ConnectionLost(text)
    session.is_resumed = bool(body[0] & 1)
    if session.version == 5:
        told = dict(mqtt.read_properties(body, 2)[0])
        session.receive_maximum = int(str(told.get(mqtt.RECEIVE_MAXIMUM, RECEIVE_MAXIMUM)))
        largest = int(str(told.get(mqtt.MAX_PACKET_PROPERTY, session.max_packet_size)))
        session.max_packet_size = min(session.max_packet_size, largest)
    return True
