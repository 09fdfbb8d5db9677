"""Look at a write-ahead log while it is closed, and make one of it that has all that is intact and says what is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ..delivery import Batch
from .damage import entries_named
from .logfolder import Closed, LogFolder, sync, unused
from .segment import ENTRIES, GAP, HEADER, Encoder, Gap, Head, Record, Schemas, gap_record, head_record, records

MAX_SEGMENT_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where an intact entry stands."""

    path: Path
    record: Record
    """The record, without its payload."""


@dataclass
class Inspection:
    """What is in the folder of a log."""

    folder: LogFolder
    entries: dict[int, Place] = field(default_factory=dict)
    gaps: dict[int, int] = field(default_factory=dict)
    """The entries that are known to be missing: the last by the first."""
    has_rooms: bool = False
    """Whether numbers were left out because the position was not known."""
    segments: list[str] = field(default_factory=list)
    """Each file, described on a line."""
    unreadable: int = 0
    """Bytes that are no intact record."""
    closed: Closed | None = None

    @property
    def first(self) -> int:
        """The number of the first entry that it holds."""
        return min([*self.entries, *self.gaps], default=self.last + 1)

    @property
    def last(self) -> int:
        """The number of the last entry that it ever held, as far as is known."""
        floor = max(self.folder.sizes, default=1) - 1
        return max([*self.entries, *self.gaps.values(), floor, self.closed.last if self.closed else 0])

    def missing(self, position: int | None) -> list[tuple[int, int]]:
        """Return the entries that should be there and are not; ``position`` is the last that was written downstream."""
        expected = (self.first - 1 if position is None else position) + 1
        found: list[tuple[int, int]] = []
        held = sorted([*((number, number) for number in self.entries), *self.gaps.items()])
        for first, last in [*held, (self.last + 1, self.last + 1)]:
            if first > expected:
                found.append((expected, first - 1))
            expected = max(expected, last + 1)
        return found

    def lines(self, position: int | None) -> list[str]:
        """Describe the log for a person."""
        known = "not known" if position is None else str(position)
        held = f"{len(self.entries)} intact entries, the last {max(self.entries)}" if self.entries else "no entries"
        lines = [f"{self.folder.path}: {held}; written downstream up to entry: {known}", *self.segments]
        lines += [f"  {stray}" for stray in self.folder.strays]
        lines += [f"  given up before: {entries_named(*gap)} missing" for gap in sorted(self.gaps.items())]
        return [*lines, *(f"  {entries_named(*gap)} missing" for gap in self.missing(position))]


def inspect(path: Path, stream: str) -> Inspection:
    """Read all segments of a log and change nothing."""
    folder = LogFolder(path, stream)
    folder.look()
    found = Inspection(folder, closed=folder.closed())
    files: list[tuple[Path, int, int | None]]
    files = [(one, head.first, head.seed) for one, head in folder.misnamed.items()]
    files += [(folder.segment(first), first, folder.seed(first)) for first in folder.firsts]
    schemas: Schemas = {}
    for one, first, seed in files:
        if seed is not None:  # A batch may need the schema that stands in another segment.
            for _ in records(one, seed, first, schemas=schemas):
                pass
    for one, first, seed in files:
        _inspect_segment(found, one, first, seed, schemas)
    return found


def _inspect_segment(found: Inspection, path: Path, first: int, seed: int | None, schemas: Schemas) -> None:
    good = 0
    numbers: set[int] = set()
    for one in records(path, seed, first, schemas=schemas if seed is not None else None):
        good += one.end - one.start
        if one.kind == GAP:
            found.gaps[one.first] = one.number
            found.has_rooms = found.has_rooms or one.is_room
        elif one.kind in ENTRIES and one.number not in numbers:
            numbers.add(one.number)
            place = Record(one.kind, one.number, b"", one.start, one.end, one.schema)
            found.entries[one.number] = Place(path, place)
    bad = path.stat().st_size - good
    found.unreadable += bad
    held = f"{len(numbers)} entries from {min(numbers)} to {max(numbers)}" if numbers else "no entries"
    found.segments.append(f"  {path.name}: {held}" + (f"; {bad} bytes are unreadable" if bad else ""))


def salvage(path: Path, stream: str, position: int | None) -> list[str]:
    """Make the log whole again, of what is intact; returns what was done.

    What is damaged, and what it is made of anew, is kept in a folder beside the segments. A crash on the way leaves
    either the old or the new one of each segment: it may be called again. Nobody else may have the log open.
    """
    folder = LogFolder(path, stream)
    folder.hold()
    try:
        found = inspect(path, stream)
        missing = found.missing(position)
        lines = [f"given up: {entries_named(*gap)} missing" for gap in missing]
        if position is None and found.first > 1:
            lines.append(f"entries before {found.first} were written downstream, or are missing: that is not known")
        if (
            missing
            or found.unreadable
            or found.has_rooms
            or found.folder.strays
            or (position is None and found.first > 1)
        ):
            kept = _keep(found)
            _rewrite(found, missing)
            lines.append(f"what was there before is kept in {kept}")
        closed = Closed(max(found.last, position or 0), 0, salvaged=True)
        folder.close(closed)
        return [f"{path}: {len(found.entries)} intact entries; the stream goes on with them", *lines]
    finally:
        folder.release()


def _keep(found: Inspection) -> Path:
    """Copy all that is there to a folder of its own, by name where the disk can."""
    kept = unused(found.folder.path / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}", "")
    kept.mkdir(mode=0o700)
    for path in _files(found):
        try:
            os.link(path, kept / path.name)
        except OSError:
            shutil.copy2(path, kept / path.name)
    sync(kept)
    return kept


def _files(found: Inspection) -> list[Path]:
    ours = {"lock", "owner", "closed.json"}
    return [one for one in found.folder.path.iterdir() if one.is_file() and one.name not in ours]


def _rewrite(found: Inspection, missing: list[tuple[int, int]]) -> None:
    """Write segments of all that is intact, then put them in the place of the others."""
    folder = found.folder
    before = _files(found)
    gaps = {**found.gaps, **dict(missing)}
    if found.first > 1 and not any(first == 1 for first in gaps):
        gaps[1] = found.first - 1
    written = [path.with_suffix("") for path in _written(folder, found.entries, gaps)]
    for path in written:
        os.replace(path.with_name(f"{path.name}.new"), path)
    for path in before:
        if path not in written:
            path.unlink(missing_ok=True)
    sync(folder.path)


def _written(folder: LogFolder, entries: Mapping[int, Place], gaps: Mapping[int, int]) -> Iterator[Path]:
    """Write the segments, each beside the place that it is to have; yields their paths."""
    ordered = sorted([*((number, None) for number in entries), *gaps.items()], key=lambda one: one[0])
    file: BinaryIO | None = None
    encoder = Encoder(folder.head.seed)
    try:
        for first, last in ordered:
            if last is not None and any(number in entries for number in (first, last)):
                continue  # It was given up once, and is there after all.
            if file is None or file.tell() >= MAX_SEGMENT_SIZE:
                if file is not None:
                    _finish(file)
                path = folder.segment(first)
                file = path.with_name(f"{path.name}.new").open("wb")
                file.write(head_record(Head(folder.head.log, folder.stream, first)))
                encoder = Encoder(folder.head.seed)
                yield Path(file.name)
            if last is not None:
                file.write(gap_record(Gap(first), last, folder.head.seed))
            else:
                for part in encoder.encode(first, _batch(entries[first])):
                    file.write(part)
    finally:
        if file is not None:
            _finish(file)


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _batch(place: Place) -> Batch:
    one = place.record
    with place.path.open("rb") as file:
        payload = os.pread(file.fileno(), one.end - one.start, one.start)[HEADER.size :]
    batch = replace(one, payload=payload).batch()
    assert batch is not None
    return batch
