import asyncio
import datetime
import decimal
import logging
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from penstock.component import Codec, Input, Reader
from penstock.errors import ConnectionLost, EndOfInput, PenstockError, PermanentError
from penstock.inputs.sql import Sql, open_source
from penstock.inputs.sql.reading import Horizon, Incremental
from penstock.inputs.sql.references import Names, resolved
from penstock.metadata import attach
from penstock.outputs.sql import Sql as Output
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context
from penstock.testing.servers import PostgresServer
from penstock.testing.suites import InputSuite

JSON = Codec.parse("json")


def connected(path: str) -> Any:
    """Connect to DuckDB as soon as no input looks into the file."""
    for _ in range(200):
        try:
            return duckdb.connect(path)
        except duckdb.ConnectionException:
            time.sleep(0.005)
    raise AssertionError("the input never lets go of the file")


def execute(url: str, *statements: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme == "postgresql":
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
        return
    database = connected(rest[1:]) if scheme == "duckdb" else sqlite3.connect(rest[1:], isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    return f"{request.param}:///{tmp_path}/rows.db"


async def drain(reader: Reader, *, count: int | None = None, ack: bool = True) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while count is None or len(rows) < count:
        try:
            async with asyncio.timeout(60):
                delivery = await reader.read()
        except EndOfInput:
            break
        rows += delivery.batch.to_pylist()
        if ack:
            await delivery.ack()
    return rows


async def read(url: str, directory: Path, select: str, store: MemoryStore | None = None, **options: Any) -> list[Any]:
    count, ack = options.pop("count", None), options.pop("ack", True)
    component = Sql(url=url, select_sql=select, **options)
    async with lend_context(directory, store) as context, component.open(context) as reader:
        return await drain(reader, count=count, ack=ack)


NUMBERS = "INSERT INTO t VALUES " + ", ".join(f"({n}, 'name {n}', {n / 4})" for n in range(40))


class SqlSuite(InputSuite):
    options: dict[str, Any] = {}

    @pytest.fixture
    def component(self, url: str) -> Sql:
        execute(url, "CREATE TABLE t (id INTEGER, name TEXT, value DOUBLE PRECISION)", NUMBERS)
        return Sql(url=url, select_sql="SELECT * FROM t ORDER BY id;", batch_rows=7, **self.options)


class TestOnce(SqlSuite):
    pass


class TestIncrementalOnce(SqlSuite):
    options = {"incremental": {"cursor": "id", "once": True}}


class TestIncremental(SqlSuite):
    options = {"incremental": {"cursor": "id", "interval": "1ms"}}
    bounded = False

    def expected(self, component: Input) -> list[Any]:
        return [{"id": n, "name": f"name {n}", "value": n / 4} for n in range(40)]


@pytest.mark.parametrize("incremental", [None, {"cursor": "n", "once": True}])
async def test_types_are_those_of_the_database_even_where_all_rows_are_null(
    url: str, tmp_path: Path, incremental: Any
) -> None:
    declared = {
        "n": ("BIGINT", "7"),
        "f": ("DOUBLE PRECISION", "0.1"),
        "s": ("TEXT", "'it''s, \"é\"\n'"),
        "b": ("BOOLEAN", "TRUE"),
        "d": ("DATE", "'2024-02-29'"),
        "t": ("TIME", "'12:30:15.250000'"),
        "ts": ("TIMESTAMP", "'2024-02-29 12:30:15.250000'"),
        "tz": ("TIMESTAMP WITH TIME ZONE", "'2024-02-29 12:30:15.250000+00:00'"),
    }
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in declared.items())
    values = ", ".join(value for _, value in declared.values())
    nulls = ", ".join("7" if name == "n" else "NULL" for name in declared)
    execute(url, f"CREATE TABLE t ({columns})", f"INSERT INTO t VALUES ({nulls})", f"INSERT INTO t VALUES ({values})")
    component = Sql(url=url, select_sql="SELECT * FROM t", batch_rows=1, incremental=incremental)
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 250000)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        empty, full = (await reader.read()).batch, (await reader.read()).batch
    assert empty.schema == full.schema
    assert empty.to_pylist() == [dict.fromkeys(declared) | {"n": 7}]
    assert full.to_pylist() == [
        {
            "n": 7,
            "f": 0.1,
            "s": 'it\'s, "é"\n',
            "b": True,
            "d": moment.date(),
            "t": moment.time(),
            "ts": moment,
            "tz": moment.replace(tzinfo=datetime.UTC),
        }
    ]


@pytest.mark.server
async def test_what_is_particular_to_postgres(postgres_database: str, tmp_path: Path) -> None:
    execute(
        postgres_database,
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE TABLE t (by bytea, m numeric(12, 3), n numeric, u uuid, j jsonb, a int[], i interval, e mood, r real)",
        r"INSERT INTO t VALUES ('\x00ff', 1.5, 1e30, '8d8c1f2a-7f3b-4c55-9a9a-111111111111', "
        """'{"a": null}', '{1,2}', """
        "'1 mon 2 days', 'good', 'NaN'), ('', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-Infinity')",
    )
    first, second = await read(postgres_database, tmp_path, "SELECT * FROM t")
    assert first | {"r": 0} == {
        "by": b"\x00\xff",
        "m": decimal.Decimal("1.500"),
        "n": "1000000000000000000000000000000",
        "u": "8d8c1f2a-7f3b-4c55-9a9a-111111111111",
        "j": '{"a": null}',
        "a": "[1,2]",
        "i": "P1M2D",
        "e": "good",
        "r": 0,
    }
    assert first["r"] != first["r"]
    assert second == dict.fromkeys(first) | {"by": b"", "r": float("-inf")}
    execute(postgres_database, "CREATE TABLE s (x text)", "INSERT INTO s VALUES (NULL), (''), ('a')")
    assert await read(postgres_database, tmp_path, "SELECT x FROM s") == [{"x": None}, {"x": ""}, {"x": "a"}]
    moments = await read(postgres_database, tmp_path, "SELECT 'infinity'::timestamptz AS x, 1 AS n")
    assert moments == [{"x": "infinity", "n": 1}]


async def test_sqlite_keeps_what_is_not_of_its_columns_type(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x"
    execute(
        url,
        "CREATE TABLE t (id INTEGER, n INTEGER, d DATETIME)",
        "INSERT INTO t VALUES (1, 1, 5), (2, 2.5, 6), (3, 'three', 'soon'), (4, 4, 7)",
    )
    rows = await read(url, tmp_path, "SELECT n, d FROM t ORDER BY id", batch_rows=2)
    assert rows == [{"n": 1.0, "d": 5}, {"n": 2.5, "d": 6}, {"n": "three", "d": "soon"}, {"n": "4", "d": "7"}]
    sums = await read(url, tmp_path, "SELECT count(*) AS c, sum(n) AS s, NULL AS nil, 'x' AS t FROM t WHERE id < 3")
    assert sums == [{"c": 2, "s": 3.5, "nil": None, "t": "x"}]


@pytest.mark.parametrize(
    "select",
    [
        "SELECT id FROM t",
        "SELECT id FROM {schema}.t",
        "SELECT id FROM flow.{schema}.t",
        'SELECT x.id FROM "flow".{schema}.t AS x',
        "SELECT flow.{schema}.t.id FROM flow.{schema}.t -- flow.other.t",
        "SELECT id FROM flow",
        "SELECT flow.id FROM flow WHERE 'flow.a.b' <> 'FROM flow'",
        "SELECT f.id FROM flow f",
        "WITH flow AS (SELECT id FROM t) SELECT id FROM flow",
    ],
)
async def test_tables_are_named_as_documented(url: str, tmp_path: Path, select: str) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (5)")
    schema = "public" if url.startswith("postgres") else "main"
    assert await read(url, tmp_path, select.format(schema=schema)) == [{"id": 5}]


async def test_the_catalogue_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    execute(f"sqlite:///{tmp_path}/x", "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (5)")
    component = Input.parse(
        {
            "type": "sql",
            "select_sql": "SELECT * FROM shop.main.t",
            "input_type": {"type": "sqlite", "path": str(tmp_path / "x"), "name": "shop"},
        }
    )
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        assert await drain(reader) == [{"id": 5}]


async def test_from_flow_needs_one_table(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE a (id INTEGER)", "CREATE TABLE b (id INTEGER)")
    with pytest.raises(PermanentError, match=r"only table of the database, which has: \w+\.a, \w+\.b"):
        await read(url, tmp_path, "SELECT * FROM flow")


def test_only_names_are_resolved() -> None:
    names = Names(lambda: ["public"], lambda: [("public", 'odd"name')])
    cases = {
        "SELECT 'flow.public.t' AS \"flow.s.t\" FROM flow.s.t": "SELECT 'flow.public.t' AS \"flow.s.t\" FROM s.t",
        "SELECT flow.a FROM public.flow": "SELECT flow.a FROM public.flow",
        "SELECT a.flow.public.b FROM a": "SELECT a.flow.public.b FROM a",
        "SELECT $$ flow.x.y $$ FROM FLOW . public . t": "SELECT $$ flow.x.y $$ FROM public . t",
        "SELECT * FROM t /* flow.s.t */ JOIN flow ON true": (
            'SELECT * FROM t /* flow.s.t */ JOIN "public"."odd""name" AS "flow" ON true'
        ),
    }
    for given, wanted in cases.items():
        assert resolved(given, "flow", names) == wanted
    same = Names(lambda: ["flow"], list)
    assert resolved("SELECT flow.t.c FROM flow.t", "flow", same) == "SELECT flow.t.c FROM flow.t"


async def test_nothing_can_be_written(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)")
    for statement in ("INSERT INTO t VALUES (1)", "SELECT 1; DROP TABLE t", "SELECT 1) TO PROGRAM 'x' --", "SELECT (1"):
        with pytest.raises(ValueError, match=r"expected one query|bracket"):
            Sql(url=url, select_sql=statement)
    writing = "WITH x AS (INSERT INTO t VALUES (1) RETURNING id) SELECT * FROM x"
    with pytest.raises(PermanentError):
        await read(url, tmp_path, writing)
    assert await read(url, tmp_path, "SELECT * FROM t") == []


@pytest.mark.server
async def test_a_function_that_writes_is_stopped_by_postgres(postgres_database: str, tmp_path: Path) -> None:
    execute(
        postgres_database,
        "CREATE TABLE t (id int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING id'",
    )
    with pytest.raises(PenstockError, match="read-only transaction"):
        await read(postgres_database, tmp_path, "SELECT f() AS x")


async def test_new_rows_are_found(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER, moment TIMESTAMP)", "INSERT INTO t VALUES (1, '2024-01-01 00:00:00')")
    component = Sql(url=url, select_sql="SELECT * FROM t", incremental={"cursor": "moment", "interval": "5ms"})
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        assert [row["id"] for row in await drain(reader, count=1)] == [1]
        for new, found in (
            ("(2, '2024-01-01 00:00:00'), (0, '2023-01-01 00:00:00')", [2]),
            ("(3, '2024-01-01 00:00:00.5')", [3]),
        ):
            waiting = asyncio.create_task(reader.read())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await asyncio.to_thread(execute, url, f"INSERT INTO t VALUES {new}")
            async with asyncio.timeout(60):
                delivery = await waiting
            assert [row["id"] for row in delivery.batch.to_pylist()] == found
            await delivery.ack()


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1, 3, 7, 100])
async def test_rows_that_share_a_value_are_not_lost_at_the_edge_of_a_batch(
    url: str, tmp_path: Path, batch_rows: int
) -> None:
    """Every batch is a new run, which resumes in the midst of equal values; rows with equal values come in between."""
    execute(url, "CREATE TABLE t (id INTEGER, moment TIMESTAMP)")
    times = ["2024-01-01 00:00:00"] * 5 + ["2024-01-01 00:00:00.25"] * 1 + ["2024-01-02 00:00:00"] * 9
    rows = ", ".join(f"({100 - n}, '{at}')" for n, at in enumerate(times))
    execute(url, f"INSERT INTO t VALUES {rows}")
    store, found = MemoryStore(), []
    options = {"incremental": {"cursor": "moment", "once": True}, "batch_rows": batch_rows}
    for run in range(40):
        found += await read(url, tmp_path, "SELECT * FROM t", store, count=1, **options)
        if run == 1:
            execute(url, "INSERT INTO t VALUES (500, '2024-01-02 00:00:00'), (1, '2024-01-02 00:00:00')")
    assert Counter(row["id"] for row in found) == Counter([*(100 - n for n in range(15)), 500, 1])


async def test_too_many_equal_values_to_tell_apart_come_again_rather_than_be_lost(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER, moment INTEGER)")
    execute(url, "INSERT INTO t VALUES " + ", ".join(f"({n}, 5)" for n in range(1500)))
    store, options = MemoryStore(), {"incremental": {"cursor": "moment", "once": True}, "batch_rows": 1100}
    first = await read(url, tmp_path, "SELECT * FROM t", store, **options)
    assert sorted(row["id"] for row in first) == list(range(1500))
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == []
    execute(url, "INSERT INTO t VALUES (-1, 5)")
    again = await read(url, tmp_path, "SELECT * FROM t", store, **options)
    assert sorted(row["id"] for row in again) == list(range(-1, 1500))
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == []
    execute(url, "INSERT INTO t VALUES (-2, 6)")
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == [{"id": -2, "moment": 6}]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("BIGINT", ["-9223372036854775808", "0", "9223372036854775807"]),
        ("DOUBLE PRECISION", ["-1e300", "0.1", "0.30000000000000004", "1e300"]),
        ("DECIMAL(20,4)", ["-1.5000", "0.0001", "123456789012.3456"]),
        ("TEXT", ["''", "'a''b'", "'é'"]),
        ("DATE", ["'0001-01-01'", "'2024-02-29'"]),
        ("TIMESTAMP", ["'2024-02-29 12:00:00'", "'2024-02-29 12:00:00.000001'"]),
        ("TIMESTAMP WITH TIME ZONE", ["'2024-02-29 12:00:00+00:00'", "'2024-02-29 12:00:00.000001+00:00'"]),
    ],
)
async def test_every_type_of_cursor_resumes(url: str, tmp_path: Path, kind: str, values: list[str]) -> None:
    execute(url, f"CREATE TABLE t (id INTEGER, c {kind})")
    execute(url, "INSERT INTO t VALUES " + ", ".join(f"({n}, {value})" for n, value in enumerate(values)))
    store, found = MemoryStore(), []
    for _ in range(len(values) + 2):
        options = {"incremental": {"cursor": "c", "once": True}, "batch_rows": 1, "count": 1}
        found += await read(url, tmp_path, "SELECT * FROM t", store, **options)
    assert [row["id"] for row in found] == list(range(len(values)))


async def test_start_says_where_to_begin(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER, moment DATE)")
    execute(url, "INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-02'), (3, '2024-01-03')")
    for incremental in (
        {"cursor": "id", "start": 2, "once": True},
        {"cursor": "moment", "start": "2024-01-02", "once": True},
        {"cursor": "moment", "start": datetime.date(2024, 1, 2), "once": True},
    ):
        rows = await read(url, tmp_path, "SELECT * FROM t", incremental=incremental)
        assert [row["id"] for row in rows] == [2, 3]


async def test_rows_without_a_cursor_are_reported(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (NULL), (NULL)")
    with caplog.at_level(logging.WARNING):
        rows = await read(url, tmp_path, "SELECT * FROM t", incremental={"cursor": "id", "once": True})
    assert rows == [{"id": 1}]
    assert "2 rows have no id" in caplog.text


async def test_a_cursor_that_does_not_exist_is_named(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)")
    with pytest.raises(PermanentError, match="no column 'at' for its cursor; it has id"):
        await read(url, tmp_path, "SELECT * FROM t", incremental={"cursor": "at"})


async def test_a_query_that_cannot_run_is_an_error_not_an_end(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)")
    for select in ("SELECT * FROM nowhere", "SELECT nothing FROM t", "SELECT id, id FROM t"):
        with pytest.raises(PermanentError):
            await read(url, tmp_path, select)


@pytest.mark.server
async def test_r9_an_error_in_the_midst_is_not_taken_for_the_end(postgres_database: str, tmp_path: Path) -> None:
    execute(postgres_database, "CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 1000) n")
    component = Sql(url=postgres_database, select_sql="SELECT 1 / (id - 700) AS x FROM t ORDER BY id", batch_rows=10)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        with pytest.raises(PermanentError, match="division by zero"):
            await drain(reader)
        with pytest.raises(PermanentError, match="division by zero"):
            await drain(reader)


@pytest.mark.server
async def test_r11_a_lost_postgres_is_told_apart_and_reading_goes_on(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url, store = postgres_server.url, MemoryStore()
    execute(url, "CREATE TABLE t AS SELECT n AS id, repeat('x', 1000) AS s FROM generate_series(1, 20000) n")
    component = Sql(url=url, select_sql="SELECT * FROM t ORDER BY id", batch_rows=100)
    async with lend_context(tmp_path, store) as context, component.open(context) as reader:
        found = await drain(reader, count=500)
        await asyncio.to_thread(postgres_server.kill)
        with pytest.raises(ConnectionLost) as lost:
            found += await drain(reader)
        assert postgres_server.password not in str(lost.value)
    assert len(found) < 20000
    await asyncio.to_thread(postgres_server.start)
    async with lend_context(tmp_path, store) as context, component.open(context) as reader:
        rest = await drain(reader)
    assert rest[0]["id"] == store.positions["test"]["position"]["rows"] - len(rest) + 1
    assert rest[-1]["id"] == 20000


async def test_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    for scheme in ("sqlite", "duckdb"):
        with pytest.raises(ConnectionLost, match="missing"):
            await read(f"{scheme}:///{tmp_path}/missing.db", tmp_path, "SELECT 1")
    assert not list(tmp_path.glob("missing*"))


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
async def test_a_file_is_read_beside_its_writer(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{tmp_path}/x.db"
    async with lend_context(tmp_path) as context, Output(url=url, table_name="t").open(context) as writer:
        await writer.write([pa.record_batch({"id": [1]})])
        component = Sql(url=url, select_sql="SELECT * FROM t", incremental={"cursor": "id", "interval": "5ms"})
        async with component.open(context) as reader:
            assert await drain(reader, count=1) == [{"id": 1}]
            await writer.write([pa.record_batch({"id": [2]})])
            assert await drain(reader, count=1) == [{"id": 2}]


async def test_what_the_output_wrote_comes_back_with_its_types(url: str, tmp_path: Path) -> None:
    noon = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
    rows = pa.record_batch(
        {
            "i": pa.array([1, None]),
            "f": pa.array([float("nan"), 0.1]),
            "b": pa.array([True, None]),
            "s": pa.array(["", None]),
            "y": pa.array([b"\x00\xff", None]),
            "d": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(20, 2)),
            "day": pa.array([noon.date(), None]),
            "t": pa.array([noon.time(), None], pa.time64("us")),
            "ts": pa.array([noon, None], pa.timestamp("us")),
            "tz": pa.array([noon, None], pa.timestamp("us", "UTC")),
        }
    )
    async with lend_context(tmp_path) as context, Output(url=url, table_name="t").open(context) as writer:
        await writer.write([rows])
    component = Sql(url=url, select_sql="SELECT * FROM t")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        found = (await reader.read()).batch
    assert found.schema == rows.schema
    assert str(found.to_pylist()) == str(rows.to_pylist())


async def test_r9_a_codec_decodes_the_payload_column(url: str, tmp_path: Path) -> None:
    codec = JSON
    execute(url, "CREATE TABLE t (payload TEXT)", """INSERT INTO t VALUES ('{"a": 1}')""")
    component = Sql(url=url, select_sql="SELECT payload AS __value__ FROM t", codec=codec)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        delivery = await reader.read()
        assert delivery.batch.schema.field("__value__").type == pa.binary()
    with pytest.raises(PermanentError, match="__value__"):
        await read(url, tmp_path, "SELECT payload FROM t", codec=codec)


async def test_tells_the_row_number_and_the_table(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2), (3)")
    store = MemoryStore()
    for offsets in ([0, 1], [2]):
        component = Sql(url=url, select_sql="SELECT * FROM t", incremental={"cursor": "id", "once": True}, batch_rows=2)
        async with lend_context(tmp_path, store) as context, component.open(context) as reader:
            delivery = await reader.read()
            found = attach(delivery.batch, delivery.origin)
            await delivery.ack()
        assert found.column("__meta_offset").to_pylist() == offsets
        assert dict(found.column("__meta_ext")[0].as_py()) == {
            "database": component.database().type,
            "table": "t",
            "cursor": "id",
        }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select_sql": "SELECT 1"}, "either `url` or `input_type`"),
        ({"select_sql": "SELECT 1", "input_type": {"type": "mysql", "uri": "x"}}, "mysql://user:password"),
        ({"select_sql": "DROP TABLE t", "url": "sqlite:///x"}, "expected one query"),
        ({"select_sql": "SELECT 1", "url": "sqlite:///x", "incremental": {"column": "a"}}, "unknown key"),
        ({"select_sql": "SELECT 1", "url": "sqlite:///x", "batch_rows": 0}, "greater than or equal to 1"),
        ({"select_sql": "SELECT 1", "url": "sqlite:///x", "poll_interval": "1s"}, "unknown key"),
    ],
)
def test_r9_wrong_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Input.parse({"type": "sql", **options})


@pytest.mark.parametrize("batch_rows", [1, 2, 8192])
async def test_rows_of_the_last_value_are_known_whatever_is_fetched_beside_them(
    tmp_path: Path, batch_rows: int
) -> None:
    """SQLite keeps any kind of value in any column, so that the type of a column is another in each fetch."""
    url = f"sqlite:///{tmp_path}/rows.db"
    execute(url, "CREATE TABLE t (id INTEGER, upd INTEGER, price REAL, at TIMESTAMP, n INTEGER)")
    cells = ["'n/a'", "1.5", "X'ff'", "2", "NULL", "'2'"]
    rows = [f"({at}, {at}, {cell}, {cell}, {cell})" for at, cell in enumerate(cells)]
    store, found = MemoryStore(), []
    options = {"incremental": {"cursor": "upd", "once": True}, "batch_rows": batch_rows}
    for row in rows:
        execute(url, f"INSERT INTO t VALUES {row}")
        for _ in range(2):
            found += [row["id"] for row in await read(url, tmp_path, "SELECT * FROM t", store, **options)]
    assert found == list(range(len(cells)))
    execute(url, "INSERT INTO t SELECT 100 + id, 5, price, at, n FROM t")
    more = await read(url, tmp_path, "SELECT * FROM t", store, **options)
    assert sorted(row["id"] for row in more) == [100 + at for at in range(len(cells))]
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == []


def test_rows_that_are_committed_out_of_order_are_read_within_the_delay(url: str) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2)")
    now = 0.0
    source = open_source(Sql(url=url, select_sql="SELECT * FROM t").database())
    try:
        horizon = Horizon(10.0, once=False, now=lambda: now)
        fields = source.describe("SELECT * FROM t")
        rows = Incremental(source, "SELECT * FROM t", fields, None, 100, "id", None, horizon)
        found = []
        for moment, added in ((0.0, "(0), (5)"), (11.0, "(3), (9)"), (22.0, None), (33.0, None)):
            now = moment
            while (fetched := rows.fetch()) is not None:
                found.append(fetched[0].column(0).to_pylist())
            if added is not None:
                execute(url, f"INSERT INTO t VALUES {added}")
        assert found == [[0, 1, 2], [3, 5], [9]]
        assert rows.wait() is None
    finally:
        source.close()


async def test_a_run_with_a_delay_ends_with_what_was_there_at_its_beginning(url: str, tmp_path: Path) -> None:
    execute(url, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2)")
    store, options = MemoryStore(), {"incremental": {"cursor": "id", "once": True, "delay": "50ms"}}
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == [{"id": 1}, {"id": 2}]
    assert await read(url, tmp_path, "SELECT * FROM t", store, **options) == []


def test_the_limit_is_what_was_there_before_the_delay() -> None:
    now = 100.0
    horizon = Horizon(10.0, once=False, now=lambda: now)
    horizon.add(None)
    assert (horizon.limit(), horizon.wait()) == (None, None)
    horizon.add("5")
    assert (horizon.limit(), horizon.wait()) == (None, 10.0)
    now = 104.0
    horizon.add("9")
    horizon.add("9")
    now = 110.0
    assert (horizon.limit(), horizon.wait()) == ("5", 4.0)
    now = 200.0
    assert (horizon.limit(), horizon.wait()) == ("9", None)
    horizon.add("9")
    assert (horizon.limit(), horizon.wait()) == ("9", None)


@pytest.mark.parametrize(
    ("values", "doubt"),
    [
        (["'2024-01-01T00:00:00'", "'2024-01-01 00:00:02'"], "some times have a T"),
        (["1", "'2'", "'x'"], "number and text values"),
        (["'2024-01-01 00:00:00'", "'2024-01-02 00:00:02'"], None),
        (["1", "2.5", "NULL"], None),
    ],
)
async def test_a_cursor_that_sqlite_does_not_order_by_time_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: list[str], doubt: str | None
) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    execute(url, "CREATE TABLE t (c)", "INSERT INTO t VALUES " + ", ".join(f"({value})" for value in values))
    await read(url, tmp_path, "SELECT * FROM t", incremental={"cursor": "c", "once": True})
    found = [record.getMessage() for record in caplog.records if "rows may be missed" in record.getMessage()]
    assert [doubt in message for message in found] == ([True] if doubt else [])
