"""HTTP listeners shared by everything in this process that serves at the same address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from ..errors import ConfigError, ConnectionLost
from .asgi import Asgi, Receive, Scope, Send
from .route import Route, decoded, expected
from .tls import Tls, load

CHECK_TIMEOUT = 5.0
"""How long a request waits for the application that checks keys, in seconds."""

if TYPE_CHECKING:
    from .connection import Connections

log = logging.getLogger("penstock.serving.listener")


class Denial(NamedTuple):
    """Why a request is refused, as it is answered."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


Check: TypeAlias = Callable[[Scope], Awaitable[Denial | None]]
"""Return why a request is refused, or None."""


def split_address(address: str) -> tuple[str, int]:
    """Read ``host:port``, ``[ipv6]:port`` or ``:port``, which is loopback; raises ValueError for anything else."""
    host, colon, port = address.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected host:port, for example '127.0.0.1:8080', not {address!r}")
    return host or "127.0.0.1", int(port)


async def answer(send: Send, status: int, body: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send ``body`` as JSON, as the whole answer."""
    content = msgspec.json.encode(body)
    length = (b"content-length", b"%d" % len(content))
    fields = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


class Listeners:
    """One HTTP server for each address, started with its first route and stopped with its last."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._expected: dict[str, set[str]] = {}
        self._checks: dict[str, asyncio.Future[Check]] = {}
        self._lock = asyncio.Lock()

    def expect(self, address: str, path: str) -> None:
        """Answer 503 at ``path`` until it is served, where others serve at ``address`` already."""
        self._expected.setdefault(address, set()).add(path)

    @contextmanager
    def checking(self, scope: str, check: Check) -> Iterator[None]:
        """Have ``check`` decide, while open, which requests may pass that need a key with ``scope``."""
        found = self._checks.get(scope)
        if found is None or found.done():
            found = self._checks[scope] = asyncio.get_running_loop().create_future()
        found.set_result(check)
        try:
            yield
        finally:
            del self._checks[scope]

    async def check(self, scope: str, request: Scope) -> Denial | None:
        """Return why a request that needs a key with ``scope`` is refused, or None; waits for what decides it."""
        found = self._checks.get(scope)
        if found is None:
            found = self._checks[scope] = asyncio.get_running_loop().create_future()
        try:
            decide = found.result() if found.done() else await asyncio.wait_for(asyncio.shield(found), CHECK_TIMEOUT)
        except TimeoutError:
            return Denial(503, "keys cannot be checked yet: try again", _RETRY)
        return await decide(request)

    @asynccontextmanager
    async def mount(
        self,
        address: str,
        path: str,
        app: Asgi,
        *,
        methods: Iterable[str] | None = None,
        tls: Tls | None = None,
        grace: float = 10.0,
        probe: bool = False,
    ) -> AsyncIterator[int]:
        """Serve ``app`` at ``path`` of ``host:port`` while open; yields the port, which port 0 leaves to the system.

        ``path`` may have parts like ``{table}``, found percent-decoded in ``scope["path_params"]``, and may end in
        ``/*`` for everything beneath it (``scope["root_path"]`` is then what is above). Other methods than
        ``methods`` are answered 405. On leaving, running requests have ``grace`` seconds to finish; later ones are
        answered 503. A ``probe`` is answered also while the listener is full. Nobody runs the lifespan of ``app``.
        Raises ConnectionLost if the address cannot be bound, ConfigError if the path is taken.
        """
        route = Route(path, app, methods, probe=probe)
        server = await self._server(address, tls, route)
        try:
            yield server.port
        finally:
            await route.close(grace)
            async with self._lock:
                if not any(other.open for other in server.routes.values()):
                    del self._servers[address]
                    await server.stop()

    def port(self, address: str) -> int:
        """Return the port that is listened at for ``address``; raises KeyError if there is none."""
        return self._servers[address].port

    async def _server(self, address: str, tls: Tls | None, route: Route) -> _Server:
        async with self._lock:
            server = self._servers.get(address)
            if server is None:
                server = _Server(address, tls)
                for path in self._expected.get(address, ()):
                    server.add(expected(path))
                await server.start()
                self._servers[address] = server
            elif server.tls != tls:
                raise ConfigError(f"{address} is served already, with other TLS files: all paths of it need the same")
            server.add(route)
            return server


class _Server:
    """A bound address and what is served there; itself the ASGI application that finds the route."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address, self.tls = address, tls
        self.port = 0
        self.routes: dict[str, Route] = {}
        self._exact: dict[bytes, Route] = {}
        self._ordered: list[Route] = []
        self._server: asyncio.Server
        self._connections: Connections
        self._ticking: asyncio.Task[None]

    async def start(self) -> None:
        """Bind and listen; raises ConnectionLost if that is impossible, ConfigError for what could never work."""
        from .connection import Connections  # uvicorn costs nothing where nothing is served

        try:
            host, port = split_address(self.address)
        except ValueError as wrong:
            raise ConfigError(str(wrong)) from wrong
        context = await asyncio.to_thread(load, self.tls) if self.tls else None
        self._connections = Connections(self)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connections.accept,
                host,
                port,
                ssl=context,
                ssl_handshake_timeout=10 if context else None,
                backlog=2048,
            )
        except OSError as error:
            raise ConnectionLost(f"cannot listen at {self.address}: {error.strerror or error}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Accept no more connections and close those that are open."""
        self._server.close()
        self._ticking.cancel()
        await self._connections.close(grace=1.0)
        await self._server.wait_closed()

    async def _tick(self) -> None:
        while True:
            self._connections.tick(formatdate(usegmt=True).encode())
            await asyncio.sleep(1.0)

    def add(self, route: Route) -> None:
        """Serve one more route, in place of a closed one; raises ConfigError if another one has its path."""
        for other in self._ordered:
            if other.shape() == route.shape() and other.open:
                raise ConfigError(f"{self.address}{route.path} is served already, as {other.path}")
        self._ordered = [other for other in self._ordered if other.shape() != route.shape()]
        self._ordered = sorted([*self._ordered, route], key=Route.shape)
        self.routes = {other.path: other for other in self._ordered}
        self._exact = {o.path.encode(): o for o in self._ordered if not o.beneath and not any(o.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._exact.get(scope["raw_path"])
        if route is None:
            route = await self._find(scope, send)
        elif scope["type"] == "http" and route.methods is not None and scope["method"] not in route.methods:
            await self._wrong_method(route, send)
            return
        if route is None:
            return
        if not route.probe and self._connections.refuses(scope["client"]):
            await _refuse(scope, send, 503, "too many connections: try again", (*_RETRY, (b"connection", b"close")))
            return
        if not route.open:
            await _refuse(scope, send, 503, "this path is being opened or closed: try again", _RETRY)
            return
        task = asyncio.current_task()
        assert task is not None
        route.tasks.add(task)
        try:
            await route.app(scope, receive, send)
        except asyncio.CancelledError:
            if route.open:
                raise
            with suppress(RuntimeError):
                await _refuse(scope, send, 503, "the server is stopping: try again", _RETRY)
        except Exception:
            log.exception("a request to %s%s failed", self.address, route.path)
            with suppress(RuntimeError):
                await _refuse(scope, send, 500, "this request could not be handled; the log says why")
        finally:
            route.tasks.discard(task)

    async def _find(self, scope: Scope, send: Send) -> Route | None:
        """Look among the templates; answers the request itself if none fits."""
        parts = [unquote_to_bytes(part) if b"%" in part else part for part in scope["raw_path"].split(b"/")[1:]]
        for route in self._ordered:
            values = route.match(parts)
            if values is None:
                continue
            if scope["type"] == "http" and route.methods is not None and scope["method"] not in route.methods:
                await self._wrong_method(route, send)
                return None
            try:
                scope["path_params"] = {name: decoded(value) for name, value in values.items()}
            except ValueError as wrong:
                await _refuse(scope, send, 400, str(wrong))
                return None
            if route.beneath:
                scope["root_path"] = route.root
            return route
        await _refuse(scope, send, 404, "nothing is served at this path")
        return None

    async def _wrong_method(self, route: Route, send: Send) -> None:
        allowed = ", ".join(sorted(route.methods or ()))
        await answer(send, 405, {"error": f"expected {allowed}"}, [(b"allow", allowed.encode())])


_RETRY = ((b"retry-after", b"1"),)


async def _refuse(
    scope: Scope, send: Send, status: int, error: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013 if status == 503 else 1008})
    else:
        await answer(send, status, {"error": error}, headers)
