"""The sql processor: queries over batches, filtered and failing ones included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Processor
from penstock.errors import PermanentError
from penstock.processors.sql import Sql
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite


class TestProjection(ProcessorSuite):
    keeps_metadata = False

    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "sql", "query": "SELECT id, upper(name) AS name FROM flow"})


class TestStar(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Sql(query="SELECT * FROM flow WHERE id >= 0")


class TestAggregate(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Sql(query="SELECT name, count(*) AS n FROM flow GROUP BY name ORDER BY name")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "SELECT a FORM flow WHERE"}, "ParserError"),
        ({"query": "DROP TABLE flow"}, "expected a query"),
        ({"query": "SELECT a FROM other"}, "other' not found"),
        ({"query": "SELECT 1", "table_name": "a; b"}, "table_name"),
        ({"query": "SELECT 1", "temporary": []}, "unknown key"),
        ({}, "query"),
    ],
)
def test_a_wrong_query_is_found_when_the_stream_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Processor.parse({"type": "sql", **options})


def test_a_table_of_another_name() -> None:
    sql = Sql(query="SELECT a FROM readings", table_name="readings")
    assert sql.row_wise()
    assert sql.process(pa.record_batch({"a": [1]}))[0].to_pydict() == {"a": [1]}


def test_an_empty_batch_is_filtered_even_if_the_query_would_count_it() -> None:
    sql = Sql(query="SELECT count(*) AS n FROM flow")
    assert sql.process(pa.record_batch({"a": [1]}).slice(0, 0)) == []


async def test_r1_filtered_batches_never_stall(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Sql(query="SELECT * FROM flow WHERE a > 9").open(context) as process:
        for n in range(5000):
            found: Any = process(pa.record_batch({"a": [n % 11]}))
            assert len(found) == (n % 11 > 9)


async def test_r3_failing_batches_never_stall(tmp_path: Path) -> None:
    query = "SELECT CAST(a AS BIGINT) AS a FROM flow"
    async with lend_context(tmp_path) as context, Sql(query=query).open(context) as process:
        for n in range(2000):
            if n % 10:
                with pytest.raises(PermanentError):
                    process(pa.record_batch({"a": ["x"]}))
            else:
                found: Any = process(pa.record_batch({"a": [str(n)]}))
                assert found[0].to_pydict() == {"a": [n]}


def test_what_it_reads() -> None:
    assert Sql(query="SELECT a FROM flow").columns_read() == {"a"}
    assert Sql(query="SELECT * FROM flow").columns_read() is None
    assert not Sql(query="SELECT * FROM flow").reads_metadata()
    assert Sql(query="SELECT __META_source AS s FROM flow").reads_metadata()
    assert Sql(query="SELECT a FROM flow").row_wise()
    assert not Sql(query="SELECT max(a) FROM flow").row_wise()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT a FROM flow", ["a", "__meta_offset", "__meta_source"]),
        (
            "SELECT a + 1 AS b, upper(__meta_source) AS s FROM flow WHERE a > 1",
            ["b", "s", "__meta_offset", "__meta_source"],
        ),
        ("SELECT __meta_offset, a FROM flow", ["__meta_offset", "a", "__meta_source"]),
        ("SELECT __meta_offset AS n FROM flow", ["n", "__meta_offset", "__meta_source"]),
        ("SELECT * FROM flow", ["a", "__meta_offset", "__meta_source"]),
        ("SELECT substring('x from y' FROM 2) AS t FROM flow", ["t", "__meta_offset", "__meta_source"]),
        ("SELECT sum(a) AS s FROM flow", ["s"]),
    ],
)
def test_metadata_is_kept_where_rows_stay_rows(query: str, names: list[str]) -> None:
    batch = pa.record_batch({"a": [1, 2, 3], "__meta_offset": [10, 11, 12], "__meta_source": ["x"] * 3})
    (found,) = Sql(query=query).process(batch)
    assert found.schema.names == names
    if "WHERE" in query:
        assert found.column("__meta_offset").to_pylist() == [11, 12]
