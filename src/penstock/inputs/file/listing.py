"""Which files there are, in the order in which they are read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from ...clients.object_store import translated
from ...errors import ConfigError, TransientError
from .compression import COMPRESSIONS
from .content import Content, LocalContent, Removed, StoredContent, Unreadable, version_of
from .pattern import Pattern

EXTENSIONS = {
    "json": (".json", ".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "avro": (".avro",),
    "arrow": (".arrow", ".ipc", ".feather"),
    "text": (".txt", ".log"),
}
"""The extensions by which the format of a file is known."""
_MAX_LOOKUPS = 5
"""How often a folder is looked through for a file that is renamed again and again."""
_Entry: TypeAlias = tuple[str, os.stat_result, Mapping[str, str]]
_FORMATS = {extension: name for name, extensions in EXTENSIONS.items() for extension in extensions}


class _Torn(Exception):
    """Files were renamed while they were listed."""


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

    @property
    def compression(self) -> str | None:
        """What it was compressed with, by its extension."""
        return COMPRESSIONS.get(os.path.splitext(self.path)[1].lower())

    def format(self, given: str) -> str:
        """The format that was given; for ``auto`` the one its extension tells, else text."""
        return given if given != "auto" else _FORMATS.get(self.extension, "text")

    @property
    def extension(self) -> str:
        """The extension, in lower case, without that of a compression."""
        return extension_of(self.path)


def extension_of(path: str) -> str:
    """Return the extension of ``path`` in lower case, without that of a compression."""
    stem, extension = os.path.splitext(path.lower())
    return os.path.splitext(stem)[1] if extension in COMPRESSIONS else extension


class Listing(Protocol):
    """Finds the files of a pattern."""

    def find(self) -> list[Found]:
        """Return the files there are now, by name; raises TransientError if they cannot be listed."""
        ...

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Return those of the files ``keys`` that were renamed within the folders of ``beside``."""
        ...

    def open(self, found: Found) -> Content:
        """Open a file; raises Removed if it is gone, Unreadable if it cannot be opened now."""
        ...

    def is_readable(self, found: Found) -> bool:
        """Whether we may read a file, as far as that is known before."""
        ...

    def absent(self) -> str | None:
        """Why there is nothing to read, where that is a mistake."""
        ...


class LocalListing:
    """Files of this machine, known by their inode, so that a renamed file stays the same file.

    Two names of one file are one file. Files of another device than the folder's also carry its number.
    """

    def __init__(self, pattern: Pattern, format: str) -> None:
        self._pattern = pattern
        self._extensions = _extensions(format)

    def find(self) -> list[Found]:
        """Return the files there are now, by name; raises TransientError if they cannot be listed."""
        device = self._device()
        files: dict[str, Found] = {}
        for path, status, values in sorted(self._stable(), key=lambda file: file[0].split("/")):
            found = _local(path, status, device, values)
            files.setdefault(found.key, found)
        return list(files.values())

    def _stable(self) -> list[_Entry]:
        """List the files anew while they are renamed meanwhile, so that none is missed or taken for another."""
        try:
            for _ in range(_MAX_LOOKUPS):
                with suppress(_Torn):
                    return list(self._find(strict=True))
            return list(self._find(strict=False))
        except OSError as error:
            raise TransientError(f"{self._pattern.text} cannot be listed: {error}") from error

    def _device(self) -> int | None:
        """The device that keys need not tell: that of the folder, or of the file if the path is that of one."""
        for path in (self._pattern.text if self._pattern.is_plain else "", self._pattern.folder or "."):
            try:
                return os.stat(path).st_dev
            except OSError:
                continue
        return None

    def _find(self, *, strict: bool) -> Iterator[_Entry]:
        root = self._pattern.text
        if os.path.isfile(root):
            yield root, os.stat(root), {}
        elif os.path.isdir(root):
            folder = Pattern(f"{_escaped(root.rstrip('/'))}/**")
            for entry, _ in folder.walk():
                if not entry.name.startswith("_") and _is_wanted(entry.name, self._extensions):
                    yield from _stat(entry, {}, strict)
        elif not self._pattern.is_plain:
            for entry, values in self._pattern.walk():
                yield from _stat(entry, values, strict)

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Return those of the files ``keys`` that were renamed within the folders of ``beside``."""
        device, folders = self._device(), {os.path.dirname(path) for path in (*beside, self._pattern.text)}
        inodes = {int(key.partition("@")[0]) for key in keys}
        moved = {}
        for folder in folders if inodes else ():
            try:
                with os.scandir(folder or ".") as entries:
                    for entry in entries:
                        if entry.inode() in inodes and entry.is_file():
                            found = _local(entry.path, entry.stat(), device, {})
                            moved[found.key] = found
            except OSError:
                continue  # a folder that is gone holds nothing that was renamed into it
        return {key: moved[key] for key in keys if key in moved}

    def open(self, found: Found) -> Content:
        """Open the file that was found, also when it was renamed since; raises Removed or Unreadable."""
        path = found.path
        for _ in range(_MAX_LOOKUPS):
            if (content := self._open(path, found.key)) is not None:
                return content
            if (moved := self.moved([found.key], [found.path]).get(found.key)) is not None:
                path = moved.path
        raise Removed

    def _open(self, path: str, key: str) -> LocalContent | None:
        """Open the file at a path if it is the one with this key."""
        try:
            content = LocalContent(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"{path} cannot be opened: {error.strerror}") from error
        if not _is_key_of(key, *content.identity()):
            content.close()
            return None
        return content

    def is_readable(self, found: Found) -> bool:
        """Whether we have the permission to read a file."""
        return os.access(found.path, os.R_OK) or not os.path.exists(found.path)

    def absent(self) -> str | None:
        """Why there is nothing to read, where that is a mistake: a pattern that matches nothing, a missing path."""
        place = os.path.abspath(self._pattern.text)
        if os.path.isdir(self._pattern.text):
            return None
        return f"no file matches {self._pattern.text!r} (looked for {place})"


class StoredListing:
    """Objects of a store, known by their path."""

    def __init__(self, store: Any, pattern: Pattern, format: str, *, can_list: bool = True) -> None:
        self._store, self._pattern, self._can_list = store, pattern, can_list
        self._extensions = _extensions(format)
        if not can_list and not pattern.is_plain:
            raise ConfigError(f"files of a web server cannot be listed: expected one path, not {pattern.text!r}")

    def find(self) -> list[Found]:
        """Return the objects there are now, by name; raises TransientError or ConnectionLost."""
        import obstore

        text = self._pattern.text.strip("/")
        with translated(f"listing {text or 'the bucket'}"):
            if self._pattern.is_plain and text and not self._pattern.text.endswith("/"):
                try:
                    return [_stored(obstore.head(self._store, text), {})]
                except FileNotFoundError:
                    if not self._can_list:
                        return []
            folder = text if self._pattern.is_plain else self._pattern.folder.strip("/")
            chunks = obstore.list(self._store, prefix=folder or None)
            found = [_stored(meta, values) for chunk in chunks for meta, values in self._matching(chunk)]
        return sorted(found, key=lambda file: file.path.split("/"))

    def _matching(self, chunk: Any) -> Iterator[tuple[Any, Mapping[str, str]]]:
        for meta in chunk:
            if not self._pattern.is_plain:
                values = self._pattern.match(meta["path"])
                if values is not None:
                    yield meta, values
            elif self._pattern.takes(meta["path"]) and _is_wanted(os.path.basename(meta["path"]), self._extensions):
                yield meta, {}

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Nothing: an object has only its path."""
        return {}

    def open(self, found: Found) -> Content:
        """Open an object; reading it fails when it is gone."""
        return StoredContent(self._store, found.path, found.size, found.etag)

    def is_readable(self, found: Found) -> bool:
        """Only reading an object tells."""
        return True

    def absent(self) -> str | None:
        """Why there is nothing to read, where that is a mistake."""
        return f"no object matches {self._pattern.text!r}"


def _extensions(format: str) -> Collection[str] | None:
    if format == "auto":
        return _FORMATS
    return EXTENSIONS[format] if format != "text" else None


def _is_wanted(name: str, extensions: Collection[str] | None) -> bool:
    """Whether a file of a folder is to be read: not hidden, and of an extension of the format."""
    return not name.startswith(".") and (extensions is None or extension_of(name) in extensions)


def _escaped(folder: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[{" else letter for letter in folder)


def _stat(entry: os.DirEntry[str], values: Mapping[str, str], strict: bool) -> Iterator[_Entry]:
    """Look at an entry; with ``strict`` raises _Torn if its name leads to another file than when it was listed."""
    try:
        status = entry.stat()
        if not strict or entry.is_symlink() or status.st_ino == entry.inode():
            yield entry.path, status, values
            return
    except FileNotFoundError:
        if not strict:
            return  # deleted since the folder was listed
    raise _Torn


def _key(inode: int, device: int, usual: int | None) -> str:
    """The key of a local file, which tells the device only where that is not the usual one."""
    return str(inode) if device == usual else f"{inode}@{device}"


def _is_key_of(key: str, inode: int, device: int) -> bool:
    return key in (str(inode), f"{inode}@{device}")


def _local(path: str, status: os.stat_result, device: int | None, values: Mapping[str, str]) -> Found:
    key = _key(status.st_ino, status.st_dev, device)
    version = version_of(status)
    return Found(key, path, status.st_size, version, status.st_mtime, values)


def _stored(meta: Any, values: Mapping[str, str]) -> Found:
    etag, modified = meta["e_tag"], meta["last_modified"].timestamp()
    version = etag or f"{meta['size']}:{modified}"
    return Found(meta["path"], meta["path"], meta["size"], version, modified, values, etag)
