"""The write-ahead log: what an input that cannot replay has handed over is durable before it is acked.

Seen from the input it is a place where batches are durable; seen from the pipeline it is a log-like input.
Entries are numbered without gaps: what is missing is known, and nothing behind it is handed out before somebody has
dealt with it, while what comes in is still kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import NoReturn

from ..backoff import Backoff, Stopped
from ..checkpoint import Checkpoint
from ..clock import Clock
from ..context import Context
from ..delivery import Batch, Delivery
from ..durability import Durability
from ..errors import ConfigError, ConnectionLost, EndOfInput, PenstockError, PermanentError, TransientError
from ..observe.metrics import StreamMetrics
from .damage import OPEN_GAP, Damage, find_damage, lost_end, missing
from .logbucket import LogBucket, LogTaken
from .logcache import LogCache
from .logfolder import Closed, Entry, LogFolder
from .opensegment import OpenSegment, SegmentRemoved

log = logging.getLogger("penstock")
_BACKOFF = Backoff.model_validate({"initial": "50ms", "maximum": "2s"})


class Wal:
    """An open log: ``append`` on one side, ``read`` on the other."""

    def __init__(
        self,
        folder: LogFolder,
        options: Durability,
        checkpoint: Checkpoint | None,
        metrics: StreamMetrics,
        stop: asyncio.Event,
        *,
        cache_bytes: int = 64 << 20,
        clock: Clock | None = None,
        bucket: LogBucket | None = None,
    ) -> None:
        self._folder, self._options, self._checkpoint = folder, options, checkpoint
        self._metrics, self._stop, self._clock = metrics, stop, clock or Clock()
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._commit: asyncio.Task[None] | None = None
        self._arrived, self._pruned = asyncio.Event(), asyncio.Event()
        self._ended = False
        self._bucket = bucket
        self._taken_over: LogTaken | None = None
        self._segment = OpenSegment(folder, options, bucket)
        self._last = 0  # number of the last durable entry
        self._next = 1  # number of the next entry to read
        self._cache = LogCache(cache_bytes)
        self._replay: Iterator[Entry] | None = None
        self._storing: asyncio.Future[Entry | None] | None = None
        self._taken: Batch | None = None  # read, and not yet handed out because that was cancelled
        self._damage: Damage | None = None
        self._is_told = False
        self._room: tuple[int, int] | None = None  # numbers left out: the position was not known
        self._is_room_needed = False
        self._exposed = 0  # entries up to here may be in memory only: the folder was taken away

    def recover(self) -> None:
        """Find what is in the folder, and what should be and is not."""
        self._folder.hold()
        self._folder.look()
        for stray in self._folder.strays:
            log.warning("write-ahead log %s: %s; it is left out", self._folder.path, stray)
        self._found = self._folder.find_last()
        self._closed = self._folder.closed()
        found = self._found[0]
        self._last = max(found, self._closed.last if self._closed is not None else 0)
        self._metrics.wal(self.size)
        if self._checkpoint is not None:
            self.follow(self._checkpoint)
        elif self._closed is None or self._closed.last > found:
            # More may have been written downstream than is here: what comes in now has a number behind all of that.
            self._room, self._is_room_needed = (self._last + 1, self._last + OPEN_GAP), True

    def follow(self, checkpoint: Checkpoint) -> None:
        """Read on behind the position of ``checkpoint``; until it is known, entries are only taken in."""
        self._checkpoint = checkpoint
        if self._is_room_needed and (self._commit is None or self._commit.done()):
            self._room, self._is_room_needed = None, False
        position = self._position
        self._next = position + 1
        (found, wrong), closed = self._found, self._closed
        self._damage = find_damage(self._folder, position, found, closed, wrong)
        if self._room is None:
            self._last = max(position, self._last)
            if self._damage is not None and self._damage.is_open:
                self._last += OPEN_GAP
        self._cache.is_behind = self._last >= self._next and not self._cache.begins_with(self._next)

    @property
    def _position(self) -> int:
        """The number up to which all entries are written downstream."""
        position = (self._checkpoint.committed if self._checkpoint is not None else None) or 0
        if not isinstance(position, int):
            raise ConfigError(f"the position of the write-ahead log {self._folder.path} is not one: {position!r}")
        return position

    @property
    def _saved_position(self) -> int:
        """The number up to which they are, and the position that says so is saved."""
        return int((self._checkpoint.durable if self._checkpoint is not None else None) or 0)

    def _tell(self) -> None:
        """Say what is missing, in the log and in health, until somebody has dealt with it."""
        assert self._damage is not None
        self._is_told = True
        self._metrics.damaged(self._damage.reason)
        log.error("%s", self._damage.reason)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._folder.size

    @property
    def unwritten(self) -> int:
        """Entries that are durable here and not yet downstream."""
        position, left_out = self._position, self._room or (0, -1)
        return self._last - position - max(0, left_out[1] - max(left_out[0] - 1, position))

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
            if await self._clock.wait(self._stop, 0.05):
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
                await self._clock.wait(self._stop, self._options.pause)
            count = 1 if alone else self._count_fitting()
            group, self._waiting, alone = self._waiting[:count], self._waiting[count:], max(0, alone - 1)
            try:
                self._metrics.condition.begin("log")
                await asyncio.to_thread(self._write, [batch for batch, _ in group])
            except OSError as error:
                # The disk is full or failing: nothing was acked, nobody reads on, and it is tried again.
                reason = f"write-ahead log {self._folder.path}: {error.strerror or error}"
                self._metrics.retrying("log", reason)
                log.error("%s; again in a moment", reason)
                if await self._clock.wait(self._stop, backoff.delay(attempt)):
                    _fail(group, TransientError(reason))
                    continue
                attempt += 1
                self._waiting = group + self._waiting
                continue
            except LogTaken as error:
                self._taken_over = error
                _fail([*group, *self._waiting], TransientError(str(error)))
                self._waiting = []
                self._arrived.set()
                continue
            except Exception as error:
                if len(group) > 1:  # one of them cannot be written, ever: find out which
                    alone, self._waiting = len(group), group + self._waiting
                else:
                    _fail(group, PermanentError(f"the write-ahead log cannot hold it: {error}"))
                continue
            finally:
                self._metrics.condition.end("log")
            if attempt:
                attempt = 0
                self._metrics.recovered("log")
            self._publish(group)

    def _count_fitting(self) -> int:
        """Return how many of the batches that wait are written together: all, or as many as one object holds."""
        if self._bucket is None:
            return len(self._waiting)
        limits, size = self._bucket.limits, 0
        for count, (batch, _) in enumerate(self._waiting[: limits.max_entries]):
            size += batch.nbytes
            if size > limits.max_bytes and count:
                return count
        return min(len(self._waiting), limits.max_entries)

    def _publish(self, group: Sequence[tuple[Batch, asyncio.Future[None]]]) -> None:
        if self._room is not None and self._is_room_needed:
            self._last, self._is_room_needed = self._room[1], False
        for batch, done in group:
            self._last += 1
            self._cache.add(self._last, batch)
            if not done.done():
                done.set_result(None)
        self._arrived.set()
        self._metrics.wal(self.size)
        self._metrics.lag(self.unwritten)

    def _write(self, batches: Sequence[Batch]) -> None:
        try:
            self._segment.write(batches, self._last, self._next_number, self._damage)
        except SegmentRemoved as error:
            self._exposed = self._last
            self._folder.hold()
            self._folder.look()
            self._metrics.damaged(f"write-ahead log {self._folder.path}: {error}")
            raise

    @property
    def _next_number(self) -> int:
        """The number of the next entry to be appended."""
        return self._room[1] + 1 if self._room is not None and self._is_room_needed else self._last + 1

    async def read(self) -> Delivery:
        """Wait for the next entries and lend them as one delivery; raises EndOfInput once ended and empty."""
        while self._taken is None:
            if self._damage is not None and not self._is_told:
                self._tell()
            if self._damage is not None and self._next >= self._damage.first:
                await self._wait_for_the_end(self._damage)
            while self._next > self._last:
                if self._taken_over is not None:
                    raise self._taken_over
                if self._ended:
                    raise EndOfInput
                self._arrived.clear()
                await self._arrived.wait()
            if (cached := self._cache.take(self._next)) is not None:
                self._taken, self._next = cached
            else:
                self._storing = self._storing or asyncio.ensure_future(asyncio.to_thread(self._read_stored))
                stored = await asyncio.shield(self._storing)
                self._storing = None
                if stored is not None:
                    self._next, self._taken = stored.last + 1, stored.batch
                    self._cache.is_behind = self._next <= self._last
        await self.prune()
        assert self._checkpoint is not None
        delivery = await self._checkpoint.deliver(self._taken, self._next - 1)
        self._taken = None
        return delivery

    async def _wait_for_the_end(self, damage: Damage) -> NoReturn:
        """Hand out nothing behind what is missing before somebody has dealt with it; what comes in is still kept."""
        while not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        raise PenstockError(damage.reason)

    def _read_stored(self) -> Entry | None:
        """Read the next entry from disk; None if the end of what is there was met, to look again, or damage."""
        fresh = self._replay is None
        if self._replay is None:
            self._replay = self._folder.entries(self._next, lambda: self._last)
        try:
            found = next(self._replay, None)
            while found is not None and found.last < self._next:
                found = next(self._replay, None)
        except FileNotFoundError:
            found, fresh = None, True
        if found is not None and found.is_room and found.first < self._next:
            self._damage = lost_end(self._folder, self._next - 1, found.first - 1)
            return None
        if found is None or found.first > self._next:
            self._replay = None
            if found is not None or fresh:
                self._damage = missing(self._folder, self._next, self._last if found is None else found.first - 1)
            return None
        return found

    def _written_segments(self) -> list[int]:
        """The segments of which everything is written downstream; never the last, which is written to.

        What is written is only let go of once the position says so: after a crash it would be missing.
        """
        position = self._saved_position
        return [first for first, following in pairwise(self._folder.firsts) if following - 1 <= position]

    async def prune(self) -> None:
        """Delete the segments of which everything is written downstream."""
        written = self._written_segments()
        for first in written:
            del self._folder.sizes[first]
        if written:
            await asyncio.to_thread(self._folder.delete, written)
            self._metrics.wal(self.size)
        if self._bucket is not None and self._bucket.is_due(self._saved_position, written):
            await asyncio.to_thread(self._bucket.note, self._saved_position)
        if self._exposed and self._position >= self._exposed:
            self._exposed = 0
            self._metrics.damaged(None if self._damage is None else self._damage.reason)

    def end(self) -> None:
        """Note that nothing more will be appended."""
        self._ended = True
        self._arrived.set()

    async def close(self) -> None:
        """Finish what is being written, and delete what is no longer needed."""
        if self._commit is not None:
            await asyncio.wait({self._commit})
        await self.prune()
        if self._bucket is not None and self._taken_over is None:
            await asyncio.to_thread(self._bucket.note, self._saved_position)
        self._segment.close()
        is_known = self._checkpoint is not None and self._damage is None
        if is_known and self._folder.sizes and not self._is_room_needed:
            with suppress(OSError):  # Without it the end of the log is found by looking.
                await asyncio.to_thread(self._folder.close, Closed(self._last, self._saved_position))


def _fail(group: Sequence[tuple[Batch, asyncio.Future[None]]], error: PenstockError) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(error)
            done.exception()  # whoever waited may be gone


@asynccontextmanager
async def open_wal(
    options: Durability, context: Context, metrics: StreamMetrics, stop: asyncio.Event, *, follows: bool = True
) -> AsyncIterator[Wal]:
    """Yield the log of a stream, recovered; raises ConfigError if another process has it open.

    Without ``follows`` its position is not asked for: that is up to the caller.
    """
    folder = LogFolder(options.folder(context), context.kept_as)
    bucket = LogBucket(options.bucket, context.clock) if options.bucket is not None else None
    try:
        await asyncio.to_thread(folder.hold)
        if bucket is not None:
            position = await _recover(bucket, folder, metrics, stop, context.clock)
            if follows:
                await _go_on_from(context, position)
        checkpoint = await context.checkpoint("wal") if follows else None
        wal = Wal(folder, options, checkpoint, metrics, stop, clock=context.clock, bucket=bucket)
        await asyncio.to_thread(wal.recover)
        try:
            yield wal
        finally:
            await wal.close()
    finally:
        folder.release()


async def _recover(
    bucket: LogBucket, folder: LogFolder, metrics: StreamMetrics, stop: asyncio.Event, clock: Clock
) -> int:
    """Take over the log in a bucket, once that can be asked; returns the position noted there, or raises Stopped."""
    attempt = 0
    while True:
        try:
            position = await asyncio.to_thread(bucket.recover, folder.path)
        except ConnectionLost as error:
            metrics.retrying("log", str(error))
            log.warning("write-ahead log: %s; again in a moment", error)
            if await clock.wait(stop, _BACKOFF.delay(attempt)):
                raise Stopped(str(error)) from error
            attempt += 1
        else:
            if attempt:
                metrics.recovered("log")
            return position


async def _go_on_from(context: Context, position: int) -> None:
    """Have the checkpoint of the log begin at ``position`` at least, which a machine that is gone has noted."""
    key = f"{context.kept_as}/wal"
    saved = await context.store.load(key)
    if position and (saved is None or saved["position"] < position):
        await context.store.save({key: {"rows": 0, **(saved or {}), "position": position}})
