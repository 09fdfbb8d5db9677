"""Following files: growth, half lines, rotation, truncation, new files, and files that are still being copied."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.component import Input
from penstock.errors import PermanentError
from penstock.inputs.file import File
from penstock.inputs.file.listing import Changes
from penstock.inputs.file.local import LocalListing
from penstock.metadata import VALUE
from penstock.testing.clock import jumping
from penstock.testing.suites.inputs import InputSuite

from .files import Reading, followed, rows_of
from .test_file import CONTENTS, LINES, NUMBERS, parquet

FAST = {"follow": True, "poll_interval": "20ms", "settle_time": "200ms"}


class TestFollowedFile(InputSuite):
    """A file that is followed has no end."""

    bounded = False

    def expected(self, component: Input) -> list[Any]:
        return NUMBERS

    @pytest.fixture
    def component(self, tmp_path: Path) -> Input:
        (tmp_path / "lines.json").write_text(LINES)
        return File.model_validate({"path": str(tmp_path / "lines.json"), "chunk_size": 32, **FAST})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


async def test_reads_what_is_appended(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\n")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        append(log, "2\n3\n")
        await follower.until([b"1", b"2", b"3"])


@jumping
async def test_a_half_written_line_is_not_taken_while_it_may_change(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\nha")
    options = {"path": str(log), **FAST, "settle_time": "1h"}
    async with followed(Reading(options, folder.parent)) as follower:
        await follower.until([b"1"])
        append(log, "l")
        await asyncio.sleep(0.2)
        assert follower.rows == [b"1"]
        append(log, "f\n")
        await follower.until([b"1", b"half"])


UNENDED = {
    "a.log": (b"1\n", b"2", [b"1"], [b"2"]),
    "a.jsonl": (b'{"n":1}\n', b'{"n":2}', [{"n": 1}], [{"n": 2}]),
    "b.json": (b"", b'{"n":1}', [], [{"n": 1}]),
    "c.json": (b"", b'[{"n":1},{"n":2}]', [], [{"n": 1}, {"n": 2}]),
    "a.csv": (b"n,t\n1,a\n", b"2,b", [{"n": 1, "t": "a"}], [{"n": 2, "t": "b"}]),
    "b.csv": (b"n,t\r1,a\r", b"2,b\r", [{"n": 1, "t": "a"}], [{"n": 2, "t": "b"}]),
}


@pytest.mark.parametrize("name", list(UNENDED))
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@jumping
async def test_an_unended_last_line_is_taken_once_the_file_has_settled(folder: Path, name: str, end: bytes) -> None:
    start, rest, rows, last = UNENDED[name]
    (folder / name).write_bytes(start + rest)
    reading = Reading({"path": str(folder), "format": "text" if name == "a.log" else "auto", **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.until(rows + last)
        with (folder / name).open("ab") as file:  # what ends the line later is not another line
            file.write(end)
        await asyncio.sleep(0.3)
        assert follower.rows == rows + last
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    async with followed(reading) as follower:
        await asyncio.sleep(0.4)
        assert follower.rows == []


UNREADABLE = {
    "two.json": b'{"id":1},{"id":2}\n',
    "cut.json": b'[{"id":1},{"id":2},',
    "spread.json": b'{\n "id": 1,\n',
    "utf16.json": '\ufeff{"id":1}\n'.encode("utf-16-le"),
    "utf16.csv": "\ufeffid,v\n1,a\n".encode("utf-16-le"),
    "bare.csv": "id,v\n1,a\n".encode("utf-16-le"),
    "bare.json": '{"id":1}\n'.encode("utf-16-be"),
    "padded.json": b'{"id":1}\n' + bytes(1000),
    "padded.csv": b"id\n1\n" + bytes(1000),
    "cut.csv": b"id,v\n1,a\n2",
    "quote.csv": b'id,v\n1,"a\n',
    "latin.csv": b"id,v\n1,\xe9\n",
    "cut.json.gz": gzip.compress(b'{"id":1}\n' * 1000)[:-20],
    "flipped.csv.gz": gzip.compress(b"id,v\n1,a\n")[:-6] + bytes(6),
    "foreign.json.gz": b'{"id":1}\n',
    "foreign.csv.zst": b"id\n1\n",
    "foreign.parquet": b"id\n1\n",
    "empty.parquet": b"PAR1",
}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("name", list(UNREADABLE))
async def test_what_cannot_be_read_is_told_soon(folder: Path, name: str, follow: bool) -> None:
    (folder / name).write_bytes(UNREADABLE[name])
    (folder / "good.jsonl").write_text('{"id":9}\n')
    told, good = 0, 0
    options = {"path": str(folder), **(FAST if follow else {})}
    async with Reading(options, folder.parent).opened() as (_, reader):
        while not told or not good:
            delivery = await asyncio.wait_for(reader.read(), 60)
            try:
                assert delivery.error is None or name in str(delivery.error)
                decoded = delivery.decoder(delivery.batch.column(VALUE)) if delivery.decoder else delivery.batch
                told += delivery.error is not None
                good += delivery.error is None and decoded.to_pylist() == [{"id": 9}]
            except PermanentError:
                told += 1
            await delivery.ack()


SEVERAL = [b'{"id":1}{"id":2}\n', b'{"id":1}\n{\n "id":2\n}', b'{"id":1}\r{"id":2}\r', b'{\n"id":1}{"id":2\n}\n']


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("text", SEVERAL)
async def test_values_are_read_however_they_follow_one_another(folder: Path, text: bytes, follow: bool) -> None:
    (folder / "a.json").write_bytes(text)
    rows: list[object] = []
    options = {"path": str(folder), **(FAST if follow else {})}
    async with Reading(options, folder.parent).opened() as (config, reader):
        while len(rows) < 2:
            delivery = await asyncio.wait_for(reader.read(), 60)
            rows += rows_of(config, delivery)
            await delivery.ack()
    assert rows == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_line_that_grew_after_it_was_taken_comes_again_as_a_whole(folder: Path, restart: bool) -> None:
    (folder / "a.csv").write_text("id,v\n1,a\n2,b")
    reading = Reading({"path": str(folder), **FAST}, folder.parent)
    before, after = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}], [{"id": 2, "v": "bc"}, {"id": 3, "v": "c"}]
    async with followed(reading) as follower:
        await follower.until(before)
        if not restart:
            append(folder / "a.csv", "c\n3,c\n")
            await follower.until(before + after)
    if restart:
        append(folder / "a.csv", "c\n3,c\n")
        async with followed(reading) as follower:
            await follower.until(after)


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
@jumping
async def test_a_half_written_header_or_first_line_is_awaited(folder: Path, name: str) -> None:
    start, rest = {"a.csv": ("n,te", "xt\n1,a\n"), "a.json": ('{"n":1,"te', 'xt":"a"}\n')}[name]
    (folder / name).write_text(start)
    options = {"path": str(folder), **FAST, "settle_time": "1h"}
    async with followed(Reading(options, folder.parent)) as follower:
        await asyncio.sleep(0.3)
        append(folder / name, rest)
        await follower.until([{"n": 1, "text": "a"}])
        append(folder / name, '2,b\n{"n":3,"text":"c"}\n'.splitlines(keepends=True)[name == "a.json"])
        await follower.when(lambda: len(follower.rows) == 2)


@jumping
async def test_a_missing_file_is_awaited(folder: Path) -> None:
    async with followed(Reading({"path": str(folder / "later" / "a.log"), **FAST}, folder.parent)) as follower:
        await asyncio.sleep(0.1)
        (folder / "later").mkdir()
        (folder / "later" / "a.log").write_text("1\n")
        await follower.until([b"1"])


async def test_new_files_of_a_pattern_are_found(folder: Path) -> None:
    async with followed(Reading({"path": f"{folder}/{{table}}/*", **FAST}, folder.parent)) as follower:
        for table in ("a", "b"):
            (folder / table).mkdir()
            (folder / table / "1.json").write_text(f'{{"t":"{table}"}}\n')
            await follower.when(lambda table=table: follower.rows[-1:] == [{"t": table}])  # type: ignore[misc]
    assert len(follower.rows) == 2


async def test_a_rotated_file_is_read_to_its_end_before_the_new_one(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        append(log, "2\n")
        log.rename(folder / "app.log.1")
        log.write_text("3\n")
        await follower.until([b"1", b"2", b"3"])
        append(log, "4\n")
        await follower.until([b"1", b"2", b"3", b"4"])


async def test_what_is_written_to_a_file_after_its_rotation_is_read(folder: Path) -> None:
    log = folder / "app.log"
    with log.open("w") as held:
        held.write("1\n")
        held.flush()
        async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
            await follower.until([b"1"])
            log.rename(folder / "app.log.1")
            log.write_text("3\n")
            await follower.until([b"1", b"3"])
            held.write("2\n")
            held.flush()
            await follower.until([b"1", b"3", b"2"])


async def test_an_unended_last_line_is_taken_once_the_file_was_rotated(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n2")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        log.rename(folder / "app.log.1")
        await follower.until([b"1", b"2"])
        log.write_text("3\n")
        await follower.until([b"1", b"2", b"3"])


async def test_a_deleted_file_is_read_to_its_end(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\n")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        append(log, "2\n")
        log.unlink()
        await follower.until([b"1", b"2"])


@jumping
async def test_rotation_within_the_pattern_reads_nothing_twice(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n")
    async with followed(Reading({"path": f"{folder}/app.log*", **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        for number in range(2, 6):
            for old in sorted(folder.glob("app.log.*"), reverse=True):
                old.rename(folder / f"app.log.{int(old.suffix[1:]) + 1}")
            log.rename(folder / "app.log.1")
            log.write_text(f"{number}\n")
            await follower.until([f"{count}".encode() for count in range(1, number + 1)])
        await asyncio.sleep(0.3)
        assert len(follower.rows) == 5


async def test_copy_and_truncate_starts_over(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n2\n")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1", b"2"])
        shutil.copy(log, folder / "app.log.1")
        os.truncate(log, 0)
        append(log, "3\n")
        await follower.until([b"1", b"2", b"3"])


async def test_a_truncated_file_that_grew_beyond_its_old_size_starts_over(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n2\n")
    async with followed(Reading({"path": str(log), **FAST}, folder.parent)) as follower:
        await follower.until([b"1", b"2"])
        with log.open("r+") as file:
            file.truncate(0)
            file.write("a\nb\nc\nd\n")
        await follower.until([b"1", b"2", b"a", b"b", b"c", b"d"])


async def test_resumes_by_identity_after_a_stop(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n2\n")
    reading = Reading({"path": str(log), **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.until([b"1", b"2"])
    append(log, "3\n")
    log.rename(folder / "app.log.1")
    log.write_text("4\n")
    async with followed(reading) as follower:
        await follower.until([b"3", b"4"])
    async with followed(reading) as follower:
        append(log, "5\n")
        await follower.until([b"5"])


async def test_what_was_read_but_not_acked_comes_again(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\n2\n3\n")
    reading = Reading({"path": str(log), **FAST, "chunk_size": 16}, folder.parent)
    async with reading.opened() as (_, reader):
        await reader.read()
    async with followed(reading) as follower:
        await follower.until([b"1", b"2", b"3"])


@jumping
async def test_from_the_end_only_what_is_written_later(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\n2\nha")
    reading = Reading({"path": f"{folder}/*.log", **FAST, "start": "end"}, folder.parent)
    async with followed(reading) as follower:
        await asyncio.sleep(0.1)
        append(log, "lf\n3\n")
        await follower.until([b"half", b"3"])
        (folder / "b.log").write_text("new\n")
        await follower.until([b"half", b"3", b"new"])
    append(log, "4\n")
    (folder / "c.log").write_text("newer\n")
    async with followed(reading) as follower:
        await follower.until([b"4", b"newer"])


async def test_from_the_end_survives_a_stop_before_anything_was_read(folder: Path) -> None:
    log = folder / "a.log"
    log.write_text("1\n")
    reading = Reading({"path": str(log), **FAST, "start": "end"}, folder.parent)
    async with reading.opened():
        pass
    append(log, "2\n")
    async with followed(reading) as follower:
        await follower.until([b"2"])


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "packed.avro", "lines.json.gz", "table.csv.gz"])
@jumping
async def test_a_file_that_is_still_being_copied_is_not_refused(folder: Path, name: str) -> None:
    whole = CONTENTS[name]
    async with followed(Reading({"path": str(folder), **FAST, "settle_time": "2s"}, folder.parent)) as follower:
        with (folder / name).open("wb") as file:
            for start in range(0, len(whole), len(whole) // 4):
                file.write(whole[start : start + len(whole) // 4])
                file.flush()
                await asyncio.sleep(0.15)  # longer than it takes to seem settled
        await follower.when(lambda: len(follower.rows) >= len(NUMBERS))
        assert follower.rows[-len(NUMBERS) :] == NUMBERS
        assert not any(isinstance(row, tuple) for row in follower.rows)


@jumping
async def test_a_file_that_stays_damaged_is_refused_once_and_read_when_it_is_repaired(folder: Path) -> None:
    whole = CONTENTS["rows.parquet"]
    (folder / "a.parquet").write_bytes(whole[:-10])
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.when(lambda: len(follower.rows) == 1)
        assert "a.parquet" in follower.rows[0][1]
        await asyncio.sleep(0.5)
        assert len(follower.rows) == 1
        (folder / "a.parquet").write_bytes(whole)
        await follower.when(lambda: len(follower.rows) > 1)
        assert follower.rows[1:] == NUMBERS


async def test_a_replaced_container_is_read_anew(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(parquet([{"n": 1}]))
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.until([{"n": 1}])
        (folder / "new.tmp").write_bytes(parquet([{"n": 2}, {"n": 3}]))
        (folder / "new.tmp").rename(folder / "a.parquet")
        await follower.until([{"n": 1}, {"n": 2}, {"n": 3}])


async def test_an_array_that_grows_is_read_element_by_element(folder: Path) -> None:
    file = folder / "a.json"
    file.write_text('[{"n":1},\n')
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.until([{"n": 1}])
        append(file, '{"n":2},\n{"n"')
        await follower.until([{"n": 1}, {"n": 2}])
        append(file, ":3}]\n")
        await follower.until([{"n": 1}, {"n": 2}, {"n": 3}])


async def test_one_unreadable_file_does_not_stop_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.log").write_text("secret\n")
    (folder / "b.log").write_text("1\n")
    refuse, real = [True], os.open

    def open_(path: Any, *arguments: Any, **options: Any) -> int:
        if refuse and str(path).endswith("a.log"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr("os.open", open_)
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        refuse.clear()
        await follower.until([b"1", b"secret"])


async def test_a_busy_file_does_not_starve_the_others(folder: Path) -> None:
    (folder / "a.log").write_text("x" * 99 + "\n")
    (folder / "b.log").write_text("b\n")
    with (folder / "a.log").open("a") as file:
        for _ in range(5000):
            file.write("x" * 99 + "\n")
    options = {"path": str(folder), **FAST, "chunk_size": 1000}
    async with followed(Reading(options, folder.parent)) as follower:
        await follower.when(lambda: b"b" in follower.rows)
        assert len(follower.rows) < 2000


async def test_many_files_are_followed_at_once(folder: Path) -> None:
    for number in range(600):
        (folder / f"{number:03}.json").write_text(f'{{"n":{number}}}\n')
    expected = [{"n": number} for number in range(600)]
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.until(expected)
        for number in (5, 599):
            append(folder / f"{number:03}.json", f'{{"n":{number + 1000}}}\n')
        await follower.when(lambda: len(follower.rows) >= 602)
    assert follower.rows[:600] == expected
    assert sorted(row["n"] for row in follower.rows[600:]) == [1005, 1599]


async def test_a_growing_gzip_is_read_on(folder: Path) -> None:
    file = folder / "a.json.gz"
    file.write_bytes(gzip.compress(b'{"n":1}\n'))
    async with followed(Reading({"path": str(folder), **FAST}, folder.parent)) as follower:
        await follower.until([{"n": 1}])
        with file.open("ab") as opened:
            opened.write(gzip.compress(json.dumps({"n": 2}).encode() + b"\n"))
        await follower.until([{"n": 1}, {"n": 2}])


async def test_progress_of_followed_files_has_no_end(folder: Path) -> None:
    (folder / "a.log").write_text("1\n")
    async with Reading({"path": str(folder), **FAST}, folder.parent).opened() as (_, reader):
        await (await reader.read()).ack()
        assert (reader.progress().done, reader.progress().total) == (2, None)


@pytest.mark.parametrize("cascades", [1, 3])
async def test_files_renamed_between_listing_and_opening_are_read_once_each(
    folder: Path, cascades: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (folder / f"app.log.{number}").write_text(f"{number}\n" * 3)
    find, left = LocalListing.changes, [20]

    def find_and_rotate(listing: LocalListing) -> Changes:
        found = find(listing)
        for _ in range(cascades if left[0] else 0):
            count = len(list(folder.iterdir()))
            for number in range(count, 0, -1):
                (folder / f"app.log.{number - 1}").rename(folder / f"app.log.{number}")
            (folder / "app.log.0").write_text(f"{count}\n" * 3)
        left[0] = max(0, left[0] - 1)
        return found

    monkeypatch.setattr(LocalListing, "changes", find_and_rotate)
    async with followed(Reading({"path": f"{folder}/app.log*", "chunk_size": 16, **FAST}, folder.parent)) as follower:
        total = 5 + 20 * cascades
        await follower.when(lambda: not left[0] and len(follower.rows) >= 3 * total)
    assert Counter(follower.rows) == Counter({str(number).encode(): 3 for number in range(total)})


async def test_a_file_that_is_renamed_whenever_it_is_looked_for_is_not_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.log").write_text("1\n")
    find, names = LocalListing.changes, ["b", "c", "d"]

    def hide_and_find(listing: LocalListing) -> Changes:
        if names:
            name = names.pop()
            next(folder.iterdir()).rename(folder.parent / name)  # where nobody looks
            (folder.parent / name).rename(folder / "a.log")
            found = find(listing)
            (folder / "a.log").rename(folder.parent / name)
            (folder.parent / name).rename(folder / f"{name}.log")
            return found
        return find(listing)

    monkeypatch.setattr(LocalListing, "changes", hide_and_find)
    async with followed(Reading({"path": f"{folder}/*.log", **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])
        await follower.when(lambda: not names)
        await follower.until([b"1"])
