"""The files that were at one path one after the other, found also while they are being renamed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cmp_to_key
from typing import TypeAlias

from .listing import Found
from .pattern import entries_of, is_file
from .rotation import Numbering, RotatedNames, is_newer, number_of

MAX_LOOKUPS = 5
"""How often a folder is looked through for a file that is renamed again and again."""
_MAX_PAUSES = 50
_LOOK_INTERVAL = 0.02
"""How long nothing must be renamed before a missing number is believed, in seconds."""
_Listed: TypeAlias = Mapping[str, tuple[str, int]]


class Chain:
    """The file at one path, and those that were rotated away from it."""

    def __init__(self, names: RotatedNames, look: Callable[[str, str], Found | None]) -> None:
        self._names, self._look = names, look

    def walk(self, first: int = 0) -> Iterator[Found | int]:
        """Yield the files from number ``first`` on, the newest first, and the numbers that are missing among them.

        0 is the path itself. Numbers are looked at in the direction in which files are renamed: one that is not at a
        number yet comes there, or is at the next one, a moment later. So none is passed over, however often all are
        renamed meanwhile; one may come twice.
        """
        if first == 0 and (found := self._look(self._names.path, "")) is not None:
            yield found
        listed = self._listed()
        if any(number_of(slot) is None for slot, _ in listed.values()):
            yield from self.rotated()
            return
        number, pauses, steady, numberings = max(first, 1), 0, None, self._numberings(listed)
        while True:
            if (found := self._at(number, numberings)) is not None:
                yield found
                number += 1
                continue
            listed = self._listed()
            if not _has_from(number, listed):
                listed = self._listed()  # what was renamed while its folder was read may have been passed over
                if not _has_from(number, listed):
                    return
            numberings = self._numberings(listed)
            if listed == steady or pauses == _MAX_PAUSES:
                yield number
                number += 1
            elif self._at(number, numberings) is None:
                time.sleep(_LOOK_INTERVAL)
                pauses, steady = pauses + 1, listed

    def rotated(self) -> list[Found]:
        """Return the files that were rotated away from the path, the newest first."""
        for _ in range(MAX_LOOKUPS):
            listed = self._listed()
            found = [self._look(os.path.join(self._names.folder, name), slot) for name, (slot, _) in listed.items()]
            if None not in found and self._listed() == listed:
                break  # nothing was renamed meanwhile
        return newest_first([one for one in found if one is not None])

    def _at(self, number: int, numberings: Sequence[Numbering]) -> Found | None:
        """Return the file of a number, not packed if there are both."""
        for named in filter(None, (numbering.named(number) for numbering in numberings)):
            if (found := self._look(os.path.join(self._names.folder, named[0]), named[1])) is not None:
                return found
        return None

    def _numberings(self, listed: _Listed) -> list[Numbering]:
        return sorted(set(filter(None, map(self._names.numbering_of, listed))))

    def _listed(self) -> _Listed:
        """The names of the rotated files, with what tells them apart and their inodes."""
        slots = ((entry, self._names.slot_of(entry.name)) for entry in entries_of(self._names.folder))
        return {entry.name: (slot, entry.inode()) for entry, slot in slots if slot and is_file(entry)}


def _has_from(number: int, listed: _Listed) -> bool:
    """Whether there is a file with this number or a higher one."""
    return any((number_of(slot) or 0) >= number for slot, _ in listed.values())


def newest_first(rotated: list[Found]) -> list[Found]:
    """Sort rotated files, the newest first."""
    if all(found.born and found.compression is None and number_of(found.slot) is not None for found in rotated):
        return sorted(rotated, key=lambda found: -found.born)  # numbers may have been read at different times

    def compare(one: Found, other: Found) -> int:
        return -1 if _follows(one, other) else 1

    return sorted(rotated, key=cmp_to_key(compare))


def _follows(found: Found, other: Found) -> bool:
    """Whether a rotated file was rotated after another."""
    return is_newer(found.slot, found.modified, other.slot, other.modified)
