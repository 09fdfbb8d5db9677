"""A file that rows are added to, and what undoes an addition."""

from __future__ import annotations

import csv
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from ...clients import disk
from . import tails
from .formats import Compression, Format

HEADER_BYTES = 1 << 16
SYNC_ALONE, SYNC_TOGETHER = 4, 16


class Growing:
    """One file, opened when it is first written, always ending in a whole row.

    It is locked while it is written, so that several streams may share it.
    """

    def __init__(
        self, path: str, format: Format, compression: Compression, tail: tails.Tail, log: logging.Logger, began: float
    ) -> None:
        self.path, self._format, self._compression, self._tail, self._log = path, format, compression, tail, log
        self.rows = 0
        """Rows added since it was opened."""
        self.began = began
        """When it was begun, by the clock of the writer."""
        self.header: list[str] | None = None
        """The columns of a CSV file that has any rows."""
        self.size = -1
        """How long it was when it was last written; -1 before."""
        self._opened = -1
        self._held = False

    def hold(self) -> None:
        """Open, lock and mend the file, unless that is done already."""
        if self._held and disk.is_at(self._opened, self.path):
            return
        if self._held:
            self.close()
        while True:
            if self._opened < 0:
                self._open()
            disk.lock(self._opened, self.path)
            if disk.is_at(self._opened, self.path):
                break
            self.close()
        size = os.fstat(self._opened).st_size
        if size != self.size:
            self.size = self._mended(size)
            self.header = self._read_header() if self._format is Format.CSV and self.size else None
        self._held = True

    def let_go(self) -> None:
        """Let others write it."""
        if self._held:
            self._held = False
            disk.unlock(self._opened)

    def append(self, data: pa.Buffer) -> None:
        """Add bytes at the end."""
        disk.write_all(self._opened, memoryview(data).cast("B"))
        self.size += data.size

    def sync(self) -> None:
        """Make what was added durable."""
        os.fdatasync(self._opened)

    def cut(self, size: int) -> None:
        """Take away what was added after ``size``."""
        os.ftruncate(self._opened, size)
        self.size = size

    def close(self) -> None:
        """Close the file; it is opened again when it is written again."""
        if self._opened >= 0:
            os.close(self._opened)
        self._opened, self._held, self.size = -1, False, -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        folder = os.path.dirname(self.path)
        try:
            self._opened = os.open(self.path, flags)
        except FileNotFoundError:
            disk.make_folder(folder)
            self._opened = os.open(self.path, flags | os.O_CREAT, 0o666)
            disk.sync_folder(folder)

    def _mended(self, size: int) -> int:
        end = self._tail(self._opened, size)
        if end == size:
            return size
        torn = os.pread(self._opened, size - end, end)
        if self._format is Format.JSON and self._tail is tails.lines and tails.is_whole_json(torn):
            os.write(self._opened, b"\n")
            return size + 1
        self._log.warning("%s: cut %d bytes of an unfinished row, kept in %s.torn", self.path, size - end, self.path)
        with open(self.path + ".torn", "ab") as file:
            file.write(torn)
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._opened, end)
        os.fsync(self._opened)
        return end

    def _read_header(self) -> list[str]:
        if self._compression is Compression.NONE:
            text = os.pread(self._opened, HEADER_BYTES, 0)
        else:
            with pa.input_stream(self.path, compression=self._compression.value) as stream:
                text = stream.read(HEADER_BYTES)
        return next(csv.reader(io.StringIO(text.decode("utf-8-sig", errors="replace"))), [])


@dataclass
class Addition:
    """What one write adds to one file, and how the file was before."""

    file: Growing
    size: int
    rows: int
    header: list[str] | None
    data: list[pa.Buffer] = field(default_factory=list)


class Unit:
    """The additions of one write to all its files: all of them stay, or none."""

    def __init__(self) -> None:
        self._additions: dict[str, Addition] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """How long each file is now."""
        return {path: addition.file.size for path, addition in self._additions.items()}

    def plan(self, file: Growing, data: pa.Buffer, rows: int, header: list[str] | None) -> None:
        """Note what is to be added; the file is held from now on."""
        addition = self._addition(file)
        addition.data.append(data)
        file.rows += rows
        file.header = header

    def hold(self, file: Growing) -> None:
        """Hold a file until the unit is over."""
        self._addition(file)

    def _addition(self, file: Growing) -> Addition:
        if file.path not in self._additions:
            file.hold()
            self._additions[file.path] = Addition(file, file.size, file.rows, file.header)
        return self._additions[file.path]

    def planned_bytes(self, file: Growing) -> int:
        """Return how long the file will be."""
        addition = self._addition(file)
        return addition.size + sum(int(data.size) for data in addition.data)

    def add(self, *, sync: bool) -> None:
        """Write all additions; the caller undoes the unit if that fails."""
        for addition in self._additions.values():
            for data in addition.data:
                addition.file.append(data)
        grown = [addition.file for addition in self._additions.values() if addition.data] if sync else []
        if len(grown) < SYNC_ALONE:
            for file in grown:
                file.sync()
            return
        with ThreadPoolExecutor(SYNC_TOGETHER) as pool:  # the disk flushes many at once as fast as one
            list(pool.map(Growing.sync, grown))

    def undo(self) -> None:
        """Cut every file back to what it was; one that cannot be cut is mended when it is next opened."""
        for addition in self._additions.values():
            file = addition.file
            file.rows, file.header = addition.rows, addition.header
            try:
                file.cut(addition.size)
            except OSError:
                file.close()

    def end(self, *, keep: bool) -> None:
        """Let go of the files, unless they are to be kept from others."""
        for addition in self._additions.values():
            if not keep:
                addition.file.let_go()
