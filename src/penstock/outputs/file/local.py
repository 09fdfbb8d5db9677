"""What writing files of this machine has in common: paths, the journal, one write at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa

from ...clients import disk
from ...clock import Clock
from ...delivery import Batch, Position
from ...errors import ConfigError, ConnectionLost, TransientError
from .journal import Journal
from .paths import Template, numbered, numbers

if TYPE_CHECKING:
    from . import File

_NOTHING = pa.RecordBatch.from_arrays([], [])


def _literal(folder: str) -> str:
    """A folder as it is written in a template."""
    return folder.replace("%", "%%").replace("{", "{{").replace("}", "}}")


class LocalWriter:
    """What both ways of writing share: paths, the journal, one write at a time, in a thread."""

    def __init__(self, config: File, log: logging.Logger, clock: Clock) -> None:
        self.config, self.log, self.clock = config, log, clock
        self.format, self.compression, self.ending = config.resolved()
        path = config.path if os.path.isabs(config.path) else os.path.join(_literal(os.getcwd()), config.path)
        self.template = Template(path)
        self.folder = self.template.folder
        name = quote(path[len(_literal(self.folder)) :].lstrip("/"), safe="{}=")
        self.journal = Journal(os.path.join(self.folder, f".{name[-200:]}.checkpoint"), log)
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the folder, and undo what a crash left without its position."""
        try:
            disk.make_folder(self.folder)
        except OSError as error:
            if isinstance(disk.classify_error(error, self.folder, opening=True), TransientError):
                raise ConnectionLost(f"cannot make the folder {self.folder}: {error.strerror}") from error
            raise ConfigError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ConfigError(f"cannot write to the folder {self.folder}: permission denied")
        if self.config.mode == "overwrite" and not self.config.begun:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.journal.path)
        if self.template.fixed:
            self.begin(self.template.split(_NOTHING, self._now())[0][0])
        if self.journal.exists():
            try:
                self.journal.open()
                self.journal.close()
            except ConnectionLost:
                self.log.debug("%s: kept by another process", self.journal.path)

    def begin(self, path: str) -> None:
        """Make way for the first write to ``path``, as the mode says."""
        if self.config.mode == "append" or path in self.config.begun:
            return
        there = [numbered(path, self.ending, number) for number in numbers(path, self.ending)]
        if there and self.config.mode == "error":
            raise ConfigError(f"{there[0]} is there already, and `mode` is error")
        for name in there:
            os.unlink(name)
        self.config.begun.add(path)

    async def write(self, batches: Sequence[Batch]) -> None:
        await asyncio.to_thread(self._locked, batches, None)

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        await asyncio.to_thread(self._locked, batches, positions)

    async def load(self, key: str) -> Position | None:
        await asyncio.to_thread(self._locked, [], {})
        return self.journal.positions.get(key)

    async def save(self, positions: Mapping[str, Position]) -> None:
        await asyncio.to_thread(self._locked, [], positions)

    def _locked(self, batches: Sequence[Batch], positions: Mapping[str, Position] | None) -> None:
        with self._lock:
            try:
                if positions is not None:
                    self.journal.open()
                elif self.journal.is_open and self.journal.files:
                    self.journal.commit(complete=list(self.journal.files))
                batches = [batch for batch in batches if batch.num_rows]
                if batches or positions:
                    self.put(batches, positions)
            except OSError as error:
                raise disk.classify_error(error, error.filename or self.config.path) from error

    def put(self, batches: Sequence[Batch], positions: Mapping[str, Position] | None) -> None:
        """Write the batches, with their positions where given."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything, once no write is under way."""
        with self._lock:
            try:
                self.journal.close()
            except OSError as error:  # nothing is lost: the lengths it records are right
                self.log.warning("%s: %s", self.journal.path, error)

    def split(self, batches: Sequence[Batch]) -> list[tuple[str, Batch]]:
        """Return each path with rows for it, in order."""
        now = self._now()
        return [part for batch in batches for part in self.template.split(batch, now)]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.time(), UTC)
