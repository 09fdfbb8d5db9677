"""Read ahead in a thread and lend what was read, with positions that stay small however many files there are."""

from __future__ import annotations

import asyncio
from collections import deque

from ...component import Progress
from ...delivery import Delivery
from ...errors import EndOfInput
from ...metadata import Origin
from .buckets import Buckets
from .followed import Followed, Step
from .listing import Found
from .part import Part
from .scan import Scan

_AHEAD = 2
"""How many parts are read ahead."""


class FilesReader:
    """Reads the files of a scan."""

    def __init__(self, scan: Scan, buckets: Buckets, interval: float, follow: bool) -> None:
        self._scan, self._buckets, self._interval, self._follow = scan, buckets, interval, follow
        self._parts: deque[tuple[Followed, Part]] = deque()
        self._seen: deque[Found] = deque()
        self._retired: list[str] = []
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
                await self._keep_files()
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
            if step.parts or step.retired or step.seen or step.ended or self._closing.is_set():
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
        self._retired.extend(step.retired)
        self._seen.extend(step.seen)
        self._parts.extend(step.parts)
        self._ended = step.ended

    async def _keep_files(self) -> None:
        """Forget the files that are gone, and keep those that are to be known before anything is read of them."""
        if self._retired:
            await self._buckets.forget(self._retired)
            self._retired.clear()
        while self._seen:
            found = self._seen[0]
            await self._buckets.keep(found.key, found.path, found.born)
            self._seen.popleft()

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
    return {"path": path, "name": path.rpartition("/")[2], **file.found.placeholders}
