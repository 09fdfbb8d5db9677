"""Writing whole files, one after the other: for formats that are complete only at their end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ...clients import disk
from ...clock import Clock
from ...delivery import Batch, Position
from ...errors import TransientError
from ...metadata import without_metadata
from . import formats
from .local import LocalWriter
from .paths import last_number, numbered

if TYPE_CHECKING:
    from . import File

_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")
_LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def gathered(parts: Sequence[tuple[str, Batch]]) -> list[tuple[str, pa.Table]]:
    """Return one table for each path and schema."""
    groups: dict[tuple[str, pa.Schema], list[Batch]] = {}
    for path, batch in parts:
        batch = without_metadata(batch).replace_schema_metadata(None)
        groups.setdefault((path, batch.schema), []).append(batch)
    return [(path, pa.Table.from_batches(batches)) for (path, _), batches in groups.items()]


class PartWriter(LocalWriter):
    """Writes each batch as a file of its own, under its name only once it is whole and durable."""

    def __init__(self, config: File, log: logging.Logger, clock: Clock) -> None:
        super().__init__(config, log, clock)
        self._last: dict[str, int] = {}
        self._swept: set[str] = set()

    def put(self, batches: Sequence[Batch], positions: Mapping[str, Position] | None) -> None:
        parts = [
            (path, formats.encode(table, self.format, self.compression))
            for path, table in gathered(self.split(batches))
        ]
        done: list[str] = []
        stale = list(self.journal.files)
        if stale:
            self.journal.commit(complete=stale)
        try:
            for path, data in parts:
                done.append(self._publish(path, data, journaled=positions is not None))
            if self.config.sync:
                for folder in {os.path.dirname(name) for name in done}:
                    disk.sync_folder(folder)
            if positions is not None:
                self.journal.commit(positions, complete=list(self.journal.files))
        except BaseException:
            for name in done:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
            raise

    def _publish(self, path: str, data: pa.Buffer, *, journaled: bool) -> str:
        folder = os.path.dirname(path)
        if path not in self._last:
            self.begin(path)
            disk.make_folder(folder)
            self._sweep(folder)
        number = self._last.get(path) or last_number(path, self.ending)
        unfinished = os.path.join(folder, f".{uuid.uuid4().hex}.part")
        opened = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            disk.lock(opened, unfinished)
            disk.write_all(opened, memoryview(data).cast("B"))
            if self.config.sync:
                os.fsync(opened)
            while True:
                number += 1
                name = numbered(path, self.ending, number)
                if journaled:
                    if os.path.exists(name):
                        continue
                    self.journal.commit(files={name: None})
                try:
                    _link(unfinished, name)
                    break
                except FileExistsError:
                    if journaled:
                        self.journal.commit(complete=[name])
        finally:
            os.close(opened)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
        if len(self._last) > 10_000:
            self._last.clear()
        self._last[path] = number
        return name

    def _sweep(self, folder: str) -> None:
        """Remove the unfinished files of writers that are gone: nobody holds their locks."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        for entry in os.listdir(folder):
            if _UNFINISHED.fullmatch(entry) is None:
                continue
            with contextlib.suppress(FileNotFoundError, TransientError):
                opened = os.open(os.path.join(folder, entry), os.O_WRONLY | os.O_CLOEXEC)
                try:
                    disk.lock(opened, entry, timeout=0)
                    os.unlink(os.path.join(folder, entry))
                finally:
                    os.close(opened)


def _link(unfinished: str, name: str) -> None:
    """Give a file its name; raises FileExistsError if that is taken."""
    try:
        os.link(unfinished, name)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        if os.path.exists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(unfinished, name)
