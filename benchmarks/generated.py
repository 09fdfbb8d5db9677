"""Generated rows through SQL to nowhere, and what a delivery costs that has nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import engine
from .case import Case, Sample, measured, rate

_ROWS, _BATCH = 2_000_000, 1000
_DELIVERIES = 50_000
_ROW = '{"value":10,"sensor":"temp_1"}'
_QUERIES = {
    "sum": "SELECT sum(value) AS total FROM flow",
    "group-by": "SELECT sensor, sum(value) AS total FROM flow GROUP BY sensor",
    "filter-project": "SELECT *, value*2 AS doubled FROM flow WHERE value >= 1",
}


def _stream(count: int, batch_size: int, processors: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "generated",
        "input": {
            "type": "generate",
            "context": _ROW,
            "interval": "1ns",
            "batch_size": batch_size,
            "count": count,
        },
        "pipeline": {"thread_num": 1, "processors": processors},
        "output": {"type": "drop"},
    }


def _penstock(query: str) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        processors = [{"type": "json_to_arrow"}, {"type": "sql", "query": query}]
        engine.run(folder / "few", _stream(20 * _BATCH, _BATCH, processors))
        return rate(_ROWS, engine.run(folder, _stream(_ROWS, _BATCH, processors)))

    return measure


def _loop(query: str) -> Callable[[Path], Sample]:
    """The same decoding and the same query, called one batch after the other in one thread."""

    def measure(folder: Path) -> Sample:
        import pyarrow as pa

        from penstock import Codec
        from penstock.sql.query import PreparedQuery

        prepared = PreparedQuery(query)
        decode = Codec.find("json")().decoder(prepared.columns_read())
        payloads = pa.array([_ROW.encode()] * _BATCH, pa.binary())
        for _ in range(20):
            prepared.run(decode(payloads))
        with measured() as span:
            for _ in range(_ROWS // _BATCH):
                prepared.run(decode(payloads))
        return rate(_ROWS, span)

    return measure


def _delivery(folder: Path) -> Sample:
    engine.run(folder / "few", _stream(1000, 1, []))
    span = engine.run(folder, _stream(_DELIVERIES, 1, []))
    cpu = span.cpu / _DELIVERIES * 1e6
    return Sample(span.seconds / _DELIVERIES * 1e6, span.cpu, notes={"us of processor time": cpu})


def _merged(folder: Path) -> Sample:
    """Generate the rows by two inputs at once, instead of one."""

    def stream(count: int) -> dict[str, Any]:
        whole = _stream(count // 2, _BATCH, [{"type": "json_to_arrow"}])
        inputs = [{"name": name, **whole["input"]} for name in ("left", "right")]
        return {**whole, "input": {"type": "multiple_inputs", "inputs": inputs}}

    engine.run(folder / "few", stream(20 * _BATCH))
    return rate(_ROWS, engine.run(folder, stream(_ROWS)))


def _alone(folder: Path) -> Sample:
    processors = [{"type": "json_to_arrow"}]
    engine.run(folder / "few", _stream(20 * _BATCH, _BATCH, processors))
    return rate(_ROWS, engine.run(folder, _stream(_ROWS, _BATCH, processors)))


CASES = [
    case
    for name, query in _QUERIES.items()
    for case in (
        Case(
            f"generate-{name}",
            "generate",
            f"Penstock: generate 1000 rows a batch -> json_to_arrow -> `{query}` -> drop",
            "rows/s",
            _penstock(query),
            reach=2e6,
        ),
        Case(
            f"generate-{name}-loop",
            "generate",
            "the same decoding and query in a plain loop, without a stream",
            "rows/s",
            _loop(query),
            role="ceiling",
        ),
    )
] + [
    Case(
        "delivery",
        "delivery",
        "Penstock: cost of one delivery, generate 1 row a batch -> drop",
        "us",
        _delivery,
        reach=25,
        more_is_better=False,
    ),
    Case(
        "merged",
        "merged",
        "Penstock: multiple_inputs of two generate, 1000 rows a batch -> json_to_arrow -> drop",
        "rows/s",
        _merged,
        reach=2e6,
    ),
    Case("merged-alone", "merged", "the same rows from one input", "rows/s", _alone, role="ceiling"),
]
