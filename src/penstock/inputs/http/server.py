"""Rows that are posted to an address of our own, answered once they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...component import Reader
from ...context import Context
from ...errors import PermanentError
from ...inlet import Inlet, NotInTime
from ...serving.asgi import Receive, Scope, Send
from ...serving.guard import refusal
from ...serving.listener import Listeners, answer
from ...serving.tls import Tls
from .bodies import ENCODINGS, Refusal, Rows, decompress, media, parse

if TYPE_CHECKING:
    from . import Http

MAX_REQUESTS = 1 << 16
"""How many requests wait to be read at most, however small they are."""
_THREAD_BYTES = 256 << 10
_JSON = (b"content-type", b"application/json")


class Endpoint:
    """The ASGI application behind one path."""

    def __init__(self, config: Http, inlet: Inlet, listeners: Listeners) -> None:
        self._config, self._inlet, self._listeners = config, inlet, listeners
        self._limit, self._most_held = int(config.max_body), int(config.max_waiting)
        self._held = 0
        self._room = asyncio.Event()
        self._json = config.codec is not None and config.codec.type_name.endswith("json")
        self._selected = [(name.lower().encode("latin-1"), name.lower()) for name in config.headers_kept()]
        self._cors = _CORS if config.cors_enabled else []
        fields = [_JSON, (b"content-length", b"14"), *self._cors]
        self._one: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": fields}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [*self._cors, *_PREFLIGHT]})
            await send({"type": "http.response.body"})
            return
        try:
            accepted = await self._take(scope, receive)
        except Refusal as refusal:
            await answer(send, refusal.status, {"error": refusal.reason}, [*refusal.headers, *self._cors])
            return
        if accepted == 1:
            await send(self._one)
            await send({"type": "http.response.body", "body": b'{"accepted":1}'})
        elif accepted is not None:
            await answer(send, 200, {"accepted": accepted}, self._cors)

    async def _take(self, scope: Scope, receive: Receive) -> int | None:
        """Return how many rows are durable now; None if the client went away before its body was whole."""
        headers = dict(scope["headers"])
        if self._config.same_origin and (reason := refusal(scope, self._config.address or "")):
            raise Refusal(403, reason)
        if self._config.scope and (denial := await self._listeners.check(self._config.scope, scope)):
            raise Refusal(*denial)
        encoding = self._admit(headers)
        held = _Held(self)
        try:
            body = await self._read(receive, held)
            if body is None:
                return None
            rows = await self._parse(body, headers.get(b"content-type", b""), encoding)
            size = len(body)
            if encoding is not None:
                size = sum(map(len, rows)) if isinstance(rows, list) else rows.nbytes
                held.add(max(0, size - len(body)))
            del body
            count = len(rows) if isinstance(rows, list) else int(rows.num_rows)
            if count:
                await self._deliver(rows, size, self._ext(scope, headers))
            return count
        finally:
            held.release()

    def _admit(self, headers: dict[bytes, bytes]) -> bytes | None:
        """Check all that can be known before the body; returns its encoding, if it has one."""
        auth = self._config.auth
        if auth is not None and not auth.admits(headers.get(b"authorization", b"")):
            raise Refusal(401, "the credentials are missing or wrong", ((b"www-authenticate", auth.challenge),))
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._limit:
            raise Refusal(413, f"the body is longer than {self._limit} bytes")
        encoding = headers.get(b"content-encoding", b"").strip().lower()
        if encoding in {b"", b"identity"}:
            return None
        if encoding not in ENCODINGS:
            known = b", ".join(sorted(ENCODINGS))
            raise Refusal(415, "the content encoding is not supported", ((b"accept-encoding", known),))
        return encoding

    async def _read(self, receive: Receive, held: _Held) -> bytes | None:
        if self._held >= self._most_held:
            await held.wait(self._config.timeout)
        message = await receive()  # the listener ends connections on which nothing arrives
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        held.add(len(body))
        if message.get("more_body"):
            try:
                async with asyncio.timeout(self._config.timeout):
                    return await self._read_rest(body, receive, held)
            except TimeoutError:
                raise Refusal(408, "the body took too long to arrive") from None
        if len(body) > self._limit:
            raise Refusal(413, f"the body is longer than {self._limit} bytes")
        return body

    async def _read_rest(self, body: bytes, receive: Receive, held: _Held) -> bytes | None:
        parts, size, more = [body], len(body), True
        while more:
            if self._held >= self._most_held:
                await held.wait(self._config.timeout)
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            parts.append(part)
            held.add(len(part))
            size += len(part)
            if size > self._limit:
                raise Refusal(413, f"the body is longer than {self._limit} bytes")
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _parse(self, body: bytes, content_type: bytes, encoding: bytes | None) -> Rows:
        kind, framing = media(content_type), self._config.framing

        def plain_rows() -> Rows:
            plain = decompress(body, encoding, self._limit) if encoding is not None else body
            return parse(plain, kind, framing, self._json, self._limit)

        if encoding is None and len(body) < _THREAD_BYTES and not kind.is_table:
            return plain_rows()
        return await asyncio.to_thread(plain_rows)

    def _ext(self, scope: Scope, headers: dict[bytes, bytes]) -> dict[str, str]:
        client = scope.get("client")
        ext = {"path": scope["path"], "remote": client[0] if client else ""}
        if "path_params" in scope:
            ext.update(scope["path_params"])
        for key, name in self._selected:
            if key in headers:
                ext[name] = headers[key].decode("latin-1")
        return ext

    async def _deliver(self, rows: Rows, size: int, ext: dict[str, str]) -> None:
        """Return once the rows are durable; raises Refusal if they are not."""
        try:
            await self._inlet.put(rows, ext, size=size, timeout=self._config.timeout)
        except PermanentError as error:
            raise Refusal(422, f"the rows are refused: {error}") from error
        except NotInTime as error:
            raise Refusal(503, "the rows were not durable in time: send them again", _RETRY_LATER) from error
        except Exception as error:
            raise Refusal(503, "the rows are not durable: send them again", _RETRY_LATER) from error

    def hold(self, size: int) -> None:
        """Count bytes in, or out when negative."""
        self._held += size
        if size < 0:
            self._room.set()

    async def room(self, others: int) -> None:
        """Wait until less is held than allowed; ``others`` is what would be held by nobody else."""
        while self._held >= self._most_held and self._held > others:
            self._room.clear()
            await self._room.wait()


class _Held:
    """How many bytes one request holds of what all requests together may."""

    __slots__ = ("_endpoint", "_size")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._size = endpoint, 0

    def add(self, size: int) -> None:
        self._size += size
        self._endpoint.hold(size)

    async def wait(self, timeout: float) -> None:
        """Wait for room; raises Refusal if there is none in time."""
        try:
            await asyncio.wait_for(self._endpoint.room(self._size), timeout)
        except TimeoutError:
            raise Refusal(503, "too much is waiting: send it again later", _RETRY_LATER) from None

    def release(self) -> None:
        if self._size:
            self._endpoint.hold(-self._size)


_RETRY_LATER = ((b"retry-after", b"1"),)
_CORS = [(b"access-control-allow-origin", b"*")]
_PREFLIGHT = [
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
    (b"access-control-max-age", b"600"),
]


@asynccontextmanager
async def serve(config: Http, address: str, path: str, context: Context) -> AsyncIterator[Reader]:
    """Take posts at ``path`` while open; what nobody has read by the end is answered 503."""
    inlet = Inlet("http", capacity=MAX_REQUESTS)
    files = Tls(config.tls.certificate, config.tls.key, config.tls.client_authority) if config.tls else None
    methods = ("POST", "OPTIONS") if config.cors_enabled else ("POST",)
    endpoint = Endpoint(config, inlet, context.listeners)
    async with context.listeners.mount(address, path, endpoint, methods=methods, tls=files, grace=5.0) as port:
        context.log.info("%s takes posts at %s (port %d)", context.name, path, port)
        try:
            yield inlet
        finally:
            inlet.close()
