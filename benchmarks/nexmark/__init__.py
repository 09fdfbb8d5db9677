"""Nexmark, the auction benchmark of stream processing: events made in this process, and each query as a YAML stream.

Beside `qN.yaml` is `qN.sql`, the same over all events at once. Left out are q12, whose windows are by the clock of
the machine, and q13, which joins a table that is not among the events. `EVENTS` names the folder of the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..case import Case, Sample, Span, measured, rate

_HERE = Path(__file__).parent
QUERIES = sorted((path.stem for path in _HERE.glob("*.yaml")), key=lambda name: int(name[1:]))
_STATELESS = ("q0", "q1", "q2", "q14", "q21", "q22")
_WINDOWED = ("q5", "q7", "q11", "q17")
_START = 1_700_006_400_000
_BATCH = 8192
_EVENTS = 2_000_000


def tables(events: int, seconds: int) -> dict[str, Any]:
    """Return persons, auctions and bids: of fifty events one is a person, three are auctions, the others bids.

    They come within so many ``seconds``, each table in the order of time but for half a second.
    """
    import numpy as np
    import pyarrow as pa

    chance = np.random.default_rng(7)
    persons, auctions = max(1, events // 50), max(1, events * 3 // 50)
    bids = events - persons - auctions

    def times(rows: int) -> Any:
        exact = np.sort(chance.integers(0, seconds * 1000, rows))
        return exact[np.argsort(exact + chance.integers(0, 500, rows), kind="stable")] + _START

    def texts(values: list[str], rows: int) -> Any:
        return pa.array(values).take(pa.array(chance.integers(0, len(values), rows)))

    opened = times(auctions)
    person = pa.record_batch(
        {
            "id": np.arange(persons) + 1000,
            "name": texts([f"{first} {last}" for first in ("Ada", "Alan", "Grace") for last in ("B", "C")], persons),
            "city": texts(["Phoenix", "Portland", "Boise", "Kent"], persons),
            "state": texts(["OR", "ID", "CA", "WA", "AZ"], persons),
            "made": times(persons),
        }
    )
    auction = pa.record_batch(
        {
            "id": np.arange(auctions) + 1000,
            "item": texts(["lamp", "chair", "clock"], auctions),
            "category": chance.integers(10, 15, auctions),
            "seller": chance.integers(0, persons, auctions) + 1000,
            "made": opened,
            "expires": opened + chance.integers(1000, 20_000, auctions),
        }
    )
    paths = [
        f"https://www.nexmark.com/{a}/{b}/item.htm?query=1&channel_id={n}" for n, a in enumerate("abc") for b in "de"
    ]
    hot = chance.random(bids) < 0.5
    bid = pa.record_batch(
        {
            "auction": np.where(hot, chance.integers(0, auctions // 100 + 1, bids), chance.integers(0, auctions, bids))
            + 1000,
            "bidder": chance.integers(0, persons, bids) + 1000,
            "price": chance.integers(100, 10_000, bids),
            "channel": texts(["Google", "Facebook", "Baidu", "Apple", "channel-17"], bids),
            "url": texts(paths, bids),
            "made": times(bids),
            "extra": texts(["abcabc", "ccc", "xyz"], bids),
        }
    )
    return {"persons": person, "auctions": auction, "bids": bid}


def write(folder: Path, events: dict[str, Any]) -> None:
    """Write each table as an Arrow file of many batches."""
    import pyarrow as pa

    for name, batch in events.items():
        with pa.ipc.new_file(str(folder / f"{name}.arrow"), batch.schema) as writer:
            for start in range(0, batch.num_rows, _BATCH):
                writer.write_batch(batch.slice(start, _BATCH))


def stream(query: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the stream of a query over the events in a folder."""
    from penstock.config.document import read_document

    document = read_document(_HERE / f"{query}.yaml", {"EVENTS": str(folder)})
    (found,) = document.value["streams"]
    return {**found, **changes}


def statement(query: str) -> str:
    """Return the query over all events at once, for DuckDB."""
    return (_HERE / f"{query}.sql").read_text()


async def _run(query: str, folder: Path, events: int) -> Span:
    from penstock import Engine, Stream

    folder.mkdir(parents=True, exist_ok=True)
    write(folder, tables(events, events // 1000))
    engine = Engine([Stream.model_validate(stream(query, folder, output="drop"))], data=folder / "data")
    with measured() as span:
        await engine.run()
    return span


def _measure(query: str) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        asyncio.run(_run(query, folder / "few", 20_000))
        return rate(_EVENTS * 46 // 50, asyncio.run(_run(query, folder, _EVENTS)))

    return measure


CASES = [
    Case(f"nexmark-{query}", "nexmark", f"Penstock: Nexmark {query}, bids", "rows/s", _measure(query), reach=reach)
    for queries, reach in ((_STATELESS, 1e6), (_WINDOWED, 2e5))
    for query in queries
]
