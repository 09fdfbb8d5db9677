"""The folder of a write-ahead log: its segments, each named after its first entry, and who holds it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from ..context import Context
from ..delivery import Batch
from ..durability import Durability
from .lock import lock
from .segment import ENTRIES, Head, head_record, read_head, records

_NAME = re.compile(r"\d{20}\.wal")
_OURS = re.compile(r"lock|owner|closed\.json(\.new)?|\d{20}\.wal\.new|.*\.torn|damaged-.*")
_log = logging.getLogger("penstock")


class Closed(msgspec.Struct, frozen=True):
    """What a log that was closed in good order says of itself; it is true until the next entry is written."""

    last: int
    """The number of its last entry."""
    written: int
    """The number up to which all entries were written downstream."""
    salvaged: bool = False
    """Whether somebody has dealt with what was missing."""


class Entry(NamedTuple):
    """One entry, or several that are known to be missing: those have no batch."""

    first: int
    last: int
    batch: Batch | None
    is_room: bool = False
    """Whether their numbers were only left out."""


class LogFolder:
    """What is in the folder of a log."""

    def __init__(self, path: Path, stream: str) -> None:
        self.path, self.stream = path, stream
        self.sizes: dict[int, int] = {}
        """The bytes of each segment, by the number of its first entry."""
        self.strays: list[str] = []
        """What else is there, and does not belong there."""
        self.misnamed: dict[Path, Head] = {}
        """Segments of this log that do not have the name of their first entry."""
        self.damage: Head | None = None
        """The first segment that was begun while something was missing, with which nobody has dealt since."""
        self.head = Head(uuid.uuid4().hex, stream, 1)
        self._seeds: dict[int, int | None] = {}
        self._lock: IO[str] | None = None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self.sizes.values())

    @property
    def firsts(self) -> list[int]:
        """The numbers of the first entries, in order; may be asked for in any thread."""
        return sorted(self.sizes)

    def segment(self, first: int) -> Path:
        """Return the path of a segment."""
        return self.path / f"{first:020d}.wal"

    def seed(self, first: int) -> int | None:
        """Return what the checks of a segment begin with; None if it has none, or its first record is damaged."""
        return self._seeds.get(first)

    def hold(self) -> None:
        """Keep other processes from this log; raises ConfigError if one has it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._lock.fileno()), (self.path / "lock").stat()):
                    return
            self.release()
        self._lock = hold(self.path)

    def release(self) -> None:
        """Let other processes have this log."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def look(self) -> None:
        """Find the segments of this log; what else is there is named and left alone."""
        self.sizes, self._seeds, self.strays, self.misnamed = {}, {}, [], {}
        self.damage, heads = None, dict[int, Head | None]()
        for path in sorted(self.path.iterdir()):
            if _NAME.fullmatch(path.name) and path.is_file():
                heads[int(path.stem)] = read_head(path)
            elif not _OURS.fullmatch(path.name):
                self.strays.append(f"{path.name} is no segment of a log")
        logs = Counter(head.log for head in heads.values() if head is not None and head.stream == self.stream)
        if logs:
            log = max(logs, key=lambda one: logs[one])
            self.head = Head(log, self.stream, 1)
        for first, head in heads.items():
            name = self.segment(first).name
            if head is not None and head.stream != self.stream:
                self.strays.append(f"{name} is of the log of the stream {head.stream!r}")
            elif head is not None and head.log != self.head.log:
                self.strays.append(f"{name} is of another log")
            elif head is not None and head.first != first:
                self.strays.append(f"{name} is the segment {self.segment(head.first).name} under another name")
                self.misnamed[self.segment(first)] = head
            else:
                self.sizes[first] = self.segment(first).stat().st_size
                self._seeds[first] = None if head is None else head.seed
                self.damage = self.damage or (head if head is not None and head.damage else None)

    def find_last(self) -> tuple[int, str | None]:
        """Return the number of the last entry, and what is wrong with the last segment, if anything is."""
        wrong = None
        floor = max(self.sizes, default=1) - 1
        for first in reversed(self.firsts):
            last, end = first - 1, 0
            for found in records(self.segment(first), self._seeds[first], first):
                last, end = max(last, found.number if found.kind in ENTRIES else 0), found.end
            readable = last >= first or self._seeds[first] is not None
            if readable and (left := self.sizes[first] - end):
                _log.warning(
                    "write-ahead log %s: %d bytes behind entry %d are no whole record and are left out; "
                    "if a crash has torn it, it was never acked",
                    self.segment(first),
                    left,
                    last,
                )
            if readable:
                return max(last, floor), wrong
            wrong = f"{self.segment(first).name} was emptied or destroyed: what it held is not known"
        return floor, wrong

    def entries(self, start: int, last: Callable[[], int]) -> Iterator[Entry]:
        """Yield the intact entries from number ``start`` to ``last()``.

        What a segment holds beyond the first number of the next one was never acked.
        """
        begin: int | None = max((one for one in self.firsts if one <= start), default=min(self.firsts, default=None))
        while begin is not None:
            limit = self._limit(begin, last)
            for found in records(self.segment(begin), self._seeds.get(begin), begin, limit):
                if found.kind in ENTRIES and start <= found.number <= limit():
                    yield Entry(found.first, found.number, found.batch(), found.is_room)
            begin = self._following(begin)

    def _limit(self, first: int, last: Callable[[], int]) -> Callable[[], int]:
        following: int | None = None

        def limit() -> int:
            nonlocal following
            following = following or self._following(first)
            return last() if following is None else min(last(), following - 1)

        return limit

    def _following(self, first: int) -> int | None:
        return next((other for other in self.firsts if other > first), None)

    def begin(self, first: int, damage: str = "", damaged_from: int = 0) -> IO[bytes]:
        """Make a segment and return it, open; what may stand in its place is kept under a name of its own.

        What is missing before it is noted in it.
        """
        path, head = self.segment(first), head_record(Head(self.head.log, self.stream, first, damage, damaged_from))
        if path.exists() and path.stat().st_size > len(head):
            path.rename(unused(path.with_suffix(""), ".torn"))
        new = path.with_name(f"{path.name}.new")
        file = new.open("wb", buffering=0)
        try:
            file.write(head)
            os.fsync(file.fileno())
            (self.path / "closed.json").unlink(missing_ok=True)
            new.rename(path)
            sync(self.path)
        except BaseException:
            file.close()
            raise
        self._seeds[first], self.sizes[first] = self.head.seed, len(head)
        return file

    def delete(self, firsts: Sequence[int]) -> None:
        """Delete segments, the oldest first: what a crash leaves has no gap."""
        for first in firsts:
            self.segment(first).unlink(missing_ok=True)

    def closed(self) -> Closed | None:
        """Return what was said when the log was last closed; None if it was not, or has been written to since."""
        try:
            return msgspec.json.decode((self.path / "closed.json").read_bytes(), type=Closed)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            _log.warning("write-ahead log %s: closed.json is damaged and left out", self.path)
            return None

    def close(self, closed: Closed) -> None:
        """Note that the log ends here, so that whatever is missing later is known to be."""
        path = self.path / "closed.json"
        new = path.with_name("closed.json.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(closed))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        sync(self.path)


def sync(folder: Path) -> None:
    """Force the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unused(path: Path, suffix: str) -> Path:
    """Return a path that begins like this one and that nothing has."""
    tried = path.with_name(f"{path.name}{suffix}")
    count = 1
    while tried.exists():
        count += 1
        tried = path.with_name(f"{path.name}-{count}{suffix}")
    return tried


def hold(folder: Path) -> IO[str]:
    """Keep other processes from the log in ``folder`` until what is returned is closed.

    Raises ConfigError if another one has it.
    """
    return lock(folder / "lock", f"the write-ahead log {folder}")


def own_log(options: Durability, context: Context) -> Context:
    """Return the context with which the log of a stream is opened.

    Versions in which streams without `id` shared a log by their place left one; the first stream to ask takes it over.
    """
    if not context.identity:
        return context
    shared = replace(context, identity="")
    folder = options.folder(shared)
    if not any(folder.glob("*.wal")):
        return context
    try:
        with (folder / "owner").open("x") as owner:
            owner.write(context.identity)
    except FileExistsError:
        if (folder / "owner").read_text() != context.identity:
            return context
    return shared
