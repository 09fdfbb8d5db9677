"""Publish rows to NATS: into a stream that JetStream keeps, or to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import msgspec
from pydantic import Field

from ..clients.nats import Auth, Server, Url, classify_error, connected
from ..clients.tls import Tls
from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError, RowsRejected, TransientError
from ..options import Options
from ..sql.expression import Expr
from ._payloads import bodies

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

MAX_UNCONFIRMED = 4096
"""How many messages are on their way to JetStream at once."""
_DUPLICATES = "Nats-Msg-Id"


class Regular(Options):
    """Messages to whoever listens."""

    type: Literal["regular"] = "regular"
    """The kind of messages."""
    subject: Expr
    """The subject of each row."""


class JetStream(Options):
    """Messages that a stream keeps."""

    type: Literal["jet_stream"] = "jet_stream"
    """The kind of messages."""
    subject: Expr
    """The subject of each row, which a stream has to take."""
    message_id: Expr | None = None
    """What tells a row from others: JetStream keeps one message of each within its duplicate window, so that rows which
    are sent twice, after an outage or a crash, are there once."""


class Nats(Output, type="nats"):
    """Publish rows to NATS, one message for each.

    With `mode: {type: jet_stream}` rows are written once the stream has confirmed that it keeps each of them, many on
    their way at once and in order. With `mode: {type: regular}` they are once the server has them, whether anybody
    listens or not. What a write has sent before its connection was lost is sent again, unless `message_id` lets
    JetStream know it. Rows whose subject is null or not valid, or whose payload is larger than the server takes, are
    refused.

    Example::

        type: nats
        url: nats://127.0.0.1:4222
        mode:
          type: jet_stream
          subject: {type: expr, expr: "concat('readings.', sensor)"}
          message_id: {type: expr, expr: id}
        headers: {source: penstock}
    """

    extra: ClassVar[str] = "nats"

    url: Url
    """Where the server is, for example `nats://127.0.0.1:4222`; several, separated by commas, if it is a cluster."""
    mode: Annotated[Regular | JetStream, Field(discriminator="type")]
    """How rows are published, and under which subject."""
    auth: Auth | None = None
    """How to show who connects; instead of user and password in the URL."""
    tls: Tls | None = None
    """How to know the server by TLS; used anyway with `tls://` and where the server asks for it."""
    headers: Mapping[str, Expr] = {}
    """The headers of each row; one that is null is left out."""
    value_field: str | None = None
    """The column whose cells are the payloads; by default the codec makes them."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting may take, and the server to confirm a message."""

    @property
    def server(self) -> Server:
        """Where the server is and how to connect."""
        return Server.model_construct(url=self.url, auth=self.auth, tls=self.tls)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect; raises ConnectionLost if that fails."""
        writer = _NatsWriter(self)
        async with connected(
            self.server, timeout=self.timeout, name=context.name, lost=writer.lost, failed=writer.failed
        ) as client:
            await writer.attach(client)
            yield writer


class _Message(NamedTuple):
    """A row on its way, and its index in the write."""

    row: int
    subject: str
    payload: bytes
    headers: dict[str, str] | None


class _Write:
    """One write on its way: which of its messages are confirmed."""

    def __init__(self, count: int) -> None:
        self.missing = count
        self.refusals: dict[int, PenstockError] = {}
        self.changed = asyncio.Event()

    def confirm(self, index: int, message: Msg) -> None:
        """Note the answer to one message."""
        self.missing -= 1
        error = _refusal(message)
        if error is not None:
            self.refusals[index] = error
        self.changed.set()


class _NatsWriter:
    def __init__(self, config: Nats) -> None:
        self._config = config
        self._client: Client
        self._inbox = ""
        self._write: _Write | None = None
        self._writes = 0
        self._failure: Exception | None = None
        self._kept: list[_Message] = []
        """What a stream has confirmed of a write of which it refused other rows: the next write is without those."""

    async def attach(self, client: Client) -> None:
        """Listen to confirmations."""
        self._client = client
        if isinstance(self._config.mode, JetStream):
            self._inbox = client.new_inbox()
            answers = f"{self._inbox}.*.*"
            await client.subscribe(answers, cb=self._confirmed, pending_msgs_limit=0, pending_bytes_limit=0)

    def lost(self, error: Exception) -> None:
        """End what waits for an answer with ``error``."""
        self._failure = self._failure or error
        if self._write is not None:
            self._write.changed.set()

    def failed(self, error: Exception) -> None:
        """Note what the server says: of a subject that may not be published to, not which message it was."""
        if "permissions violation" in str(error).lower():
            self.lost(classify_error(error, self._config.server))

    async def write(self, batches: Sequence[Batch]) -> None:
        """Publish all rows; returns once the server has confirmed them."""
        messages = await asyncio.to_thread(self._messages, batches)
        kept, self._kept = self._kept, []
        if not messages or _same(messages, kept):
            return
        try:
            if isinstance(self._config.mode, JetStream):
                await self._publish_confirmed(messages)
            else:
                await self._publish(messages)
        except PenstockError:
            raise
        except TimeoutError:
            raise ConnectionLost(
                f"{self._config.server.describe()}: no answer within {self._config.timeout:g} s"
            ) from None
        except Exception as error:
            raise classify_error(error, self._config.server) from error

    async def _publish(self, messages: Sequence[_Message]) -> None:
        for start in range(0, len(messages), MAX_UNCONFIRMED):
            async with asyncio.timeout(self._config.timeout):
                for _, subject, payload, headers in messages[start : start + MAX_UNCONFIRMED]:
                    await self._client.publish(subject, payload, headers=headers)
                await self._client.flush(self._config.timeout)  # type: ignore[arg-type]
            self._raise_failure()

    async def _publish_confirmed(self, messages: Sequence[_Message]) -> None:
        self._writes += 1
        write = self._write = _Write(len(messages))
        try:
            for index, (_, subject, payload, headers) in enumerate(messages):
                if index % 256 == 0:
                    await self._until(write, len(messages) - index + MAX_UNCONFIRMED)
                async with asyncio.timeout(self._config.timeout):
                    await self._client.publish(subject, payload, f"{self._inbox}.{self._writes}.{index}", headers)
            await self._until(write, 0)
        finally:
            self._write = None
        if write.refusals:
            self._kept = [message for index, message in enumerate(messages) if index not in write.refusals]
            raise _verdict({messages[index].row: error for index, error in write.refusals.items()})

    async def _until(self, write: _Write, most_missing: int) -> None:
        """Wait until at most so many messages of a write are not confirmed."""
        while True:
            self._raise_failure()
            if write.missing <= most_missing:
                return
            write.changed.clear()
            async with asyncio.timeout(self._config.timeout):
                await write.changed.wait()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _confirmed(self, message: Msg) -> None:
        _, number, index = message.subject.rsplit(".", 2)
        if self._write is not None and int(number) == self._writes:
            self._write.confirm(int(index), message)

    def _messages(self, batches: Sequence[Batch]) -> list[_Message]:
        """The messages of all rows; raises RowsRejected for those that cannot be sent."""
        found: list[_Message] = []
        reasons: dict[int, str] = {}
        most, start = self._client.max_payload, 0
        for batch in batches:
            rows = [_Message(row, *cells) for row, cells in enumerate(self._columns(batch), start)]
            wrong = {subject for subject in {row.subject for row in rows} if not _is_valid(subject)}
            for row, subject, payload, headers in rows:
                if payload is None:
                    continue
                size = len(payload) + sum(len(name) + len(value) + 4 for name, value in (headers or {}).items())
                if subject in wrong:
                    reasons[row] = f"{subject!r} cannot be the subject of a message"
                elif size > most:
                    reasons[row] = f"its {size} bytes are more than the {most} that the server takes"
            found += [row for row in rows if row.payload is not None]
            start += batch.num_rows
        if reasons:
            raise RowsRejected(reasons, across=True)
        return found

    def _columns(self, batch: Batch) -> Iterable[tuple[str, bytes, dict[str, str] | None]]:
        config = self._config
        payloads = bodies(config, batch, config.value_field).to_pylist()
        subjects = config.mode.subject.evaluate(batch).to_pylist()
        headers = dict(config.headers)
        if isinstance(config.mode, JetStream) and config.mode.message_id is not None:
            headers[_DUPLICATES] = config.mode.message_id
        if not headers:
            return zip(subjects, payloads, [None] * batch.num_rows, strict=True)
        texts = {name: expression.evaluate(batch).to_pylist() for name, expression in headers.items()}
        rows = (
            {name: " ".join(value.split()) for name, value in zip(texts, row, strict=True) if value is not None}
            for row in zip(*texts.values(), strict=True)
        )
        return zip(subjects, payloads, (row or None for row in rows), strict=True)


def _same(messages: Sequence[_Message], others: Sequence[_Message]) -> bool:
    return len(messages) == len(others) and all(a[1:] == b[1:] for a, b in zip(messages, others, strict=True))


def _is_valid(subject: str | None) -> bool:
    if not subject or any(c.isspace() or c in "*>" for c in subject):
        return False
    return all(subject.split("."))


class _Ack(msgspec.Struct):
    error: dict[str, object] | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


def _refusal(message: Msg) -> PenstockError | None:
    """What an answer of JetStream means, unless it confirms."""
    if message.headers and message.headers.get("Status") == "503":
        return TransientError("nats: no stream takes this subject, or JetStream is not there")
    error = _decode_ack(message.data).error
    if error is None:
        return None
    text = f"nats: {error.get('description')} ({error.get('err_code')})"
    code = error.get("code")
    return PermanentError(text) if isinstance(code, int) and 400 <= code < 500 and code != 408 else TransientError(text)


def _verdict(refusals: Mapping[int, PenstockError]) -> PenstockError:
    """What refused messages mean: to be tried again if that may help any, else these rows are refused."""
    for error in refusals.values():
        if not isinstance(error, PermanentError):
            return error
    return RowsRejected({index: str(error) for index, error in refusals.items()}, across=True)
