from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest
from pydantic import ValidationError
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Transaction

from penstock.component import Output, TransactionalWriter
from penstock.delivery import Batch
from penstock.errors import ConfigError, ConnectionLost, RowsRejected, TransientError
from penstock.outputs.iceberg import Iceberg
from penstock.testing.batches import rows_of, sample
from penstock.testing.contexts import lend_context
from penstock.testing.suites.outputs import OutputSuite


def writing(folder: Path, **options: Any) -> Iceberg:
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    (folder / "warehouse").mkdir(exist_ok=True)
    return Iceberg.model_validate({"catalog": catalog, "table_name": "tests.rows", **options})


def table_of(component: Iceberg) -> Any:
    return load_catalog("default", **component.catalog_properties()).load_table(component.table_name)


def read(component: Iceberg) -> list[dict[str, Any]]:
    catalog = load_catalog("default", **component.catalog_properties())
    if not catalog.table_exists(component.table_name):
        return []
    return rows_of(catalog.load_table(component.table_name).scan().to_arrow())


class IcebergSuite(OutputSuite):
    ordered = False
    transactional = True
    rejects_rows = True
    options: dict[str, Any] = {}

    @pytest.fixture
    def component(self, tmp_path: Path) -> Output:
        return writing(tmp_path, **self.options)

    async def read_back(self, component: Any) -> Sequence[dict[str, Any]]:
        return await asyncio.to_thread(read, component)

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        return sample(0, 3).append_column("day", pa.array([1, -(10**9), None], pa.date32())), {1}


class TestAppend(IcebergSuite):
    pass


class TestUpsert(IcebergSuite):
    keyed = True
    any_schema = False  # which is tested by appending
    options = {"key": ["id"]}


ITEMS = pa.list_(pa.struct([("n", pa.int64())]))


async def write(component: Iceberg, folder: Path, *batches: Batch) -> None:
    async with lend_context(folder) as context, component.open(context) as writer:
        for batch in batches:
            await writer.write([batch])


async def test_rows_of_a_commit_whose_answer_was_lost_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, commit = writing(tmp_path), Transaction.commit_transaction
    lost = iter([True])

    def losing(self: Transaction) -> Any:
        found = commit(self)
        if next(lost, False):
            raise OSError("the answer was lost")
        return found

    positions = {"s/input": {"position": 3, "rows": 3}}
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        await writer.load("s/input")
        await writer.write_and_save([sample(0, 1)], {"s/input": {"position": 1, "rows": 1}})
        monkeypatch.setattr(Transaction, "commit_transaction", losing)
        with pytest.raises(TransientError):
            await writer.write_and_save([sample(1, 2)], positions)
        await writer.write_and_save([sample(1, 2)], positions)
    found = await asyncio.to_thread(read, component)
    assert sorted(row["id"] for row in found) == [0, 1, 2]


async def test_a_second_process_of_the_same_stream_stops(tmp_path: Path) -> None:
    component = writing(tmp_path)
    async with (
        lend_context(tmp_path) as one,
        lend_context(tmp_path) as two,
        component.open(one) as first,
        component.open(two) as second,
    ):
        assert isinstance(first, TransactionalWriter)
        assert isinstance(second, TransactionalWriter)
        for writer in (first, second):
            await writer.load("s/input")
        await first.write_and_save([sample(0, 1)], {"s/input": {"position": 1, "rows": 1}})
        with pytest.raises(ConfigError, match="another process"):
            await second.write_and_save([sample(5, 1)], {"s/input": {"position": 9, "rows": 9}})
    assert [row["id"] for row in await asyncio.to_thread(read, component)] == [0]


async def test_small_files_become_one(tmp_path: Path) -> None:
    component = writing(tmp_path, compact_after=5)
    await write(component, tmp_path, *(sample(number, 1) for number in range(6)))
    table = await asyncio.to_thread(table_of, component)
    assert len(await asyncio.to_thread(lambda: list(table.scan().plan_files()))) == 2
    found = await asyncio.to_thread(read, component)
    assert sorted(row["id"] for row in found) == list(range(6))


async def test_a_null_list_of_structs_is_no_empty_list_though_files_are_joined(tmp_path: Path) -> None:
    component = writing(tmp_path, compact_after=2)
    found: list[list[dict[str, Any]] | None] = [None, [], [{"n": 1}], [{"n": None}, None], None]
    for at in range(2):
        nested = pa.array([{"deep": [one]} for one in found], pa.struct([("deep", pa.list_(ITEMS))]))
        rows = pa.record_batch({"id": range(5 * at, 5 * at + 5), "items": pa.array(found, ITEMS), "nested": nested})
        await write(component, tmp_path, rows.slice(1), rows.slice(0, 1))
    read_back = table_of(component).scan().to_arrow().sort_by("id").to_pylist()
    assert [row["items"] for row in read_back] == found * 2
    assert [row["nested"]["deep"] for row in read_back] == [[one] for one in found * 2]


async def test_columns_that_come_later_are_added_and_conflicts_are_the_error_of_their_row(tmp_path: Path) -> None:
    component = writing(tmp_path)
    await write(component, tmp_path, pa.record_batch({"a": [1]}), pa.record_batch({"b": ["x"]}))
    assert await asyncio.to_thread(read, component) == [{"b": "x"}, {"a": 1}]
    with pytest.raises(RowsRejected) as refused:
        await write(component, tmp_path, pa.record_batch({"a": ["1", "one"]}))
    assert set(refused.value.reasons) == {1}


async def test_without_create_a_table_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="there is no table"):
        await write(writing(tmp_path, create=False), tmp_path, sample(0, 1))


async def test_a_catalog_that_is_away_is_told_without_its_secrets(tmp_path: Path) -> None:
    catalog = {"type": "rest", "uri": "http://127.0.0.1:1", "token": "sesame-sesame"}
    component = Iceberg.model_validate({"catalog": catalog, "table_name": "a.b"})
    with pytest.raises(ConnectionLost) as lost:
        await write(component, tmp_path, sample(0, 1))
    assert "sesame" not in str(lost.value)


def test_options_that_contradict_are_refused(tmp_path: Path) -> None:
    for options in ({"table_name": "rows"}, {"codec": "json"}, {"compact_after": -1}):
        with pytest.raises(ValidationError):
            writing(tmp_path, **options)
