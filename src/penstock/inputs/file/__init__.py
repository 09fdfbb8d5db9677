"""Read files: once, or as they grow and new ones come; on this machine or in an object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, field_validator, model_validator

from ...clients.object_store import S3, Az, Gs, Http, Store, locate, path_within
from ...clock import Clock
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from ...errors import ConfigError, ConnectionLost, PermanentError, TransientError
from ...extras import require
from ...framing import Framing
from ...options import Options
from .buckets import Buckets
from .listing import Found, Listing
from .local import LocalListing
from .opening import COLUMNAR, Opening
from .pattern import Pattern
from .reader import FilesReader
from .scan import Scan
from .stored import StoredListing
from .table import RecordDecoders

if TYPE_CHECKING:
    from ...checkpoint import Checkpoint
    from .query import QueryReader

Format: TypeAlias = Literal["auto", "json", "csv", "parquet", "avro", "arrow", "text"]
_Listed = TypeVar("_Listed")


class Query(Options):
    """SQL over all the files as one table."""

    query: str
    """A `SELECT`."""
    table: str = "flow"
    """The name the query gives to the files."""


class InputType(Options):
    """The files, written as a mapping of their own."""

    type: Literal["csv", "json", "parquet", "avro", "arrow"]
    """The format."""
    path: str
    """The path."""
    store: Store | None = None
    """The object store."""


class File(Input, type="file"):
    """Read files: once, or as they grow and new ones come; on this machine or in an object store.

    ``path`` is a file, a folder (its files of the format, also in folders below), an address such as
    ``s3://bucket/folder/*.json``, or a pattern: ``*``, ``?`` and ``[...]`` match within one path part, ``**`` any
    number of folders, and ``{name}`` within one path part what ``__meta_ext`` then tells as ``name``, beside
    ``path`` and ``name``. Files are read in the order of their paths; ``__meta_offset`` is the number of the row
    in its file. ``.gz``, ``.zst``, ``.bz2`` and ``.xz`` files are decompressed, unless they are containers; several
    streams behind one another are one file, and zeros behind the last are no damage.

    JSON is one array, or objects that follow one another on lines, several to a line or each over several lines;
    lines are joined only where that makes them JSON, so that one which was torn costs no other. CSV fields in quotes
    may hold line breaks. Text gives one row of ``__value__`` per line, unless a ``codec`` reads the lines. A part of
    a file that is damaged goes to the error output with the path and the reason; what is left of the file, and the
    other files, are read all the same.

    Reading resumes exactly behind the last acked batch of each file. A local file is known by its inode and the
    time it was made, so it may be renamed at any moment; an unchanged file is not read again, one that was appended
    to is read on from where it was left, one that was rewritten from its start. That it was rewritten is known by its
    first 4096 bytes and the last 256 before the place: a change in between is not seen.

    With ``follow`` reading never ends. A line is taken once it ends in a newline, or once the file has not changed
    for ``settle_time``. A line without a newline may be half a line: if it has grown when the file is read on, also
    by a later run, it is delivered again as a whole; a newline alone does not bring it again. Damage is told after
    ``settle_time`` too. A truncated file is read from its start. Containers, compressed files and objects of a store
    are taken once they no longer change. Of more than 500 files those that were not written within the last minute
    are looked at in turn, 500 in each poll; new and renamed files are found at once.

    When the file of one path is rotated, all that was ever at the path is read, the oldest first, and what is written
    to a rotated file later, too: files in the same folder named as ``app.log.1``, ``app.log-20260101`` or
    ``app-20260101.log``, packed or not, also if there were several rotations since the last look or while nothing
    ran. A copy (copy and truncate, or packed) is known by its contents and read on where its original was left.
    That holds while files are being renamed, too, and however fast. What cannot be known to have been read is a gap: a
    warning in the log, on the health page and in the metric ``penstock_gaps_total``. There is one if the file that was
    last seen at the path is not among those rotated away from it (it was deleted, moved to another folder or named
    otherwise), if a number is missing among them, if a file was deleted before it was read to its end, and if the file
    was truncated and no copy of it is found. Nothing tells of a file that came and was deleted between two looks when
    its name had a date instead of a number, of a truncation of a file of which nothing was read yet, nor that a file
    is the copy of one of which nothing was read yet, if it is packed or its original was never looked at.
    A pattern such as ``app.log*`` reads every file that it matches, copies included: let it match no copies.

    Hidden files and those whose names end as unfinished ones do (``.part``, ``.tmp``, ``~`` and the like) are left
    alone, as are files that the pattern does not match, such as those beside the folders of ``inbox/{table}/*`` or in
    folders below them.

    Example::

        type: file
        path: "inbox/{table}/*.json"
        follow: true
    """

    ignored_keys = {"ballista": "`ballista` changes nothing: the query runs in this process"}

    path: str
    """A file, a folder, a pattern or an address."""
    input_type: InputType | None = None
    """Another way to write `format`, `path` and `store`: as one mapping whose `type` is the format."""
    format: Format = "auto"
    """What the files hold; `auto` goes by their extensions and takes the others for text."""
    store: Store | None = None
    """The object store that `path` is in."""
    follow: bool = False
    """Wait for more rows and more files instead of ending."""
    start: Literal["beginning", "end"] = "beginning"
    """Where to begin in files that are there when a followed path is first read."""
    framing: Framing | None = None
    """Where a payload ends: `lines`, `length_delimited`, or `whole` for one payload a file."""
    chunk_size: int = Field(default=2 << 20, ge=16, le=64 << 20)
    """How many bytes of payloads are read at once; one batch holds at most this, or one longer payload."""
    batch_rows: int = Field(default=8192, ge=1)
    """The most rows in a batch that is read from Parquet, Arrow or a query."""
    poll_interval: Duration = Field(default=0.5, gt=0)
    """How often followed files are looked at."""
    settle_time: Duration = 5.0
    """How long a followed file that seems damaged, or ends within a line, may still change."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """What separates the fields of CSV; left out, a comma or what a header without one holds: `;` or a tab."""
    header: bool = True
    """Whether the first record of a CSV file names the columns."""
    query: Query | None = None
    """A query whose result is read instead of the files themselves."""

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        """Take the older form apart."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if (inner := value.pop("input_type", None)) is not None:
            files = InputType.model_validate(inner)
            if given := [key for key in ("path", "format", "store") if value.get(key) is not None]:
                raise ValueError(f"give {given[0]!r} within input_type or beside it, not both")
            value |= {"format": files.type, "path": files.path, "store": files.store}
        return value

    @field_validator("path")
    @classmethod
    def _is_a_pattern(cls, path: str) -> str:
        if not path:
            raise ValueError("expected a path, not an empty text")
        Pattern(path)
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> File:
        framed = self.framing is not None and self.framing is not Framing.LINES
        if self.format in ("csv", *COLUMNAR) and self.codec is not None:
            self._ignored += (f"`codec` changes nothing: files of format {self.format} have columns already",)
            object.__setattr__(self, "codec", None)
        if self.format in ("csv", *COLUMNAR) and self.framing is not None:
            raise ValueError(f"format {self.format} has no framing: leave `framing` out, or say `format: text`")
        if self.query is not None and (self.follow or self.codec or framed or self.format == "text"):
            raise ValueError("a query cannot be combined with follow, codec, framing or format: text")
        if self.codec is not None and not framed:
            self.codec.check_lines()
        if self.start == "end" and not self.follow:
            raise ValueError("start: end needs follow: true")
        if self.format == "avro":
            require("fastavro", "format avro")
        if self.store is not None or "://" in self.path:
            require("obstore", "an object store")
        if self.store is not None:
            path_within(self.store, self.path)
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """List the files and go on where each was left; raises ConfigError if there are none, unless followed."""
        listing = self._listing(context.clock)
        if self.query is not None:
            reader: QueryReader | FilesReader = await self._open_query(listing, self.query, context)
        else:
            reader = await self._open_files(listing, context)
        try:
            yield reader
        finally:
            await reader.close()

    def _listing(self, clock: Clock) -> Listing:
        store, path = self._located()
        if store is None:
            return LocalListing(Pattern(path), self.format, clock)
        return StoredListing(store.connect(), Pattern(path), self.format, can_list=not isinstance(store, Http))

    def _located(self) -> tuple[S3 | Gs | Az | Http | None, str]:
        """The object store the files are in, None for this machine, and their path there."""
        if self.store is not None:
            return self.store, path_within(self.store, self.path)
        return locate(self.path) or (None, self.path)

    async def _open_files(self, listing: Listing, context: Context) -> FilesReader:
        buckets = await Buckets.load(context)
        scan = Scan(
            listing,
            self._opening(listing, context.columns),
            self._grows,
            buckets.places(),
            context,
            follow=self.follow,
            interval=self.poll_interval,
            settle=self.settle_time,
            weight=self.chunk_size,
        )
        await asyncio.to_thread(_first_listing, scan.poll)
        if not self.follow:
            await asyncio.to_thread(_refuse_unreadable, listing, scan.files)
        if self.start == "end":
            await self._skip_existing(scan, buckets, context)
        return FilesReader(scan, buckets, self.poll_interval, self.follow, context.clock)

    async def _open_query(self, listing: Listing, query: Query, context: Context) -> QueryReader:
        files = [found for found in await asyncio.to_thread(_first_listing, listing.find) if found.size]
        if not files:
            reason = await asyncio.to_thread(listing.absent)
            raise ConfigError(reason or f"there are no files in {self.path!r} to query", path="path")
        return await asyncio.to_thread(self._start_query, query, files, await context.checkpoint())

    def _start_query(self, query: Query, files: Sequence[Found], checkpoint: Checkpoint) -> QueryReader:
        """Plan a query over files; blocks, and imports DataFusion, which takes 50 MB."""
        from .query import QueryReader, Tables, start, version_of

        store, _ = self._located()
        formats = [found.format(self.format) for found in files]
        if "text" in formats:
            raise ConfigError(f"{files[formats.index('text')].path} has no columns to query", path="path")
        tables = Tables(files, formats, store, {"delimiter": self.delimiter or ",", "has_header": self.header})
        batches = start(tables, query.query, query.table, self.batch_rows)
        return QueryReader(batches, checkpoint, version_of(files, query.query))

    async def _skip_existing(self, scan: Scan, buckets: Buckets, context: Context) -> None:
        """Note the end of each file as its place, the first time this input is opened at all."""
        opened = await context.checkpoint("opened")
        if opened.position is None:
            for key, place in await asyncio.to_thread(scan.skip):
                await buckets.note(key, place)
            await opened.lend(True).release(None)

    def _grows(self, found: Found) -> bool:
        """Whether a file can be read while it is written."""
        local = self._located()[0] is None
        payloads = found.format(self.format) not in COLUMNAR and self.framing is not Framing.WHOLE
        return local and payloads and found.compression is None

    def _opening(self, listing: Listing, columns: frozenset[str] | None) -> Opening:
        return Opening(
            listing,
            self.format,
            self.codec,
            self.framing,
            self.chunk_size,
            self.batch_rows,
            columns,
            RecordDecoders(columns),
            self.delimiter,
            self.header,
        )


def _first_listing(find: Callable[[], _Listed]) -> _Listed:
    """List the files for the first time: what is wrong now is wrong with the configuration, or the server is away."""
    try:
        return find()
    except PermanentError as error:
        raise ConfigError(str(error), path="path") from error
    except TransientError as error:
        if isinstance(error.__cause__, PermissionError):
            raise ConfigError(str(error), path="path") from error
        raise ConnectionLost(str(error)) from error


def _refuse_unreadable(listing: Listing, files: Sequence[Found]) -> None:
    """Raise ConfigError if there is nothing to read, or something that may not be read."""
    if not files and (reason := listing.absent()) is not None:
        raise ConfigError(reason, path="path")
    if refused := [found.path for found in files if not listing.is_readable(found)]:
        raise ConfigError(f"permission denied: {refused[0]} cannot be read", path="path")
