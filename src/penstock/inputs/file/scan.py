"""Go through the files of a listing: once, or again and again as they grow, are rotated and new ones come."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from ...context import Context
from ...errors import PermanentError, TransientError
from .content import Damaged, Removed, Rewritten, Unreadable
from .followed import Followed, Gone, News, Read, Readers, Seen, Step
from .generations import Generations, are_apart
from .listing import Found, Listing
from .part import FileReader, Part, naming
from .place import Place

_TURN = 8
"""How many parts of a growing file are read before the next file has its turn."""
_MAX_PARTS = 128
"""How many parts are read in one go."""
_MAX_MISSES = 3
"""How many times in a row a file must not be found before it is taken for deleted."""
UNEXPECTED = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, pa.ArrowException)
"""What only the contents of a file can bring about: it holds up no other file."""
_REQUEUED = Part(Place())
"""Stands for a file that is to be opened anew."""


class Scan:
    """Reads files in the order of their names; called from one thread at a time."""

    def __init__(
        self,
        listing: Listing,
        open_reader: Callable[[Found, Place], FileReader],
        grows: Callable[[Found], bool],
        saved: Mapping[str, Place],
        context: Context,
        *,
        follow: bool,
        interval: float,
        settle: float,
        weight: int,
    ) -> None:
        self._listing, self._open_reader, self._grows = listing, open_reader, grows
        self._name = context.name
        self._log, self._report_gap, self._clock = context.log, context.report_gap, context.clock
        self._follow, self._interval, self._settle, self._weight = follow, interval, settle, weight
        self._patience = max(settle, _MAX_MISSES * interval)
        """How long a file that is gone is waited for: it may come back, or be written still."""
        self._saved = dict(saved)
        self._generations = Generations(listing, open_reader, saved, context.report_gap)
        self._files: dict[str, Followed] = {}
        self._waiting: dict[str, Followed] = {}
        """Those in which there is something to read, now or in a while."""
        self._work: deque[Followed] = deque()
        self._readers = Readers(open_reader)
        self._news: list[News] = []
        self._gone: str | None = None
        """The newest file that was at the path, if that is gone."""
        self._polled = float("-inf")
        self.total = 0
        """The bytes of all files there were at first."""

    @property
    def files(self) -> list[Found]:
        """The files that are followed."""
        return [file.found for file in self._files.values()]

    def taken(self) -> dict[str, int]:
        """Return how many bytes of the files were taken before, for showing progress."""
        return {
            key: file.found.size
            if file.place.version == file.found.version
            else min(file.place.offset, file.found.size)
            for key, file in self._files.items()
            if not file.place.is_start
        }

    def poll(self) -> None:
        """Note which files are new, changed or gone; raises TransientError or ConnectionLost."""
        changes = self._listing.changes()
        first, now = self._polled == float("-inf"), self._clock.monotonic()
        self._polled = now
        strangers, is_new = [], first and not self._saved
        for found in changes.found:
            if self._generations.path is not None and not self._is_known(found, now):
                strangers.append(found)
            else:
                self._note(found, now)
        for key in changes.gone & self._files.keys():
            self._files[key].gone, self._files[key].changed = True, now
            self._waiting[key] = self._files[key]
        self._look_for_gone(first, now)
        if is_new:
            self._follow_all(self._generations.begin(strangers), now)
        elif strangers:
            self._follow_all(self._generations.unseen(self._files, strangers), now)
        if first:
            self.total = sum(file.found.size for file in self._files.values())
        self._queue(now)

    def _is_known(self, found: Found, now: float) -> bool:
        """Whether a file was there before; one that had its inode is gone if it was made at another time."""
        if (known := self._files.get(found.key)) is not None:
            if not are_apart(known.born, found.born):
                return True
            self._vanish(found.key, known.place, known.found.path, now, is_key_taken=True)
        elif (place := self._saved.get(found.key)) is not None:
            if not are_apart(place.born, found.born):
                return True
            del self._saved[found.key]
            self._vanish(found.key, place, found.path, now, is_key_taken=True)
        return False

    def _note(self, found: Found, now: float) -> None:
        if not self._is_known(found, now):
            self._follow_new(found, Place(), now)
        elif (known := self._files.get(found.key)) is None:
            self._follow_new(found, self._saved.pop(found.key), now)
        else:
            if known.found.version != found.version:
                known.changed = now
            if known.found.path != found.path:
                self._see(found, known.place)
            known.found, known.gone, known.misses = found, False, 0
            self._waiting[found.key] = known

    def _follow_all(self, unseen: Sequence[Found], now: float) -> None:
        """Follow files that were at the path, the oldest first, and hold them open: they may be deleted soon."""
        for found in unseen:
            file = self._follow_new(found, Place(), now)
            if self._follow and file.grows and not self._readers.is_full:
                with contextlib.suppress(PermanentError, TransientError, Removed, Rewritten):
                    self._readers.of(file)
        if unseen:
            self._forget_older()

    def _follow_new(
        self, found: Found, place: Place, now: float, *, gone: bool = False, original: str | None = None
    ) -> Followed:
        age = max(0.0, self._clock.time() - found.modified)
        file = Followed(found, place, self._grows(found), changed=now if gone else now - age, gone=gone)
        self._files[found.key] = self._waiting[found.key] = file
        self._see(found, place, original)
        return file

    def _see(self, found: Found, place: Place, original: str | None = None) -> None:
        """Have a copy, or a file of a followed path, kept at once: also an empty one that is rotated is then missed."""
        if self._generations.path is not None or original is not None:
            self._news.append(Seen(found, place, original))

    def _look_for_gone(self, first: bool, now: float) -> None:
        """Find the files that are no longer listed by their inode, beside those that are."""
        gone = {key: file for key, file in self._waiting.items() if file.gone}
        unlisted = dict(self._saved) if first else {}
        self._saved = {} if first else self._saved
        if not gone and not unlisted:
            return
        paths = {file.found.path for file in (gone or self._files).values()} | {
            place.path for place in unlisted.values() if place.path
        }
        moved = self._listing.moved({*gone, *unlisted}, paths)
        for key in gone.keys() & moved.keys():
            file, version = gone[key], gone[key].found.version
            if are_apart(file.born, moved[key].born):
                continue  # another file was given its inode
            file.found = replace(moved[key], placeholders=file.found.placeholders, born=file.born)
            file.changed = file.changed if file.found.version == version else now
        for key, place in unlisted.items():
            if key not in moved or are_apart(place.born, moved[key].born):
                path = place.path or self._generations.path or ""
                self._vanish(key, place, path, now, is_key_taken=key in moved)
            else:
                self._follow_new(moved[key], place, now, gone=True)

    def _vanish(
        self, key: str, place: Place, path: str, now: float, *, is_read: bool | None = None, is_key_taken: bool = False
    ) -> None:
        """Read a file that is gone on in a copy of it, where it was packed or copied; else tell what may be missing."""
        was_newest = self._generations.is_newest(key)
        if (known := self._files.pop(key, None)) is not None:
            self._readers.close(known)
            known.is_retired = True
        self._waiting.pop(key, None)
        copy = self._follow_copy(key, place, path, now)
        if copy is not None and was_newest:
            self._generations.note_copy(copy)
        self._forget(known.found if known is not None else Found(key, path, 0, "", 0.0), place, is_key_taken)
        if copy is not None or place.is_gone:
            return
        report = self._generations.report_missed if was_newest else self._report_gap
        if was_newest and known is None:
            report(
                f"{path} was replaced while nothing read it, and where it is now is not known: "
                f"what was written to it behind byte {place.behind} was not read"
            )
        elif place.is_start and not is_read:
            if known is None or known.found.size:
                report(f"{path or key} is gone, and nothing of it was read")
        elif not (is_read if is_read is not None else place.version):
            report(f"{path or key} is gone, and was read only up to byte {place.behind}")

    def _forget(self, found: Found, place: Place, is_key_taken: bool = False) -> None:
        """Keep the place of a file no longer, unless it is the newest that was at the path."""
        if not self._generations.is_newest(found.key):
            self._news.append(Gone(found.key))
            return
        place = self._generations.note_gone(place, is_key_taken=is_key_taken)
        if is_key_taken:
            self._news.append(Gone(found.key))
        else:
            self._gone = found.key
            self._news.append(Read(Followed(found, place, False), Part(place)))

    def _forget_older(self) -> None:
        """Keep the place of a file that is gone no longer, now that a newer one is known."""
        if self._gone is not None and not self._generations.is_newest(self._gone):
            self._news.append(Gone(self._gone))
            self._gone = None

    def _follow_copy(self, key: str, place: Place, path: str, now: float) -> Found | None:
        """Read on in a copy of a file whose contents are no longer where they were, if there is one."""
        copy = self._generations.copy_of(place, path)
        if copy is not None and copy.key not in self._files:
            outside = self._generations.path is None
            self._follow_new(copy, replace(place, born=0, version=""), now, gone=outside, original=key)
        return copy

    def _queue(self, now: float) -> None:
        """Queue the files in which there may be something to read: an old one before its successor."""
        ready = []
        for key, file in list(self._waiting.items()):
            if file.is_queued:
                continue
            if file.is_done:
                del self._waiting[key]
            elif self._is_due(file, now):
                ready.append(file)
        for file in self._generations.oldest_first(ready):
            file.is_queued = True
            self._work.append(file)

    def _is_due(self, file: Followed, now: float) -> bool:
        """Whether there may be something to read in a file."""
        if self._follow and now < file.not_before:
            return False
        if file.gone:
            return True
        if file.seen == file.found.version:
            return self._is_settled(file, now)
        return not self._follow or file.grows or now - file.changed >= self._interval

    def _is_settled(self, file: Followed, now: float) -> bool:
        """Whether a file has not changed for so long that its end is taken as it is."""
        return now - file.changed >= (self._patience if file.gone else self._settle)

    def skip(self) -> list[tuple[str, Place]]:
        """Go to the end of every file there is, and return those places; an unfinished last line stays to be read."""
        skipped = []
        for key, file in self._files.items():
            if file.place.is_start:
                reader = self._open_reader(file.found, file.place)
                file.place = reader.end()
                reader.close()
                skipped.append((key, file.place))
        return skipped

    def step(self) -> Step:
        """Read the next parts; none of them means that there is nothing to read for now.

        Raises TransientError or ConnectionLost; called again it goes on where it was.
        """
        if self._follow and self._clock.monotonic() - self._polled >= self._interval:
            self.poll()
        weight = parts = 0
        while self._work and weight < self._weight and parts < _MAX_PARTS:
            file = self._work[0]
            if file.is_retired:
                self._work.popleft()
                continue
            try:
                part = self._read(file)
            except Exception:
                if parts:
                    break  # it comes again with the next call
                raise
            if part is _REQUEUED:
                break
            if part is None:
                self._work.popleft()
                file.turns, file.is_queued = 0, False
                continue
            self._news.append(Read(file, part))
            parts += 1
            weight += _weight(part)
            file.turns += 1
            if self._follow and not file.gone and file.turns % _TURN == 0:
                self._work.rotate(-1)
        news, self._news = self._news, []
        return Step(news, not self._follow and not self._work)

    def _read(self, file: Followed) -> Part | None:
        """Return the next part of a file, or None when it has none for now."""
        if file.reader is None and file.place.version == file.found.version:
            if file.gone and (not self._follow or self._is_settled(file, self._clock.monotonic())):
                self._retire(file)
            return None
        now = self._clock.monotonic()
        final = not self._follow or not file.grows or self._is_settled(file, now)
        listed = file.found.version if self._follow and file.grows and not file.gone else None
        try:
            part = self._readers.of(file).read(final, listed)
        except Removed:
            self._miss(file, now)
            return None
        except Rewritten:
            return self._begin_anew(file)
        except PermanentError as error:
            return self._damaged(file, error if isinstance(error, Damaged) else Damaged(str(error)), now)
        except UNEXPECTED as error:
            self._log.warning("%s: %s cannot be read: %r", self._name, file.found.path, error)
            return self._damaged(file, Damaged(f"{file.found.path} cannot be read: {error}"), now)
        except Unreadable as unreadable:
            if not self._follow:
                raise
            self._log.warning("%s", unreadable)
            file.not_before = now + self._settle
            return None
        if part is not None:
            if part.place.path != file.found.path:
                part = replace(part, place=replace(part.place, path=file.found.path))
            file.place = part.place
            if file.gone:
                file.changed = now
            return part
        file.seen, file.seen_whole = file.found.version, final
        if file.gone and final:
            self._retire(file)
        elif not file.grows or not self._follow:
            self._readers.close(file)
        return None

    def _begin_anew(self, file: Followed) -> Part | None:
        """Read a file from its start whose contents are others by now; those before are looked for in a copy."""
        self._readers.close(file)
        now, place, path = self._clock.monotonic(), file.place, file.found.path
        if file.gone:  # its inode was given to another file
            self._vanish(file.found.key, place, path, now)
            return None
        found = self._listing.find_again(file.found)
        if found is None:
            self._miss(file, now)
            return None
        self._log.warning("%s was truncated or rewritten: it is read from its start", found.path)
        if found.version != file.found.version:
            file.changed = now
        file.found, file.place, file.seen, file.seen_whole = found, Place(), "", False
        copy = self._follow_copy(found.key, place, path, now)
        if self._generations.is_newest(found.key):
            self._follow_all(self._generations.unseen_copies(self._files, copy, place), now)
        elif copy is None and not place.version:
            self._report_gap(f"{path} was truncated or replaced, and had been read only up to byte {place.behind}")
        if copy is not None:
            self._queue(now)
        return _REQUEUED if not self._follow or file.grows else None

    def _miss(self, file: Followed, now: float) -> None:
        """Look for a file once more with the next listings: it may only have been renamed while it was looked for."""
        file.misses += 1
        if not self._follow or (file.gone and file.misses >= _MAX_MISSES):
            self._lost(file, now)
        file.not_before = now + self._interval

    def _lost(self, file: Followed, now: float) -> None:
        is_read = file.seen == file.found.version or file.place.version == file.found.version
        if file.grows and self._generations.is_newest(file.found.key):
            is_read = False  # more may have been written to it before it was renamed and deleted
        self._vanish(file.found.key, file.place, file.found.path, now, is_read=is_read)

    def _damaged(self, file: Followed, damage: Damaged, now: float) -> Part | None:
        """Say what cannot be read, unless it may only be that the file is still being copied."""
        if self._follow and not file.gone and now - file.changed < self._settle:
            self._readers.close(file)
            file.not_before = file.changed + self._settle
            return None
        row = file.place.rows
        file.place = damage.place or file.place.finished(file.found.version)
        if damage.place is None or damage.place.version:
            self._readers.close(file)
        return naming(file.found.path, file.place, row, damage)

    def _retire(self, file: Followed) -> None:
        self._readers.close(file)
        file.is_retired = True
        self._waiting.pop(file.found.key, None)
        self._files.pop(file.found.key, None)
        self._forget(file.found, file.place)

    def close(self) -> None:
        """Close all files."""
        self._readers.close_all()


def _weight(part: Part) -> int:
    return part.batch.nbytes if part.batch is not None else 1024
