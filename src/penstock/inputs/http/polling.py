"""Rows that a URL answers, asked for again and again."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pyarrow as pa

from ...checkpoint import Checkpoint
from ...clients.http import failures, meaning, open_session, read_at_most, redact_url, secrets_of
from ...clock import Clock
from ...component import Reader
from ...context import Context
from ...delivery import Batch, Delivery, Position
from ...errors import EndOfInput, PermanentError
from ...metadata import Origin, payloads
from .bodies import Media, Refusal, Rows, media, parse

if TYPE_CHECKING:
    from . import Http

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Position(msgspec.Struct, forbid_unknown_fields=True):
    """What was last asked for and answered."""

    cursor: Any = msgspec.UNSET
    conditions: dict[str, str] = {}
    digest: str | None = None


class PollingReader:
    """Asks, delivers what is answered, and waits."""

    def __init__(
        self, config: Http, url: str, session: aiohttp.ClientSession, checkpoint: Checkpoint, clock: Clock
    ) -> None:
        self._clock = clock
        self._config, self._url, self._session, self._checkpoint = config, url, session, checkpoint
        saved = checkpoint.position_as(_Position) or _Position()
        start = config.cursor.start if config.cursor else None
        self._cursor: Any = saved.cursor if saved.cursor is not msgspec.UNSET else start
        self._conditions = saved.conditions
        self._digest = saved.digest
        self._ready: tuple[Batch, Position] | None = None
        self._moved = True
        self._next = 0.0

    async def read(self) -> Delivery:
        """Return the next answer that has rows."""
        while self._ready is None:
            if self._config.once and not self._moved:
                raise EndOfInput
            await self._clock.sleep(max(0.0, self._next - self._clock.monotonic()))
            await self.ask()
        batch, position = self._ready
        origin = Origin("http", ext={"url": redact_url(self._url)})
        delivery = await self._checkpoint.deliver(batch, position, origin)
        self._ready = None
        return delivery

    async def ask(self) -> None:
        """Send one request; what it answers is what ``read`` returns next."""
        asked_at = self._clock.monotonic()
        body, kind, conditions = await self._fetch()
        rows, cursor = await asyncio.to_thread(self._understand, body, kind) if body is not None else ([], None)
        batch, digest = _batch(rows), self._digest
        self._moved = cursor is not None and cursor != self._cursor
        if self._moved:
            self._cursor, conditions, digest = cursor, {}, None
        elif self._config.cursor is not None and body is not None:
            digest = hashlib.sha256(body).hexdigest()
            batch = batch if digest != self._digest else None  # a last page that has not grown
        self._conditions, self._digest = conditions, digest
        if batch is not None:
            self._ready = batch, {"cursor": self._cursor, "conditions": conditions, "digest": digest}
        self._next = asked_at + (0 if self._moved else self._config.interval)

    async def _fetch(self) -> tuple[bytes | None, Media, dict[str, str]]:
        """Return the body, or None if nothing changed, what it is, and the headers that ask whether it changed."""
        config = self._config
        params = {config.cursor.param: str(self._cursor)} if config.cursor and self._cursor is not None else None
        secretive = config.auth is not None or bool(config.headers_sent())
        with failures(self._url):
            async with self._session.request(
                config.method,
                self._url,
                params=params,
                data=config.body.encode() if config.body is not None else None,
                headers=self._conditions,
                allow_redirects=not secretive and config.method == "GET",
                max_redirects=5,
            ) as response:
                body = await read_at_most(response, int(config.max_body))
        if response.status == 304:
            return None, Media.OTHER, self._conditions
        if response.status >= 300:
            secrets = secrets_of(config.auth, config.headers_sent())
            raise meaning(response.status, self._url, response.headers, body, secrets)
        if len(body) > config.max_body:
            raise PermanentError(f"{redact_url(self._url)} answered more than {int(config.max_body)} bytes")
        return body or None, media(response.headers.get("Content-Type", "").encode()), _conditions(response.headers)

    def _understand(self, body: bytes, kind: Media) -> tuple[Rows, Any]:
        """Return the rows of an answer and the cursor that it leads to, None if it leads nowhere."""
        config = self._config
        json = config.codec is not None and config.codec.type_name.endswith("json")
        if config.records is not None:
            rows: Rows = [bytes(record) for record in self._decode(_list, self._find(body, config.records))]
        else:
            try:
                rows = parse(body, kind, config.framing, json, int(config.max_body))
            except Refusal as refusal:
                raise PermanentError(f"{redact_url(self._url)} answered what is no good: {refusal.reason}") from refusal
        cursor = config.cursor
        if cursor is None:
            return rows, None
        if cursor.pointer is not None:
            return rows, self._decode(msgspec.json.decode, self._find(body, cursor.pointer, missing=b"null"))
        if not isinstance(rows, list):
            raise PermanentError("a `cursor` is found in JSON only")
        assert cursor.field is not None
        return rows, self._decode(msgspec.json.decode, self._find(rows[-1], cursor.field)) if rows else None

    def _find(self, body: bytes, path: str, missing: bytes | None = None) -> bytes:
        """Return the JSON text at ``path``; raises PermanentError if there is none and none may be missing."""
        for name in re.split(r"[./]", path.strip("/")):
            if body == b"null" and missing is not None:
                return missing
            fields: Mapping[str, msgspec.Raw] = self._decode(_object, body)
            if name not in fields:
                if missing is not None:
                    return missing
                raise PermanentError(f"{redact_url(self._url)} answered without {path!r}: there is no {name!r}")
            body = bytes(fields[name])
        return body

    def _decode(self, decode: Any, body: bytes) -> Any:
        try:
            return decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise PermanentError(f"{redact_url(self._url)} answered what is no good: {error}") from error


def _conditions(headers: Mapping[str, str]) -> dict[str, str]:
    found = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return {name: value for name, value in found.items() if value}


def _batch(rows: Rows | Sequence[bytes]) -> Batch | None:
    if isinstance(rows, pa.RecordBatch):
        return rows if rows.num_rows else None
    return payloads(rows) if rows else None


@asynccontextmanager
async def poll(config: Http, url: str, context: Context) -> AsyncIterator[Reader]:
    """Ask for the first time, so that a URL which does not answer is a failure to open, and go on asking."""
    checkpoint = await context.checkpoint()
    async with open_session(config.headers_sent(), config.auth, timeout=config.timeout, connections=1) as session:
        reader = PollingReader(config, url, session, checkpoint, context.clock)
        await reader.ask()
        yield reader
