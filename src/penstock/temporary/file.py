"""Look rows up in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ByteSize, Field, model_validator

from ..clock import Clock
from ..component import Codec, Found, Lookup, Temporary
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConnectionLost, PermanentError
from ..selection import take

_CODECS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".avro": "avro",
}


class File(Temporary, type="file"):
    """Look rows up in a file, which is held in memory and read again when it has changed.

    Several rows may have one key; rows whose key is null are never found. Keys are compared as text: the number 7 is
    found by `7`, and by the text `7` too. The file is looked at once in `refresh`. If it cannot be read then, or is
    damaged, the rows of before go on being found, and a warning says so; at the start it has to be there.

    Example::

        type: file
        name: sensors
        path: sensors.csv
        key: id
    """

    path: Path
    """The file: CSV, JSON, Parquet, Arrow or Avro, by its name or by `codec`."""
    key: str
    """The column by which rows are found."""
    refresh: Duration = Field(10.0, ge=0)
    """How often it is looked whether the file has changed."""
    max_size: ByteSize = Field(ByteSize(256 << 20), gt=0)
    """The largest file that is read."""

    @model_validator(mode="after")
    def _has_codec(self) -> File:
        if self.codec is None and self.path.suffix.lower() not in _CODECS:
            raise ValueError(f"the name {self.path.name!r} does not say how the file is read: give a `codec`")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Lookup]:
        """Read the file; raises ConnectionLost if it is not there."""
        lookup = _FileLookup(self, context)
        await lookup.read()
        yield lookup


class _FileLookup:
    def __init__(self, options: File, context: Context) -> None:
        self._options, self._context = options, context
        self._clock: Clock = context.clock
        self._codec = options.codec or Codec.find(_CODECS[options.path.suffix.lower()])()
        self._version: tuple[int, int, int] | None = None
        self._looked_at = self._clock.monotonic()
        self._rows = Rows(pa.record_batch({options.key: pa.nulls(0)}), options.key)

    async def find(self, keys: pa.StringArray) -> Found:
        if self._clock.monotonic() - self._looked_at >= self._options.refresh:
            try:
                await self.read()
            except (ConnectionLost, PermanentError) as error:
                self._context.log.warning("%s: the rows of before are used: %s", self._options.name, error)
        return await asyncio.to_thread(self._rows.find, keys)

    async def read(self) -> None:
        """Read the file if it has changed."""
        self._looked_at = self._clock.monotonic()
        await asyncio.to_thread(self._read)

    def _read(self) -> None:
        path = self._options.path
        try:
            status = path.stat()
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if version == self._version:
                return
            if status.st_size > self._options.max_size:
                raise PermanentError(f"{path} has {status.st_size} bytes, more than `max_size`")
            content = path.read_bytes()
        except OSError as error:
            raise ConnectionLost(f"{path}: {error.strerror or error}") from error
        rows = self._codec.decode(pa.array([content], pa.binary())) if content else self._rows.batch.slice(0, 0)
        self._rows, self._version = Rows(rows, self._options.key), version


class Rows:
    """Rows that are found by the text of a column."""

    def __init__(self, batch: Batch, key: str) -> None:
        if key not in batch.schema.names:
            raise PermanentError(f"there is no column {key!r} to find rows by, among {', '.join(batch.schema.names)}")
        try:
            texts = batch.column(key).cast(pa.string())
        except pa.ArrowException as error:
            raise PermanentError(f"column {key!r} is {batch.column(key).type}, which cannot be a key") from error
        self.batch = batch
        encoded = texts.dictionary_encode()
        self._keys = encoded.dictionary
        codes = encoded.indices.fill_null(len(self._keys)).to_numpy().astype(np.int64)
        self._order = np.argsort(codes, kind="stable")
        self._counts = np.bincount(codes, minlength=len(self._keys) + 1)[: len(self._keys)]
        self._starts = np.cumsum(self._counts) - self._counts

    def find(self, keys: pa.StringArray) -> Found:
        """Return the rows of these keys, in the order of the keys."""
        places = pc.index_in(keys, self._keys)
        asked = pc.indices_nonzero(places.is_valid()).to_numpy().astype(np.int64)
        groups = places.drop_null().to_numpy().astype(np.int64)
        counts = self._counts[groups]
        starts = np.repeat(self._starts[groups] - (np.cumsum(counts) - counts), counts)
        rows = self._order[starts + np.arange(counts.sum())] if len(groups) else np.zeros(0, np.int64)
        return Found(take(self.batch, pa.array(rows, pa.int64())), pa.array(np.repeat(asked, counts), pa.int64()))
