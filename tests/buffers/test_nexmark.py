"""The Nexmark queries as streams have the results that DuckDB has over the same events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from benchmarks import nexmark
from penstock import Engine, Stream
from penstock.outputs import memory


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("events")
    tables = nexmark.tables(3000, 100)
    nexmark.write(folder, tables)
    return folder, tables


def rounded(rows: Sequence[Sequence[Any]]) -> list[tuple[str, ...]]:
    return sorted(tuple(as_text(value) for value in row) for row in rows)


def as_text(value: Any) -> str:
    return f"{float(value):.9g}" if isinstance(value, float | Decimal) else str(value)


@pytest.mark.parametrize("query", nexmark.QUERIES)
def test_results_are_those_of_duckdb(query: str, events: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, tables = events
    memory.clear("nexmark")
    stream = nexmark.stream(query, folder, output={"type": "memory", "key": "nexmark"})
    asyncio.run(Engine([Stream.model_validate(stream)], data=tmp_path).run())
    connection = duckdb.connect(config={"threads": 1})
    for name, batch in tables.items():
        connection.register(name, pa.Table.from_batches([batch]))
    expected = connection.execute(nexmark.statement(query))
    names = [column[0] for column in expected.description]
    rows = [[row[name] for name in names] for row in memory.rows("nexmark")]
    assert rows
    assert rounded(rows) == rounded(expected.fetchall())
