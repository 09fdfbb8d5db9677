"""Files of this machine, known by their inode, so that a renamed file stays the same file."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from ...clock import Clock
from ...errors import TransientError
from .birth import NOT_THERE, birth_of
from .chain import MAX_LOOKUPS, Chain
from .content import Content, LocalContent, Removed, Unreadable, version_of
from .folders import Folders, Name
from .listing import Changes, Found, extensions_of, is_wanted
from .pattern import Below, Level, Pattern, entries_of, is_file
from .rotation import RotatedNames, number_of

MAX_CHECKED = 500
"""How many files are looked at in one poll, in turn, beside those that were written lately."""
RECENT_TIME = 60.0
"""For how long a file that was written is looked at in each poll, in seconds."""


class _Torn(Exception):
    """Files were renamed while they were listed."""


class LocalListing:
    """The files of a pattern, of a folder, or of one path with those that were rotated away from it.

    Two names of one file are one file. The keys of files of another device than the folder's carry its number, too.
    """

    def __init__(self, pattern: Pattern, format: str, clock: Clock) -> None:
        self._pattern, self._clock = pattern, clock
        self._extensions = extensions_of(format)
        self._kind = ""
        self._folders: Folders
        self._names: RotatedNames | None = None
        self._pending: dict[str, Name] = {}
        self._dropped: set[str] = set()
        self._found: dict[str, Found] = {}
        self._paths: dict[str, str] = {}
        self._recent: dict[str, float] = {}
        self._turn: Iterator[str] = iter(())

    def find(self) -> list[Found]:
        """Return the files there are now, by name; raises TransientError if they cannot be listed."""
        found = LocalListing(self._pattern, "text", self._clock)
        found._extensions = self._extensions
        return [one for one in found.changes().found if not one.slot]

    def changes(self) -> Changes:
        """Return what has changed since this was last called; raises TransientError if nothing can be listed."""
        try:
            self._choose()
            for strict in (True,) * MAX_LOOKUPS + (False,):
                try:
                    return self._changes(strict=strict)
                except _Torn:
                    self._folders.doubt()
        except OSError as error:
            raise TransientError(f"{self._pattern.text} cannot be listed: {error}") from error
        raise AssertionError

    def _choose(self) -> None:
        """Find out what the path is: that of a file, of a folder, or a pattern."""
        root = self._pattern.text
        is_file = os.path.isfile(root)
        kind = "folder" if os.path.isdir(root) else "file" if is_file or self._pattern.is_plain else "pattern"
        if kind == self._kind:
            return
        self._kind, self._names = kind, RotatedNames(root) if kind == "file" else None
        if kind == "folder":
            within = Pattern(f"{_escaped(root.rstrip('/'))}/**")
            self._folders = Folders(lambda below: self._wanted(within.look(below)), Below(within.folder, 0, {}))
        elif kind == "file":
            self._folders = Folders(self._look_beside, Below(os.path.dirname(root), 0, {}))
        else:
            self._folders = Folders(self._pattern.look, Below(self._pattern.folder, 0, {}))

    def _wanted(self, level: Level) -> Level:
        files = [
            (entry, values)
            for entry, values in level.files
            if not entry.name.startswith("_") and is_wanted(entry.name, self._extensions)
        ]
        return Level(files, level.below)

    def _look_beside(self, below: Below) -> Level:
        nothing: Mapping[str, str] = {}
        return Level([(entry, nothing) for entry in entries_of(below.folder) if self._is_beside(entry)], [])

    def _is_beside(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is the file itself, or was rotated away from its path."""
        assert self._names is not None
        return (entry.name == self._names.name or self._names.slot_of(entry.name) is not None) and is_file(entry)

    def _changes(self, *, strict: bool) -> Changes:
        changed, dropped = self._folders.refresh()
        self._pending |= changed
        self._dropped = (self._dropped | dropped) - changed.keys()
        for path in dropped:
            self._pending.pop(path, None)
        device = self._device()
        looked = dict(self._look_at(strict, device))
        self._pending = {}
        released = {self._release(path) for path in self._dropped} - {None}
        self._dropped = set()
        found = []
        for path in sorted(looked, key=lambda path: path.split("/")):
            released.add(self._release(path))
            self._found[path] = looked[path]
            if self._paths.setdefault(looked[path].key, path) == path:
                found.append(looked[path])
        return Changes(found, {key for key in released if key is not None and key not in self._paths})

    def _look_at(self, strict: bool, device: int | None) -> Iterator[tuple[str, Found]]:
        """Yield what is at paths that lead to another file now, or whose file was written."""
        now = self._clock.monotonic()
        for path, name in self._pending.items():
            status = _stat(path)
            is_there = status is not None and (name.is_link or status.st_ino == name.inode)
            found = self._noted(path, status, device, name.values, now) if status is not None and is_there else None
            if found is not None:
                yield path, found
            elif strict:
                raise _Torn
        for path in self._to_check(now):
            before, status = self._found.get(path), _stat(path) if path not in self._pending else None
            if before is None or status is None or before.version == version_of(status):
                continue
            if before.key != _key(status.st_ino, status.st_dev, device):
                self._folders.doubt()  # another file by now: its folder tells which
            if (found := self._noted(path, status, device, before.placeholders, now)) is not None:
                yield path, found

    def _noted(
        self, path: str, status: os.stat_result, device: int | None, values: Mapping[str, str], now: float
    ) -> Found | None:
        """What is at a path; None if another file is there by now."""
        age = max(0.0, self._clock.time() - status.st_mtime)
        self._recent.pop(path, None)
        if age < RECENT_TIME:
            self._recent[path] = now - age
        if self._names is None:
            return _local(path, status, device, values)
        slot = self._names.slot_of(os.path.basename(path)) or ""
        born = birth_of(path, status.st_ino)
        return _local(path, status, device, values, slot, born) if born is not None else None

    def _to_check(self, now: float) -> list[str]:
        """The files that are looked at in this poll: those written lately, and some of the others in turn."""
        self._recent = {path: at for path, at in self._recent.items() if now - at < RECENT_TIME}
        recent = list(itertools.islice(reversed(self._recent), 2 * MAX_CHECKED))
        turn = list(itertools.islice(self._turn, MAX_CHECKED))
        if len(turn) < MAX_CHECKED:
            self._turn = iter(list(self._found))
            turn += itertools.islice(self._turn, MAX_CHECKED - len(turn))
        return list(dict.fromkeys(recent + turn))

    def _release(self, path: str) -> str | None:
        """Forget what was at a path; returns the key of the file that was."""
        found = self._found.pop(path, None)
        if found is None or self._paths.get(found.key) != path:
            return None
        del self._paths[found.key]
        return found.key

    def _device(self) -> int | None:
        """The device that keys need not tell: that of the folder, or of the file if the path is that of one."""
        for path in (self._pattern.text if self._pattern.is_plain else "", self._pattern.folder or "."):
            try:
                return os.stat(path).st_dev
            except OSError:
                continue
        return None

    @property
    def path(self) -> str | None:
        """The one path that is listed, with what is rotated away from it; None for a pattern or a folder."""
        self._choose()
        return self._pattern.text if self._names is not None else None

    def find_again(self, found: Found) -> Found | None:
        """Return a file as it is now; None if it cannot be found."""
        other = self.moved([found.key], [found.path]).get(found.key)
        return other and replace(other, placeholders=found.placeholders, slot=found.slot, born=found.born)

    def generations(self, first: int = 0) -> Iterator[Found | int]:
        """Yield the files that were at the one path, the newest first, and the numbers that are missing among them."""
        return self._chain(self._pattern.text).walk(first)

    def rotated(self, path: str) -> list[Found]:
        """Return the files beside ``path`` that have the name of one that was rotated, the newest first."""
        return self._chain(path).rotated()

    def _chain(self, path: str) -> Chain:
        device = self._device()
        names = self._names if self._names is not None and self._names.path == path else RotatedNames(path)
        return Chain(names, lambda path, slot: _looked_up(path, slot, device))

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Return those of the files ``keys`` that were renamed within the folders of ``beside``."""
        device, folders = self._device(), {os.path.dirname(path) for path in (*beside, self._pattern.text)}
        inodes = {int(key.partition("@")[0]) for key in keys}
        moved: dict[str, Found] = {}
        for folder in folders if inodes else ():
            try:
                entries = entries_of(folder)
            except OSError:
                continue  # what may not be listed holds nothing that could be read on
            for entry in entries:
                if entry.inode() in inodes and is_file(entry):
                    found = self._looked_up(entry.path, device)
                    moved |= {found.key: found} if found is not None else {}
        return {key: moved[key] for key in keys if key in moved}

    def _looked_up(self, path: str, device: int | None) -> Found | None:
        if self._names is not None:
            return _looked_up(path, self._names.slot_of(os.path.basename(path)) or "", device)
        return _local(path, status, device, {}) if (status := _stat(path)) is not None else None

    def open(self, found: Found) -> Content:
        """Open the file that was found, also when it was renamed since; raises Removed or Unreadable."""
        path = found.path
        for _ in range(MAX_LOOKUPS):
            if (content := _open(path, found) or self._open_rotated(found)) is not None:
                return content
            if (moved := self.moved([found.key], [found.path]).get(found.key)) is not None:
                path = moved.path
        raise Removed

    def _open_rotated(self, found: Found) -> LocalContent | None:
        """Open a file that is being given one number after the other."""
        number = number_of(found.slot) if found.slot else 0
        if self._names is None or number is None:
            return None
        for other in self.generations(number):
            if isinstance(other, Found) and other.key == found.key and (content := _open(other.path, found)):
                return content
        return None

    def is_readable(self, found: Found) -> bool:
        """Tell whether we have the permission to read a file."""
        return os.access(found.path, os.R_OK) or not os.path.exists(found.path)

    def absent(self) -> str | None:
        """Return why there is nothing to read, where that is a mistake: no match of a pattern, a missing path."""
        place = os.path.abspath(self._pattern.text)
        if os.path.isdir(self._pattern.text):
            return None
        return f"no file matches {self._pattern.text!r} (looked for {place})"


def _looked_up(path: str, slot: str, device: int | None) -> Found | None:
    """What is at a path; None if nothing is."""
    while (status := _stat(path)) is not None:
        if (born := birth_of(path, status.st_ino)) is not None:
            return _local(path, status, device, {}, slot, born)
    return None


def _open(path: str, found: Found) -> LocalContent | None:
    """Open the file at a path if it is the one that was found."""
    try:
        content = LocalContent(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{path} cannot be opened: {error.strerror}") from error
    inode, device = content.identity()
    is_found = found.key in (str(inode), f"{inode}@{device}")
    if not is_found or (found.born and content.born() not in (0, found.born)):
        content.close()
        return None
    return content


def _stat(path: str) -> os.stat_result | None:
    """Return what is at a path; None unless it is a file."""
    try:
        status = os.stat(path)
        return status if stat.S_ISREG(status.st_mode) else None
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def _key(inode: int, device: int, usual: int | None) -> str:
    """The key of a local file, which tells the device only where that is not the usual one."""
    return str(inode) if device == usual else f"{inode}@{device}"


def _local(
    path: str, status: os.stat_result, device: int | None, values: Mapping[str, str], slot: str = "", born: int = 0
) -> Found:
    key = _key(status.st_ino, status.st_dev, device)
    return Found(key, path, status.st_size, version_of(status), status.st_mtime, values, slot=slot, born=born)


def _escaped(folder: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[{" else letter for letter in folder)
