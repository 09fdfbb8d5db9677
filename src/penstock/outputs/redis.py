"""Write rows to Redis: into streams, lists, hashes and strings, or to whoever listens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field

from ..clients.arrivals import chunks
from ..clients.redis import Cluster, Mode, classify_error, opened
from ..clients.tls import Tls
from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError, RowsRejected, TransientError
from ..options import Options
from ..sql.expression import Expr
from ._payloads import bodies

MAX_COMMANDS = 2000
"""Commands that are sent at once."""
MAX_VALUES = 1000
"""Values that one command carries."""


class Publish(Options):
    """Messages to whoever listens."""

    type: Literal["publish"] = "publish"
    """What is written."""
    channel: Expr
    """The channel of each row."""


class Lists(Options):
    """Elements at the ends of lists."""

    type: Literal["list"] = "list"
    """What is written."""
    key: Expr
    """The key of the list of each row."""


class Hashes(Options):
    """Fields of hashes."""

    type: Literal["hashes"] = "hashes"
    """What is written."""
    key: Expr
    """The key of the hash of each row."""
    field: Expr
    """The field of each row."""


class Strings(Options):
    """Values of keys."""

    type: Literal["strings"] = "strings"
    """What is written."""
    key: Expr
    """The key of each row."""
    ttl: Duration | None = Field(None, ge=0.001)
    """How long a key lives; by default for ever."""


class Streams(Options):
    """Entries of streams."""

    type: Literal["stream"] = "stream"
    """What is written."""
    key: Expr
    """The key of the stream of each row."""
    field: str = Field("value", min_length=1)
    """The field that has the payload."""
    max_len: int | None = Field(None, ge=1)
    """About how many entries a stream keeps; by default all."""


Kind: TypeAlias = Annotated[Publish | Lists | Hashes | Strings | Streams, Field(discriminator="type")]


class Redis(Output, type="redis"):
    """Write rows to Redis, each as its payload.

    Rows are written once the server has answered, all that are written together in as few round trips as possible and,
    in a single server, in one transaction. What a write has sent before its connection was lost is sent again: `hashes`
    and `strings` are the same afterwards, `list`, `stream` and `publish` have such rows twice. How durable an answer is
    is up to the server (`appendfsync`). Rows whose key, field or channel is null are refused, and those whose key holds
    something else.

    Example::

        type: redis
        mode: {type: single, url: "redis://127.0.0.1:6379/0"}
        redis_type: {type: strings, key: {type: expr, expr: "concat('sensor:', sensor)"}}
    """

    extra: ClassVar[str] = "redis"

    mode: Mode
    """Where the servers are, and how they are arranged."""
    redis_type: Kind
    """What is written."""
    tls: Tls | None = None
    """How to know the server by TLS, with `rediss://`."""
    value_field: str | None = None
    """The column whose cells are the payloads; by default the codec makes them."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and each answer of the server may take."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect; raises ConnectionLost if that fails."""
        async with opened(self.mode, self.tls, timeout=self.timeout) as client:
            yield _RedisWriter(self, client)


class _Command(NamedTuple):
    """One command and the rows, by their index in the write, that it carries."""

    words: tuple[Any, ...]
    rows: list[int]


class _RedisWriter:
    def __init__(self, config: Redis, client: Any) -> None:
        self._config, self._client = config, client
        self._url = config.mode.urls_tried()[0]
        self._is_cluster = isinstance(config.mode, Cluster)
        self._kept: list[tuple[Any, ...]] = []
        """The commands that were carried out of a write of which others were refused: the next is without those."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write all rows; returns once the server has answered."""
        commands = await asyncio.to_thread(self._commands, batches)
        kept, self._kept = self._kept, []
        if not commands or [command.words for command in commands] == kept:
            return
        refused: dict[int, str] = {}
        for some in chunks(commands, MAX_COMMANDS):
            for command, error in zip(some, await self._send(some), strict=True):
                if error is None:
                    self._kept.append(command.words)
                    continue
                meaning = self._meaning(error)
                if not isinstance(meaning, PermanentError):
                    self._kept = []
                    raise meaning
                refused.update(dict.fromkeys(command.rows, str(meaning)))
        if refused:
            raise RowsRejected(refused, across=True)
        self._kept = []

    def _meaning(self, error: Exception) -> PenstockError:
        """Return what an error of a command means: a row is at fault for a permission only if rows choose the key."""
        from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError

        meaning = classify_error(error, self._url)
        if not isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return meaning
        kind = self._config.redis_type
        is_chosen = (kind.channel if isinstance(kind, Publish) else kind.key).constant is None
        if is_chosen and isinstance(error, NoPermissionError) and re.search("key|channel", str(error)):
            return meaning
        return TransientError(str(meaning))

    async def _send(self, commands: Sequence[_Command]) -> list[Exception | None]:
        """Send commands and return what each failed with."""
        try:
            async with asyncio.timeout(self._config.timeout):
                pipeline = self._client.pipeline(**({} if self._is_cluster else {"transaction": True}))
                for command in commands:
                    pipeline.execute_command(*command.words)
                answers = await pipeline.execute(raise_on_error=False)
        except TimeoutError:
            raise ConnectionLost(f"redis: no answer within {self._config.timeout:g} s") from None
        except PenstockError:
            raise
        except Exception as error:  # also what is refused before any command is carried out
            raise self._meaning(error) from None
        return [answer if isinstance(answer, Exception) else None for answer in answers]

    def _commands(self, batches: Sequence[Batch]) -> list[_Command]:
        """The commands of all rows; raises RowsRejected for those without a key."""
        kind = self._config.redis_type
        rows: list[tuple[int, str, str | None, bytes]] = []
        reasons: dict[int, str] = {}
        start = 0
        for batch in batches:
            payloads = bodies(self._config, batch, self._config.value_field).to_pylist()
            keys = (kind.channel if isinstance(kind, Publish) else kind.key).evaluate(batch).to_pylist()
            fields = kind.field.evaluate(batch).to_pylist() if isinstance(kind, Hashes) else [""] * batch.num_rows
            for row, (key, field, payload) in enumerate(zip(keys, fields, payloads, strict=True), start):
                if payload is None:
                    continue
                if key is None or field is None:
                    reasons[row] = "its channel is null" if isinstance(kind, Publish) else "its key or field is null"
                else:
                    rows.append((row, key, field, payload))
            start += batch.num_rows
        if reasons:
            raise RowsRejected(reasons, across=True)
        return list(_grouped(kind, rows))


def _grouped(kind: Kind, rows: Iterable[tuple[int, str, str | None, bytes]]) -> Iterable[_Command]:
    """As few commands as carry all rows in order; lists and hashes take many at once."""
    if isinstance(kind, Lists | Hashes):
        by_key: dict[str, list[tuple[int, str | None, bytes]]] = {}
        for row, key, field, payload in rows:
            by_key.setdefault(key, []).append((row, field, payload))
        for key, values in by_key.items():
            for some in chunks(values, MAX_VALUES):
                yield _Command((*_head(kind, key), *_values(kind, some)), [row for row, _, _ in some])
        return
    for row, key, _, payload in rows:
        yield _Command((*_head(kind, key), *_tail(kind, payload)), [row])


def _head(kind: Kind, key: str) -> tuple[Any, ...]:
    names: Mapping[type, str] = {Publish: "PUBLISH", Lists: "RPUSH", Hashes: "HSET", Strings: "SET", Streams: "XADD"}
    return names[type(kind)], key


def _values(kind: Kind, some: Sequence[tuple[int, str | None, bytes]]) -> list[Any]:
    if isinstance(kind, Hashes):
        return [word for _, field, payload in some for word in (field, payload)]
    return [payload for _, _, payload in some]


def _tail(kind: Kind, payload: bytes) -> tuple[Any, ...]:
    if isinstance(kind, Streams):
        limit = ("MAXLEN", "~", kind.max_len) if kind.max_len is not None else ()
        return (*limit, "*", kind.field, payload)
    if isinstance(kind, Strings) and kind.ttl is not None:
        return payload, "PX", int(kind.ttl * 1000)
    return (payload,)
