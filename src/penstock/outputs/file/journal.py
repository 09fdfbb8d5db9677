"""The positions kept beside a file, and how long its parts were when they were saved."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ...clients import disk
from ...delivery import Position
from ...errors import ConfigError, ConnectionLost, TransientError

COMPACT_BYTES = 1 << 20
"""How long the journal grows before it is written anew."""

_RECORD = {"positions", "files", "complete"}


class Journal:
    """A log of what was committed: positions, and the length of every file that rows are being added to.

    After a crash a file that is longer than its recorded length holds rows whose positions were not saved:
    they are cut off, and will come again. A file without a length was about to be made, and is removed.
    """

    def __init__(self, path: str, log: logging.Logger) -> None:
        self.path, self._log = path, log
        self.positions: dict[str, Position] = {}
        self.files: dict[str, int | None] = {}
        self._opened = -1
        self._size = 0

    def exists(self) -> bool:
        """Return whether positions were ever kept here."""
        return os.path.exists(self.path)

    @property
    def is_open(self) -> bool:
        """Whether this process keeps it."""
        return self._opened >= 0

    def open(self) -> None:
        """Lock and read the journal, and undo what was not committed; ConnectionLost while another process has it."""
        if self.is_open:
            return
        folder = os.path.dirname(self.path)
        disk.make_folder(folder)
        while True:
            opened = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                disk.lock(opened, self.path, timeout=0)
            except TransientError as error:
                os.close(opened)
                raise ConnectionLost(str(error)) from None
            if disk.is_at(opened, self.path):
                break
            os.close(opened)
        self._opened = opened
        try:
            self._read()
            disk.sync_folder(folder)
            self._recover()
        except BaseException:
            os.close(opened)
            self._opened = -1
            raise

    def close(self) -> None:
        """Declare all files complete and let go of the journal."""
        if not self.is_open:
            return
        try:
            if self.files:
                self.commit(complete=list(self.files))
        finally:
            os.close(self._opened)
            self._opened = -1

    def commit(
        self,
        positions: Mapping[str, Position] | None = None,
        files: Mapping[str, int | None] | None = None,
        complete: Iterable[str] = (),
    ) -> None:
        """Make positions and lengths durable together; ``complete`` files are recorded no longer."""
        positions, files, complete = dict(positions or {}), dict(files or {}), list(complete)
        if self._size > COMPACT_BYTES:
            self._compact()
        record: dict[str, Any] = {"positions": positions, "files": self._named(files), "complete": complete}
        if complete:
            record["complete"] = [self._relative(path) for path in complete]
        self._append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._apply(positions, files, complete)

    def _append(self, line: bytes) -> None:
        try:
            os.pwrite(self._opened, line, self._size)
            os.fdatasync(self._opened)
        except OSError:
            os.ftruncate(self._opened, self._size)
            raise
        self._size += len(line)

    def _apply(
        self, positions: Mapping[str, Position], files: Mapping[str, int | None], complete: Iterable[str]
    ) -> None:
        self.positions.update(positions)
        self.files.update(files)
        for path in complete:
            self.files.pop(path, None)

    def _read(self) -> None:
        self.positions, self.files, self._size = {}, {}, 0
        with open(self.path, "rb") as file:
            for line in file:
                record = _record(line)
                if record is None:
                    if any(_record(behind) is not None for behind in file):
                        raise ConfigError(f"{self.path} is damaged at byte {self._size}: nothing was changed")
                    break  # torn by a crash
                if not isinstance(record, dict) or record.keys() != _RECORD:
                    raise ConfigError(
                        f"{self.path} holds another shape of positions at byte {self._size}, a later version of "
                        "Penstock may have written it: nothing was changed"
                    )
                files = {self._absolute(name): length for name, length in record["files"].items()}
                self._apply(record["positions"], files, map(self._absolute, record["complete"]))
                self._size += len(line)
        os.ftruncate(self._opened, self._size)

    def _recover(self) -> None:
        for path, length in self.files.items():
            if length is None:
                if os.path.exists(path):
                    os.unlink(path)
                    disk.sync_folder(os.path.dirname(path))
                continue
            if os.path.exists(path):
                self._cut(path, length)
        if self.files:
            self.commit(complete=list(self.files))

    def _cut(self, path: str, length: int) -> None:
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk.lock(opened, path)
            size = os.fstat(opened).st_size
            if size > length:
                self._log.warning("%s: cut %d bytes whose position was not saved", path, size - length)
                os.ftruncate(opened, length)
                os.fsync(opened)
            elif size < length:
                self._log.warning("%s: %d bytes that were written are gone", path, length - size)
        finally:
            os.close(opened)

    def _compact(self) -> None:
        fresh = self.path + ".new"
        record = {"positions": self.positions, "files": self._named(self.files), "complete": []}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        opened = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            disk.lock(opened, fresh)
            disk.write_all(opened, memoryview(line))
            os.fsync(opened)
            os.rename(fresh, self.path)
        except BaseException:
            os.close(opened)
            raise
        os.close(self._opened)
        self._opened, self._size = opened, len(line)
        disk.sync_folder(os.path.dirname(self.path))

    def _named(self, files: Mapping[str, int | None]) -> dict[str, int | None]:
        return {self._relative(path): length for path, length in files.items()}

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, os.path.dirname(self.path))

    def _absolute(self, name: str) -> str:
        return os.path.normpath(os.path.join(os.path.dirname(self.path), name))


def _record(line: bytes) -> Any:
    """Return what a line holds; None if it is torn or damaged."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
