"""One HTTP connection of a listener: uvicorn's protocol, with limits on what a client may take its time over."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterable
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
"""How many connections a listener holds, where the process may open twice as many files."""
CLIENT_SHARE = 4
"""One address holds at most this part of them."""
SLACK = 16
"""How many more there are for the moment that closing the idle ones takes."""

log = logging.getLogger("penstock.serving.connection")
_QUIET = logging.getLogger("penstock.serving.uvicorn")
_QUIET.setLevel(logging.ERROR)
"""For what uvicorn says itself: of a request that is not valid we say who sent it."""


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
        """Tell whether nothing can be written any more."""
        return self._transport.is_closing()


class Connection(HttpToolsProtocol):
    """One client; ``enforce`` is to be called now and then, and ends it if it is too slow."""

    def __init__(self, config: Config, connections: Connections) -> None:
        super().__init__(config, connections.state, app_state={}, _loop=asyncio.get_running_loop())
        self.logger = _QUIET
        self._all = connections
        self.address = ""
        self._started = self._heard = self.loop.time()
        self._in_headers = True
        self._in_message = False
        self._chunk = self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client."""
        super().connection_made(transport)
        self._answers = _Joining(transport, self.loop)
        self.address = self.client[0] if self.client else ""
        self._all.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._all.leave(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered, and no body of one is arriving."""
        return self.cycle is None or (self.cycle.response_complete and not self._in_message)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a header that is too big ends the connection."""
        self._heard = self.loop.time()
        self._chunk = len(data)
        if self._in_headers:
            self._header_bytes += self._chunk
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request line and headers are longer than {MAX_HEADER_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        super().on_message_begin()
        self._started = self.loop.time()
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
        self._all.warnings.say("%s sent what is not a valid HTTP request", self.address or "a client")
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


def _close_idle(connections: Iterable[Connection], but: Connection) -> None:
    oldest = next(
        (one for one in connections if one is not but and one.is_idle and not one.transport.is_closing()), None
    )
    if oldest is not None:
        oldest.transport.close()


class Rarely:
    """Warnings that a client could cause without end: one in an interval, with how many were left out."""

    def __init__(self, log: logging.Logger, interval: float = 10.0) -> None:
        self._log, self._interval = log, interval
        self._said_at, self._unsaid = float("-inf"), 0

    def say(self, message: str, *values: object) -> None:
        """Log a warning, unless another one was logged a moment ago."""
        now = time.monotonic()
        if now - self._said_at < self._interval:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more such warnings since the last one)" if self._unsaid else ""
        self._said_at, self._unsaid = now, 0
        self._log.warning(f"{message}%s", *values, more)


class Connections:
    """The connections of one listener."""

    def __init__(self, app: Asgi) -> None:
        self.state, self._config = ServerState(), settings(app)
        self._most = min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._share = max(1, self._most // CLIENT_SHARE)
        self._clients: dict[str, dict[Connection, None]] = {}
        self.warnings = Rarely(log)

    def accept(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self._config, self)

    def refuses(self, client: tuple[str, int] | None) -> bool:
        """Tell whether a client, or all of them, hold more than they may though their idle connections are closed."""
        own = len(self._clients.get(client[0] if client else "", ()))
        most = self._most + SLACK
        return own > self._share + SLACK or len(self.state.connections) > most or len(self.state.tasks) > most

    def enter(self, connection: Connection) -> None:
        """Count a new connection; where its client or all hold too many, the longest idle one is closed."""
        own = self._clients.setdefault(connection.address, {})
        own[connection] = None
        if len(own) > self._share:
            self.warnings.say("%s holds %d connections: its oldest idle ones are closed", connection.address, len(own))
            _close_idle(own, connection)
        elif len(self.state.connections) > self._most:
            self.warnings.say("there are %d connections: the oldest idle ones are closed", len(self.state.connections))
            largest = max(self._clients.values(), key=len)
            _close_idle(largest, connection)

    def leave(self, connection: Connection) -> None:
        """Count a connection no more."""
        own = self._clients.get(connection.address, {})
        own.pop(connection, None)
        if not own:
            self._clients.pop(connection.address, None)

    def tick(self, date: bytes) -> None:
        """Send ``date`` with each answer from now on, and end the connections that are too slow."""
        self.state.default_headers = [(b"date", date)]
        now = asyncio.get_running_loop().time()
        for connection in list(self.state.connections):
            if isinstance(connection, Connection):
                connection.enforce(now)

    async def close(self, grace: float) -> None:
        """Close idle connections at once and the others as soon as they were answered, at most ``grace`` later."""
        for connection in list(self.state.connections):
            connection.shutdown()
        deadline = time.monotonic() + grace
        while self.state.connections and time.monotonic() < deadline:  # noqa: ASYNC110  (a set cannot wake anybody)
            await asyncio.sleep(0.01)
        tasks: set[asyncio.Task[Any]] = set(self.state.tasks)
        for connection in list(self.state.connections):
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
