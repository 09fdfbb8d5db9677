"""One HTTP connection of a listener: uvicorn's protocol, with limits on what a client may take its time over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from .asgi import Asgi

MAX_HEADER_BYTES = 64 * 1024
HEADER_SECONDS = 10.0
"""How long a request line and its headers may take to arrive."""
IDLE_SECONDS = 30.0
"""How long nothing of a started body may arrive."""
KEEP_ALIVE_SECONDS = 75
MAX_CONNECTIONS = 4096


def settings(app: Asgi) -> Config:
    """Return what uvicorn's protocols are to know: no lifespan, no loggers of its own, no trust in proxy headers."""
    config = Config(
        app,
        http=Connection,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    return config


class _Joining(asyncio.Transport):
    """What an answer is written to: holds a part back until the next one, so that a head goes out with its body.

    Nothing is held longer than one turn of the loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write what is held together with ``data``, or hold ``data``."""
        if self._held:
            data, self._held = self._held + data, b""
            self._transport.write(data)
        elif data:
            self._held = bytes(data)
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Close the connection once all is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport.is_closing()


class Connection(HttpToolsProtocol):
    """One client; ``enforce`` is to be called now and then, and ends it if it is too slow."""

    def __init__(self, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={}, _loop=asyncio.get_running_loop())
        self._started = self._heard = time.monotonic()
        self._in_headers = True
        self._in_message = False
        self._chunk = self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client."""
        super().connection_made(transport)
        self._answers = _Joining(transport, self.loop)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a header that is too big ends the connection."""
        self._heard = time.monotonic()
        self._chunk = len(data)
        if self._in_headers:
            self._header_bytes += self._chunk
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request line and headers are longer than {MAX_HEADER_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        super().on_message_begin()
        self._started = time.monotonic()
        self._in_headers = self._in_message = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Hand the request to the app; raises ValueError if its headers were too big."""
        self._in_headers = False
        if self._header_bytes + self._chunk > MAX_HEADER_BYTES:  # else they cannot be too big
            self._header_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if self._header_bytes > MAX_HEADER_BYTES:
                raise ValueError("the headers are too big")
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = self._answers

    def on_response_complete(self) -> None:
        """Write the rest of an answer, and go on with the next request."""
        self._answers.flush()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """Stop the clock of a request."""
        self._in_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed."""
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, f"the request line and headers are longer than {MAX_HEADER_BYTES} bytes")
        else:
            self._refuse(400, "this is not a valid HTTP request")

    def enforce(self, now: float) -> None:
        """End the connection if its client sends too slowly; time that the app takes does not count."""
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        if self._in_headers and answered and now - self._started > HEADER_SECONDS:
            self._refuse(408, f"the headers took longer than {HEADER_SECONDS:.0f} s")
        elif self._in_message and not self.flow.read_paused:
            allowed = 10 * IDLE_SECONDS if answered else float("inf")
            if now - self._heard > IDLE_SECONDS or now - self._started > allowed:
                self.transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        body = b'{"error":"%b"}' % reason.encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


class Connections:
    """The connections of one listener."""

    def __init__(self, app: Asgi) -> None:
        self._state, self._config = ServerState(), settings(app)

    def accept(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self._config, self._state)

    def tick(self, date: bytes) -> None:
        """Send ``date`` with each answer from now on, and end the connections that are too slow."""
        self._state.default_headers = [(b"date", date)]
        now = time.monotonic()
        for connection in list(self._state.connections):
            if isinstance(connection, Connection):
                connection.enforce(now)

    async def close(self, grace: float) -> None:
        """Close idle connections at once and the others as soon as they were answered, at most ``grace`` later."""
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = time.monotonic() + grace
        while self._state.connections and time.monotonic() < deadline:  # noqa: ASYNC110  (a set cannot wake anybody)
            await asyncio.sleep(0.01)
        tasks: set[asyncio.Task[Any]] = set(self._state.tasks)
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
