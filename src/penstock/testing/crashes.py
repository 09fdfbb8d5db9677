"""A disk that survives crashes: stores and an output that fail from a chosen operation on, and keep what they had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from pydantic import PrivateAttr

from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch, Position
from ..keyedstate import Changes, Entry, Prune, Version
from ..state.memory import MemoryStore


class Crashed(Exception):
    """The process is no more: nothing takes effect from here on."""


class Disk:
    """What is durable: rows, positions and keyed state, over several runs of which each may crash."""

    def __init__(self) -> None:
        self.rows: list[Batch] = []
        self.in_output, self.in_state = MemoryStore(), MemoryStore()
        self.operations = 0
        self.crash_at: int | None = None
        self._is_down = False

    @property
    def has_crashed(self) -> bool:
        """Whether the run has come to the operation at which it was to crash."""
        return self._is_down

    def start(self, crash_at: int | None = None) -> None:
        """Begin a run, which crashes at an operation: one that is even does not take effect, one that is odd does."""
        self.operations, self.crash_at, self._is_down = 0, crash_at, False

    def begin(self) -> None:
        """Begin an operation; raises Crashed if the crash came before it."""
        if self._is_down or self.operations * 2 == self.crash_at:
            self._is_down = True
            raise Crashed

    def end(self) -> None:
        """End an operation that took effect; raises Crashed if the crash came then."""
        if self.operations * 2 + 1 == self.crash_at:
            self._is_down = True
            raise Crashed
        self.operations += 1


class DiskStore:
    """The state of an engine, on a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def load(self, key: str) -> Position | None:
        """Return a position."""
        return await self._disk.in_state.load(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep positions."""
        self._disk.begin()
        await self._disk.in_state.save(positions)
        self._disk.end()

    async def load_state(self, stream: str, name: str, version: Version) -> Mapping[str, Entry]:
        """Return keyed state."""
        return await self._disk.in_state.load_state(stream, name, version)

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        """Keep changes of keyed state."""
        self._disk.begin()
        await self._disk.in_state.save_state(stream, number, changes, prune)
        self._disk.end()


class DiskOutput(Output):
    """An output that keeps rows, and positions in the same transaction."""

    _disk: Disk = PrivateAttr()

    @classmethod
    def on(cls, disk: Disk) -> DiskOutput:
        """Return the output on ``disk``."""
        output = cls()
        output._disk = disk
        return output

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Yield a writer."""
        yield DiskWriter(self._disk)


class DiskWriter:
    """Writes rows and positions to a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def write(self, batches: Sequence[Batch]) -> None:
        """Keep rows."""
        await self.write_and_save(batches, {})

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Keep rows and positions, or neither."""
        self._disk.begin()
        self._disk.rows += batches
        await self._disk.in_output.save(positions)
        self._disk.end()

    async def load(self, key: str) -> Position | None:
        """Return a position."""
        return await self._disk.in_output.load(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep positions."""
        await self.write_and_save([], positions)
