"""The write-ahead log: what an input that cannot replay has handed over is durable before it is acked.

Seen from the input it is a place where batches are durable; seen from the pipeline it is a log-like input.
The log is a folder of segments, each named after the number of its first entry.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO

import pyarrow as pa

from ..backoff import Backoff, pause
from ..checkpoint import Checkpoint
from ..context import Context
from ..delivery import Batch, Delivery
from ..durability import Durability
from ..errors import ConfigError, EndOfInput, PenstockError, PermanentError, TransientError
from ..observe.metrics import StreamMetrics
from .segment import BATCH, SCHEMA, entries, has_dictionary, record, repair, stream_record

_BACKOFF = Backoff.model_validate({"initial": "50ms", "maximum": "2s"})
_MERGED_ROWS = 8192
_MERGED_ENTRIES = 1024


class Wal:
    """An open log: ``append`` on one side, ``read`` on the other."""

    def __init__(
        self,
        folder: Path,
        options: Durability,
        checkpoint: Checkpoint,
        metrics: StreamMetrics,
        stop: asyncio.Event,
        *,
        cache_bytes: int = 64 << 20,
    ) -> None:
        self._folder, self._options, self._checkpoint = folder, options, checkpoint
        self._metrics, self._stop = metrics, stop
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._commit: asyncio.Task[None] | None = None
        self._arrived, self._pruned = asyncio.Event(), asyncio.Event()
        self._ended = False
        self._file: IO[bytes] | None = None
        self._schema: pa.Schema | None = None
        self._segments: dict[int, int] = {}  # first entry number -> bytes
        self._last = 0  # number of the last durable entry
        self._next = 1  # number of the next entry to read
        self._cache: deque[tuple[int, Batch]] = deque()
        self._cached, self._cache_bytes, self._behind = 0, cache_bytes, False
        self._replay: Iterator[tuple[int, Batch]] | None = None
        self._storing: asyncio.Future[tuple[int, Batch] | None] | None = None
        self._taken: Batch | None = None  # read, and not yet handed out because that was cancelled

    def recover(self) -> None:
        """Find what is in the folder; cut off a torn last record."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segments = {int(path.stem): path.stat().st_size for path in sorted(self._folder.glob("*.wal"))}
        position = self._checkpoint.committed or 0
        self._last = position
        if self._segments:
            first = max(self._segments)
            self._last = max(position, first - 1, repair(self._path(first)) or 0)
            self._segments[first] = self._path(first).stat().st_size
        self._next = max(position + 1, min(self._segments, default=1))
        self._behind = self._last >= self._next
        self._metrics.wal(self.size)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._segments.values())

    @property
    def unwritten(self) -> int:
        """Entries that are durable here and not yet downstream."""
        return self._last - int(self._checkpoint.committed or 0)

    async def append(self, batch: Batch) -> None:
        """Return once ``batch`` is on disk; waits while the log is full.

        Raises TransientError if stopped meanwhile, PermanentError for what Arrow cannot write down.
        """
        while self._options.max_bytes is not None and self.size >= self._options.max_bytes:
            self._pruned.clear()
            self._arrived.set()
            await self.prune()
            if self.size < self._options.max_bytes:
                break
            if await pause(0.05, self._stop):
                raise TransientError("the write-ahead log is full")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, done))
        if self._commit is None or self._commit.done():
            self._commit = asyncio.create_task(self._commit_waiting())
        await asyncio.shield(done)

    async def _commit_waiting(self) -> None:
        attempt, backoff, alone = 0, _BACKOFF, 0
        while self._waiting:
            if self._options.pause:
                await pause(self._options.pause, self._stop)
            count = 1 if alone else len(self._waiting)
            group, self._waiting, alone = self._waiting[:count], self._waiting[count:], max(0, alone - 1)
            try:
                await asyncio.to_thread(self._write, [batch for batch, _ in group])
            except OSError as error:
                # The disk is full or failing: nothing was acked, nobody reads on, and it is tried again.
                reason = f"write-ahead log {self._folder}: {error.strerror or error}"
                self._metrics.retrying("log", reason)
                logging.getLogger("penstock").error("%s; again in a moment", reason)
                if await pause(backoff.delay(attempt), self._stop):
                    _fail(group, TransientError(reason))
                    continue
                attempt += 1
                self._waiting = group + self._waiting
                continue
            except Exception as error:
                if len(group) > 1:  # one of them cannot be written, ever: find out which
                    alone, self._waiting = len(group), group + self._waiting
                else:
                    _fail(group, PermanentError(f"the write-ahead log cannot hold it: {error}"))
                continue
            if attempt:
                attempt = 0
                self._metrics.recovered("log")
            self._publish(group)

    def _publish(self, group: Sequence[tuple[Batch, asyncio.Future[None]]]) -> None:
        for batch, done in group:
            self._last += 1
            if not self._behind and self._cached + batch.nbytes > self._cache_bytes:
                self._behind = True  # the reader is far behind: let it read from disk
            if not self._behind:
                self._cache.append((self._last, batch))
                self._cached += batch.nbytes
            if not done.done():
                done.set_result(None)
        self._arrived.set()
        self._metrics.wal(self.size)

    def _write(self, batches: Sequence[Batch]) -> None:
        """Append the batches as entries and force them to disk, or leave the segment as it was."""
        if self._file is None or self._segments[max(self._segments)] >= self._options.segment_bytes:
            self._begin_segment()
        assert self._file is not None
        first = max(self._segments)
        before, schema = self._segments[first], self._schema
        try:
            parts: list[bytes | pa.Buffer] = []
            for number, batch in enumerate(batches, self._last + 1):
                parts += self._records(number, batch)
                if self._options.per_entry:
                    self._flush(parts)
                    parts = []
            self._flush(parts)
        except BaseException:
            self._schema = schema
            try:
                self._file.truncate(before)
                self._file.seek(before)
            except OSError:
                self._file = None  # nothing may follow what is torn: the next entry begins a segment
            raise
        self._segments[first] = self._file.tell()

    def _flush(self, parts: Sequence[bytes | pa.Buffer]) -> None:
        assert self._file is not None
        data = memoryview(b"".join(parts))
        while data:
            data = data[self._file.write(data) :]
        os.fdatasync(self._file.fileno())

    def _records(self, number: int, batch: Batch) -> list[bytes | pa.Buffer]:
        records: list[bytes | pa.Buffer] = []
        if any(has_dictionary(field.type) for field in batch.schema):
            return stream_record(number, batch.replace_schema_metadata(None))
        if self._schema is None or not batch.schema.equals(self._schema, check_metadata=False):
            self._schema = batch.schema.remove_metadata()
            records += record(SCHEMA, number, self._schema.serialize())
        return records + record(BATCH, number, batch.replace_schema_metadata(None).serialize())

    def _begin_segment(self) -> None:
        if self._file is not None:
            self._file.close()
        self._schema = None
        path = self._path(self._last + 1)
        self._file = path.open("wb", buffering=0)
        self._segments[self._last + 1] = 0
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:020d}.wal"

    async def read(self) -> Delivery:
        """Wait for the next entries and lend them as one delivery; raises EndOfInput once ended and empty."""
        while self._taken is None:
            while self._next > self._last:
                if self._ended:
                    raise EndOfInput
                self._arrived.clear()
                await self._arrived.wait()
            self._take_cached()
            if self._taken is None:
                self._storing = self._storing or asyncio.ensure_future(asyncio.to_thread(self._read_stored))
                stored = await asyncio.shield(self._storing)
                self._storing = None
                if stored is not None:
                    self._next, self._taken = stored[0] + 1, stored[1]
                    self._behind = self._next <= self._last
        await self.prune()
        delivery = await self._checkpoint.deliver(self._taken, self._next - 1)
        self._taken = None
        return delivery

    def _take_cached(self) -> None:
        """Take the next entries from memory, several as one where they are small and alike."""
        taken: list[Batch] = []
        rows = 0
        while self._cache and rows < _MERGED_ROWS and len(taken) < _MERGED_ENTRIES:
            number, batch = self._cache[0]
            if number > self._next:
                break  # what comes before was never cached: it is read from disk first
            if number == self._next:
                if taken and (batch.schema != taken[0].schema or rows + batch.num_rows > _MERGED_ROWS):
                    break
                taken.append(batch)
                rows, self._next = rows + batch.num_rows, number + 1
            self._cache.popleft()
            self._cached -= batch.nbytes
        if taken:
            self._taken = taken[0] if len(taken) == 1 else pa.concat_batches(taken)

    def _read_stored(self) -> tuple[int, Batch] | None:
        """Read the next entry from disk; None if the end of what is there was met, to look again."""
        fresh = self._replay is None
        if self._replay is None:
            self._replay = self._stored(self._next)
        found = next(self._replay, None)
        if found is None:
            self._replay = None
            if fresh:
                raise PenstockError(f"write-ahead log {self._folder}: entry {self._next} is missing")
        elif found[0] != self._next:
            self._replay = None
            raise PenstockError(f"write-ahead log {self._folder}: entry {self._next} is missing or damaged")
        return found

    def _stored(self, start: int) -> Iterator[tuple[int, Batch]]:
        firsts = sorted(self._segments)
        begin = max((first for first in firsts if first <= start), default=firsts[0] if firsts else 0)
        while True:
            yield from (entry for entry in entries(self._path(begin), lambda: self._last) if entry[0] >= start)
            later = [first for first in sorted(self._segments) if first > begin]
            if not later:
                return
            begin = later[0]

    def _written_segments(self) -> list[int]:
        """The segments of which everything is written downstream; never the last, which is written to."""
        position = self._checkpoint.committed or 0
        return [first for first, following in pairwise(sorted(self._segments)) if following - 1 <= position]

    async def prune(self) -> None:
        """Delete the segments of which everything is written downstream."""
        written = self._written_segments()
        for first in written:
            del self._segments[first]
        if written:
            await asyncio.to_thread(self._delete, written)
            self._metrics.wal(self.size)

    def _delete(self, written: Sequence[int]) -> None:
        for first in written:  # the oldest first: what a crash leaves has no gap
            self._path(first).unlink(missing_ok=True)

    def end(self) -> None:
        """Nothing more will be appended."""
        self._ended = True
        self._arrived.set()

    async def close(self) -> None:
        """Finish what is being written, and delete what is no longer needed."""
        if self._commit is not None:
            await asyncio.wait({self._commit})
        await self.prune()
        if self._file is not None:
            self._file.close()


def _fail(group: Sequence[tuple[Batch, asyncio.Future[None]]], error: PenstockError) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(error)
            done.exception()  # whoever waited may be gone


@asynccontextmanager
async def open_wal(
    options: Durability, context: Context, metrics: StreamMetrics, stop: asyncio.Event
) -> AsyncIterator[Wal]:
    """Yield the log of a stream, recovered; raises ConfigError if another process has it open."""
    folder = options.folder(context)
    lock = await asyncio.to_thread(hold, folder)
    try:
        wal = Wal(folder, options, await context.checkpoint("wal"), metrics, stop)
        await asyncio.to_thread(wal.recover)
        try:
            yield wal
        finally:
            await wal.close()
    finally:
        lock.close()


def hold(folder: Path) -> IO[str]:
    """Keep other processes from the log in ``folder`` until what is returned is closed.

    Raises ConfigError if another one has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(f"the write-ahead log {folder} is in use by another process") from error
    return lock
