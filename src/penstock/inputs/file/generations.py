"""The files that were one path after the other: which were missed, and where the contents of one are by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from .content import Damaged, Removed, Rewritten, Unreadable
from .followed import Followed
from .listing import Changes, Found, Listing
from .local import MAX_LOOKUPS, follows, newest_first
from .part import FileReader
from .place import HEAD, Place
from .rotation import number_of


class Generations:
    """What is known of the rotations of files, above all of the one path that is followed."""

    def __init__(
        self,
        listing: Listing,
        open_reader: Callable[[Found, Place], FileReader],
        saved: Mapping[str, Place],
        report_gap: Callable[[str], None],
    ) -> None:
        self._listing, self._open_reader, self._report_gap = listing, open_reader, report_gap
        self.path = listing.path
        """The one path that is followed; None for a pattern or a folder."""
        current = [(place.born, key) for key, place in saved.items() if place.path in ("", self.path)]
        self._current = max(current) if current and self.path is not None else None
        self._last = saved[self._current[1]] if self._current is not None else Place()
        self._at_path: tuple[int, str] | None = None

    def is_current(self, key: str) -> bool:
        """Whether a file was at the followed path when it was last listed, so that more may have been written to it."""
        return self._current is not None and self._current[1] == key

    def unseen(self, changes: Changes, strangers: Sequence[Found], files: Mapping[str, Followed]) -> list[Found]:
        """Return those of the unknown rotated files that were at the path since it was last listed, the oldest first.

        If the file that was there is found again, they are those that were rotated after it.
        """
        before, self._at_path = self._current, self._now_at_path(changes)
        if self._at_path is not None:
            self._current = self._at_path
        if before is None or self.path is None:
            return []
        known = files.get(before[1])
        known = known if known is not None and _is_same(before, (known.found.born, before[1])) else None
        strangers = [found for found in strangers if found.key not in files]
        unseen = [found for found in strangers if known is not None and self._is_emptied_into(known, found)]
        if not _is_same(before, self._at_path):
            newest = self._newest_known(known, files)
            last = known.place if known is not None else self._last
            unseen += [
                found
                for found in strangers
                if found not in unseen and (follows(found, newest) if newest is not None else _is_later(found, last))
            ]
            rotated = [known.found] if known is not None and known.found.slot else []
            if since := newest_first(rotated + unseen)[-1:]:
                self.report_deleted(since[0])
        return newest_first(unseen)[::-1]

    def report_deleted(self, since: Found) -> None:
        """Tell which numbers are missing among the files that were rotated away from the followed path after one."""
        missing = self._missing(since)
        for _ in range(MAX_LOOKUPS):
            before, missing = missing, self._missing(since)
            if missing == before:
                break  # no file was being renamed
        if missing:
            self._report_gap(
                f"of the files rotated away from {self.path} since it was last read, number {', '.join(missing)} is "
                "missing: it was deleted before it was read"
            )

    def _missing(self, since: Found) -> list[str]:
        rotated = self._listing.rotated(self.path) if self.path is not None else []
        numbers = {number_of(found.slot) for found in rotated}
        last = next((number_of(found.slot) for found in rotated if found.key == since.key), None)
        return [str(number) for number in range(1, last or 0) if number not in numbers]

    def _now_at_path(self, changes: Changes) -> tuple[int, str] | None:
        for found in changes.found:
            if found.path == self.path:
                return found.born, found.key
        elsewhere = {*changes.gone, *(found.key for found in changes.found)}
        return None if self._at_path is None or self._at_path[1] in elsewhere else self._at_path

    def _newest_known(self, before: Followed | None, files: Mapping[str, Followed]) -> Found | None:
        """The last rotated file of which we know: one that is followed, or a copy of the one that was at the path."""
        known = [file.found for file in files.values() if file.found.slot and not file.gone]
        if before is not None and before.gone and self.path is not None:
            copy = self.copy_of(before.place, self.path)
            known += [copy] if copy is not None else []
        return newest_first(known)[0] if known else None

    def copy_of(self, place: Place, path: str) -> Found | None:
        """Return the rotated file of ``path``, packed or not, that goes on where another was left.

        It may be one that is followed already, if that was noticed before.
        """
        if not place.behind or not path:
            return None
        for found in self._listing.rotated(self.path or path):
            if found.compression is None and found.size < place.behind:
                continue
            try:
                with closing(self._open_reader(found, replace(place, born=0, version=""))) as reader:
                    if reader.resumes():
                        return found
            except (Damaged, Removed, Rewritten, Unreadable):
                continue
        return None

    def after(self, copy: Found, files: Mapping[str, Followed]) -> list[Found]:
        """Return the unknown files that were rotated away from the followed path after ``copy``, the oldest first."""
        rotated = self._listing.rotated(self.path) if self.path is not None else []
        return [found for found in rotated[::-1] if found.key not in files and follows(found, copy)]

    def _is_emptied_into(self, file: Followed, copy: Found) -> bool:
        """Whether a file of which nothing was read was copied and truncated since it was looked at."""
        seen = file.place.modified
        if file.place.behind or copy.compression is not None or not 0 < seen < copy.born:
            return False
        try:
            with closing(self._listing.open(file.found)) as now, closing(self._listing.open(copy)) as before:
                size = min(HEAD, now.size(), before.size())
                return not size or now.read_at(0, size) != before.read_at(0, size)
        except (Removed, Unreadable):
            return False

    def oldest_first(self, files: Sequence[Followed]) -> list[Followed]:
        """Sort files so that one that was rotated is read before those that came after it."""
        rotated = {file.found.key: file for file in files if file.found.slot and not file.gone}
        ordered = newest_first([file.found for file in rotated.values()])[::-1]
        return [
            *(file for file in files if file.gone),
            *(rotated[found.key] for found in ordered),
            *(file for file in files if not file.gone and not file.found.slot),
        ]


def _is_same(one: tuple[int, str], other: tuple[int, str] | None) -> bool:
    """Whether two files that were at a path are the same: by their inode and, where it is known, their birth."""
    return other is not None and one[1] == other[1] and (one[0] == other[0] or not (one[0] and other[0]))


def _is_later(found: Found, last: Place) -> bool:
    """Whether a file that is not packed came to be, or was written, after another was last read."""
    if found.compression is not None:
        return False
    if found.born and last.born:
        return found.born > last.born
    return bool(last.modified) and found.modified * 1e9 > last.modified
