"""Read messages of a WebSocket: from a server that is connected to, or from clients that connect."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ByteSize, Field, field_validator, model_validator

from ..clients.arrivals import Arrivals
from ..clients.database import redact_url
from ..clients.http import Auth, Headers
from ..clients.tls import Tls
from ..component import Input, Reader
from ..context import Context
from ..delivery import Delivery
from ..duration import Duration
from ..errors import ConnectionLost, PermanentError
from ..extras import require
from ..inlet import Inlet
from ..metadata import Origin, payloads
from ..serving import tls as serving_tls
from ..serving.listener import split_address

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

MAX_WAITING = 1 << 16
"""How many messages of all clients wait to be settled at most."""
QUEUE_SIZE = 64
"""Messages that one connection holds before it reads no more."""
CLOSE_TIMEOUT = 2.0
"""How long a connection has to say goodbye, in seconds."""


def _seconds(value: Any) -> Any:
    """Read a plain number of seconds as a duration."""
    return f"{value}s" if isinstance(value, int | float) and not isinstance(value, bool) else value


class Websocket(Input, type="websocket"):
    """Read messages of a WebSocket, as its client or as its server.

    With `url` it connects to a server and reads what that sends; a connection that is lost is opened again for as long
    as it takes. A server sends again nothing of what was not read: `durability` keeps it from the moment it is read.

    With `address` and `path` clients connect and send. A message is accepted once its row is durable: written by the
    output, or in the log with `durability`. With `acks` each is answered so, in their order, by `{"accepted":1}` or by
    `{"error":"..."}`; without, a message that is refused closes its connection (1008 if it can never be accepted, 1013
    if it may be later), and those that were sent behind it are not known to be accepted. Pages of other origins than
    `origins` are not let in. The address is shared with no other input.

    A message, text or binary, is one payload. Nothing is read while too much waits, so that senders wait too.
    `__meta_ext` has the `url`, or the `path` and the `remote` address.

    Example::

        type: websocket
        url: wss://example.com/feed
        headers: {Authorization: Bearer not-a-secret}
        send: ['{"subscribe": "trades"}']
        codec: json
    """

    extra: ClassVar[str] = "http"

    url: str | None = None
    """The server to connect to, `ws://host:port/path` or `wss://`."""
    headers: Headers = {}
    """The headers to connect with."""
    send: list[str] = []
    """Messages to send once connected, such as a subscription."""
    address: str | None = None
    """Where to listen, `host:port`, instead of `url`."""
    path: str = "/"
    """The path to serve, exactly."""
    origins: list[str] = []
    """The origins of pages that may connect, such as `https://example.com`; programs always may."""
    acks: bool = False
    """Whether each message of a client is answered."""
    auth: Auth | None = None
    """The credentials that clients must carry, or to connect with."""
    tls: Tls | None = None
    """How to know the server by `wss://`; when serving, the `certificate` and `key` with which to speak TLS."""
    timeout: Annotated[Duration, BeforeValidator(_seconds, json_schema_input_type=str | int)] = Field(10.0, gt=0)
    """How long connecting may take; a plain number is seconds."""
    ping_interval: Duration = Field(20.0, gt=0)
    """How often the other side is asked whether it is still there; without an answer in that time, it is not."""
    max_message: ByteSize = Field(ByteSize(16 << 20), gt=0, le=1 << 30)
    """The longest message; a longer one closes the connection."""
    max_waiting: ByteSize = Field(ByteSize(64 << 20), gt=0)
    """How many bytes of clients' messages may wait in memory until they are durable."""
    batch_size: int = Field(8192, ge=1)
    """The most messages of a server in one batch."""
    linger: Duration = Field(0.02, ge=0)
    """How long such a batch waits for more messages after the first."""

    @field_validator("url")
    @classmethod
    def _is_websocket(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url.strip())
            known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            known = False
        if not known or parts.fragment or any(character <= " " for character in url.strip()):
            raise ValueError("expected a URL like 'wss://example.com/path'")
        return url.strip()

    @field_validator("address")
    @classmethod
    def _valid_address(cls, address: str | None) -> str | None:
        if address is not None:
            split_address(address)
        return address

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        require("websockets", "input 'websocket'")
        if (self.url is None) == (self.address is None):
            raise ValueError("expected either `url`, to connect to a server, or `address`, to let clients connect")
        ours = ("path", "origins", "acks", "max_waiting") if self.url is not None else ("headers", "send")
        if wrong := next((name for name in ours if name in self.model_fields_set), None):
            raise ValueError(f"`{wrong}` has no meaning beside `{'url' if self.url is not None else 'address'}`")
        given = [self.auth is not None, any(name.lower() == "authorization" for name in self.headers)]
        if sum([*given, self.url is not None and urlsplit(self.url).username is not None]) > 1:
            raise ValueError("give the credentials once: in `auth`, in `headers` or in `url`")
        if self.address is not None and self.tls is not None and (not self.tls.certificate or not self.tls.key):
            raise ValueError("tls: expected `certificate` and `key` beside `address`")
        return self

    def served(self) -> Sequence[tuple[str, str]]:
        """Return where clients connect."""
        return [(self.address, self.path)] if self.address is not None else []

    def tells_sender(self) -> bool:
        """Tell whether clients connect: what is refused is told to its sender."""
        return self.address is not None

    def open(self, context: Context) -> AbstractAsyncContextManager[Reader]:
        """Connect, or listen; raises ConnectionLost if that fails."""
        return self._connected() if self.url is not None else _Server(self).listening(context)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Reader]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        assert self.url is not None
        where = redact_url(self.url)
        headers = {**self.headers, **({"Authorization": self.auth.header()} if self.auth is not None else {})}
        secure = self.url.startswith("wss://")
        try:
            connection = await connect(
                self.url,
                additional_headers=headers,
                ssl=await asyncio.to_thread((self.tls or Tls()).context) if secure else None,
                open_timeout=self.timeout,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=self.ping_interval,
                ping_timeout=self.ping_interval,
                max_size=int(self.max_message),
                max_queue=QUEUE_SIZE,
            )
        except (OSError, TimeoutError, WebSocketException, ssl.SSLError) as error:
            raise ConnectionLost(f"cannot connect to {where}: {error or type(error).__name__}") from None
        reader = _Client(self, where)
        listening = asyncio.ensure_future(reader.listen(connection))
        try:
            yield reader
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            await connection.close()


class _Client:
    """Reads what a server sends."""

    def __init__(self, options: Websocket, where: str) -> None:
        self._options, self._origin = options, Origin("websocket", ext={"url": where})
        self._where = where
        self._arrivals: Arrivals[bytes] = Arrivals(options.batch_size, options.linger)

    async def listen(self, connection: ClientConnection) -> None:
        """Take what comes until the connection ends."""
        try:
            for message in self._options.send:
                await connection.send(message)
            while True:
                await self._arrivals.put_patiently(await connection.recv(decode=False))
        except Exception as error:
            self._arrivals.fail(ConnectionLost(f"the connection to {self._where} ended: {error}"))

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        return Delivery(payloads(await self._arrivals.take()), (), self._origin)


class _Server:
    """Takes what clients send."""

    def __init__(self, options: Websocket) -> None:
        self._options = options
        self._inlet = Inlet("websocket", capacity=MAX_WAITING, drops_abandoned=False)
        self._held = self._waiting = 0
        self._room = asyncio.Event()

    @asynccontextmanager
    async def listening(self, context: Context) -> AsyncIterator[Reader]:
        """Let clients connect while open; what nobody has read by the end is not accepted."""
        from websockets.asyncio.server import serve

        options = self._options
        assert options.address is not None
        host, port = split_address(options.address)
        try:
            server = await serve(
                self._take,
                host,
                port,
                ssl=await asyncio.to_thread(self._load_tls),
                process_request=self._admit,
                origins=[None, *options.origins],  # type: ignore[list-item]  # its names for origins are texts
                open_timeout=options.timeout,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=options.ping_interval,
                ping_timeout=options.ping_interval,
                max_size=int(options.max_message),
                max_queue=QUEUE_SIZE,
            )
        except OSError as error:
            raise ConnectionLost(f"cannot listen at {options.address}: {error.strerror or error}") from error
        bound = next(iter(server.sockets)).getsockname()[1]
        context.log.info("%s takes messages at %s (port %d)", context.name, options.path, bound)
        try:
            yield self._inlet
        finally:
            self._inlet.close()
            server.close(code=1012, reason="the stream stops: connect again")
            await server.wait_closed()

    def _load_tls(self) -> ssl.SSLContext | None:
        tls = self._options.tls
        if tls is None or tls.certificate is None or tls.key is None:
            return None
        return serving_tls.load(serving_tls.Tls(tls.certificate, tls.key, tls.ca))

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to who may not connect."""
        if request.path.partition("?")[0] != self._options.path:
            return connection.respond(HTTPStatus.NOT_FOUND, "nothing is served at this path\n")
        auth = self._options.auth
        if auth is None or auth.admits(request.headers.get("Authorization", "").encode("latin-1", "replace")):
            return None
        refusal = connection.respond(HTTPStatus.UNAUTHORIZED, "the credentials are missing or wrong\n")
        refusal.headers["WWW-Authenticate"] = auth.challenge.decode()
        return refusal

    async def _take(self, connection: ServerConnection) -> None:
        """Hand over what one client sends, in its order, and tell it what became of it."""
        ext = {"path": self._options.path, "remote": str((connection.remote_address or ("",))[0])}
        begun: deque[asyncio.Task[None]] = deque()
        arrived = asyncio.Event()
        telling = asyncio.create_task(self._tell(connection, begun, arrived))
        try:
            async for message in connection:
                payload = message.encode() if isinstance(message, str) else message
                await self._wait_for_room()
                self._held, self._waiting = self._held + len(payload), self._waiting + 1
                begun.append(asyncio.create_task(self._put(payload, ext)))
                arrived.set()
        finally:
            for task in begun:
                with suppress(Exception):
                    await task
            telling.cancel()
            await asyncio.wait({telling})

    async def _wait_for_room(self) -> None:
        while self._waiting >= MAX_WAITING or self._held >= int(self._options.max_waiting):
            self._room.clear()
            await self._room.wait()

    async def _put(self, payload: bytes, ext: dict[str, str]) -> None:
        try:
            await self._inlet.put([payload], ext, size=len(payload))
        finally:
            self._held, self._waiting = self._held - len(payload), self._waiting - 1
            self._room.set()

    async def _tell(
        self, connection: ServerConnection, begun: deque[asyncio.Task[None]], arrived: asyncio.Event
    ) -> None:
        """Tell a client of each message in turn what became of it."""
        while True:
            while not begun:
                arrived.clear()
                await arrived.wait()
            answer: dict[str, Any] = {"accepted": 1}
            try:
                await begun[0]
            except Exception as error:
                answer = {"error": str(error)}
                if not self._options.acks:
                    code = 1008 if isinstance(error, PermanentError) else 1013
                    await connection.close(code, str(error).encode()[:120].decode(errors="ignore"))
                    return
            begun.popleft()
            if self._options.acks:
                with suppress(Exception):  # it has gone; what it sent is kept all the same
                    await connection.send(json.dumps(answer, separators=(",", ":")))
