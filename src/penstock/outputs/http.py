"""Send rows to a URL, one request for each or many in one."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import aiohttp
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from ..clients.http import (
    Auth,
    Headers,
    check_credentials,
    check_url,
    failures,
    meaning,
    open_session,
    read_at_most,
    secrets_of,
)
from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError, RowsRejected, TransientError
from ..options import Options
from ..sql.expression import Expr
from ._memory import ArrivalMemory
from ._payloads import bodies, cells

_UNAUTHORIZED = (401, 407)
"""Credentials that are refused may be renewed: no row is at fault."""
_ANSWER_BYTES = 4096


class Batched(Options):
    """Many rows in one request."""

    rows: int = Field(1000, ge=1)
    """The most rows in one request."""
    format: Literal["ndjson", "array"] = "ndjson"
    """Whether the payloads stand on lines of their own or are the elements of a JSON array."""


def _checked(url: Expr) -> Expr:
    return Expr(check_url(url.constant)) if url.constant is not None else url


class Http(Output, type="http"):
    """Send rows to a URL.

    Each row is one request whose body is its payload, or with `batch` many rows are. Up to `concurrency` requests
    run at once, so the order of arrival is not the order of the rows unless it is 1. A row is written once its
    request is answered 2xx. After 408, 425, 429, 5xx and time-outs the stream waits and tries again, as long as its
    `retry` says and not before `Retry-After` unless that exceeds the longest wait; other answers refuse the row, with
    the status and the start of the answer as reason. Requests that succeeded are not repeated when others of the same
    write are; after a restart they may be, which `idempotency_key` lets the server notice. Redirects are not followed.

    Example::

        type: http
        url: https://example.com/events
        headers: {X-Source: penstock}
        auth: {type: bearer, token: not-a-secret}
        batch: {rows: 500, format: ndjson}
    """

    extra: ClassVar[str] = "http"

    url: Annotated[Expr, AfterValidator(_checked)]
    """Where to send; spaces around it are ignored. An expression gives each row its own; rows whose URL is null or not
    valid are refused."""
    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH"] = "POST"
    """The method; `GET` and `DELETE` send no body."""
    timeout_ms: int = Field(5000, ge=1)
    """How long a request may take, in milliseconds."""
    timeout: Duration | None = Field(None, gt=0)
    """How long a request may take; instead of `timeout_ms`."""
    retry_count: int | None = Field(None, ge=0)
    """How often a request is sent again after its first failure before its rows are refused, with the reason; by
    default until it succeeds, or as often as the `retry` of the stream says."""
    headers: Headers = {}
    """Headers to send; `Content-Type` is `application/json` unless given."""
    auth: Auth | None = None
    """The credentials to send."""
    body_field: str | None = None
    """The column whose cells are the bodies; rows where it is null are not sent. By default the payloads are."""
    batch: Batched | None = None
    """How many rows go into one request; by default one."""
    concurrency: int = Field(4, ge=1)
    """How many requests may run at once."""
    idempotency_key: str | None = None
    """The column that is sent as `Idempotency-Key`; for several rows in one request, a digest of their keys."""

    @model_validator(mode="after")
    def _one_place_for_credentials(self) -> Self:
        check_credentials(self.url.constant, self.auth, self.headers)
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Get ready to send; nothing is sent yet."""
        timeout = self.timeout if self.timeout is not None else self.timeout_ms / 1000
        async with open_session(
            self._sent_headers(), self.auth, timeout=timeout, connections=self.concurrency
        ) as session:
            yield _HttpWriter(self, session)

    def sends_body(self) -> bool:
        """Tell whether a request of this method has a body."""
        return self.method not in {"GET", "DELETE"}

    def _sent_headers(self) -> dict[str, str]:
        if not self.sends_body() or any(name.lower() == "content-type" for name in self.headers):
            return self.headers
        lines = self.batch is not None and self.batch.format == "ndjson"
        return {**self.headers, "Content-Type": "application/x-ndjson" if lines else "application/json"}

    def bodies(self, batch: Batch) -> pa.BinaryArray:
        """Return one body for each row; null for a row that is not sent."""
        return bodies(self, batch, self.body_field)


class _Row(NamedTuple):
    """A row on its way; equal rows are the same to the server."""

    url: str
    body: bytes
    key: str | None


class _Request(NamedTuple):
    """The rows of one request, and their indexes in the write."""

    url: str
    indexes: list[int]
    rows: list[_Row]


class _HttpWriter:
    def __init__(self, config: Http, session: aiohttp.ClientSession) -> None:
        self._config, self._session = config, session
        self._memory = ArrivalMemory[_Row]()
        self._secrets = secrets_of(config.auth, config.headers)
        self._failures: dict[_Row, int] = {}
        """How often the first row of a request has failed in succession, where that is limited."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Send all rows; returns once each was answered 2xx."""
        rows = await asyncio.to_thread(self._rows, batches)
        left = self._memory.left(batches, rows)
        failed: list[tuple[_Request, PenstockError]] = []
        requests = self._requests(left)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._config.concurrency, len(left))):
                group.create_task(self._work(requests, failed))
        skipped = [request for request, _ in failed] + list(requests)
        unsent = {index: row for request in skipped for index, row in zip(request.indexes, request.rows, strict=True)}
        self._memory.settle(rows, left, unsent)
        if self._config.retry_count is not None:
            failed = self._give_up(failed, self._config.retry_count)
        error = _verdict(failed) if failed else None
        self._memory.expect(None if error is None or isinstance(error, PermanentError) else list(batches))
        if isinstance(error, ConnectionLost) and (self._memory or self._failures):
            # The session connects again by itself, and a new writer would not know what has arrived.
            raise TransientError(str(error)) from error
        if error is not None:
            raise error

    def _give_up(
        self, failed: list[tuple[_Request, PenstockError]], retry_count: int
    ) -> list[tuple[_Request, PenstockError]]:
        """Return the failures, those that have been retried often enough as refusals."""
        before, self._failures = self._failures, {}
        told: list[tuple[_Request, PenstockError]] = []
        for request, error in failed:
            row, attempts = request.rows[0], before.get(request.rows[0], 0) + 1
            if not isinstance(error, PermanentError):
                self._failures[row] = attempts
                if attempts > retry_count:
                    error = PermanentError(f"{error}; given up after {attempts} attempts")
            told.append((request, error))
        return told

    def _rows(self, batches: Sequence[Batch]) -> dict[int, _Row]:
        """The rows to send by their index in the write."""
        found: dict[int, _Row] = {}
        config, start, key = self._config, 0, self._config.idempotency_key
        for batch in batches:
            keys = cells(batch, key).cast(pa.string()).to_pylist() if key is not None else [None] * batch.num_rows
            payloads = config.bodies(batch).to_pylist() if config.sends_body() else [b""] * batch.num_rows
            parts = zip(config.url.evaluate(batch).to_pylist(), payloads, keys, strict=True)
            found.update((index, _Row(*row)) for index, row in enumerate(parts, start) if row[1] is not None)
            start += batch.num_rows
        if config.url.constant is None:
            self._check_urls(found)
        return found

    def _check_urls(self, rows: dict[int, _Row]) -> None:
        """Raise RowsRejected if the URL of any row cannot be sent to."""
        known: dict[str, str] = {}
        for url in {row.url for row in rows.values()}:
            try:
                check_credentials(check_url(url or ""), self._config.auth, self._config.headers)
            except ValueError as error:
                known[url] = f"url: {error}"
        if known:
            raise RowsRejected({index: known[row.url] for index, row in rows.items() if row.url in known})

    def _requests(self, rows: dict[int, _Row]) -> Iterator[_Request]:
        if self._config.batch is None:
            yield from (_Request(row.url, [index], [row]) for index, row in rows.items())
            return
        waiting: dict[str, _Request] = {}
        for index, row in rows.items():
            request = waiting.setdefault(row.url, _Request(row.url, [], []))
            request.indexes.append(index)
            request.rows.append(row)
            if len(request.rows) == self._config.batch.rows:
                yield waiting.pop(row.url)
        yield from waiting.values()

    async def _work(self, requests: Iterator[_Request], failed: list[tuple[_Request, PenstockError]]) -> None:
        """Send requests until there are no more, or one failed that may succeed later."""
        for request in requests:
            try:
                await self._send(request)
            except PenstockError as error:
                failed.append((request, error))
            if any(not isinstance(error, PermanentError) for _, error in failed):
                return

    async def _send(self, request: _Request) -> None:
        """Send once; raises what a failure or a refusing answer means."""
        config = self._config
        with failures(request.url):
            body = self._body(request)
            data = io.BytesIO(body) if body is not None else None
            async with self._session.request(
                config.method, request.url.strip(), data=data, headers=_key(request), allow_redirects=False
            ) as response:
                answer = await read_at_most(response, _ANSWER_BYTES)
        if not 200 <= response.status < 300:
            error = meaning(response.status, request.url, response.headers, answer, self._secrets)
            if response.status in _UNAUTHORIZED:
                raise TransientError(str(error))
            raise error

    def _body(self, request: _Request) -> bytes | None:
        if not self._config.sends_body():
            return None
        bodies = [row.body for row in request.rows]
        if self._config.batch is None:
            return bodies[0]
        if self._config.batch.format == "array":
            return b"[" + b",".join(bodies) + b"]"
        return b"\n".join(body.rstrip(b"\r\n") for body in bodies) + b"\n"


def _key(request: _Request) -> dict[str, str]:
    keys = [row.key for row in request.rows if row.key is not None]
    if not keys:
        return {}
    one = len(request.rows) == 1 and keys[0].isascii() and keys[0].isprintable()
    return {"Idempotency-Key": keys[0] if one else hashlib.sha256("\n".join(keys).encode()).hexdigest()}


def _verdict(failed: Sequence[tuple[_Request, PenstockError]]) -> PenstockError:
    """What many failures mean: try again if that may help any, else refuse the rows, by name where they are known."""
    passing = [error for _, error in failed if not isinstance(error, PermanentError)]
    if passing:
        return max(passing, key=lambda error: getattr(error, "after", None) or 0.0)
    if any(len(request.rows) > 1 for request, _ in failed):
        return failed[0][1]
    return RowsRejected({request.indexes[0]: str(error) for request, error in failed})
