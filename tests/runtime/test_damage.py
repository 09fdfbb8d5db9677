"""Damage to a write-ahead log: what is intact is handed out, what is not is named, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.durability import Durability
from penstock.errors import ConfigError, EndOfInput, PenstockError
from penstock.observe.metrics import StreamMetrics
from penstock.runtime.logfolder import LogFolder
from penstock.runtime.salvage import inspect, salvage
from penstock.runtime.segment import Head, head_record
from penstock.runtime.wal import Wal, open_wal
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context


def batch(number: int) -> pa.RecordBatch:
    """One row; each seventh batch has columns of its own, each eleventh a dictionary."""
    columns: dict[str, Any] = {"n": [number], "text": ["x" * (number % 50)]}
    if number % 7 == 0:
        columns[f"c{number % 3}"] = [number / 2]
    if number % 11 == 0:
        columns["kind"] = pa.array(["a"]).dictionary_encode()
    return pa.RecordBatch.from_pydict(columns)


class Log:
    """A log in a folder of its own."""

    def __init__(self, folder: Path, store: MemoryStore | None = None, name: str = "test") -> None:
        self.folder, self.store, self.name = folder, store or MemoryStore(), name
        self.path = folder / "wal" / name
        self.metrics = StreamMetrics(name)

    async def write(self, *numbers: int, read: int = 0, segment_bytes: int = 3000, crash: bool = False) -> None:
        """Append entries and write the first ``read`` of them downstream."""
        async with self._open(segment_bytes) as wal:
            for number in numbers:
                await wal.append(batch(number))
            left = read
            while left > 0:
                delivery = await wal.read()
                left -= delivery.batch.num_rows
                await delivery.ack()
        if crash:
            (self.path / "closed.json").unlink(missing_ok=True)

    async def read(self) -> tuple[list[int], str | None]:
        """Return what is handed out, and why no more is."""
        async with self._open(3000) as wal:
            wal.end()
            found: list[int] = []
            try:
                while True:
                    delivery = await wal.read()
                    found += delivery.batch.column("n").to_pylist()
                    await delivery.ack()
            except EndOfInput:
                return found, None
            except PenstockError as error:
                return found, str(error) if self.metrics.condition.trouble == str(
                    error
                ) else f"not told in health: {error}"

    def _open(self, segment_bytes: int) -> Any:
        return _opened(self, segment_bytes)

    def segments(self) -> list[Path]:
        return sorted(self.path.glob("*.wal"))

    def position(self) -> int:
        saved: Any = self.store.positions.get(f"{self.name}/wal")
        return saved["position"] if saved else 0

    async def salvage(self) -> str:
        return "\n".join(await asyncio.to_thread(salvage, self.path, self.name, self.position()))


class _opened:
    def __init__(self, log: Log, segment_bytes: int) -> None:
        self._log, self._options = log, Durability(segment_bytes=segment_bytes)

    async def __aenter__(self) -> Wal:
        self._context = lend_context(self._log.folder, self._log.store, self._log.name)
        self._lent = context = await self._context.__aenter__()
        self._wal = open_wal(self._options, context, self._log.metrics, asyncio.Event())
        return await self._wal.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._lent.ledger.flush()
        await self._wal.__aexit__(None, None, None)
        await self._context.__aexit__(None, None, None)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("crash", [True, False])
async def test_a_flipped_bit_in_the_last_segment_costs_its_entry_only(log: Log, crash: bool) -> None:
    await log.write(*range(200), segment_bytes=1 << 20, crash=crash)
    (path,) = log.segments()
    flip(path, path.stat().st_size * 3 // 10)
    before = path.read_bytes()
    found, why = await log.read()
    assert why is not None
    assert f"entry {len(found) + 1} is missing or damaged: {path.name} is damaged" in why
    assert path.read_bytes() == before, "nothing is cut off"
    report = await log.salvage()
    assert f"entry {len(found) + 1} is missing" in report
    again, why = await log.read()
    assert why is None
    assert found + again == [n for n in range(200) if n != len(found)]
    (kept,) = log.path.glob("damaged-*")
    assert (kept / path.name).read_bytes() == before
    await log.write(200)
    assert await log.read() == ([200], None)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty", "zero"])
async def test_damage_in_an_earlier_segment_is_named_and_can_be_passed(log: Log, damage: str) -> None:
    await log.write(*range(200))
    before, path = log.segments()[3], log.segments()[4]
    if damage == "flip":
        flip(path, path.stat().st_size // 2)
    elif damage == "remove":
        path.unlink()
    else:
        size = path.stat().st_size
        os.truncate(path, size // 2 if damage == "cut" else 0)
        os.truncate(path, size if damage == "zero" else path.stat().st_size)
    found, why = await log.read()
    assert why is not None
    assert "missing or damaged" in why
    assert (before if damage == "remove" else path).name in why
    await log.write(200, 201)
    assert await log.read() == ([], why), "what comes in is kept behind it, and nothing is written before it"
    await log.salvage()
    again, why = await log.read()
    assert why is None
    assert found == list(range(len(found)))
    assert again[-2:] == [200, 201]
    assert sorted({*found, *again}) == found + again
    assert len(found) + len(again) > 185


async def test_the_first_segment_missing_is_told(log: Log) -> None:
    await log.write(*range(200), crash=True)
    gone = log.segments()[0]
    following = int(log.segments()[1].stem)
    gone.unlink()
    found, why = await log.read()
    assert (found, log.metrics.condition.trouble) == ([], why)
    assert f"entries 1 to {following - 1} are missing" in str(why)
    assert log.segments()[0].name in str(why)
    await log.salvage()
    assert await log.read() == (list(range(following - 1, 200)), None)


async def test_what_was_written_already_may_be_damaged(log: Log) -> None:
    await log.write(*range(100), read=60)
    flip(log.segments()[0], 50)
    position = log.position()
    assert position >= 60
    assert await log.read() == (list(range(position, 100)), None)


@pytest.mark.parametrize("what", ["last segment", "end of the last segment", "all segments", "folder"])
async def test_an_end_that_is_gone_is_told(log: Log, what: str) -> None:
    await log.write(*range(100), read=60)
    position = log.position()
    if what == "folder":
        shutil.rmtree(log.path)
    elif what == "end of the last segment":
        os.truncate(log.segments()[-1], log.segments()[-1].stat().st_size // 2)
    else:
        for path in log.segments()[-1:] if what == "last segment" else log.segments():
            path.unlink()
    found, why = await log.read()
    assert why is not None
    assert "missing" in why
    assert found == list(range(position, position + len(found)))
    await log.write(100)
    assert await log.read() == ([], why)
    await log.salvage()
    assert await log.read() == ([100], None)


async def test_an_emptied_log_of_which_all_was_written_is_well(log: Log) -> None:
    await log.write(*range(50), read=50)
    for path in log.segments():
        path.unlink()
    await log.write(50)
    assert await log.read() == ([50], None)


async def test_the_state_that_is_gone_is_told_before_anything_is_written_again(log: Log) -> None:
    await log.write(*range(50), read=20, segment_bytes=1 << 20)
    log.store.positions.clear()
    found, why = await log.read()
    assert found == []
    assert "the position that says so is gone" in str(why)


async def test_stray_and_foreign_files_are_named_and_left_alone(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await log.write(*range(50))
    other = Log(tmp_path / "other", name="other")
    await other.write(*range(1000, 1050))
    strays = {
        "notes.txt": b"hello",
        f"{1:020d} (copy).wal": log.segments()[0].read_bytes(),
        f"{99999:020d}.wal": log.segments()[0].read_bytes(),
        f"{88888:020d}.wal": other.segments()[0].read_bytes(),
    }
    for name, data in strays.items():
        (log.path / name).write_bytes(data)
    assert await log.read() == (list(range(50)), None)
    assert all(name in caplog.text for name in strays)
    assert all((log.path / name).read_bytes() == data for name, data in strays.items())


async def test_the_log_of_another_stream_is_not_taken_for_this_one(log: Log) -> None:
    other = Log(log.folder, name="other")
    await other.write(*range(50), crash=True)
    shutil.copytree(other.path, log.path)
    found, why = await log.read()
    assert (found, why) == ([], None)
    assert len(log.segments()) == len(other.segments())


async def test_a_segment_of_a_later_version_is_refused_before_anything_is_written(log: Log) -> None:
    await log.write(1, 2, 3)
    later = log.path / f"{4:020d}.wal"
    later.write_bytes(head_record(Head("x", "test", 4, version=2)))
    before = sorted(log.path.iterdir())
    with pytest.raises(ConfigError, match="written by a later version"):
        await log.read()
    assert sorted(log.path.iterdir()) == before


@pytest.mark.parametrize("how", ["removed", "renamed", "segment removed"])
async def test_a_folder_that_vanishes_is_noticed_before_the_next_ack(log: Log, how: str) -> None:
    async with log._open(1 << 20) as wal:
        await wal.append(batch(0))
        if how == "removed":
            shutil.rmtree(log.path)
        elif how == "renamed":
            log.path.rename(log.path.with_name("elsewhere"))
        else:
            log.segments()[0].unlink()
        await wal.append(batch(1))
        assert log.segments(), "what is acked is in a file that can be found"
        assert "removed or replaced" in str(log.metrics.condition.trouble)
        copy = Log(log.folder / "crashed")
        shutil.copytree(log.path, copy.path)
        for _ in range(2):
            await (await wal.read()).ack()
        await wal.prune()
        assert log.metrics.condition.trouble is None, "all of it was written downstream after all"
    assert "entry 1 is missing" in str((await copy.read())[1])


async def test_torn_remains_are_never_overwritten(log: Log) -> None:
    await log.write(*range(5), segment_bytes=1 << 20, crash=True)
    for count in range(1, 4):
        last = log.segments()[-1]
        with last.open("ab") as file:
            file.write(b"\1" * 30 * count)
        await log.write(4 + count, segment_bytes=1 << 20, crash=True)
    kept = b"".join(path.read_bytes() for path in log.path.iterdir())
    assert all(b"\1" * 30 * count in kept for count in range(1, 4))
    assert (await log.read())[0] == list(range(8))


KINDS = ("flip", "cut", "remove", "duplicate", "zero", "swap", "truncate", "insert")


def hurt(kind: str, files: list[Path], chance: random.Random) -> None:
    """Do one kind of damage at random to one of the files."""
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    at = chance.randrange(max(1, len(data)))
    size = chance.choice([1, 20, 300])
    if kind == "flip" and data:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[at : at + size]
    elif kind == "zero":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif kind == "duplicate":
        data[at:at] = data[max(0, at - size) : at]
    elif kind == "insert":
        data[at:at] = chance.randbytes(size)
    elif kind == "truncate":
        del data[at:]
    elif kind == "swap":
        other = chance.choice(files)
        swapped = other.read_bytes()
        other.write_bytes(data)
        data = bytearray(swapped)
    path.write_bytes(data)
    if kind == "remove":
        path.unlink()
        files.remove(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 60),
    read=st.integers(0, 30),
    damages=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_each_entry_of_a_damaged_log_is_handed_out_or_said_to_be_missing(
    count: int, read: int, damages: list[str], seed: int
) -> None:
    """What comes in after the damage is handed out too, and nothing is handed out that was not put in."""

    async def check(log: Log) -> None:
        await log.write(*range(count), read=min(read, count))
        position, files = log.position(), log.segments()
        for kind in damages:
            if files:
                hurt(kind, files, chance)
        found, why = await log.read()
        await log.write(count)
        gaps = (await asyncio.to_thread(inspect, log.path, "test")).missing(log.position())
        given_up = {number for first, last in gaps for number in range(first - 1, min(last, count))}
        if why is not None:
            await log.salvage()
        again, still = await log.read()
        assert still is None
        handed_out = found + again
        assert handed_out == sorted(set(handed_out))
        assert set(handed_out) | given_up >= set(range(position, count)) | {count}
        assert set(handed_out) <= set(range(position, count + 1))
        assert set(handed_out).isdisjoint(given_up)
        assert why is not None or not given_up

    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Log(Path(folder))))


async def test_what_comes_in_before_the_position_is_known_is_numbered_behind_all_that_was_written(log: Log) -> None:
    await log.write(*range(20), read=20)
    shutil.rmtree(log.path)
    folder = LogFolder(log.path, log.name)
    wal = Wal(folder, Durability(), None, log.metrics, asyncio.Event())
    await asyncio.to_thread(wal.recover)
    await wal.append(batch(20))
    await wal.close()
    folder.release()
    found, why = await log.read()
    assert found == []
    assert "entries up to 20 were written downstream" in str(why)
    await log.write(21)
    found, why = await log.read()
    assert found == []
    assert "entries up to 20 were written downstream" in str(why)
    await log.salvage()
    assert await log.read() == ([20, 21], None)


@pytest.mark.parametrize("crash", [True, False])
async def test_a_log_takes_entries_before_its_position_is_known(log: Log, crash: bool) -> None:
    await log.write(*range(20), read=5, crash=crash)
    for number in (20, 21):
        folder = LogFolder(log.path, log.name)
        wal = Wal(folder, Durability(), None, log.metrics, asyncio.Event())
        await asyncio.to_thread(wal.recover)
        await wal.append(batch(number))
        if number == 21:
            async with lend_context(log.folder, log.store) as context:
                wal.follow(await context.checkpoint("wal"))
                wal.end()
                found = []
                while not found or found[-1] != 21:
                    delivery = await wal.read()
                    found += delivery.batch.column("n").to_pylist()
                    await delivery.ack()
                assert wal.unwritten == 0
        await wal.close()
        folder.release()
    assert found[-2:] == [20, 21]
    assert found == list(range(22 - len(found), 22))
    await log.write(22)
    assert await log.read() == ([22], None)
