"""Which files there are, in the order in which they are read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .compression import COMPRESSIONS
from .content import Content

EXTENSIONS = {
    "json": (".json", ".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "avro": (".avro",),
    "arrow": (".arrow", ".ipc", ".feather"),
    "text": (".txt", ".log"),
}
"""The extensions by which the format of a file is known."""
_FORMATS = {extension: name for name, extensions in EXTENSIONS.items() for extension in extensions}


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a listing."""

    key: str
    """What identifies it, also after it was renamed."""
    path: str
    size: int
    version: str
    """Differs when the file was written since."""
    modified: float
    """When it was last written, in seconds since 1970."""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    slot: str = ""
    """What tells it from others of a followed path if it was rotated."""
    born: int = 0
    """When it was made, in nanoseconds since 1970, if that was looked up."""

    @property
    def compression(self) -> str | None:
        """What it was compressed with, by its extension."""
        return COMPRESSIONS.get(os.path.splitext(self.path)[1].lower())

    def format(self, given: str) -> str:
        """Return the format that was given; for ``auto`` the one its extension tells, else text."""
        return given if given != "auto" else _FORMATS.get(self.extension, "text")

    @property
    def extension(self) -> str:
        """The extension, in lower case, without that of a compression."""
        return extension_of(self.path)


def extension_of(path: str) -> str:
    """Return the extension of ``path`` in lower case, without that of a compression."""
    stem, extension = os.path.splitext(path.lower())
    return os.path.splitext(stem)[1] if extension in COMPRESSIONS else extension


class Changes(NamedTuple):
    """What is different from the listing before."""

    found: list[Found]
    """Files that are new, were written or renamed."""
    gone: set[str]
    """The keys of those that are no longer listed."""


class Listing(Protocol):
    """Finds the files of a pattern."""

    @property
    def path(self) -> str | None:
        """The one path that is listed, with what is rotated away from it; None for a pattern or a folder."""
        ...

    def find(self) -> list[Found]:
        """Return the files there are now, by name; raises TransientError if they cannot be listed."""
        ...

    def changes(self) -> Changes:
        """Return what has changed since this was last called; the first time, all files there are, by name."""
        ...

    def find_again(self, found: Found) -> Found | None:
        """Return a file as it is now; None if it cannot be found."""
        ...

    def generations(self, first: int = 0) -> Iterator[Found | int]:
        """Yield the files that were at the one path, the newest first, and the numbers that are missing among them.

        They begin with number ``first``; 0 is the path itself.
        """
        ...

    def rotated(self, path: str) -> list[Found]:
        """Return the files beside ``path`` that have the name of one that was rotated, the newest first."""
        ...

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Return those of the files ``keys`` that were renamed within the folders of ``beside``."""
        ...

    def open(self, found: Found) -> Content:
        """Open a file; raises Removed if it is gone, Unreadable if it cannot be opened now."""
        ...

    def is_readable(self, found: Found) -> bool:
        """Tell whether we may read a file, as far as that is known before."""
        ...

    def absent(self) -> str | None:
        """Return why there is nothing to read, where that is a mistake."""
        ...


def extensions_of(format: str) -> Collection[str] | None:
    if format == "auto":
        return _FORMATS
    return EXTENSIONS[format] if format != "text" else None


def is_wanted(name: str, extensions: Collection[str] | None) -> bool:
    """Tell whether a file of a folder is to be read: not hidden, and of an extension of the format."""
    return not name.startswith(".") and (extensions is None or extension_of(name) in extensions)
