"""The names of files in folders, looked up anew only where a folder has changed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from .pattern import Below, Level

log = logging.getLogger("penstock")

_COARSENESS = 2_000_000_000
"""How long the time of the last change of a folder may be behind, in nanoseconds: no file system is coarser."""
_Stamp: TypeAlias = tuple[int, int, int]


class Name(NamedTuple):
    """One entry of a folder."""

    inode: int
    is_link: bool
    values: Mapping[str, str]
    """What the placeholders of the pattern stand for."""


class _Listed(NamedTuple):
    stamp: _Stamp | None
    """When the folder had last changed; None if that was so shortly ago that it may have changed again unseen."""
    names: dict[str, Name]
    below: list[Below]


class Folders:
    """The names that match below a folder."""

    def __init__(self, look: Callable[[Below], Level], root: Below) -> None:
        self._look, self._root = look, root
        self._listed: dict[tuple[str, int], _Listed] = {}
        self._names: dict[str, Name] = {}
        self._told: set[str] = set()
        """The folders of which was said that they cannot be listed."""

    def refresh(self) -> tuple[dict[str, Name], set[str]]:
        """Return the names that are new or lead to another file, by path, and those that are gone; raises OSError."""
        visited: dict[tuple[str, int], _Listed] = {}
        waiting, is_same = [self._root], True
        while waiting:
            below = waiting.pop()
            where = below.folder, below.part
            known, stamp = self._listed.get(where), _stamp(below.folder)
            if known is None or known.stamp is None or known.stamp != stamp:
                known, is_same = self._list(below, stamp, known), False
            visited[where] = known
            waiting += reversed(known.below)
        if is_same and len(visited) == len(self._listed):
            return {}, set()
        self._listed, before = visited, self._names
        self._names = {}
        for listed in visited.values():
            for path, name in listed.names.items():
                self._names.setdefault(path, name)
        changed = {path: name for path, name in self._names.items() if before.get(path) != name}
        return changed, before.keys() - self._names.keys()

    def doubt(self) -> None:
        """List everything anew the next time: something was renamed meanwhile."""
        self._listed = {where: listed._replace(stamp=None) for where, listed in self._listed.items()}

    def _list(self, below: Below, stamp: _Stamp | None, known: _Listed | None) -> _Listed:
        """List a folder; one below the first that cannot be listed holds up no other."""
        try:
            level = self._look(below)
            if stamp is not None:
                os.stat(os.path.join(below.folder, "."))  # refused where the files of a folder may not be opened
        except OSError as error:
            if below == self._root:
                raise
            if below.folder not in self._told:
                log.warning("%s cannot be listed, and is tried again: %s", below.folder, error)
                self._told.add(below.folder)
            return _Listed(None, known.names if known is not None else {}, [])
        if below.folder in self._told:
            log.info("%s can be listed again", below.folder)
            self._told.discard(below.folder)
        if stamp is not None and time.time_ns() - stamp[0] < _COARSENESS:
            stamp = None
        names = {entry.path: Name(entry.inode(), entry.is_symlink(), values) for entry, values in level.files}
        return _Listed(stamp, names, level.below)


def _stamp(folder: str) -> _Stamp | None:
    try:
        status = os.stat(folder or ".")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return status.st_mtime_ns, status.st_ino, status.st_dev
