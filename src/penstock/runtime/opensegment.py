"""The segment of a log that is written to: entries are appended, forced to disk, and found under its name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO

from ..delivery import Batch
from ..durability import Durability
from .damage import Damage
from .logbucket import LogBucket
from .logfolder import LogFolder
from .segment import Encoder, Gap, Parts, gap_record


class SegmentRemoved(OSError):
    """The segment that was written to is not found under its name."""


class OpenSegment:
    """Writes entries into the last segment, and begins another once that is full or torn."""

    def __init__(self, folder: LogFolder, options: Durability, bucket: LogBucket | None = None) -> None:
        self._folder, self._options, self._bucket = folder, options, bucket
        self._file: IO[bytes] | None = None
        self._path = ""
        self._identity = (0, 0)
        self._encoder = Encoder(0)

    def write(self, batches: Sequence[Batch], last: int, number: int, damage: Damage | None) -> None:
        """Append the batches as entries from ``number`` and force them to disk, or leave the segment as it was.

        ``last`` is the number of the last entry: where ``number`` does not follow it, that is noted in a new segment,
        and so is ``damage``. Raises SegmentRemoved if somebody has taken the segment away.
        """
        first = max(self._folder.sizes, default=0)
        is_full = self._bucket is not None or self._folder.sizes.get(first, 0) >= self._options.segment_bytes
        if self._file is None or is_full:
            first = self._begin(last, number, damage)
        assert self._file is not None
        before = self._folder.sizes[first]
        try:
            parts: Parts = []
            for following, batch in enumerate(batches, number):
                parts += self._encoder.encode(following, batch)
                if self._options.per_entry:
                    self._flush(parts)
                    parts = []
            self._flush(parts)
        except BaseException:
            self._encoder.forget_schema()
            try:
                self._file.truncate(before)
                self._file.seek(before)
            except OSError:
                self._file = None  # nothing may follow what is torn: the next entry begins a segment
            raise
        if not self._is_in_place():
            self.close()
            raise SegmentRemoved(
                "removed or replaced while it was open; what was not written by then may be in memory only"
            )
        self._folder.sizes[first] = self._file.tell()
        if self._bucket is not None:
            self._store(first)

    def _store(self, first: int) -> None:
        """Store the segment, which is whole, in the bucket, or leave the log as if it had not been written."""
        assert self._bucket is not None
        try:
            self._bucket.put(self._folder.segment(first))
        except BaseException:
            self.close()
            del self._folder.sizes[first]
            self._folder.delete([first])
            raise

    def _is_in_place(self) -> bool:
        """Whether the open segment is the one that is found under its name."""
        try:
            return _identity(os.stat(self._path)) == self._identity
        except FileNotFoundError:
            return False

    def _flush(self, parts: Parts) -> None:
        assert self._file is not None
        data = memoryview(b"".join(parts))
        while data:
            data = data[self._file.write(data) :]
        os.fdatasync(self._file.fileno())

    def _begin(self, last: int, number: int, damage: Damage | None) -> int:
        self.close()
        self._folder.hold()
        noted = (damage.reason, damage.first) if damage is not None else ("", 0)
        first = last + 1
        self._file, self._path = self._folder.begin(first, *noted), str(self._folder.segment(first))
        self._identity = _identity(os.fstat(self._file.fileno()))
        self._encoder = Encoder(self._folder.head.seed)
        if number > first:
            gap = Gap(first, is_room=True)
            self._file.write(gap_record(gap, number - 1, self._folder.head.seed))
            self._folder.sizes[first] = self._file.tell()
        return first

    def close(self) -> None:
        """Close the segment; what is written next begins another."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
