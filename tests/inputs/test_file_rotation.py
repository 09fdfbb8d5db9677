"""Rotation of a followed path: every generation is read once, or it is told that one is missing."""

from __future__ import annotations

import asyncio
import gzip
import lzma
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.inputs.file import local
from penstock.inputs.file.place import GONE
from penstock.inputs.file.rotation import RotatedNames, is_newer

from .files import Reading, followed

FAST = {"follow": True, "poll_interval": "20ms", "settle_time": "200ms"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def rows(start: int, end: int) -> str:
    return "".join(f"row {number}\n" for number in range(start, end))


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


def pack(file: Path, to: Path, packed: Callable[[bytes], bytes] = gzip.compress) -> None:
    to.write_bytes(packed(file.read_bytes()))
    file.unlink()


def twice(log: Path) -> None:
    append(log, rows(100, 120))
    log.rename(f"{log}.1")
    log.write_text(rows(120, 200))
    os.rename(f"{log}.1", f"{log}.2")
    log.rename(f"{log}.1")
    log.write_text(rows(200, 300))


def four_times(log: Path) -> None:
    append(log, rows(100, 120))
    for number in range(4):
        for old in range(number, 0, -1):
            os.rename(f"{log}.{old}", f"{log}.{old + 1}")
        log.rename(f"{log}.1")
        log.write_text(rows(120 + 45 * number, 165 + 45 * number))


def by_date(log: Path) -> None:
    append(log, rows(100, 120))
    log.rename(f"{log}-20260101")
    log.write_text(rows(120, 200))
    log.rename(f"{log}-20260102")
    log.write_text(rows(200, 300))


def packed(log: Path) -> None:
    append(log, rows(100, 150))
    pack(log, Path(f"{log}.1.gz"))
    log.write_text(rows(150, 300))


def packed_by_date(log: Path) -> None:
    append(log, rows(100, 150))
    pack(log, log.with_name("app-2026-01-01.log.xz"), lzma.compress)
    log.write_text(rows(150, 300))


def both_packed(log: Path) -> None:
    append(log, rows(100, 120))
    pack(log, Path(f"{log}.2.gz"))
    log.write_text(rows(120, 200))
    pack(log, Path(f"{log}.1.gz"))
    log.write_text(rows(200, 300))


def copied_and_truncated(log: Path) -> None:
    append(log, rows(100, 200))
    shutil.copy(log, f"{log}.1")
    with log.open("r+") as file:
        file.truncate()
        file.write(rows(200, 300))


def copied_and_packed(log: Path) -> None:
    append(log, rows(100, 200))
    Path(f"{log}.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    with log.open("r+") as file:
        file.truncate()
        file.write(rows(200, 300))


def once(log: Path) -> None:
    append(log, rows(100, 200))
    log.rename(f"{log}.1")
    log.write_text(rows(200, 300))


ROTATIONS = [
    twice,
    four_times,
    by_date,
    packed,
    packed_by_date,
    both_packed,
    copied_and_truncated,
    copied_and_packed,
    once,
]
ALL = Counter(rows(0, 300).encode().splitlines())


@pytest.mark.parametrize("rotate", ROTATIONS)
@pytest.mark.parametrize("while_down", [False, True])
@pytest.mark.parametrize("before", ["nothing", "older"])
async def test_every_generation_is_read_once(
    folder: Path, rotate: Callable[[Path], None], while_down: bool, before: str
) -> None:
    log, gaps = folder / "app.log", list[str]()
    if before == "older":
        Path(f"{log}.9").write_text("older\n")
        Path(f"{log}.8.gz").write_bytes(gzip.compress(b"old\n"))
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
        if not while_down:
            rotate(log)
            await follower.when(lambda: len(follower.rows) >= 300)
            await asyncio.sleep(0.3)
    found = Counter(follower.rows)
    if while_down:
        rotate(log)
        async with followed(reading, note_gap=gaps.append) as follower:
            await follower.when(lambda: len(follower.rows) >= 200)
            await asyncio.sleep(0.3)
        found += Counter(follower.rows)
    assert found == ALL
    assert gaps == []
    async with followed(reading, note_gap=gaps.append) as follower:
        append(log, "end\n")
        await follower.until([b"end"])
    assert gaps == []


async def test_a_file_that_was_seen_empty_is_missed(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
        log.rename(f"{log}.1")
        log.touch()
        seen = f"{log.stat().st_ino}"
        await follower.when(lambda: seen in str(vars(reading.store)))
    append(log, rows(100, 200))
    os.rename(f"{log}.1", f"{log}.2")
    log.rename(f"{log}.1")
    log.write_text(rows(200, 300))
    async with followed(reading) as follower:
        await follower.until(rows(100, 300).encode().splitlines())


def to_another_folder(log: Path) -> None:
    append(log, rows(100, 200))
    (log.parent / "old").mkdir()
    log.rename(log.parent / "old" / "app.log.1")
    log.write_text(rows(200, 300))


def under_another_name(log: Path) -> None:
    append(log, rows(100, 200))
    log.rename(log.with_name("kept by hand"))
    log.write_text(rows(200, 300))


def deleted(log: Path) -> None:
    append(log, rows(100, 200))
    log.unlink()
    log.write_text(rows(200, 300))


@pytest.mark.parametrize("rotate", [to_another_folder, deleted])
async def test_what_cannot_be_found_is_told(
    folder: Path, rotate: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
    rotate(log)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(200, 300).encode().splitlines())
    (gap,) = gaps
    assert f"{log} was replaced while nothing read it" in gap
    assert "rows may be missing" in caplog.text


@pytest.mark.parametrize("rotate", [to_another_folder, under_another_name, deleted])
async def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end_and_told(
    folder: Path, rotate: Callable[[Path], None]
) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
        rotate(log)
        await follower.when(lambda: len(follower.rows) == 300)
    (gap,) = gaps
    assert "what came after it may not have been read" in gap


async def test_what_a_renamed_file_and_its_successors_held_is_read_after_a_start(folder: Path) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
    under_another_name(log)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(100, 300).encode().splitlines())
    assert len(gaps) == 1


async def test_a_truncation_without_a_copy_is_told(folder: Path) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await follower.until(rows(0, 100).encode().splitlines())
        log.write_text("new\n")
        await follower.when(lambda: follower.rows[-1] == b"new")
    (gap,) = gaps
    assert f"{log} was truncated or replaced" in gap


async def test_a_gap_is_not_told_again(folder: Path) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    reading = Reading({"path": str(log)}, folder.parent)
    await reading.all(note_gap=gaps.append)
    log.unlink()
    waiting = Reading({"path": str(log), **FAST}, folder.parent, reading.store)
    async with followed(waiting, note_gap=gaps.append):
        await asyncio.to_thread(until, lambda: GONE in str(reading.store.positions))
    Path(f"{log}.1").write_text(rows(100, 110))
    log.write_text(rows(110, 120))
    assert len(gaps) == 1
    assert await reading.all(note_gap=gaps.append) == rows(100, 120).encode().splitlines()
    told = len(gaps)
    assert await reading.all(note_gap=gaps.append) == []
    assert len(gaps) == told


@pytest.mark.parametrize("interval", ["20ms", "200ms"])
async def test_a_path_that_is_rotated_again_and_again_is_read_once(folder: Path, interval: str) -> None:
    log = folder / "app.log"
    log.touch()

    def write() -> None:
        for number in range(100):
            append(log, rows(10 * number, 10 * number + 10))
            time.sleep(0.005)  # some are seen at the path, others are not
            shift(log, most=number)
            log.rename(f"{log}.1")
            log.touch()

    reading = Reading({"path": str(log), **FAST, "poll_interval": interval}, folder.parent)
    async with followed(reading) as follower:
        await asyncio.to_thread(write)
        append(log, "end\n")
        await follower.when(lambda: len(set(follower.rows)) > 1000)
    assert Counter(follower.rows) == Counter([*rows(0, 1000).encode().splitlines(), b"end"])


@pytest.mark.parametrize("most", [2, 40, 10_000])
async def test_rotations_faster_than_looks_are_read_once_or_told(folder: Path, most: int) -> None:
    log, gaps, written = folder / "app.log", list[str](), 0
    log.touch()

    def write() -> None:
        nonlocal written
        for number in range(200):
            append(log, rows(5 * number, 5 * number + 5))
            written += 5
            shift(log, most=min(number, most))
            log.rename(f"{log}.1")
            log.touch()

    reading = Reading({"path": str(log), "follow": True, "poll_interval": "300ms"}, folder.parent)
    async with followed(reading, note_gap=gaps.append) as follower:
        await asyncio.to_thread(write)
        append(log, "end\n")
        await follower.when(lambda: b"end" in follower.rows)
        if most > written:
            await follower.when(lambda: len(follower.rows) > written)
    found = Counter(follower.rows)
    assert max(found.values()) == 1
    if most > written:
        assert gaps == []
        assert found.total() == written + 1
    assert gaps or found.total() == written + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(2, 12), st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_files_renamed_during_a_look_are_read_once_or_told(
    tmp_path_factory: pytest.TempPathFactory, rounds: int, most: int, pace: list[int]
) -> None:
    log, gaps = tmp_path_factory.mktemp("races") / "app.log", list[str]()
    reading = Reading({"path": str(log), "chunk_size": 64}, log.parent.parent)
    append(log, "first\n")
    found = Counter(asyncio.run(reading.all()))

    def rotate() -> Iterator[None]:
        for number in range(rounds):
            append(log, f"line {number}\n")
            for old in range(most, 0, -1):
                if os.path.exists(f"{log}.{old}"):
                    os.rename(f"{log}.{old}", f"{log}.{old + 1}") if old < most else os.unlink(f"{log}.{old}")
                    yield
            log.rename(f"{log}.1")
            yield
            append(log, f"more {number}\n")
            yield

    renames, stat, paces = rotate(), local._stat, cycle(pace)

    def stat_while_renamed(path: str) -> os.stat_result | None:
        list(islice(renames, next(paces)))
        return stat(path)

    with patch.object(local, "_stat", stat_while_renamed), suppress(ConfigError):  # nothing may be there for a moment
        found.update(asyncio.run(reading.all(note_gap=gaps.append)))
    list(renames)
    found.update(asyncio.run(reading.all(note_gap=gaps.append)))
    assert max(found.values()) == 1
    assert gaps or found.total() == 2 * rounds + 1


@pytest.mark.parametrize("packed", [False, True])
async def test_a_missing_number_is_told(folder: Path, packed: bool) -> None:
    log, gaps = folder / "app.log", list[str]()
    log.write_text(rows(0, 100))
    Path(f"{log}.7").write_text("older\n")
    reading = Reading({"path": str(log)}, folder.parent)
    await reading.all(note_gap=gaps.append)
    (pack if packed else os.rename)(log, Path(f"{log}.4.gz" if packed else f"{log}.4"))
    Path(f"{log}.2").write_text(rows(100, 200))
    log.write_text(rows(200, 300))
    assert await reading.all(note_gap=gaps.append) == rows(100, 300).encode().splitlines()
    (gap,) = gaps
    assert "number 1, 3 is missing" in gap
    assert await reading.all(note_gap=gaps.append) == []
    assert len(gaps) == 1


async def test_what_is_written_to_a_rotated_file_is_read_however_late(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n")
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.until([b"1"])
        log.rename(f"{log}.1")
        log.write_text("2\n")
        await follower.until([b"1", b"2"])
        await asyncio.sleep(0.5)  # longer than settle_time
        append(Path(f"{log}.1"), "late\n")
        await follower.until([b"1", b"2", b"late"])
    append(Path(f"{log}.1"), "later\n")
    async with followed(reading) as follower:
        await follower.until([b"later"])


async def test_a_file_made_anew_with_the_same_contents_is_another_file(folder: Path) -> None:
    file = folder / "a.jsonl"
    file.write_text('{"id":1}\n')
    reading = Reading({"path": f"{folder}/*", **FAST}, folder.parent)
    for _ in range(5):  # the inode is mostly that of the file before
        async with followed(reading) as follower:
            await follower.until([{"id": 1}])
        file.unlink()
        file.write_text('{"id":1}\n')


@pytest.mark.parametrize("growth", ["", "more\n"])
async def test_a_file_overwritten_in_place_is_read_anew(folder: Path, growth: str) -> None:
    file = folder / "a.txt"
    tail = "tail\n" * 100
    file.write_text("old\n" + tail)
    reading = Reading({"path": f"{folder}/*", **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.when(lambda: len(follower.rows) == 101)
        with file.open("r+") as opened:
            opened.write("new\n" + tail + growth)
        await follower.when(lambda: len(follower.rows) == 202 + bool(growth))
        assert follower.rows[101] == b"new"


async def test_an_unread_rest_of_a_deleted_file_is_told(folder: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(rows(0, 100))
    gaps: list[str] = []
    reading = Reading({"path": f"{folder}/*", "chunk_size": 16}, folder.parent)
    await reading.all(most=3)
    (folder / "a.txt").unlink()
    await reading.all(note_gap=gaps.append)
    (gap,) = gaps
    assert gap.startswith(f"{folder}/a.txt is gone, and was read only up to byte ")


class Model:
    """A log that is written, rotated and read by runs that end well or are killed, and what must come of it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.gaps = folder / "logs" / "app.log", list[str]()
        self.log.parent.mkdir()
        self.log.touch()
        self.reading = Reading({"path": str(self.log), "chunk_size": 64}, folder)
        self.written, self.found = Counter[bytes](), Counter[bytes]()
        self._halves, self._again = Counter[bytes](), set[bytes]()
        self._open: bytes | None = None
        self._number, self._is_looked_at, self._is_read = 0, False, False
        self._told, self._lost, self._is_unread_copied = 0, Counter[bytes](), False

    def append(self) -> None:
        if self._open is not None:  # it may have been delivered as it was
            self.written[self._open] -= 1
            self._halves[self._open] += 1
            self.written[self._open + b" end"] += 1
            append(self.log, " end\n")
            self._open = None
        for _ in range(10):
            self._line("\n")

    def half(self) -> None:
        if self._open is None:
            self._open = self._line("")

    def _line(self, end: str) -> bytes:
        line = f"line {self._number}"
        self._number += 1
        append(self.log, line + end)
        self.written[line.encode()] += 1
        return line.encode()

    def read(self) -> None:
        self._is_looked_at, self._is_unread_copied, self._is_read = True, False, bool(self.log.stat().st_size)
        self.found.update(asyncio.run(self.reading.all(note_gap=self.gaps.append)))
        lost = self.lost - self._lost
        assert not lost or len(self.gaps) > self._told, f"no gap is told of {sorted(lost)}"
        self._lost, self._told = self.lost, len(self.gaps)

    def stop(self) -> None:
        """Stop before anything is acked."""
        asyncio.run(self.reading.all(ack=False, most=1, note_gap=self.gaps.append))

    def kill(self) -> None:
        """Ack what is read, but save none of it when the run ends."""
        rows = asyncio.run(self.reading.killed(most=5, note_gap=self.gaps.append))
        self.found.update(rows)
        self._again.update(rows)

    def rotate(self) -> None:
        shift(self.log)
        self.log.rename(f"{self.log}.1")
        self.log.touch()
        self._open, self._is_looked_at, self._is_read = None, False, False

    def delete(self) -> None:
        self.rotate()
        Path(f"{self.log}.1").unlink()

    def delete_oldest(self) -> None:
        """Delete a file that was rotated; of a copy of a file of which nothing was read, nothing would tell."""
        for number in range(31 if not self._is_unread_copied else 0, 0, -1):
            for packed in ("", ".gz"):
                if os.path.exists(f"{self.log}.{number}{packed}"):
                    os.unlink(f"{self.log}.{number}{packed}")
                    return

    def move(self) -> None:
        self.rotate()
        os.rename(f"{self.log}.1", self.log.parent / f"moved {self._number}")

    def truncate(self) -> None:
        """Truncate without a copy; of a file of which nothing was read, nothing tells."""
        if not self._is_read:
            return
        os.truncate(self.log, 0)
        self._open, self._is_read = None, False

    def pack(self) -> None:
        self.rotate()
        pack(Path(f"{self.log}.1"), Path(f"{self.log}.1.gz"))

    def copy(self) -> None:
        """Copy and truncate; a file that was never looked at cannot be told from a copy of it."""
        if not self._is_looked_at:
            self.rotate()
            return
        self._is_unread_copied = not self._is_read
        self._truncate(Path(f"{self.log}.1"), lambda data: data)

    def pack_copy(self) -> None:
        """Pack a copy and truncate; of a file of which nothing was read, that cannot be told from one not ours."""
        if not self._is_read:
            self.pack()
            return
        self._truncate(Path(f"{self.log}.1.gz"), gzip.compress)

    def _truncate(self, copy: Path, packed: Callable[[bytes], bytes]) -> None:
        shift(self.log)
        copy.write_bytes(packed(self.log.read_bytes()))
        os.truncate(self.log, 0)
        self._open, self._is_read = None, False

    @property
    def doubled(self) -> set[bytes]:
        """What came more often than it should: lines that were not saved, and half ones that grew, may come again."""
        return (self.found - self.written - self._halves).keys() - self._again

    @property
    def lost(self) -> Counter[bytes]:
        return +self.written - self.found


STEPS = ["append", "append", "half", "read", "read", "stop", "kill", "rotate", "rotate", "pack", "copy", "pack_copy"]
STEPS += ["delete", "delete_oldest", "move", "truncate"]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=24))
@example(["append", "rotate", "delete", "copy", "rotate", "rotate"])
@example(["rotate", "append", "delete"])
@example(["append", "read", "append", "copy", "rotate"])
@example(["append", "read", "append", "pack", "stop"])
@example(["append", "read", "append", "pack", "kill"])
@example(["append", "copy", "rotate"])
def test_each_line_comes_once_unless_a_gap_is_told(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    model = Model(tmp_path_factory.mktemp("rotation"))
    for step in ["read", *steps, "append", "read", "read"]:
        getattr(model, step)()
    assert not model.doubled, steps
    assert model.gaps or not model.lost, steps


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def shift(log: Path, most: int = 30) -> None:
    for number in range(most, 0, -1):
        for packed in ("", ".gz"):
            if os.path.exists(f"{log}.{number}{packed}"):
                os.rename(f"{log}.{number}{packed}", f"{log}.{number + 1}{packed}")


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("app.log.1", "1"),
        ("app.log.12.gz", "12"),
        ("app.log-20260101", "20260101"),
        ("app.log.2026-01-01_12.zst", "2026-01-01_12"),
        ("app-20260101.log.gz", "20260101"),
        ("app.log.old", "old"),
        ("app.log", None),
        ("app.log.bak", None),
        ("app.log.1.txt", None),
        ("application.log.1", None),
        ("app.log.1.gz.part", None),
    ],
)
def test_names_of_rotated_files(name: str, slot: str | None) -> None:
    assert RotatedNames("logs/app.log").slot_of(name) == slot


def test_which_of_two_rotated_files_is_newer() -> None:
    assert is_newer("1", 0, "2", 9)
    assert is_newer("9", 0, "10", 9)
    assert is_newer("20260102", 0, "20260101", 9)
    assert is_newer("2026-01-02", 0, "20260101", 9)
    assert is_newer("1", 9, "20260101", 0)
