"""The streams that run in one process: begun, ended and replaced while the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from .backoff import Stop
from .context import Context
from .errors import ConfigError, PermanentError
from .runtime.lock import lock
from .stream import Stream
from .supervision import SupervisedStream

log = logging.getLogger("penstock")


class Changes(NamedTuple):
    """Which streams a changed configuration begins, replaces, ends and leaves alone, by their ids."""

    started: list[str]
    changed: list[str]
    ended: list[str]
    kept: list[str]

    def __str__(self) -> str:
        """Say it in one line."""
        parts = {"started": self.started, "changed": self.changed, "ended": self.ended}
        said = [f"{word}: {', '.join(ids)}" for word, ids in parts.items() if ids]
        return "; ".join([*said, f"{len(self.kept)} kept running"]) if said else "nothing has changed"


class _Run(NamedTuple):
    """One stream that runs or has ended."""

    supervised: SupervisedStream
    task: asyncio.Task[None]


class Roster:
    """The streams of one process, in the order of their configuration."""

    def __init__(self, data: Path, state: str | None, stopping: Stop) -> None:
        self._data, self._state, self._stopping = data, state, stopping
        self._runs: dict[str, _Run] = {}
        self._held: dict[str, IO[str]] = {}
        self._turn = asyncio.Event()
        self._applying = asyncio.Lock()
        self._begin: Callable[[Stream], tuple[SupervisedStream, asyncio.Task[None]]] | None = None

    @property
    def supervised(self) -> list[SupervisedStream]:
        """The streams, whether they run or have ended."""
        return [run.supervised for run in self._runs.values()]

    @property
    def has_begun(self) -> bool:
        """Whether streams have been begun."""
        return self._begin is not None

    def hold(self, streams: Sequence[Stream]) -> None:
        """Keep other processes from streams that keep anything; raises ConfigError if one of them runs already."""
        new: dict[str, IO[str]] = {}
        for stream in streams:
            is_logged = stream.durability is not None and stream.durability.enabled
            name = _lock_name(stream)
            if name in self._held or (self._state == "memory" and stream.checkpoint == "state" and not is_logged):
                continue
            try:
                new[name] = lock(self._data / "locks" / name, f"the stream {stream.id!r} of {self._data}")
            except ConfigError:
                for one in new.values():
                    one.close()
                raise
            except OSError as error:  # A disk that is full or may not be written is told where it matters.
                log.debug("%s: no lock: %s", stream.id, error)
        self._held |= new

    def release(self) -> None:
        """Let other processes have the streams."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def begin(self, streams: Sequence[Stream], group: asyncio.TaskGroup, lend: Callable[[], Context]) -> None:
        """Begin to run ``streams`` in ``group``, each with what ``lend`` returns."""

        def begin(stream: Stream) -> tuple[SupervisedStream, asyncio.Task[None]]:
            supervised = SupervisedStream(stream, lend(), self._stopping)
            task = group.create_task(supervised.run())
            task.add_done_callback(lambda _: self._turn.set())
            return supervised, task

        self._begin = begin
        for stream in streams:
            self._run(stream)

    def _run(self, stream: Stream) -> None:
        assert self._begin is not None
        self._runs[stream.id] = _Run(*self._begin(stream))

    async def wait(self) -> None:
        """Wait until all streams have ended; where there are none, until all is to stop."""
        following = asyncio.ensure_future(self._follow())
        try:
            while not self._is_over():
                self._turn.clear()
                await self._turn.wait()
        finally:
            following.cancel()

    async def _follow(self) -> None:
        await self._stopping.wait()
        self._turn.set()

    def _is_over(self) -> bool:
        if self._applying.locked() or not all(run.task.done() for run in self._runs.values()):
            return False
        return bool(self._runs) or self._stopping.is_set()

    def start(self, id: str) -> None:
        """Run a stream that has ended once more; raises PermanentError if it runs, KeyError if there is none."""
        run = self._runs[id]
        if not run.task.done() or self._stopping.is_set():
            raise PermanentError(f"{id} runs already: it is {run.supervised.state}")
        self._run(run.supervised.stream)

    async def apply(self, streams: Sequence[Stream], *, anew: bool = False) -> Changes:
        """Run ``streams`` in place of those that run; raises ConfigError, and then nothing has changed.

        A stream that is the same goes on, unless all are to begin ``anew``. One that is changed or no longer there
        reads nothing more and writes what is in flight before its successor begins, where it ended.
        """
        async with self._applying:
            try:
                return await self._apply(streams, anew)
            finally:
                self._turn.set()

    async def _apply(self, streams: Sequence[Stream], anew: bool) -> Changes:
        if self._stopping.is_set():
            raise ConfigError("everything is being stopped: nothing was changed")
        wanted = {stream.id: stream for stream in streams}
        same = {id for id, run in self._runs.items() if id in wanted and run.supervised.stream.is_same(wanted[id])}
        kept = [] if anew else [id for id in wanted if id in same]
        changes = Changes(
            [id for id in wanted if id not in self._runs],
            [id for id in wanted if id in self._runs and id not in kept],
            [id for id in self._runs if id not in wanted],
            kept,
        )
        await asyncio.to_thread(self.hold, streams)
        leaving = [self._runs[id] for id in (*changes.changed, *changes.ended)]
        for run in leaving:
            run.supervised.end()
        if leaving:
            await asyncio.wait([run.task for run in leaving])
        if self._stopping.is_set():
            raise ConfigError("everything is being stopped: what was changed takes effect with the next start")
        self._runs = {id: self._runs[id] for id in wanted if id in self._runs}
        for id in (*changes.started, *changes.changed):
            self._run(wanted[id])
        self._runs = {id: self._runs[id] for id in wanted}
        for id in kept:
            self._runs[id].supervised.stream.written_at(wanted[id].source)
        needed = {_lock_name(stream) for stream in streams}
        for name in [name for name in self._held if name not in needed]:
            self._held.pop(name).close()
        return changes


def _lock_name(stream: Stream) -> str:
    return f"{stream.id}{stream.identity}"
