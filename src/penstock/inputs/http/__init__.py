"""Rows over HTTP: posted to an address of our own, or fetched from a URL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from ...clients.http import Auth, Headers, Url, check_credentials
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from ...extras import require
from ...options import Options
from ...serving.listener import split_address
from .bodies import BodyFraming

_SERVING = ("path", "cors_enabled", "same_origin", "scope", "max_waiting", "tls")
_POLLING = ("method", "interval", "body", "records", "cursor", "once")


class TlsFiles(Options):
    """The files with which the address speaks TLS."""

    certificate: Path
    """The certificate chain, PEM."""
    key: Path
    """The private key, PEM, not encrypted."""
    client_authority: Path | None = None
    """Whose certificates clients must show; without it, clients need none."""


class Cursor(Options):
    """How a URL is asked only for what is new."""

    param: str
    """The query parameter that carries the cursor."""
    field: str | None = None
    """Where in a record the cursor is; that of the last record counts. A path like `id` or `meta.id`."""
    pointer: str | None = None
    """Where in the answer the next cursor is. A path like `next` or `paging.next`."""
    start: str | int | None = None
    """The cursor of the first request; without it, the first request has none."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.field is None) == (self.pointer is None):
            raise ValueError("expected either `field` or `pointer`")
        return self


class Http(Input, type="http"):
    """Take rows that are posted over HTTP, or fetch them from a URL again and again.

    With `address` and `path` it serves: each `POST` is answered 200 with `{"accepted": rows}` once its rows are
    durable, not before. Other answers: 400 malformed, 401 wrong credentials (checked before the body is read),
    403 a page of another origin (with `same_origin`) or a key without `scope`, 413 too big, 415 unknown content
    encoding, 422 rows that the stream refuses for ever, 503 with `Retry-After` when the rows could not be made durable
    in `timeout`; the client is to send these again, so a row may come twice, never not at all. Requests that wait at
    the same moment are delivered together.

    A JSON body is checked as a whole before any of it is accepted: the elements of an array and the values of
    NDJSON become one row each. A text with half of a surrogate pair is the one fault that is left to the codec, which
    refuses that row alone. `gzip`, `deflate`, `zstd` and `br` bodies are decompressed. Bodies that say they are
    `application/vnd.apache.arrow.stream`, `text/csv` or `application/vnd.apache.parquet` are read as rows
    and need no codec.
    Inputs and services with the same address share one listener. Metadata: `__meta_source` is `http`; `__meta_ext`
    has `path`, `remote`, the `{placeholders}` of the path and the headers named by `headers`.

    With `url` it asks: once every `interval`, at once again while a `cursor` moves on. The cursor and what makes a
    request conditional (`ETag`, `Last-Modified`) are kept as position of what was acked. A page after which the cursor
    stands still comes again only when it has changed.

    Example::

        type: http
        address: 127.0.0.1:8080
        path: /events/{table}
        auth: {type: bearer, token: not-a-secret}
        codec: json
    """

    address: str | None = None
    """Where to listen, `host:port`; `127.0.0.1` is reached from this machine alone, `0.0.0.0` from everywhere."""
    path: str | None = None
    """The path to serve, exactly; parts like `{table}` stand for anything and become metadata."""
    cors_enabled: bool = False
    """Whether pages of other origins may post."""
    same_origin: bool = False
    """Whether posts of web pages of other origins are refused with 403, and on loopback those for a foreign `Host`."""
    scope: str = ""
    """The scope that a key must have, such as `inbox.send`; an application that runs beside the stream checks keys."""
    auth: Auth | None = None
    """The credentials that requests must carry, when serving, or carry, when asking."""
    tls: TlsFiles | None = None
    """The files with which to speak TLS."""
    max_body: ByteSize = Field(ByteSize(16 << 20), gt=0, le=1 << 30)
    """The longest body, compressed or not, for example `16MiB`."""
    max_waiting: ByteSize = Field(ByteSize(64 << 20), gt=0)
    """How many bytes of all requests together may wait in memory; more requests wait, at most `timeout`."""
    framing: BodyFraming = BodyFraming.AUTO
    """How payloads follow one another in a body; `auto` splits JSON arrays and NDJSON and takes others whole."""
    headers: list[str] | Headers = []
    """When serving, the names of headers to keep as metadata; when asking, the headers to send."""
    timeout: Duration = Field(30.0, gt=0)
    """How long a request may take: until its rows are durable when serving, until the answer when asking."""

    url: Url | None = None
    """The URL to ask."""
    method: Literal["GET", "POST"] = "GET"
    """The method to ask with."""
    interval: Duration = Field(60.0, gt=0)
    """The time from one request to the next."""
    body: str | None = None
    """The body to ask with."""
    records: str | None = None
    """Where in the answer the list of records is, a path like `data.items`; without it, the answer is the rows."""
    cursor: Cursor | None = None
    """How to ask only for what is new."""
    once: bool = False
    """Whether to end when the first answer, and what its cursor led to, is read."""

    @field_validator("address")
    @classmethod
    def _valid_address(cls, address: str | None) -> str | None:
        if address is not None:
            split_address(address)
        return address

    @field_validator("path")
    @classmethod
    def _valid_path(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or not path.isascii() or "*" in path or " " in path):
            raise ValueError("expected a path like '/events' or '/events/{table}'")
        return path

    extra: ClassVar[str] = "http"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.address is None):
            raise ValueError("expected either `address` and `path`, to take posts, or `url`, to ask")
        if self.url is None and self.path is None:
            raise ValueError("expected a `path` beside `address`")
        require("uvicorn" if self.url is None else "aiohttp", "input 'http'")
        ways = (_POLLING, "address") if self.url is None else (_SERVING, "url")
        wrong = [name for name in ways[0] if name in self.model_fields_set and getattr(self, name) is not None]
        if wrong:
            raise ValueError(f"`{wrong[0]}` has no meaning beside `{ways[1]}`")
        if self.headers and isinstance(self.headers, list) == (self.url is not None):
            raise ValueError("expected `headers` to be a list of names beside `address`, a mapping beside `url`")
        if self.cursor is not None and self.cursor.field is None and self.framing is not BodyFraming.AUTO:
            raise ValueError("a `cursor` is found in JSON only: leave out `framing`")
        if self.codec is not None and self.framing is BodyFraming.LINES:
            self.codec.check_lines()
        check_credentials(self.url, self.auth, self.headers_sent())
        return self

    def headers_kept(self) -> list[str]:
        """Return the names of the headers that become metadata."""
        return self.headers if isinstance(self.headers, list) else []

    def headers_sent(self) -> dict[str, str]:
        """Return the headers to ask with."""
        return self.headers if isinstance(self.headers, dict) else {}

    def served(self) -> Sequence[tuple[str, str]]:
        """Return where it takes posts."""
        return [(self.address, self.path)] if self.address is not None and self.path is not None else []

    def tells_sender(self) -> bool:
        """Tell whether it serves: what is refused is answered 422 with the reason."""
        return self.url is None

    def open(self, context: Context) -> AbstractAsyncContextManager[Reader]:
        """Listen, or get ready to ask; raises ConnectionLost if the address cannot be bound."""
        if self.url is not None:
            from .polling import poll  # a server has no need of a client

            return poll(self, self.url, context)
        from .server import serve

        assert self.address is not None
        assert self.path is not None
        return serve(self, self.address, self.path, context)
