"""Rows of open windows past `max_rows` go to disk, and come back when their window fires."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.buffers._spilling import Spill
from penstock.component import Buffer
from penstock.delivery import Delivery
from penstock.errors import PenstockError
from penstock.testing.contexts import lend_context

from .queues import take_all

WINDOWS: dict[str, dict[str, Any]] = {
    "tumbling": {"type": "tumbling_window", "interval": "10s"},
    "sliding": {"type": "sliding_window", "size": "20s", "slide": "10s"},
    "session": {"type": "session_window", "gap": "2s"},
    "updated": {"type": "tumbling_window", "interval": "10s", "late": "update", "allowed_lateness": "20s"},
    "queried": {"type": "tumbling_window", "interval": "10s", "query": "SELECT DISTINCT n, at, text FROM flow"},
}
EVENT = {"time": "event", "timestamp_field": "at", "timestamp_unit": "s", "out_of_orderness": "30s"}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "spill").rglob("*") if path.is_file())


def count_private_files(folder: Path) -> int:
    """Count the files, which nobody else may read."""
    found = 0
    for path in files(folder):
        with suppress(FileNotFoundError):  # its window was released just now
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            found += 1
    return found


async def windows_of(folder: Path, options: dict[str, Any], batches: list[pa.RecordBatch]) -> tuple[list[Any], int]:
    """Return the rows of all that fired, and how many files there were at most."""
    most = 0
    async with (
        lend_context(folder) as context,
        Buffer.parse({**EVENT, **options}).open(context) as queue,
    ):
        checkpoint = await context.checkpoint("input")

        async def fill() -> None:
            nonlocal most
            for number, batch in enumerate(batches):
                await queue.put(await checkpoint.deliver(batch, number + 1))
                most = max(most, await asyncio.to_thread(count_private_files, folder))
            queue.end()

        filling = asyncio.ensure_future(fill())
        found = await take_all(queue)
        await filling
        assert await asyncio.to_thread(files, folder) == []
        assert checkpoint.is_settled
    rows = [tuple(row.values()) for delivery in found for row in delivery.batch.to_pylist()]
    return rows, most


@pytest.mark.parametrize("kind", WINDOWS)
async def test_windows_that_spill_are_those_that_do_not(tmp_path: Path, kind: str) -> None:
    chance = random.Random(4)
    batches = []
    for n in range(60):
        times = [n * 3 - chance.randrange(20) for _ in range(chance.randrange(1, 6))]
        texts = pa.array([f"text {n}"] * len(times)).dictionary_encode()
        batches.append(pa.record_batch({"at": times, "n": range(n * 10, n * 10 + len(times)), "text": texts}))
    spilled, most = await windows_of(tmp_path / "small", {**WINDOWS[kind], "max_rows": 7}, batches)
    held, none = await windows_of(tmp_path / "large", WINDOWS[kind], batches)
    assert most > 0
    assert none == 0
    assert sorted(spilled) == sorted(held) if kind == "queried" else spilled == held


async def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context:
        left = Spill(tmp_path / "spill" / context.kept_as)
        await asyncio.to_thread(left.write, {1: pa.record_batch({"n": [1]})})
        assert await asyncio.to_thread(count_private_files, tmp_path) == 1
        async with Buffer.parse({**EVENT, **WINDOWS["tumbling"]}).open(context):
            assert await asyncio.to_thread(files, tmp_path) == []


async def test_a_disk_that_takes_no_more_stops_the_stream_and_nothing_is_acked(tmp_path: Path) -> None:
    (tmp_path / "spill").write_text("no folder")
    options = {**EVENT, **WINDOWS["tumbling"], "max_rows": 1}
    async with lend_context(tmp_path) as context, Buffer.parse(options).open(context) as queue:
        settled: list[Exception | None] = []

        async def settle(error: Exception | None) -> None:
            settled.append(error)

        with pytest.raises(PenstockError, match="cannot be written"):
            await queue.put(Delivery.settled_by(pa.record_batch({"at": [1, 2], "n": [1, 2]}), settle))
        assert settled == []
