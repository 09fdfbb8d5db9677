"""The write-ahead log: durable before it is acked, replayed, pruned, torn tails cut off."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.durability import Durability
from penstock.errors import ConfigError, EndOfInput, PenstockError, TransientError
from penstock.observe.metrics import StreamMetrics
from penstock.runtime.logfolder import LogFolder
from penstock.runtime.wal import Wal, open_wal
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context
from penstock.testing.waiting import until


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": list(numbers)})


@asynccontextmanager
async def opened(tmp_path: Path, store: MemoryStore, **options: Any) -> AsyncIterator[Wal]:
    async with (
        lend_context(tmp_path, store) as context,
        open_wal(Durability.model_validate(options), context, StreamMetrics("test"), asyncio.Event()) as wal,
    ):
        yield wal


async def everything(wal: Wal) -> list[int]:
    wal.end()
    found: list[int] = []
    while True:
        try:
            delivery = await wal.read()
        except EndOfInput:
            return found
        found += delivery.batch.column("n").to_pylist()


async def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path, MemoryStore()) as wal:
        await asyncio.gather(*(wal.append(batch(n, n + 100)) for n in range(50)))
        assert await everything(wal) == [n for m in range(50) for n in (m, m + 100)]


async def test_what_was_not_acked_is_read_again(tmp_path: Path) -> None:
    store = MemoryStore()
    async with opened(tmp_path, store) as wal:
        for n in range(5):
            await wal.append(batch(n))
            delivery = await wal.read()
            if n != 2:
                await delivery.ack()
    async with opened(tmp_path, store) as wal:
        assert await everything(wal) == [2, 3, 4]


async def test_numbers_go_on_when_all_was_written(tmp_path: Path) -> None:
    store = MemoryStore()
    for n in range(3):
        async with opened(tmp_path, store) as wal:
            await wal.append(batch(n))
            delivery = await wal.read()
            assert delivery.batch.column("n").to_pylist() == [n]
            await delivery.ack()


@pytest.mark.parametrize("sync", ["per_entry", "group_commit", "periodic"])
async def test_every_way_to_sync_keeps_everything(tmp_path: Path, sync: str) -> None:
    store = MemoryStore()
    async with opened(tmp_path, store, sync=sync, interval="5ms") as wal:
        await asyncio.gather(*(wal.append(batch(n)) for n in range(20)))
    async with opened(tmp_path, store) as wal:
        assert await everything(wal) == list(range(20))


async def test_r10_segments_are_pruned_behind_the_contiguous_frontier(tmp_path: Path) -> None:
    async with opened(tmp_path, MemoryStore(), segment_bytes=1) as wal:
        deliveries = []
        for n in range(10):
            await wal.append(batch(n))
            deliveries.append(await wal.read())
        for n in (0, 1, 2, 4, 5):
            await deliveries[n].ack()

        def left() -> list[int]:
            return sorted(int(path.stem) for path in (tmp_path / "wal" / "test").glob("*.wal"))

        async with asyncio.timeout(60):
            while len(left()) > 7:  # the position is saved behind the flow
                await asyncio.sleep(0.01)
                await wal.prune()
        assert left() == list(range(4, 11))


async def test_no_segment_is_pruned_before_the_position_behind_it_is_saved(tmp_path: Path) -> None:
    """Killed in between, the log would lack entries that the position does not say were written."""

    tried = asyncio.Event()

    class Away(MemoryStore):
        async def save(self, positions: Mapping[str, Any]) -> None:
            tried.set()
            raise TransientError("the state is away")

    with suppress(TransientError):  # when the positions are saved at the end
        async with opened(tmp_path, Away(), segment_bytes=1) as wal:
            for n in range(5):
                await wal.append(batch(n))
                await (await wal.read()).ack()
            await wal.prune()
            await tried.wait()
            await wal.prune()
    async with opened(tmp_path, MemoryStore()) as wal:
        assert await everything(wal) == [0, 1, 2, 3, 4]


async def test_a_reader_far_behind_reads_from_disk(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context:
        wal = Wal(
            LogFolder(tmp_path / "log", "test"),
            Durability(segment_bytes=2000),
            await context.checkpoint("wal"),
            StreamMetrics("test"),
            asyncio.Event(),
            cache_bytes=64,
        )
        await asyncio.to_thread(wal.recover)
        found: list[int] = []

        async def reading() -> None:
            while len(found) < 400:
                delivery = await wal.read()
                found.extend(delivery.batch.column("n").to_pylist())
                await delivery.ack()
                await asyncio.sleep(0)

        task = asyncio.create_task(reading())
        for n in range(400):
            await wal.append(batch(n))
        await task
        await wal.close()
        wal._folder.release()
        assert found == list(range(400))


async def test_a_cancelled_read_loses_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    async with opened(tmp_path, store) as wal:
        for n in range(30):
            await wal.append(batch(n))
    async with opened(tmp_path, store) as wal:
        found: list[int] = []
        wal.end()
        while len(found) < 30:
            reading = asyncio.ensure_future(wal.read())
            await asyncio.sleep(0)
            if not reading.done():
                reading.cancel()
            try:
                found += (await reading).batch.column("n").to_pylist()
            except asyncio.CancelledError:
                found += (await wal.read()).batch.column("n").to_pylist()
        assert found == list(range(30))


async def test_a_log_is_open_in_one_process_only(tmp_path: Path) -> None:
    async with opened(tmp_path, MemoryStore()):
        with pytest.raises(ConfigError, match="in use by another process"):
            async with opened(tmp_path, MemoryStore()):
                pass


async def test_a_full_log_waits_for_the_output(tmp_path: Path) -> None:
    async with opened(tmp_path, MemoryStore(), segment_bytes=1, max_bytes=1500) as wal:
        appended = 0

        async def appending() -> None:
            nonlocal appended
            for n in range(20):
                await wal.append(batch(n))
                appended = n + 1

        task = asyncio.create_task(appending())
        await until(lambda: wal.size >= 1500)
        assert 0 < appended < 20
        while appended < 20 or wal._next <= wal._last:
            await (await wal.read()).ack()
            await asyncio.sleep(0.01)
        await task


async def test_a_failing_disk_delays_the_ack_and_tears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([OSError(28, "No space left on device")] * 3)
    store = MemoryStore()
    async with opened(tmp_path, store) as wal:
        await wal.append(batch(0))
        flush = wal._segment._flush

        def failing(parts: Any) -> None:
            failure = next(failures, None)
            if failure is not None:
                assert wal._segment._file is not None
                wal._segment._file.write(b"half a record")
                raise failure
            flush(parts)

        monkeypatch.setattr(wal._segment, "_flush", failing)
        await wal.append(batch(1))
        await wal.append(batch(2))
    async with opened(tmp_path, store) as wal:
        assert await everything(wal) == [0, 1, 2]


async def test_a_stop_while_the_disk_is_full_nacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = asyncio.Event()

    def full(parts: Any) -> None:
        raise OSError(28, "No space left on device")

    async with (
        lend_context(tmp_path) as context,
        open_wal(Durability(), context, StreamMetrics("test"), stop) as wal,
    ):
        monkeypatch.setattr(wal._segment, "_flush", full)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        with pytest.raises(TransientError, match="No space left"):
            await wal.append(batch(1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 4000))
def test_a_torn_record_is_left_out_and_the_rest_is_whole(tmp_path: Path, cut: int) -> None:
    async def write_and_read() -> list[int]:
        async with opened(folder, MemoryStore()) as wal:
            for n in range(8):
                await wal.append(batch(n))
        (path,) = (folder / "wal" / "test").glob("*.wal")
        data = path.read_bytes()
        path.write_bytes(data[: max(200, len(data) - cut)])
        (folder / "wal" / "test" / "closed.json").unlink()  # as after a crash
        for n in range(2):  # twice: what follows the torn record goes into a segment of its own
            async with opened(folder, MemoryStore()) as wal:
                await wal.append(batch(100 + n))
        async with opened(folder, MemoryStore()) as wal:
            assert wal._damage is None
            return await everything(wal)

    folder = tmp_path / f"{cut}"
    if folder.exists():
        return
    found = asyncio.run(write_and_read())
    assert found == [*range(len(found) - 2), 100, 101]
    assert len(found) >= 10 - 1 - (cut + 139) // 140, "no more than what was cut"


async def test_a_missing_entry_is_an_error_not_a_gap(tmp_path: Path) -> None:
    store = MemoryStore()
    async with opened(tmp_path, store, segment_bytes=1) as wal:
        for n in range(5):
            await wal.append(batch(n))
    (tmp_path / "wal" / "test" / f"{3:020d}.wal").unlink()
    async with opened(tmp_path, store) as wal:
        with pytest.raises(PenstockError, match="missing or damaged"):
            await everything(wal)


async def test_what_is_not_acked_outlasts_pruning_and_a_crash(tmp_path: Path) -> None:
    """A segment is deleted once its last entry is written downstream, not already once its first is."""
    store = MemoryStore()
    async with opened(tmp_path / "whole", store, segment_bytes=2000) as wal:
        deliveries = []
        for n in range(12):
            await wal.append(batch(n))
            deliveries.append(await wal.read())
        first, second = sorted(wal._folder.sizes)[:2]
        assert second - first > 1
        for delivery in deliveries[: second - 2]:  # all of the first segment but its last entry
            await delivery.ack()
        await wal.prune()
        shutil.copytree(tmp_path / "whole", tmp_path / "crashed")
        position = wal._checkpoint.committed
    assert position == second - 2
    async with opened(tmp_path / "crashed", store) as wal:
        assert await everything(wal) == list(range(position, 12))


async def test_data_and_folder_are_on_disk_before_the_ack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, int]] = []
    sync_data, sync = os.fdatasync, os.fsync

    def note_data(file: int) -> None:
        sync_data(file)
        synced.append(("data", os.fstat(file).st_size))

    def note(file: int) -> None:
        sync(file)
        synced.append(("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file", 0))

    monkeypatch.setattr(os, "fdatasync", note_data)
    monkeypatch.setattr(os, "fsync", note)
    async with opened(tmp_path, MemoryStore(), segment_bytes=1) as wal:
        for n in range(3):  # each entry begins a segment
            await wal.append(batch(n))
            size = (tmp_path / "wal" / "test" / f"{n + 1:020d}.wal").stat().st_size
            assert synced[-3:] == [("file", 0), ("folder", 0), ("data", size)]
            assert len(synced) == 3 * (n + 1)


async def test_order_is_kept_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, failing = MemoryStore(), asyncio.Event()
    loop = asyncio.get_running_loop()
    async with opened(tmp_path, store) as wal:
        flush, failures = wal._segment._flush, iter([OSError(28, "No space left on device")])

        def full(parts: Any) -> None:
            if (failure := next(failures, None)) is not None:
                # What arrives while the disk is full waits behind what could not be written.
                asyncio.run_coroutine_threadsafe(append_later(), loop).result()
                raise failure
            flush(parts)

        async def append_later() -> None:
            later.append(asyncio.create_task(wal.append(batch(1))))
            await asyncio.sleep(0)
            failing.set()

        later: list[asyncio.Task[None]] = []
        monkeypatch.setattr(wal._segment, "_flush", full)
        await wal.append(batch(0))
        assert failing.is_set()
        await asyncio.gather(*later)
    async with opened(tmp_path, store) as wal:
        assert await everything(wal) == [0, 1]
