"""How far one file has been read: small, JSON-serialisable, and able to tell whether the file is still the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Self

TAIL = 256
"""How many bytes before the offset are remembered by their hash."""
HEAD = 4096
"""How many bytes at the start of a file are remembered by their hash."""

GONE = "gone"
"""What the version of a file begins with that was read to its end and is gone."""


def printable(text: str) -> str:
    """Return a text that may hold the name of a file, which need not be text, as one that can be shown and kept."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading one file goes on."""

    offset: int = 0
    """Bytes taken, counted after decompression; in a container the unit (row group, record batch) to go on with."""
    within: int = 0
    """Rows of that unit already taken."""
    rows: int = 0
    """Rows taken from the file so far: the number of the next row."""
    mark: str = ""
    """The hash of the bytes just before the offset: when they have changed, so has the file."""
    version: str = ""
    """The version of the file that was read to its end; empty while it was not."""
    taken: int = 0
    """Bytes behind the offset that were delivered as a last payload whose end is still to come."""
    head: str = ""
    """The hash of the first bytes of those that were taken; empty where it is not known."""
    born: int = 0
    """When the file was made, in nanoseconds since 1970; 0 where that is not known."""
    path: str = ""
    """Where the file was when it was read."""

    @classmethod
    def load(cls, saved: Any) -> Self:
        """Read what ``dump`` gave; raises TypeError for anything else."""
        place = cls(*saved)
        if not all(isinstance(getattr(place, slot), type(getattr(cls(), slot))) for slot in cls.__slots__):
            raise TypeError(f"{saved} is not the place of a file")
        return place

    def dump(self) -> list[Any]:
        """Return it as JSON can hold it."""
        return [*(getattr(self, slot) for slot in self.__slots__[:-1]), printable(self.path)]

    @property
    def behind(self) -> int:
        """The offset behind everything that was delivered."""
        return self.offset + self.taken

    @property
    def is_start(self) -> bool:
        """Whether nothing of the file was taken, nor its end seen."""
        return not (self.behind or self.within or self.version)

    @property
    def is_gone(self) -> bool:
        """Whether the file is known to be gone."""
        return self.version.startswith(GONE)

    @property
    def modified(self) -> int:
        """When the version that was read to its end was written, in nanoseconds since 1970; 0 if none was."""
        return int(self.version.rpartition(":")[2] or 0) if self.version.count(":") == 1 else 0

    def finished(self, version: str) -> Place:
        """Return the same place, as the end of this version of the file."""
        return replace(self, version=version)


def mark_of(tail: bytes) -> str:
    """Return the mark of the bytes before an offset."""
    return hash_of(tail[-TAIL:])


def hash_of(data: bytes) -> str:
    """Return a short hash."""
    return blake2b(data, digest_size=6).hexdigest()
