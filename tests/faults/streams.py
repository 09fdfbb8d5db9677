"""Short streams for tests of faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from penstock import Engine, Stream
from penstock.outputs import memory
from penstock.testing.waiting import until  # noqa: F401  (for the tests beside this)

FAST = {"initial": "1ms", "maximum": "5ms"}
ERRORS = {"type": "memory", "key": "errors"}
OUT = {"type": "memory", "key": "out"}


def messages(count: int) -> dict[str, Any]:
    """An input of numbered JSON messages, one a delivery."""
    return {"type": "memory", "messages": [f'{{"n": {n}}}' for n in range(count)], "codec": "json"}


def lines(path: Path, rows: Sequence[Any], **options: Any) -> dict[str, Any]:
    """A file of JSON lines (mappings, or the text itself), read in small deliveries."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return {"type": "file", "path": str(path), "format": "json", "chunk_size": 400, **options}


async def run(folder: Path, stop: asyncio.Event | None = None, **options: Any) -> list[dict[str, Any]]:
    """Run a stream to its end and return what it wrote to memory; what came before is forgotten."""
    memory.clear("out")
    memory.clear("errors")
    return await run_on(folder, stop, **options)


async def run_on(folder: Path, stop: asyncio.Event | None = None, **options: Any) -> list[dict[str, Any]]:
    """Run a stream to its end and return all that was written to memory so far."""
    await Engine([stream(**options)], data=folder / "data").run(stop)
    return memory.rows("out")


def stream(**options: Any) -> Stream:
    """A stream that retries fast and writes to memory unless told otherwise."""
    given = {"retry": FAST, "restart": {"attempts": 0}, "output": OUT, **options}
    return Stream.model_validate(given)


def letters() -> list[dict[str, Any]]:
    """What the error output received."""
    return memory.rows("errors")


def numbers(rows: Sequence[dict[str, Any]]) -> list[int]:
    """The column ``n``."""
    return [row["n"] for row in rows]


def parquet(path: Path, table: pa.Table) -> bytes:
    """Write a Parquet file and return its bytes."""
    import pyarrow.parquet as pq

    pq.write_table(table, path)
    return path.read_bytes()
