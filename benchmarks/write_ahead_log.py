"""Appending to the write-ahead log, durable on return, beside bare Arrow IPC with fdatasync."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, measured, rate

_BATCHES = {1000: 1000, 8192: 250}
_AT_ONCE = 16


def batch_of(rows: int) -> Any:
    """Five columns, about 50 bytes a row."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(rows)
    return pa.record_batch(
        {
            "id": np.arange(rows),
            "sensor": [f"sensor-{n % 100:03}" for n in range(rows)],
            "temperature": np.round(random.uniform(0, 40, rows), 2),
            "at": pa.array(1_767_225_600_000_000 + np.arange(rows) * 1000, pa.timestamp("us", "UTC")),
            "status": ["ok" if n % 50 else "degraded" for n in range(rows)],
        }
    )


def _log(rows: int, at_once: int) -> Callable[[Path], Sample]:
    async def append(folder: Path, count: int) -> Span:
        from penstock.durability import Durability
        from penstock.observe.metrics import StreamMetrics
        from penstock.runtime.wal import open_wal
        from penstock.testing.contexts import lend_context

        batch = batch_of(rows)
        async with (
            lend_context(folder, name="bench") as context,
            open_wal(Durability(), context, StreamMetrics("bench"), asyncio.Event()) as wal,
        ):
            await wal.append(batch)
            with measured() as span:
                for _ in range(count // at_once):
                    if at_once == 1:
                        await wal.append(batch)
                    else:
                        await asyncio.gather(*(wal.append(batch) for _ in range(at_once)))
            wal.end()
        return span

    def measure(folder: Path) -> Sample:
        import uvloop

        count = _BATCHES[rows] // at_once * at_once
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(append(folder / "few", 32))
            return rate(count * rows, runner.run(append(folder / "all", count)))

    return measure


def _bare(rows: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import pyarrow as pa
        import pyarrow.ipc

        batch = batch_of(rows)
        with (folder / "bare.arrow").open("wb") as file, pa.ipc.new_stream(file, batch.schema) as stream:
            stream.write_batch(batch)
            with measured() as span:
                for _ in range(_BATCHES[rows]):
                    stream.write_batch(batch)
                    file.flush()
                    os.fdatasync(file.fileno())
        return rate(_BATCHES[rows] * rows, span)

    return measure


def _cases(rows: int) -> list[Case]:
    def case(suffix: str, what: str, measure: Callable[[Path], Sample], **more: Any) -> Case:
        return Case(f"wal-{rows}{suffix}", "wal", f"{what}, {rows} rows a batch", "rows/s", measure, **more)

    return [
        case("", "Penstock: append, one batch at a time", _log(rows, 1)),
        case("-together", f"Penstock: append, {_AT_ONCE} batches at a time", _log(rows, _AT_ONCE)),
        case("-bare", "Arrow IPC to a file, fdatasync for each batch", _bare(rows), role="ceiling"),
    ]


CASES = [case for rows in _BATCHES for case in _cases(rows)]
