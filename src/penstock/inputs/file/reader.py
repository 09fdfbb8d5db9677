"""Read ahead in a thread and lend what was read, with positions that stay small however many files there are."""

from __future__ import annotations

import asyncio
from collections import deque

from ...clock import Clock
from ...component import Progress
from ...delivery import Delivery
from ...errors import EndOfInput
from ...metadata import Origin
from .buckets import Buckets
from .followed import Followed, Gone, News, Seen, Step
from .place import printable
from .scan import Scan

_AHEAD = 2
"""How much is read ahead."""


class FilesReader:
    """Reads the files of a scan."""

    def __init__(self, scan: Scan, buckets: Buckets, interval: float, follow: bool, clock: Clock) -> None:
        self._clock = clock
        self._scan, self._buckets, self._interval, self._follow = scan, buckets, interval, follow
        self._news: deque[News] = deque()
        self._stepping: asyncio.Task[Step] | None = None
        self._closing = asyncio.Event()
        self._ended = False
        self._taken = scan.taken()
        self._done = sum(self._taken.values())

    async def read(self) -> Delivery:
        """Wait for the next delivery; raises EndOfInput once all files were read, unless they are followed."""
        while True:
            self._buckets.raise_failure()
            while not self._news:
                if self._ended:
                    raise EndOfInput
                await self._fill()
            delivery = await self._take(self._news[0])
            self._news.popleft()
            if delivery is not None:
                return delivery

    async def _take(self, news: News) -> Delivery | None:
        """Keep what was found out, and return the delivery of what was read; cancelled, it can be called again."""
        if isinstance(news, Seen):
            await self._buckets.keep(*news)
            return None
        if isinstance(news, Gone):
            await self._buckets.forget(news.key)
            return None
        file, part = news
        self._read_ahead()
        if part.batch is None:
            await self._buckets.note(file.found.key, part.place)
            return None
        origin = Origin("file", offset=part.row, ext=_describe(file))
        delivery = await self._buckets.deliver(file.found.key, part, origin)
        self._count(file)
        return delivery

    def _read_ahead(self) -> None:
        if self._stepping is None and not self._ended and len(self._news) < _AHEAD and not self._closing.is_set():
            self._stepping = asyncio.create_task(self._step())

    async def _step(self) -> Step:
        while True:
            step = await asyncio.to_thread(self._scan.step)
            if step.news or step.ended or self._closing.is_set():
                return step
            await self._clock.wait(self._closing, self._interval)

    async def _fill(self) -> None:
        """Wait for what is being read; cancelling this leaves it to the next call."""
        self._read_ahead()
        assert self._stepping is not None
        await asyncio.wait({self._stepping})
        stepping, self._stepping = self._stepping, None
        step = stepping.result()
        self._news.extend(step.news)
        self._ended = step.ended

    def _count(self, file: Followed) -> None:
        reader = file.reader
        done = reader.done() if reader is not None else file.found.size
        before = self._taken.get(file.found.key, 0)
        if done > before:
            self._taken[file.found.key] = done
            self._done += done - before

    def progress(self) -> Progress:
        """Return how many bytes of the files were read; followed files have no end."""
        if self._follow:
            return Progress(self._done, None)
        return Progress(self._done, max(self._scan.total, self._done))

    async def close(self) -> None:
        """Wait for the reading thread and close the files."""
        self._closing.set()
        if self._stepping is not None:
            await asyncio.wait({self._stepping})
            self._stepping.exception()
        await asyncio.to_thread(self._scan.close)


def _describe(file: Followed) -> dict[str, str]:
    path = file.found.path
    told = {"path": path, "name": path.rpartition("/")[2], **file.found.placeholders}
    return {key: printable(value) for key, value in told.items()}
