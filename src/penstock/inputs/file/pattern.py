"""Paths with wildcards and named placeholders: ``inbox/{table}/*.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TOKEN = re.compile(r"\{(?P<name>[A-Za-z_]\w*)\}|(?P<star>\*+)|(?P<any>\?)|(?P<set>\[!?\]?[^\]]*\])")
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", "~")
"""How names end while a file is still being copied, downloaded or edited."""


class Below(NamedTuple):
    """A folder to look into."""

    folder: str
    part: int
    """The part of the pattern that its entries are to match."""
    values: Mapping[str, str]
    """What the placeholders before stand for."""


class Level(NamedTuple):
    """What one folder holds."""

    files: list[tuple[os.DirEntry[str], Mapping[str, str]]]
    below: list[Below]


class Pattern:
    """A path, a folder, or a pattern whose ``*``, ``?``, ``[...]``, ``**`` and ``{name}`` stand for path parts.

    ``{name}`` matches within one path part and is told with each row; ``**`` any number of folders. Hidden and
    unfinished files match only a pattern that spells this out. Raises ValueError for a placeholder used twice.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if text.endswith("/") and _TOKEN.search(text):
            text += "*"
        parts = text.split("/")
        fixed = next((at for at, part in enumerate(parts) if _TOKEN.search(part)), len(parts) - 1)
        self.folder = "/".join(parts[:fixed]) + ("/" if fixed and not any(parts[:fixed]) else "")
        """The longest leading part without wildcards that is a folder."""
        self.is_plain = _TOKEN.search(text) is None
        names = [match["name"] for match in _TOKEN.finditer(text) if match["name"]]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the placeholder {{{min(twice)}}} is used twice in {text!r}")
        self._parts = [(part == "**", re.compile(_expression(part))) for part in parts[fixed:]]
        whole = "".join("(?:[^/]+/)*" if part == "**" else _expression(part) + "/" for part in parts)
        self._whole = re.compile(whole[:-1] if parts[-1] != "**" else whole + "[^/]+", re.DOTALL)
        self._takes_unfinished = text.endswith(_UNFINISHED)

    def match(self, path: str) -> Mapping[str, str] | None:
        """Return what the placeholders stand for in ``path``, or None if it does not match."""
        found = self._whole.fullmatch(path)
        return found.groupdict() if found is not None and self.takes(path) else None

    def takes(self, path: str) -> bool:
        """Tell whether the name matches and is not that of a temporary file."""
        return self._takes_unfinished or not path.endswith(_UNFINISHED)

    def walk(self) -> Iterator[tuple[os.DirEntry[str], Mapping[str, str]]]:
        """Yield each local file that matches, with what its placeholders stand for; raises OSError."""
        seen, waiting = set(), [Below(self.folder, 0, {})]
        while waiting:
            below = waiting.pop()
            level = self.look(below)
            waiting += reversed(level.below)
            for entry, values in level.files:
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield entry, values

    def look(self, below: Below) -> Level:
        """Return the files of one folder that match, and where to look next; raises OSError."""
        deep, expression = self._parts[below.part]
        last = below.part == len(self._parts) - 1
        level = Level([], [Below(below.folder, below.part + 1, below.values)] if deep and not last else [])
        for entry in entries_of(below.folder):
            found = expression.fullmatch(entry.name) if not deep else None
            if (found is None) if not deep else entry.name.startswith("."):
                continue
            values = {**below.values, **found.groupdict()} if found is not None else below.values
            if last and is_file(entry):
                if self.takes(entry.name):
                    level.files.append((entry, values))
            elif deep and _is_folder(entry, follow_symlinks=False):
                level.below.append(Below(entry.path, below.part, below.values))
            elif not deep and not last and _is_folder(entry):
                level.below.append(Below(entry.path, below.part + 1, values))
        return level


def is_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry of a folder is a file; a link that leads round in a circle is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str], *, follow_symlinks: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:
        return False


def entries_of(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if that is gone; raises OSError."""
    try:
        with os.scandir(folder or ".") as entries:
            # what was listed as "." is named as the pattern names it
            return list(entries) if folder else [_Bare(entry) for entry in entries]  # type: ignore[misc]
    except (FileNotFoundError, NotADirectoryError):
        return []  # gone since it was listed; whether the pattern matches anything at all is asked elsewhere


class _Bare:
    """An entry of the current folder, with the path that a relative pattern gives it."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name = self.path = entry.name
        self.is_file, self.is_dir, self.is_symlink = entry.is_file, entry.is_dir, entry.is_symlink
        self.stat, self.inode = entry.stat, entry.inode


def _expression(part: str) -> str:
    """Translate one path part to a regular expression that matches within a part."""
    built, at = [], 0
    for token in _TOKEN.finditer(part):
        built.append(re.escape(part[at : token.start()]))
        at = token.end()
        if token["name"]:
            built.append(f"(?P<{token['name']}>[^/]+?)")
        elif token["set"]:
            inside = token["set"][1:-1]
            negated = inside.startswith("!")
            characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
            built.append(f"[{'^' if negated else ''}{characters}]")
        else:
            built.append("[^/]" if token["any"] else "[^/]*")
    built.append(re.escape(part[at:]))
    hidden = "" if part.startswith(".") else r"(?!\.)"
    return hidden + "".join(built) if len(built) > 1 else "".join(built)
