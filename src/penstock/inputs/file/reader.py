"""Read ahead in a thread and lend what was read, with positions that stay small however many files there are."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from ...checkpoint import Checkpoint
from ...component import Progress
from ...context import Context
from ...delivery import Delivery
from ...errors import EndOfInput, PenstockError
from ...metadata import Origin
from .part import Part
from .place import Place
from .scan import Followed, Scan, Step

BUCKETS = 32
"""Among how many checkpoints the files are spread: a position tells of the files of its own bucket only."""
_AHEAD = 2
"""How many parts are read ahead."""


class Buckets:
    """Where reading goes on, for each file; kept in several checkpoints, so that no position holds every file."""

    def __init__(self, checkpoints: list[Checkpoint]) -> None:
        self._checkpoints = checkpoints
        self._places: list[dict[str, Any]] = [dict(checkpoint.position or {}) for checkpoint in checkpoints]

    @classmethod
    async def load(cls, context: Context) -> Buckets:
        """Load what was saved."""
        return cls([await context.checkpoint(f"{number:02}") for number in range(BUCKETS)])

    def places(self) -> Mapping[str, Place]:
        """Return where each file was left."""
        return {key: Place.load(saved) for places in self._places for key, saved in places.items()}

    def raise_failure(self) -> None:
        """Raise PenstockError if a delivery was nacked: nothing behind it may be read."""
        for checkpoint in self._checkpoints:
            if checkpoint.failure is not None:
                raise PenstockError(
                    f"{checkpoint.key}: a batch was refused: {checkpoint.failure}"
                ) from checkpoint.failure

    async def deliver(self, key: str, part: Part, origin: Origin) -> Delivery:
        """Lend the batch of a part; waits while too many deliveries are unsettled."""
        assert part.batch is not None
        checkpoint, position = self._moved(key, part.place)
        delivery = await checkpoint.deliver(part.batch, position, origin, part.decoder)
        self._places[_bucket(key)] = position
        delivery.error = part.error
        return delivery

    async def note(self, key: str, place: Place) -> None:
        """Move on behind what holds no rows."""
        checkpoint, position = self._moved(key, place)
        self._places[_bucket(key)] = position
        await checkpoint.lend(position).release(None)

    def _moved(self, key: str, place: Place) -> tuple[Checkpoint, dict[str, Any]]:
        number = _bucket(key)
        return self._checkpoints[number], {**self._places[number], key: place.dump()}

    def forget(self, key: str) -> None:
        """Keep the place of a file no longer; takes effect with the next position of its bucket."""
        number = _bucket(key)
        self._places[number] = {other: saved for other, saved in self._places[number].items() if other != key}


def _bucket(key: str) -> int:
    return zlib.crc32(key.encode()) % BUCKETS


class FilesReader:
    """Reads the files of a scan."""

    def __init__(self, scan: Scan, buckets: Buckets, interval: float, follow: bool) -> None:
        self._scan, self._buckets, self._interval, self._follow = scan, buckets, interval, follow
        self._parts: deque[tuple[Followed, Part]] = deque()
        self._stepping: asyncio.Task[Step] | None = None
        self._closing = asyncio.Event()
        self._ended = False
        self._taken = scan.taken()
        self._done = sum(self._taken.values())

    async def read(self) -> Delivery:
        """Wait for the next delivery; raises EndOfInput once all files were read, unless they are followed."""
        while True:
            self._buckets.raise_failure()
            while not self._parts:
                if self._ended:
                    raise EndOfInput
                await self._fill()
            file, part = self._parts[0]
            self._read_ahead()
            if part.batch is None:
                self._parts.popleft()
                await self._buckets.note(file.found.key, part.place)
                continue
            origin = Origin("file", offset=part.row, ext=_describe(file))
            delivery = await self._buckets.deliver(file.found.key, part, origin)
            self._parts.popleft()
            self._count(file)
            return delivery

    def _read_ahead(self) -> None:
        if self._stepping is None and not self._ended and len(self._parts) < _AHEAD and not self._closing.is_set():
            self._stepping = asyncio.create_task(self._step())

    async def _step(self) -> Step:
        while True:
            step = await asyncio.to_thread(self._scan.step)
            if step.parts or step.retired or step.ended or self._closing.is_set():
                return step
            try:
                await asyncio.wait_for(self._closing.wait(), self._interval)
            except TimeoutError:
                continue

    async def _fill(self) -> None:
        """Wait for what is being read; cancelling this leaves it to the next call."""
        self._read_ahead()
        assert self._stepping is not None
        await asyncio.wait({self._stepping})
        stepping, self._stepping = self._stepping, None
        step = stepping.result()
        for key in step.retired:
            self._buckets.forget(key)
        self._parts.extend(step.parts)
        self._ended = step.ended

    def _count(self, file: Followed) -> None:
        reader = file.reader
        done = reader.done() if reader is not None else file.found.size
        before = self._taken.get(file.found.key, 0)
        if done > before:
            self._taken[file.found.key] = done
            self._done += done - before

    def progress(self) -> Progress:
        """How many bytes of the files were read; followed files have no end."""
        if self._follow:
            return Progress(self._done, None)
        total = sum(found.size for found in self._scan.files)
        return Progress(self._done, max(total, self._done))

    async def close(self) -> None:
        """Wait for the reading thread and close the files."""
        self._closing.set()
        if self._stepping is not None:
            await asyncio.wait({self._stepping})
            self._stepping.exception()
        await asyncio.to_thread(self._scan.close)


def _describe(file: Followed) -> dict[str, str]:
    path = file.found.path
    return {"path": path, "name": path.rpartition("/")[2], **file.found.placeholders}
