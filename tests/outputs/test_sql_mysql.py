"""MySQL's dialect on a MariaDB: the suites, exact values, upserts, positions, faults, and reading all of it back."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pymysql
import pytest

from penstock.absence import mark
from penstock.clients.database import any_from_url
from penstock.component import Output
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, EndOfInput, PenstockError, PermanentError, RowsRejected, TransientError
from penstock.inputs.sql import Sql as Reading
from penstock.outputs.sql import Sql
from penstock.state.memory import MemoryStore
from penstock.testing.batches import rows_of, sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import MariadbServer
from penstock.testing.suites.outputs import OutputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server
NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)


async def query(url: str, statement: str) -> list[dict[str, Any]]:
    """Run a statement beside the writer and return its rows."""
    return await asyncio.to_thread(_query, url, statement)


def _query(url: str, statement: str) -> list[dict[str, Any]]:
    from penstock.clients import mysql

    connection = mysql.connect(any_from_url(url), cursorclass=pymysql.cursors.DictCursor)  # type: ignore[arg-type]
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            found = list(cursor.fetchall())
        connection.commit()
        return found
    finally:
        connection.close()


async def write(url: str, folder: Path, *calls: Batch, **options: Any) -> None:
    component = Sql.model_validate({"url": url, "table_name": "t", **options})
    async with lend_context(folder) as context, component.open(context) as writer:
        for batch in calls:
            await writer.write([batch])


class MysqlSuite(OutputSuite):
    transactional = True
    ordered = False
    keys: Sequence[str] = ()

    @pytest.fixture
    def component(self, mysql_database: str) -> Output:
        return Sql.model_validate({"url": mysql_database, "table_name": "readings", "key": list(self.keys)})

    async def read_back(self, component: Any) -> Sequence[dict[str, Any]]:
        url = component.database().uri.get_secret_value()
        try:
            return await query(url, "SELECT * FROM readings")
        except pymysql.ProgrammingError:
            return []


class TestAppend(MysqlSuite):
    pass


class TestUpsert(MysqlSuite):
    keyed = True
    rejects_rows = True
    keys = ("id",)

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        return self.sample(0, 5).set_column(0, "id", pa.array([0, None, 2, 3, None])), {1, 4}


EXACT: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False]),
    "int64": pa.array([-(2**63), None, 2**63 - 1]),
    "uint64": pa.array([0, None, 2**64 - 1], pa.uint64()),
    "float64": pa.array([0.1, None, -1.7976931348623157e308]),
    "decimal": pa.array([decimal.Decimal("-12345678901234567890.12"), None, decimal.Decimal("0.10")]),
    "string": pa.array(["", None, "a \"b\", 'c' \\n\n\r\t%s; é😀 \\."]),
    "binary": pa.array([b"", None, bytes(range(256))]),
    "date32": pa.array([NOON.date(), None, datetime.date(1, 1, 1)]),
    "time64": pa.array([NOON.time(), None, datetime.time(23, 59, 59, 999999)]),
    "timestamp": pa.array([NOON, None, datetime.datetime(1, 1, 1)]),
}


@pytest.mark.parametrize("kind", list(EXACT))
async def test_every_value_is_read_back_as_it_was(mysql_database: str, tmp_path: Path, kind: str) -> None:
    rows = pa.record_batch({"id": pa.array([1, 2, 3]), "value": EXACT[kind]})
    await write(mysql_database, tmp_path, rows)
    source = Reading.model_validate({"url": mysql_database, "select_sql": "SELECT * FROM t ORDER BY id"})
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        delivery = await reader.read()
        with pytest.raises(EndOfInput):
            await reader.read()
    assert delivery.batch.column("value").type == rows.column("value").type
    assert rows_of(delivery.batch) == rows_of(rows)


async def test_rows_that_do_not_fit_are_named_and_nothing_is_written(mysql_database: str, tmp_path: Path) -> None:
    await query(
        mysql_database,
        "CREATE TABLE t (n TINYINT, e ENUM('a'), s VARCHAR(2), u INT UNIQUE, CONSTRAINT small CHECK (n < 100))",
    )
    cases = {"n": [1, 300, 100], "e": ["a", "b"], "s": ["ab", "abc"], "u": [1, 1]}
    for name, values in cases.items():
        for bad in values[1:]:
            given = [2, bad, 1] if name == "u" else [values[0], bad, values[0]]
            expected = {2} if name == "u" else {1}
            with pytest.raises(RowsRejected) as refused:
                await write(mysql_database, tmp_path, pa.record_batch({name: given}))
            assert set(refused.value.reasons) == expected, (name, bad)
    with pytest.raises(RowsRejected, match="infinity"):
        await write(mysql_database, tmp_path, pa.record_batch({"f": [1.0, float("nan")]}))
    assert await query(mysql_database, "SELECT * FROM t") == []


async def test_a_key_replaces_and_keeps_what_the_row_does_not_bring(mysql_database: str, tmp_path: Path) -> None:
    rows = pa.record_batch({"id": ["a", "b"], "v": [5, None], "w": [None, None]})
    lacking = mark(rows, {"w": pa.array([True, False]).to_numpy(zero_copy_only=False)})
    first = pa.record_batch({"id": ["a", "b", "a "], "v": [1, 1, 1], "w": [1, 1, 1]})
    await write(mysql_database, tmp_path, first, lacking, key=["id"])
    assert await query(mysql_database, "SELECT * FROM t ORDER BY id") == [
        {"id": "a", "v": 5, "w": 1},
        {"id": "a ", "v": 1, "w": 1},
        {"id": "b", "v": None, "w": None},
    ]


async def test_another_unique_index_replaces_no_other_row(mysql_database: str, tmp_path: Path) -> None:
    await query(mysql_database, "CREATE TABLE t (id INT PRIMARY KEY, mail VARCHAR(20) UNIQUE, v INT NOT NULL)")
    await write(mysql_database, tmp_path, pa.record_batch({"id": [1], "mail": ["a"], "v": [1]}), key=["id"])
    rows = pa.record_batch({"id": [2, 3], "mail": ["a", "b"], "v": [2, 3]})
    with pytest.raises(RowsRejected) as refused:
        await write(mysql_database, tmp_path, rows, key=["id"])
    assert set(refused.value.reasons) == {0}
    await write(mysql_database, tmp_path, pa.record_batch({"id": [1], "mail": ["c"]}), key=["id"])
    assert await query(mysql_database, "SELECT * FROM t") == [{"id": 1, "mail": "c", "v": 1}]


async def test_a_fraction_widens_a_column_of_whole_numbers_with_positions(mysql_database: str, tmp_path: Path) -> None:
    output = Sql.model_validate({"url": mysql_database, "table_name": "t"})
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write_and_save([pa.record_batch({"v": [1]})], {"s/input": {"position": 1, "rows": 1}})
        await writer.write_and_save([pa.record_batch({"v": [1.5]})], {"s/input": {"position": 2, "rows": 2}})
        await writer.write_and_save([pa.record_batch({"v": [2], "w": ["x"]})], {"s/input": {"position": 3, "rows": 3}})
        assert await writer.load("s/input") == {"position": 3, "rows": 3}
    assert [row["v"] for row in await query(mysql_database, "SELECT v FROM t ORDER BY v")] == [1.0, 1.5, 2.0]


async def test_incremental_reading_finds_new_rows(mysql_database: str, tmp_path: Path) -> None:
    await write(mysql_database, tmp_path, pa.record_batch({"at": [NOON] * 2, "name": ["it's \\", "b"]}))
    options = {"url": mysql_database, "select_sql": "SELECT * FROM t", "incremental": {"cursor": "at", "once": True}}
    names: list[str] = []
    store = MemoryStore()
    for step in range(2):
        async with lend_context(tmp_path, store) as context, Reading.model_validate(options).open(context) as reader:
            while True:
                try:
                    delivery = await reader.read()
                except EndOfInput:
                    break
                names += delivery.batch.column("name").to_pylist()
                await delivery.ack()
        if not step:
            later = NOON + datetime.timedelta(microseconds=1)
            await write(mysql_database, tmp_path, pa.record_batch({"at": [NOON, later], "name": ["c", "d"]}))
    assert sorted(names) == ["b", "c", "d", "it's \\"]


async def test_a_server_that_is_cut_off_killed_or_frozen_loses_and_doubles_nothing(
    mariadb_server: MariadbServer, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(mariadb_server.port) as proxy, lend_context(tmp_path) as context:
        output = Sql.model_validate({"url": mariadb_server.url_at(proxy.port), "table_name": "t", "timeout": "2s"})

        async def write_one(number: int) -> bool:
            """Write once, with a connection of its own, as the stream does after one was lost."""
            try:
                async with output.open(context) as writer:
                    await writer.load("s/input")
                    await writer.write_and_save(
                        [sample(10 * number, 10)], {"s/input": {"position": number, "rows": 10 * number}}
                    )
            except (TransientError, ConnectionLost):
                return False
            return True

        async def write_through(number: int) -> None:
            async def is_written() -> bool:
                return await write_one(number)

            await until(is_written)

        await write_through(0)
        await proxy.refuse()
        assert not await write_one(1)
        await proxy.accept()
        await write_through(1)
        await asyncio.to_thread(mariadb_server.kill)
        assert not await write_one(2)
        await asyncio.to_thread(mariadb_server.start)
        await write_through(2)
        async with output.open(context) as writer:
            mariadb_server.pause()
            with pytest.raises(ConnectionLost):
                await writer.write([sample(90, 1)])
            mariadb_server.resume()
        await write_through(3)
    ids = [row["id"] for row in await query(mariadb_server.url, "SELECT id FROM t ORDER BY id")]
    assert [each for each in ids if each < 90] == list(range(40))


async def test_who_may_not_write_is_told_without_the_password(mysql_database: str, tmp_path: Path) -> None:
    url = mysql_database.replace("penstock:", "penstock:not-the-password", 1)
    with pytest.raises(PenstockError) as refused:
        await write(url, tmp_path, sample(0, 1))
    assert isinstance(refused.value, PermanentError)
    assert "not-the-password" not in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://host", "mysql://", "postgresql+x://a"])
def test_urls_that_name_no_database_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sql.model_validate({"url": url, "table_name": "t"})
