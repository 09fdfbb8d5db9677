"""One file that is read, and what was found out about files in one go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from .listing import Found
from .part import FileReader, Part
from .place import Place

MAX_OPEN = 64
"""How many files are held open: well below what a system allows a process by default."""


@dataclass(slots=True, eq=False)
class Followed:
    """One file and how far it was read."""

    found: Found
    place: Place
    grows: bool
    """Whether it can be read while it is written; otherwise it is taken once it no longer changes."""
    reader: FileReader | None = None
    seen: str = ""
    """The version that was last read to its end."""
    seen_whole: bool = False
    """Whether that took an unended last line, too."""
    changed: float = 0.0
    """When it was last seen to have changed, on the monotonic clock."""
    gone: bool = False
    """Whether its path no longer leads to it: it was renamed or deleted."""
    not_before: float = 0.0
    """Until when it is let alone, on the monotonic clock."""
    misses: int = 0
    """How often it could not be found since it was last listed."""
    turns: int = 0
    is_queued: bool = False
    is_retired: bool = False

    @property
    def born(self) -> int:
        """When the file was made, in nanoseconds since 1970; 0 where that is not known."""
        return self.found.born or self.place.born

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to read until it changes."""
        version = self.found.version
        return not self.gone and (self.place.version == version or (self.seen == version and self.seen_whole))


class Readers:
    """The files that are open: the last that were read, so that they can be read to the end once deleted."""

    def __init__(self, open_reader: Callable[[Found, Place], FileReader]) -> None:
        self._open_reader = open_reader
        self._open: OrderedDict[str, Followed] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether opening one more file closes another."""
        return len(self._open) >= MAX_OPEN

    def of(self, file: Followed) -> FileReader:
        """Return the reader of a file, opened if need be."""
        if file.reader is None:
            file.reader = self._open_reader(file.found, file.place)
            self._open[file.found.key] = file
            while len(self._open) > MAX_OPEN:
                self.close(next(iter(self._open.values())))
        self._open.move_to_end(file.found.key)
        return file.reader

    def close(self, file: Followed) -> None:
        """Close a file."""
        if self._open.get(file.found.key) is file:
            del self._open[file.found.key]
        if file.reader is not None:
            file.reader.close()
            file.reader = None

    def close_all(self) -> None:
        """Close all files."""
        for file in list(self._open.values()):
            self.close(file)


class Read(NamedTuple):
    """A part that was read of a file."""

    file: Followed
    part: Part


class Seen(NamedTuple):
    """A file that is new or was renamed: kept at once, so that a rotation is noticed later."""

    found: Found
    place: Place
    """Where reading it goes on if it is new."""
    original: str | None = None
    """The key of the file it is a copy of, none of whose parts it may overtake."""


class Gone(NamedTuple):
    """A file whose place need no longer be kept."""

    key: str


News: TypeAlias = Read | Seen | Gone


@dataclass(frozen=True, slots=True)
class Step:
    """What was found out in one go, in the order in which it is to be kept."""

    news: list[News]
    ended: bool = False
