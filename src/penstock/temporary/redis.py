"""Look rows up in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from ..clients.arrivals import chunks
from ..clients.redis import Mode, classify_error, opened
from ..clients.tls import Tls
from ..component import Codec, Found, Lookup, Temporary
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PenstockError, PermanentError
from ..options import Options

MAX_COMMANDS = 1000
"""Commands that are sent at once."""


class Kind(Options):
    """What the keys hold."""

    type: Literal["string", "list", "hash"] = "string"
    """A `string` is one payload, a `list` one for each element, and a `hash` a row whose columns are its fields."""


def _as_options(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Redis(Temporary, type="redis"):
    """Look rows up in Redis, by their keys.

    Redis is asked for all keys of a batch at once. What a key holds is read by `codec`, JSON without one; the fields of
    a `hash` are columns of text. A key that is not there has no rows; one that holds something else than `redis_type`
    says, or a payload that cannot be read, is the error of the rows that ask for it. The columns are those of the rows
    that were found, and while nothing was found yet there are none.

    Example::

        type: redis
        name: sensors
        mode: {type: single, url: "redis://127.0.0.1:6379/0"}
        redis_type: {type: string}
        prefix: "sensor:"
        cache_ttl: 1m
    """

    extra: ClassVar[str] = "redis"

    mode: Mode
    """Where the servers are, and how they are arranged."""
    redis_type: Annotated[Kind, BeforeValidator(_as_options)] = Kind()
    """What the keys hold."""
    prefix: str = ""
    """What stands before each key in Redis."""
    tls: Tls | None = None
    """How to know the server by TLS, with `rediss://`."""
    timeout: Duration = Field(10.0, gt=0)
    """How long connecting and each answer may take."""

    @model_validator(mode="after")
    def _check(self) -> Redis:
        if self.redis_type.type == "hash" and self.codec is not None:
            raise ValueError("`codec` is for payloads, and the fields of a hash are columns")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Lookup]:
        """Connect; raises ConnectionLost if that fails."""
        async with opened(self.mode, self.tls, timeout=self.timeout) as client:
            yield _RedisLookup(self, client)


class _RedisLookup:
    def __init__(self, options: Redis, client: Any) -> None:
        self._options, self._client = options, client
        self._url = options.mode.urls_tried()[0]
        self._codec = options.codec or Codec.find("json")()
        self._none: Batch = pa.record_batch({})
        """No row, with the columns that were seen last."""

    async def find(self, keys: pa.StringArray) -> Found:
        """Return the rows of these keys."""
        asked = keys.to_pylist()
        answers: list[Any] = []
        for some in chunks(asked, MAX_COMMANDS):
            answers += await self._ask([f"{self._options.prefix}{key}" for key in some])
        return await asyncio.to_thread(self._found, asked, answers)

    async def _ask(self, names: Sequence[str]) -> list[Any]:
        try:
            async with asyncio.timeout(self._options.timeout):
                pipeline = self._client.pipeline(transaction=False)
                for name in names:
                    pipeline.execute_command(*_command(self._options.redis_type.type, name))
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except TimeoutError:
            raise ConnectionLost(f"redis: no answer within {self._options.timeout:g} s") from None
        except PenstockError:
            raise
        except Exception as error:
            raise classify_error(error, self._url) from None
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Exception):
                known = classify_error(answer, self._url)
                raise PermanentError(f"{name[:80]!r}: {known}") if isinstance(known, PermanentError) else known
        return answers

    def _found(self, asked: Sequence[str], answers: Sequence[Any]) -> Found:
        held = [(at, _payloads(answer)) for at, answer in enumerate(answers)]
        parts: list[Batch] = []
        places: list[int] = []
        if self._options.redis_type.type == "hash":
            rows = [(at, fields) for at, answer in enumerate(answers) if (fields := _fields(answer))]
            names = list(dict.fromkeys(name for _, fields in rows for name in fields))
            columns = {name: pa.array([fields.get(name) for _, fields in rows], pa.string()) for name in names}
            parts, places = ([pa.record_batch(columns)] if rows else []), [at for at, _ in rows]
        else:
            flat = [(at, payload) for at, payloads in held for payload in payloads]
            for at, batch in self._decoded(asked, flat):
                parts.append(batch)
                places += at
        batch = _united(parts)
        if batch is None:
            return Found(self._none, pa.array([], pa.int64()))
        self._none = batch.slice(0, 0)
        return Found(batch, pa.array(places, pa.int64()))

    def _decoded(self, asked: Sequence[str], flat: Sequence[tuple[int, bytes]]) -> list[tuple[list[int], Batch]]:
        """Return the rows of payloads, each with the index of its key; all at once where each payload is a row."""
        if not flat:
            return []
        if self._codec.type_name == "json" and all(payload.lstrip()[:1] == b"{" for _, payload in flat):
            try:
                batch = self._codec.decode(pa.array([payload for _, payload in flat], pa.binary()))
            except PermanentError:
                pass  # which of them it is, is found below
            else:
                if batch.num_rows == len(flat):
                    return [([at for at, _ in flat], batch)]
        found = []
        for at, payload in flat:
            try:
                batch = self._codec.decode(pa.array([payload], pa.binary()))
            except PermanentError as error:
                raise PermanentError(f"{self._options.prefix}{asked[at][:80]}: {error}") from error
            found.append(([at] * batch.num_rows, batch))
        return found


def _command(kind: str, name: str) -> tuple[Any, ...]:
    if kind == "list":
        return "LRANGE", name, 0, -1
    return ("HGETALL" if kind == "hash" else "GET"), name


def _payloads(answer: Any) -> list[bytes]:
    if answer is None or isinstance(answer, Mapping):
        return []
    return list(answer) if isinstance(answer, list) else [answer]


def _fields(answer: Any) -> dict[str, str]:
    """Return the fields of a hash, which the protocol may have as a list of names and values."""
    pairs = answer.items() if isinstance(answer, Mapping) else zip(answer[::2], answer[1::2], strict=True)
    try:
        return {name.decode(): value.decode() for name, value in pairs}
    except UnicodeDecodeError as error:
        raise PermanentError("a field of a hash is not UTF-8") from error


def _united(parts: Sequence[Batch]) -> Batch | None:
    """Return all rows as one batch; None if there are none."""
    parts = [part for part in parts if part.num_rows]
    if len(parts) <= 1:
        return parts[0] if parts else None
    try:
        whole = pa.concat_tables([pa.Table.from_batches([one]) for one in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise PermanentError(f"the columns of two keys do not agree: {error}") from error
    (batch,) = whole.combine_chunks().to_batches()
    return batch
