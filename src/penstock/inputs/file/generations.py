"""The files that were one path after the other: which were missed, and where the contents of one are by now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from .chain import newest_first
from .content import Damaged, Removed, Rewritten, Unreadable
from .followed import Followed
from .listing import Found, Listing
from .part import FileReader
from .place import GONE, HEAD, Place


class Generations:
    """What is known of the rotations of files, above all of the one path that is followed.

    Of the files that were at the path one after the other, those from one on up to the newest are known: what is not
    known and newer than any of them was missed.
    """

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
        at_path = [(place.path in ("", self.path), place.born, key) for key, place in saved.items()]
        self._newest = max(at_path)[2] if at_path and self.path is not None else None
        self._last = saved[self._newest] if self._newest is not None else Place()
        self._older: set[tuple[str, int]] = set()
        """What had been rotated before the path was first looked at."""
        self._told = ""
        """The newest file of which a gap was told."""

    def is_newest(self, key: str) -> bool:
        """Tell whether a file was the last at the followed path, so that more may have been written to it."""
        return self._newest == key

    def note_gone(self, place: Place, *, is_key_taken: bool = False) -> Place:
        """Keep where the newest file was left, though it is gone: what came after it is not known yet."""
        self._newest = GONE if is_key_taken else self._newest
        self._last = place.finished(f"{GONE}:{place.modified}")
        return self._last

    def note_copy(self, copy: Found) -> None:
        """Note that the newest file goes on in a copy."""
        self._newest = copy.key

    def report_missed(self, reason: str) -> None:
        """Tell that what was written to the newest file, and what came after it, may be missing."""
        self._told = self._newest or ""
        self._report_gap(reason)

    def begin(self, strangers: Sequence[Found]) -> list[Found]:
        """Note what is beside the path when it is first looked at; returns the file that is at the path."""
        self._older = {(found.key, found.born) for found in strangers if found.slot}
        at_path = [found for found in strangers if not found.slot]
        self._newest = at_path[0].key if at_path else None
        return at_path

    def unseen(self, files: Mapping[str, Followed], strangers: Sequence[Found]) -> list[Found]:
        """Return the files that were at the path since it was last looked at, the oldest first, and tell of gaps."""
        newest = files.get(self._newest or "")
        unseen, missing, end = self._walked(files, 0)
        emptied = [found for found in strangers if newest is not None and self._is_emptied_into(newest, found)]
        if not unseen:
            return newest_first(emptied)[::-1]
        last = newest.place if newest is not None else self._last
        if end is None and (self._newest is not None or self._older):
            unseen = [found for found in unseen if not found.slot or _is_later(found, last)]
        is_open = newest is not None and newest.gone and newest.reader is not None
        if end is not None and end == (self._newest or end):
            self._report_missing(missing)
        elif end is not None and is_open and len(missing) == 1:
            pass  # it is the newest that is missing, which is read to its end all the same
        elif (self._newest is not None or self._older) and unseen:
            self._report_unknown(last, is_open)
        self._newest = unseen[-1].key if unseen else self._newest
        return [*newest_first([found for found in emptied if found not in unseen])[::-1], *unseen]

    def unseen_copies(self, files: Mapping[str, Followed], copy: Found | None, last: Place) -> list[Found]:
        """Return the copies of the newest file that were made since it was last read, and was copied to ``copy``."""
        unseen, missing, end = self._walked(files, 1)
        if end is None:
            unseen = [found for found in unseen if _is_copied_later(found, last)]
        if copy is not None and end == copy.key:
            self._report_missing(missing)
        else:
            self._report_unknown(last, False)
        return unseen

    def _walked(self, files: Mapping[str, Followed], first: int) -> tuple[list[Found], list[str], str | None]:
        """The files, the oldest first, and missing numbers that come before the first that is known; and its key."""
        unseen, missing = dict[str, Found](), list[str]()
        for found in self._listing.generations(first):
            if isinstance(found, int):
                missing.append(str(found))
            elif found.key not in unseen and (known := self._known(found, files)) is not None:
                return list(unseen.values())[::-1], missing, known
            else:  # one that comes twice was renamed meanwhile, and what is newer came in between
                unseen.pop(found.key, None)
                unseen[found.key] = found
        return list(unseen.values())[::-1], missing, None

    def _known(self, found: Found, files: Mapping[str, Followed]) -> str | None:
        """Return the key of the known file that this one is, or a copy of; None if it is not known."""
        file = files.get(found.key)
        if file is not None and not are_apart(file.born, found.born):
            return found.key
        is_last = found.key == self._newest and not are_apart(found.born, self._last.born)
        if is_last or (found.key, found.born) in self._older:
            return found.key
        gone = {key: file.place for key, file in files.items() if file.gone}
        if self._newest is not None and self._newest not in files:
            gone[self._newest] = self._last
        return next((key for key, place in gone.items() if place.behind and self._resumes(found, place)), None)

    def _report_missing(self, numbers: Sequence[str]) -> None:
        if numbers:
            self._report_gap(
                f"of the files rotated away from {self.path} since it was last read, number {', '.join(numbers)} is "
                "missing: it was deleted before it was read"
            )

    def _report_unknown(self, last: Place, is_open: bool) -> None:
        if self._told and self._told == self._newest:
            return
        rest = "" if is_open else f"what was written behind byte {last.behind}, and "
        self._report_gap(
            f"{self.path} was truncated or replaced, and what was last seen there is not among the files rotated away "
            f"from it: {rest}what came after it may not have been read"
        )

    def copy_of(self, place: Place, path: str) -> Found | None:
        """Return the rotated file of ``path``, packed or not, that goes on where another was left.

        It may be one that is followed already, if that was noticed before.
        """
        if not place.behind or not path:
            return None
        return next((found for found in self._listing.rotated(self.path or path) if self._resumes(found, place)), None)

    def _resumes(self, found: Found, place: Place) -> bool:
        """Whether a file goes on where another was left."""
        if found.compression is None and found.size < place.behind:
            return False
        try:
            with closing(self._open_reader(found, replace(place, born=0, version=""))) as reader:
                return reader.resumes()
        except (Damaged, Removed, Rewritten, Unreadable):
            return False

    def _is_emptied_into(self, file: Followed, copy: Found) -> bool:
        """Whether a file of which nothing was read was copied and truncated since it was looked at."""
        seen = file.place.modified
        if not copy.slot or file.place.behind or copy.compression is not None or not 0 < seen < copy.born:
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


def are_apart(born: int, other: int) -> bool:
    """Tell whether two files of one inode were made at different times, where both are known."""
    return bool(born and other) and born != other


def _is_later(found: Found, last: Place) -> bool:
    """Whether a file that is not packed came to be, or was written, after another was last read."""
    if found.compression is not None:
        return False
    if found.born and last.born:
        return found.born > last.born
    return bool(last.modified) and found.modified * 1e9 > last.modified


def _is_copied_later(found: Found, last: Place) -> bool:
    """Whether a copy that is not packed was made after its original was last read."""
    return found.compression is None and 0 < last.modified < found.born
