"""Compression of answers, piece by piece: gzip or zstd, whichever the client accepts."""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

import pyarrow as pa
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from .pieces import Pieces

MIN_COMPRESSED_SIZE = 1000
"""From how many bytes on an answer is compressed."""
_MIN_THREADED_SIZE = 50_000
"""From how many bytes on a piece is compressed in a thread, so that nobody waits for it."""
_GZIP_LEVEL = 5
_TEXTS = ("text/", "application/json", "application/x-ndjson", "application/gpx+xml", "application/xml")
"""What becomes smaller: other media types are compressed already."""
_STREAM = "text/event-stream"


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class _Zstd:
    def __init__(self) -> None:
        self._sink = Pieces()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._sink, mode="w"), "zstd")

    def compress(self, data: bytes) -> bytes:
        self._stream.write(data)
        return self._sink.take()

    def flush(self) -> bytes:
        self._stream.close()
        return self._sink.take()


def _compressor(encoding: str) -> _Compressor:
    return _Zstd() if encoding == "zstd" else zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)


def choose(accepted: str) -> str | None:
    """Return ``zstd`` or ``gzip`` as the header ``accept-encoding`` prefers, None if it accepts neither."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, options = part.partition(";")
        weights[name.strip()] = _weight(options)
    found = [(weights.get(name, weights.get("*", 0.0)), name) for name in ("gzip", "zstd")]
    weight, name = max(found)
    return name if weight > 0 else None


def _weight(options: str) -> float:
    for option in options.split(";"):
        name, _, value = option.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def compress_answers(app: ASGIApp) -> ASGIApp:
    """Return the application with its answers compressed for clients that accept it."""

    async def compressed(scope: Scope, receive: Receive, send: Send) -> None:
        encoding = None
        if scope["type"] == ScopeType.HTTP:
            encoding = choose(Headers.from_scope(scope).get("accept-encoding", ""))
        await app(scope, receive, _Answer(send, encoding) if encoding else send)

    return compressed


class _Answer:
    """Sends an answer on, compressed if it gains by it."""

    def __init__(self, send: Send, encoding: str) -> None:
        self._send, self._encoding = send, encoding
        self._start: Message | None = None
        self._compressor: _Compressor | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_text(message):
            self._start = message  # until it is known whether the answer is long
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            if self._gains(start, body, more):
                self._compressor = _compressor(self._encoding)
            await self._send(start)
        if self._compressor is None:
            await self._send(message)
            return
        if len(body) >= _MIN_THREADED_SIZE:
            packed = await asyncio.to_thread(_pack, self._compressor, body, more)
        else:
            packed = _pack(self._compressor, body, more)
        if packed or not more:
            await self._send({"type": "http.response.body", "body": packed, "more_body": more})

    def _gains(self, start: Message, body: bytes, more: bool) -> bool:
        """Tell whether an answer is to be compressed, and say so in its headers."""
        headers = MutableScopeHeaders.from_message(start)
        headers.extend_header_value("vary", "accept-encoding")
        if "content-encoding" in headers or not (more or len(body) >= MIN_COMPRESSED_SIZE):
            return False
        headers["content-encoding"] = self._encoding
        if "content-length" in headers:
            del headers["content-length"]
        return True


def _is_text(start: Message) -> bool:
    """Tell whether an answer may become smaller; events are not held up for it."""
    kind = MutableScopeHeaders.from_message(start).get("content-type", "")
    return kind.startswith(_TEXTS) and not kind.startswith(_STREAM)


def _pack(compressor: _Compressor, body: bytes, more: bool) -> bytes:
    return compressor.compress(body) + (b"" if more else compressor.flush())
