"""Go through the files of a listing: once, or again and again as they grow, are rotated and new ones come."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from ...errors import PermanentError
from ...metadata import VALUE
from .content import Damaged, Removed, Rewritten, Unreadable
from .listing import Found, Listing
from .part import FileReader, Part
from .place import Place

_MAX_OPEN = 256
"""How many files of a followed folder are held open, so that they can be read to the end once deleted."""
_TURN = 8
"""How many parts of a growing file are read before the next file has its turn."""
_MAX_PARTS = 128
"""How many parts are read in one go."""
_MAX_MISSES = 3
"""How many times in a row a file must not be found before it is taken for deleted."""
_REQUEUED = Part(Place())
"""Stands for a file that is to be opened anew."""
_PATH = pa.schema([pa.field(VALUE, pa.binary(), nullable=False)])


@dataclass(slots=True, eq=False)
class Followed:
    """One file and how far it was read."""

    found: Found
    place: Place
    grows: bool
    """Whether it can be read while it is written; otherwise it is taken once it no longer changes."""
    reader: FileReader | None = None
    seen: str = ""
    """The version that was last read to its end."""
    seen_whole: bool = False
    """Whether that took an unended last line, too."""
    changed: float = 0.0
    """When it was last seen to have changed, on the monotonic clock."""
    gone: bool = False
    """Whether its path no longer leads to it: it was renamed or deleted."""
    not_before: float = 0.0
    """Until when it is let alone, on the monotonic clock."""
    misses: int = 0
    """How often it could not be found since it was last listed."""
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What was found out in one go."""

    parts: list[tuple[Followed, Part]]
    retired: list[str]
    """Files that are gone and whose places need no longer be kept."""
    ended: bool = False


class Scan:
    """Reads files in the order of their names; called from one thread at a time."""

    def __init__(
        self,
        listing: Listing,
        open_reader: Callable[[Found, Place], FileReader],
        grows: Callable[[Found], bool],
        saved: Mapping[str, Place],
        log: logging.Logger,
        *,
        follow: bool,
        interval: float,
        settle: float,
        weight: int,
    ) -> None:
        self._listing, self._open_reader, self._grows, self._log = listing, open_reader, grows, log
        self._follow, self._interval, self._settle, self._weight = follow, interval, settle, weight
        self._patience = max(settle, _MAX_MISSES * interval)
        """How long a file that is gone is waited for: it may come back, or be written still."""
        self._saved = dict(saved)
        self._files: dict[str, Followed] = {}
        self._work: deque[Followed] = deque()
        self._open: OrderedDict[str, Followed] = OrderedDict()
        self._retired: list[str] = []
        self._polled = float("-inf")

    @property
    def files(self) -> list[Found]:
        """The files there were when they were last listed."""
        return [file.found for file in self._files.values()]

    def taken(self) -> dict[str, int]:
        """How many bytes of the files were taken before, for showing progress."""
        return {
            key: file.found.size
            if file.place.version == file.found.version
            else min(file.place.offset, file.found.size)
            for key, file in self._files.items()
            if file.place != Place()
        }

    def poll(self) -> None:
        """List the files, and note which are new, changed or gone; raises TransientError or ConnectionLost."""
        found = self._listing.find()
        first, now = self._polled == float("-inf"), time.monotonic()
        self._polled = now
        keys = {file.key for file in found}
        self._note_gone(keys, [file.path for file in found], first)
        for file in found:
            self._note(file, now)
        queued = set(map(id, self._work))
        files = sorted(self._files.values(), key=lambda file: not file.gone)  # an old file before its successor
        self._work.extend(file for file in files if id(file) not in queued and self._is_due(file, now))

    def _note(self, found: Found, now: float) -> None:
        known = self._files.get(found.key)
        if known is None:
            place = self._saved.pop(found.key, Place())
            age = max(0.0, time.time() - found.modified)
            self._files[found.key] = Followed(found, place, self._grows(found), changed=now - age)
            return
        if known.found.version != found.version:
            known.changed = now
        known.found, known.gone, known.misses = found, False, 0

    def _note_gone(self, keys: set[str], paths: list[str], first: bool) -> None:
        missing = {key: file for key, file in self._files.items() if key not in keys}
        unlisted = self._saved.keys() - keys if first else set()
        if not missing and not unlisted:
            return
        paths += [file.found.path for file in missing.values()]
        moved = self._listing.moved({*missing, *unlisted}, paths)
        for key, file in missing.items():
            if not file.gone or key in moved:
                was = file.found.version
                file.found = replace(moved.get(key, file.found), placeholders=file.found.placeholders)
                if not file.gone or file.found.version != was:
                    file.changed = time.monotonic()
                file.gone = True
        for key in unlisted:
            place = self._saved.pop(key)
            if key in moved and self._grows(moved[key]) and moved[key].size > place.offset:
                self._files[key] = Followed(moved[key], place, True, gone=True, changed=time.monotonic())
            else:
                self._retired.append(key)

    def _is_due(self, file: Followed, now: float) -> bool:
        """Whether there may be something to read in a file."""
        if self._follow and now < file.not_before:
            return False
        if file.gone:
            return True
        if file.place.version == file.found.version:
            return False
        if file.seen == file.found.version:
            return not file.seen_whole and self._is_settled(file, now)
        return not self._follow or file.grows or now - file.changed >= self._interval

    def _is_settled(self, file: Followed, now: float) -> bool:
        """Whether a file has not changed for so long that its end is taken as it is."""
        return now - file.changed >= (self._patience if file.gone else self._settle)

    def skip(self) -> list[tuple[str, Place]]:
        """Go to the end of every file there is, and return those places; an unfinished last line stays to be read."""
        skipped = []
        for key, file in self._files.items():
            if file.place == Place():
                reader = self._open_reader(file.found, file.place)
                file.place = reader.end()
                reader.close()
                skipped.append((key, file.place))
        return skipped

    def step(self) -> Step:
        """Read the next parts; none of them means that there is nothing to read for now.

        Raises TransientError or ConnectionLost; called again it goes on where it was.
        """
        if self._follow and time.monotonic() - self._polled >= self._interval:
            self.poll()
        parts: list[tuple[Followed, Part]] = []
        weight = 0
        while self._work and weight < self._weight and len(parts) < _MAX_PARTS:
            file = self._work[0]
            try:
                part = self._read(file)
            except Exception:
                if parts:
                    break  # it comes again with the next call
                raise
            if part is _REQUEUED:
                break
            if part is None:
                self._work.remove(file)
                file.turns = 0
                continue
            parts.append((file, part))
            weight += _weight(part)
            file.turns += 1
            if self._follow and not file.gone and file.turns % _TURN == 0:
                self._work.rotate(-1)
        retired, self._retired = self._retired, []
        return Step(parts, retired, not self._follow and not self._work)

    def _read(self, file: Followed) -> Part | None:
        """Return the next part of a file, or None when it has none for now."""
        if file.reader is None and file.place.version == file.found.version:
            if file.gone:
                self._retire(file)
            return None
        now = time.monotonic()
        final = not self._follow or not file.grows or self._is_settled(file, now)
        listed = file.found.version if self._follow and file.grows and not file.gone else None
        try:
            part = self._reader(file).read(final, listed)
        except Removed:
            self._miss(file, now)
            return None
        except Rewritten:
            return self._begin_anew(file)
        except PermanentError as error:
            return self._damaged(file, error if isinstance(error, Damaged) else Damaged(str(error)), now)
        except Unreadable as unreadable:
            if not self._follow:
                raise
            self._log.warning("%s", unreadable)
            file.not_before = now + self._settle
            return None
        if part is not None:
            file.place = part.place
            if file.gone:
                file.changed = now
            return part
        file.seen, file.seen_whole = file.found.version, final
        if file.gone and final:
            self._retire(file)
        elif not file.grows or not self._follow:
            self._close(file)
        return None

    def _reader(self, file: Followed) -> FileReader:
        if file.reader is None:
            file.reader = self._open_reader(file.found, file.place)
            self._open[file.found.key] = file
            while len(self._open) > _MAX_OPEN:
                self._close(next(iter(self._open.values())))
        self._open.move_to_end(file.found.key)
        return file.reader

    def _begin_anew(self, file: Followed) -> Part | None:
        self._close(file)
        if file.gone:
            self._retire(file)  # its inode was given to another file
            return None
        found = next((found for found in self._listing.find() if found.key == file.found.key), None)
        if found is None:
            self._miss(file, time.monotonic())
            return None
        self._log.warning("%s was truncated or rewritten: it is read from its start", found.path)
        if found.version != file.found.version:
            file.changed = time.monotonic()
        file.found, file.place, file.seen, file.seen_whole = found, Place(), "", False
        return _REQUEUED if not self._follow or file.grows else None

    def _miss(self, file: Followed, now: float) -> None:
        """Look for a file once more with the next listings: it may only have been renamed while it was looked for."""
        file.misses += 1
        if not self._follow or file.misses >= _MAX_MISSES:
            self._lost(file)
        file.not_before = now + self._interval

    def _lost(self, file: Followed) -> None:
        if file.seen != file.found.version and file.place.version != file.found.version:
            self._log.warning("%s was removed before it was read to its end", file.found.path)
        self._retire(file)

    def _damaged(self, file: Followed, damage: Damaged, now: float) -> Part | None:
        """Say what cannot be read, unless it may only be that the file is still being copied."""
        if self._follow and not file.gone and now - file.changed < self._settle:
            self._close(file)
            file.not_before = file.changed + self._settle
            return None
        row = file.place.rows
        file.place = damage.place or file.place.finished(file.found.version)
        if damage.place is None or damage.place.version:
            self._close(file)
        batch = pa.RecordBatch.from_arrays([pa.array([file.found.path.encode()], pa.binary())], schema=_PATH)
        return Part(file.place, row, batch, error=damage)

    def _close(self, file: Followed) -> None:
        self._open.pop(file.found.key, None)
        if file.reader is not None:
            file.reader.close()
            file.reader = None

    def _retire(self, file: Followed) -> None:
        self._close(file)
        self._files.pop(file.found.key, None)
        self._retired.append(file.found.key)

    def close(self) -> None:
        """Close all files."""
        for file in list(self._open.values()):
            self._close(file)


def _weight(part: Part) -> int:
    return part.batch.nbytes if part.batch is not None else 1024
