"""Write rows into files, of this machine or of an object store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from ...clients.object_store import Store, locate
from ...clock import Clock
from ...component import Output, Writer
from ...context import Context
from ...duration import Duration
from ...extras import require
from ...framing import Framing
from ...options import Options
from .formats import GROWING, Compression, Format, tell
from .lines import GrowingWriter
from .objects import ObjectWriter
from .parts import PartWriter
from .paths import Template


class Rotate(Options):
    """When a new file is begun: as soon as one of the bounds is reached."""

    rows: int | None = Field(default=None, ge=1)
    """After this many rows."""
    bytes: int | None = Field(default=None, ge=1)
    """After this many bytes."""
    every: Duration | None = Field(default=None, gt=0)
    """After this much time since the file was begun."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Rotate:
        if self.rows is None and self.bytes is None and self.every is None:
            raise ValueError("expected at least one of rows, bytes, every")
        return self

    def is_due(self, rows: int, size: int, age: float) -> bool:
        """Tell whether a file of so many rows and bytes, begun so many seconds ago, has reached a bound."""
        return (
            (self.rows is not None and rows >= self.rows)
            or (self.bytes is not None and size >= self.bytes)
            or (self.every is not None and age >= self.every)
        )


class _Begun(set[str]):
    """Runtime state; ignored when configurations are compared."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Begun)


class File(Output, type="file"):
    """Write rows into files: JSON lines, CSV, text, Parquet, Avro or Arrow, told from the name.

    **What is durable when.** A write returns once its rows are in a file that can be read, and flushed to the
    disk. JSON, CSV and text files grow: every write adds its rows at the end, and readers see whole rows only.
    A Parquet, Avro or Arrow file is complete only at its end, so each write makes a file of its own, which gets
    its name when it is whole: put a `memory` buffer in front to make them as large as you like. The first is
    called as the path says, the next ones ``out-000002.parquet``, and so on; nothing is ever overwritten,
    unless ``mode`` says so.

    **After a crash.** A row that was cut by a crash is removed when the file is next opened; its bytes are kept
    in ``<file>.torn``. A disk that is full leaves nothing half-written: what was added is taken away again, and
    the write is retried. With ``checkpoint: output`` the positions are kept in ``.<name>.checkpoint`` beside the
    file, together with its length: what was written after the last saved position is cut off, so each row of a
    replayable input is there exactly once. A file may be shared by several streams, but not then.

    **Paths.** ``{column}`` stands for the value of a column: rows are written to the file of their value.
    Values are percent-encoded where they could leave their folder or be misread, and long ones are shortened
    to a digest; null is ``__HIVE_DEFAULT_PARTITION__``. Outside of braces ``%Y-%m-%d`` and the like stand for
    the time of writing, in UTC; a percent sign is written ``%%``, a brace ``{{``. At most 256 files are kept open.

    **Rows.** A row with `__value__` is written to JSON and text files as it is; one that has a line break within
    is refused, unless ``framing`` is ``length_delimited``. Lists and structs become JSON in a CSV file; a row
    with a column that the file lacks begins a new file, a column that a row lacks is null. Avro has no
    nanoseconds and no unsigned integers: times are cut to microseconds, integers become signed.

    **Object stores.** With ``store``, or a path such as ``s3://bucket/rows.json``, each write puts whole
    objects, called ``rows-<time>-<unique>.json``. ``mode``, ``rotate`` and ``checkpoint: output`` are for
    files of this machine only.

    Example::

        type: file
        path: out/%Y-%m-%d/{sensor}/data.json
        rotate: {bytes: 100000000, every: 1h}
    """

    path: str
    """The file; may hold `{column}` and times such as `%Y-%m-%d`."""
    format: Format = Format.AUTO
    """The format of the file; by default it is told from the name."""
    framing: Framing = Framing.LINES
    """How the payloads in a JSON or text file follow one another."""
    compression: Compression = Compression.AUTO
    """By default told from `.gz` and `.zst`; else zstd in Parquet, gzip (deflate) in Avro, and none."""
    rotate: Rotate | None = None
    """When a new file is begun, for JSON, CSV and text. A file may exceed its bounds by one write."""
    mode: Literal["append", "overwrite", "error"] = "append"
    """What happens to a file that is there already when the stream starts. What `overwrite` removes does not come
    again from an input that resumes, except with `checkpoint: output`, which then begins anew too."""
    sync: bool = True
    """Flush to the disk before a write counts as done. Without it a power failure may lose rows, a crash not."""
    store: Store | None = None
    """The object store the path is in; by default the path is a file of this machine."""

    _begun: _Begun = PrivateAttr(default_factory=lambda: _Begun())

    @model_validator(mode="after")
    def _agrees(self) -> File:
        Template(self.path)
        format, _, _ = self.resolved()
        if format is Format.AVRO:
            require("fastavro", "format avro")
        if self.store is not None or "://" in self.path:
            require("obstore", "an object store")
        if format not in GROWING and self.rotate is not None:
            raise ValueError(f"`rotate` is for json, csv and text: each write makes a {format} file of its own")
        if self.framing is Framing.WHOLE:
            raise ValueError("`framing: whole` cannot tell payloads apart in a file: expected lines, length_delimited")
        if self.framing is not Framing.LINES and format not in (Format.JSON, Format.TEXT):
            raise ValueError(f"`framing` is for json and text, not for {format}")
        if self.codec is not None and self.framing is Framing.LINES:
            self.codec.check_lines()
        if self.is_remote() and (self.rotate is not None or self.mode != "append"):
            raise ValueError("`rotate` and `mode` are for files of this machine: each write makes an object of its own")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Prepare the folder, or the store; files are opened when rows come for them."""
        if self.is_remote():
            objects = self._objects(context.clock)
            try:
                yield objects
            finally:
                await objects.close()
            return
        format, _, _ = self.resolved()
        writer = (GrowingWriter if format in GROWING else PartWriter)(self, context.log, context.clock)
        await asyncio.to_thread(writer.open)
        try:
            yield writer
        finally:
            await asyncio.to_thread(writer.close)

    @property
    def begun(self) -> set[str]:
        """The paths that this process has begun, which ``mode`` no longer concerns."""
        return self._begun

    def is_remote(self) -> bool:
        """Return whether the path is in an object store."""
        return self.store is not None or "://" in self.path

    def resolved(self) -> tuple[Format, Compression, str]:
        """Format, compression and the ending of the name."""
        name = os.path.basename(self.path)
        return tell(name, self.format, self.compression, payloads=self.codec is not None)

    def _objects(self, clock: Clock) -> ObjectWriter:
        if self.store is not None:
            return ObjectWriter(self, self.store.connect(), self.path, clock)
        located = locate(self.path)
        assert located is not None
        store, path = located
        return ObjectWriter(self, store.connect(), path, clock)
