"""The names that a log file is given when it is rotated: which are those of one file, and which is the newer."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import NamedTuple

_SLOT = r"(?:\d[\d.:T_-]*|old)"
_PACKED = r"(?:\.(?:gz|zst|bz2|xz))?"
_MAX_NAMES = 4096
_MAX_NUMBER = 4
"""How many digits a number has at most; what has more is a date."""


class RotatedNames:
    """The names ``app.log.1``, ``app.log-20260101.gz``, ``app-20260101.log`` and the like of one path."""

    def __init__(self, path: str) -> None:
        self.path, self.folder, self.name = path, os.path.dirname(path), os.path.basename(path)
        stem, extension = os.path.splitext(self.name)
        after = f"{re.escape(self.name)}[._-](?P<after>{_SLOT})"
        within = f"{re.escape(stem)}[._-](?P<within>{_SLOT}){re.escape(extension)}"
        self._expression = re.compile(f"(?:{after}|{within}){_PACKED}")
        self.slot_of = lru_cache(_MAX_NAMES)(self._slot_of)
        """Return what tells a rotated file from others; None for a name that is not that of one."""
        self.numbering_of = lru_cache(_MAX_NAMES)(self._numbering_of)
        """Return how the number of a rotated file stands in its name; None if it has a date."""

    def _slot_of(self, name: str) -> str | None:
        found = self._expression.fullmatch(name)
        return None if found is None else found["after"] or found["within"]

    def _numbering_of(self, name: str) -> Numbering | None:
        found = self._expression.fullmatch(name)
        if found is None:
            return None
        start, end = found.span("after" if found["after"] else "within")
        slot = name[start:end]
        if number_of(slot) is None:
            return None
        width = 0 if slot == "old" else len(slot) if slot.startswith("0") else 1
        return Numbering(name[:start], name[end:], width)


class Numbering(NamedTuple):
    """How numbers stand in names."""

    before: str
    after: str
    width: int
    """How many digits a number has at least; 0 if there is only the name ``old``."""

    def named(self, number: int) -> tuple[str, str] | None:
        """Return the name with a number, and the slot."""
        if not self.width and number != 1:
            return None
        slot = str(number).zfill(self.width) if self.width else "old"
        return f"{self.before}{slot}{self.after}", slot


def is_newer(slot: str, modified: float, than_slot: str, than_modified: float) -> bool:
    """Tell whether one rotated file was rotated after another: by number, by date, else by when they were written."""
    number, than_number = number_of(slot), number_of(than_slot)
    if number is not None and than_number is not None:
        return number < than_number
    if number is None and than_number is None:
        return _digits(slot) > _digits(than_slot)
    return modified > than_modified


def number_of(slot: str) -> int | None:
    """Return the number of a rotated file, the lower the newer; None if it has a date."""
    if slot == "old":
        return 1
    return int(slot) if slot.isdigit() and len(slot) <= _MAX_NUMBER else None


def _digits(slot: str) -> str:
    return re.sub(r"\D", "", slot)
