"""How far one file has been read: small, JSON-serialisable, and able to tell whether the file is still the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Self

TAIL = 256
"""How many bytes before the offset are remembered by their hash."""


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

    @classmethod
    def load(cls, saved: Any) -> Self:
        """Read what ``dump`` gave."""
        return cls(*saved)

    def dump(self) -> list[Any]:
        """Return it as JSON can hold it."""
        dumped = [self.offset, self.within, self.rows, self.mark, self.version, self.taken]
        return dumped if self.taken else dumped[:5]

    def finished(self, version: str) -> Place:
        """The same place, as the end of this version of the file."""
        return replace(self, version=version)


def mark_of(tail: bytes) -> str:
    """Return the mark of the bytes before an offset."""
    return blake2b(tail[-TAIL:], digest_size=6).hexdigest()
