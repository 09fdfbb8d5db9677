"""The sensor readings that the file jobs read: JSON lines of about 139 bytes, the same every time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from penstock import Codec

from . import cache

MILLION = 1_000_000
SENSORS = 100
DISORDER_MS = 2_000
_BEGIN = 1_767_225_600_000
_CHUNK = 100_000
_SEED = 20_260_101


def readings(rows: int = MILLION) -> Path:
    """Return the file of that many readings, made if need be, and read once so that it is in the page cache."""
    path = cache.folder() / f"readings-{rows}.jsonl"
    if not path.exists():
        made = path.with_suffix(".part")
        with made.open("wb") as file:
            for first in range(0, rows, _CHUNK):
                file.write(_lines(first, min(_CHUNK, rows - first)))
        os.replace(made, path)
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return path


def few(folder: Path, rows: int = 2_000) -> Path:
    """Return a file of the first readings, to warm up with."""
    path = folder / "few.jsonl"
    path.write_bytes(_lines(0, rows))
    return path


def _lines(first: int, rows: int) -> bytes:
    """Return readings a millisecond apart, each up to two seconds late; half of them are warmer than 20 degrees."""
    random = np.random.default_rng([_SEED, first])
    seq = np.arange(first, first + rows)
    late = random.integers(0, DISORDER_MS, rows) * (random.random(rows) < 0.5)
    site = random.integers(1, 8, rows)
    batch = pa.record_batch(
        {
            "seq": seq,
            "ts": np.maximum(_BEGIN, _BEGIN + seq - late),
            "sensor": [f"sensor-{number:03}" for number in random.integers(0, SENSORS, rows)],
            "temp": np.round(random.uniform(0, 40, rows), 2),
            "humidity": np.round(random.uniform(10, 90, rows), 1),
            "status": np.where(random.random(rows) < 0.98, "ok", "degraded"),
            "site": [f"plant-{number}" for number in site],
            "firmware": np.where(site < 4, "2.14.3", "2.15.0-rc1"),
        }
    )
    return b"".join(payload.as_py() + b"\n" for payload in Codec.find("json")().encode(batch))
