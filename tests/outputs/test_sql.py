"""What is particular to databases: types, drift, refusals, transactions, lost connections, many writers."""

import asyncio
import datetime
import decimal
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401  (imported before a loop runs, not by the first expression)
import duckdb
import psycopg
import psycopg.rows
import pyarrow as pa
import pytest

from penstock.component import Output, TransactionalWriter
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from penstock.outputs.sql import Sql
from penstock.sql.expression import Expr
from penstock.testing.contexts import lend_context
from penstock.testing.servers import PostgresServer
from penstock.testing.waiting import until


def query(url: str, statement: str) -> list[dict[str, Any]]:
    """Run a statement beside the writer and return its rows."""
    scheme, _, rest = url.partition("://")
    if scheme == "postgresql":
        with psycopg.connect(url, row_factory=psycopg.rows.dict_row, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
    if scheme == "duckdb":
        with duckdb.connect(rest[1:]) as database:
            found = database.sql(statement)
            return found.to_arrow_table().to_pylist() if found is not None else []
    file = sqlite3.connect(rest[1:], isolation_level=None)
    file.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in file.execute(statement)]
    finally:
        file.close()


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    return f"{request.param}:///{tmp_path}/rows.db"


async def write(url: str, directory: Path, *calls: Batch | Sequence[Batch], **options: Any) -> None:
    component = Sql(url=url, **{"table_name": "t", **options})
    async with lend_context(directory) as context, component.open(context) as writer:
        for call in calls:
            await writer.write([call] if isinstance(call, pa.RecordBatch) else call)


def batch(**columns: Any) -> Batch:
    return pa.record_batch(
        {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    )


UTC = datetime.UTC
NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
EXACT: dict[str, tuple[pa.Array, dict[str, list[Any]]]] = {
    "bool": (pa.array([True, None, False]), {"": [True, None, False], "sqlite": [1, None, 0]}),
    "int8": (pa.array([-128, None, 127], pa.int8()), {"": [-128, None, 127]}),
    "int64": (pa.array([-(2**63), None, 2**63 - 1]), {"": [-(2**63), None, 2**63 - 1]}),
    "uint64": (
        pa.array([0, None, 2**64 - 1], pa.uint64()),
        {"": [0, None, 2**64 - 1], "sqlite": ["0", None, "18446744073709551615"]},
    ),
    "float32": (pa.array([0.1, None, -1e30], pa.float32()), {"": [0.10000000149011612, None, -1.0000000150474662e30]}),
    "float64": (pa.array([0.1, None, float("inf")]), {"": [0.1, None, float("inf")]}),
    "tiny": (pa.array([5e-324, None, 1.7976931348623157e308]), {"": [5e-324, None, 1.7976931348623157e308]}),
    "decimal": (
        pa.array([decimal.Decimal("-12345678901234567890.12"), None, decimal.Decimal("0.10")], pa.decimal128(30, 2)),
        {
            "": [decimal.Decimal("-12345678901234567890.12"), None, decimal.Decimal("0.10")],
            "sqlite": ["-12345678901234567890.12", None, "0.10"],
        },
    ),
    "string": (pa.array(["", None, 'a "b", \\n\n\r\t; é😀 \\.']), {"": ["", None, 'a "b", \\n\n\r\t; é😀 \\.']}),
    "dictionary": (pa.array(["x", None, "y"]).dictionary_encode(), {"": ["x", None, "y"]}),
    "binary": (pa.array([b"", None, bytes(range(256))]), {"": [b"", None, bytes(range(256))]}),
    "date32": (
        pa.array([NOON.date(), None, datetime.date(1, 1, 1)]),
        {"": [NOON.date(), None, datetime.date(1, 1, 1)], "sqlite": ["2024-02-29", None, "0001-01-01"]},
    ),
    "time64": (
        pa.array([NOON.time(), None, datetime.time(23, 59, 59, 999999)]),
        {
            "": [NOON.time(), None, datetime.time(23, 59, 59, 999999)],
            "sqlite": ["12:00:00.123456", None, "23:59:59.999999"],
        },
    ),
    "timestamp": (
        pa.array([NOON, None, datetime.datetime(1, 1, 1)], pa.timestamp("us")),
        {
            "": [NOON, None, datetime.datetime(1, 1, 1)],
            "sqlite": ["2024-02-29 12:00:00.123456", None, "0001-01-01 00:00:00.000000"],
        },
    ),
    "timestamp_utc": (
        pa.array([NOON, None, NOON], pa.timestamp("us", "Europe/Berlin")),
        {
            "": [NOON.replace(tzinfo=UTC), None, NOON.replace(tzinfo=UTC)],
            "sqlite": ["2024-02-29 12:00:00.123456Z", None, "2024-02-29 12:00:00.123456Z"],
        },
    ),
    "duration": (
        pa.array([-1, None, 10**12 + 1], pa.duration("us")),
        {
            "": [datetime.timedelta(microseconds=-1), None, datetime.timedelta(microseconds=10**12 + 1)],
            "sqlite": [-1000, None, (10**12 + 1) * 1000],
            "duckdb": [(0, 0, -1000), None, (0, 0, (10**12 + 1) * 1000)],
        },
    ),
    "list": (pa.array([[1, 2], None, []]), {"": ["[1,2]", None, "[]"], "postgres": [[1, 2], None, []]}),
    "struct": (
        pa.array([{"a": 1, "b": "é"}, None, {"a": 2, "b": "x"}]),
        {
            "": ['{"a":1,"b":"é"}', None, '{"a":2,"b":"x"}'],
            "postgres": [{"a": 1, "b": "é"}, None, {"a": 2, "b": "x"}],
        },
    ),
    "map": (
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        {"": ['{"k":1}', None, "{}"], "postgres": [{"k": 1}, None, {}]},
    ),
}


@pytest.mark.parametrize("kind", list(EXACT))
async def test_every_value_is_read_back_as_it_was(url: str, tmp_path: Path, kind: str) -> None:
    values, wanted = EXACT[kind]
    scheme = "postgres" if url.startswith("postgres") else url.partition(":")[0]
    rows = batch(id=[1, 2, 3], v=values)
    await write(url, tmp_path, rows, rows.slice(1, 1), batch(v=values).slice(0, 1))
    found = query(url, "SELECT * FROM t ORDER BY id")
    expected = wanted.get(scheme, wanted[""])
    stored = [row["v"] for row in found if row["id"] is not None]
    assert stored == [expected[0], expected[1], expected[1], expected[2]]
    assert [row["v"] for row in found if row["id"] is None] == [expected[0]]


async def test_nanoseconds_are_kept_where_the_database_can(tmp_path: Path) -> None:
    values = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    for scheme in ("sqlite", "duckdb"):
        await write(f"{scheme}:///{tmp_path}/{scheme}", tmp_path, batch(v=values))
    assert query(f"sqlite:///{tmp_path}/sqlite", "SELECT v FROM t") == [{"v": "2023-11-14 22:13:20.123456789"}]
    assert query(f"duckdb:///{tmp_path}/duckdb", "SELECT epoch_ns(v) AS v FROM t") == [{"v": 1_700_000_000_123_456_789}]


async def test_not_a_number_is_not_null_in_sqlite(tmp_path: Path) -> None:
    await write(f"sqlite:///{tmp_path}/x", tmp_path, batch(v=[float("nan"), None, 1.5]))
    assert [row["v"] for row in query(f"sqlite:///{tmp_path}/x", "SELECT v FROM t")] == ["NaN", None, 1.5]


async def test_a_column_that_appears_later_is_added(url: str, tmp_path: Path) -> None:
    await write(
        url, tmp_path, batch(id=[1]), batch(id=[2], new=["x"]), batch(id=[3]), [batch(id=[4]), batch(other=[1.5])]
    )
    found = query(url, "SELECT * FROM t")
    assert sorted(found, key=lambda row: row["id"] or 9) == [
        {"id": 1, "new": None, "other": None},
        {"id": 2, "new": "x", "other": None},
        {"id": 3, "new": None, "other": None},
        {"id": 4, "new": None, "other": None},
        {"id": None, "new": None, "other": 1.5},
    ]


async def test_a_column_of_nulls_is_made_when_its_type_is_known(url: str, tmp_path: Path) -> None:
    await write(url, tmp_path, batch(id=[1], v=pa.nulls(1)), batch(id=[2], v=[2.5]), batch(id=[3], v=pa.nulls(1)))
    found = query(url, "SELECT * FROM t ORDER BY id")
    assert [row["v"] for row in found] == [None, 2.5, None]


async def test_rows_without_any_type_are_refused_not_dropped(url: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="all values are null"):
        await write(url, tmp_path, batch(v=pa.nulls(2)))


async def test_a_column_another_writer_added_meanwhile_is_no_trouble(url: str, tmp_path: Path) -> None:
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as one, component.open(context) as two:
        await one.write([batch(id=[1])])
        await two.write([batch(id=[2])])
        await one.write([batch(id=[3], new=["x"])])
        await two.write([batch(id=[4], new=["y"])])
    assert [row["new"] for row in query(url, "SELECT * FROM t ORDER BY id")] == [None, None, "x", "y"]


async def test_a_table_dropped_meanwhile_is_made_again(url: str, tmp_path: Path) -> None:
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(id=[1])])
        query(url, "DROP TABLE t")
        await writer.write([batch(id=[2])])
    assert query(url, "SELECT * FROM t") == [{"id": 2}]


REFUSED = {
    "text in numbers": (
        batch(celsius=[1.5]),
        batch(celsius=["2.5", "abc", "3"]),
        {1: "column celsius: expected a number, got 'abc'"},
    ),
    "list in numbers": (
        batch(celsius=[1.5]),
        batch(celsius=[[1], None]),
        {0: "column celsius: expected a number, got [1]"},
    ),
    "text in timestamps": (
        batch(at=pa.array([0], pa.timestamp("us"))),
        batch(at=["2024-01-02", "soon", "2024-01-02T03:04:05.5"]),
        {1: "column at: expected a timestamp, got 'soon'"},
    ),
    "number in booleans": (batch(ok=[True]), batch(ok=[1, 0, 5]), {2: "column ok: expected true or false, got 5"}),
    "bytes in text": (
        batch(name=["x"]),
        batch(name=[b"ok", b"\xff"]),
        {1: "column name: expected text in UTF-8, got b'\\xff'"},
    ),
    "time in dates": (
        batch(day=pa.array([0], pa.date32())),
        batch(day=["2024-01-02", "2024-13-02", "tomorrow"]),
        {1: "column day: expected a date, got '2024-13-02'", 2: "column day: expected a date, got 'tomorrow'"},
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
async def test_rows_that_do_not_fit_are_named_and_nothing_is_written(url: str, tmp_path: Path, case: str) -> None:
    first, second, reasons = REFUSED[case]
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([first])
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([second])
        assert refusal.value.reasons == reasons
        assert len(query(url, "SELECT * FROM t")) == 1
        with pytest.raises(RowsRejected) as several:
            await writer.write([first, second])
        assert several.value.across
        assert several.value.reasons == {first.num_rows + row: reason for row, reason in reasons.items()}
        assert len(query(url, "SELECT * FROM t")) == 1
        good = [row for row in range(second.num_rows) if row not in reasons]
        await writer.write([second.take(pa.array(good))])
    assert len(query(url, "SELECT * FROM t")) == 1 + len(good)


async def test_what_loses_nothing_fits(url: str, tmp_path: Path) -> None:
    await write(
        url,
        tmp_path,
        batch(f=[0.5], s=["x"], n=[1], d=pa.array([decimal.Decimal("1.50")], pa.decimal128(10, 2))),
        batch(f=[7], s=[42], n=[3.0], d=[2.25]),
        batch(f=["8.5"], s=[True], n=["4"], d=[3]),
        batch(f=[None], s=[[1, 2]], n=[None], d=["4.5"]),
    )
    found = query(url, "SELECT * FROM t ORDER BY f")
    assert sorted(row["f"] for row in found if row["f"] is not None) == [0.5, 7.0, 8.5]
    assert {row["s"] for row in found} == {"x", "42", "true", "[1,2]"}
    assert sorted(int(row["n"]) for row in found if row["n"] is not None) == [1, 3, 4]
    assert sorted(decimal.Decimal(str(row["d"])) for row in found) == [
        decimal.Decimal(d) for d in ("1.5", "2.25", "3", "4.5")
    ]


async def test_a_fraction_widens_a_column_of_whole_numbers(url: str, tmp_path: Path) -> None:
    await write(url, tmp_path, batch(v=[1, 2]), batch(v=[2.5]), batch(v=[3]))
    assert sorted(row["v"] for row in query(url, "SELECT * FROM t")) == [1, 2, 2.5, 3]


async def test_a_whole_number_too_large_to_be_a_fraction_is_kept(url: str, tmp_path: Path) -> None:
    """The column holds 2**53 + 1, which no fraction can: the new row is refused rather than the old one changed."""
    large = 2**53 + 1
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(v=[large])])
        if url.startswith("sqlite"):
            await writer.write([batch(v=[2.5])])
        else:
            with pytest.raises(RowsRejected, match="whole number"):
                await writer.write([batch(v=[2.5])])
    assert query(url, "SELECT * FROM t")[0] == {"v": large}


async def test_more_than_64_bits_widen_a_column(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(RowsRejected, match="column v: expected a number"):
            await write(url, tmp_path, batch(v=[1]), batch(v=pa.array([2**64 - 1], pa.uint64())))
        return
    await write(url, tmp_path, batch(v=[-1]), batch(v=pa.array([2**64 - 1], pa.uint64())))
    assert sorted(int(row["v"]) for row in query(url, "SELECT * FROM t")) == [-1, 2**64 - 1]


async def test_the_database_refuses_a_row_of_its_own_accord(url: str, tmp_path: Path) -> None:
    query(url, "CREATE TABLE t (id INTEGER, v INTEGER CHECK (v < 10))")
    with pytest.raises(PermanentError, match=r"(?i)check"):
        await write(url, tmp_path, batch(id=[1, 2], v=[5, 50]))
    assert query(url, "SELECT * FROM t") == []


@pytest.mark.server
async def test_postgres_names_the_row_it_refuses(postgres_database: str, tmp_path: Path) -> None:
    query(postgres_database, "CREATE TYPE mood AS ENUM ('good', 'bad')")
    query(postgres_database, "CREATE TABLE t (id uuid, name varchar(3), n int CHECK (n < 10), m mood, s text)")
    cases = [
        batch(id=["8d8c1f2a-7f3b-4c55-9a9a-111111111111", "no"]),
        batch(name=["abc", "abcd"]),
        batch(n=[9, 10]),
        batch(m=["good", "ugly"]),
        batch(s=["fine", "nul\x00"]),
    ]
    component = Sql(url=postgres_database, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        for rows in cases:
            with pytest.raises(RowsRejected) as refusal:
                await writer.write([rows])
            assert list(refusal.value.reasons) == [1], refusal.value
            await writer.write([rows.slice(0, 1)])
        with pytest.raises(PermanentError) as lines:
            await writer.write([batch(s=["two\nlines", "nul\x00"])])
        assert not isinstance(lines.value, RowsRejected) or list(lines.value.reasons) == [1]
    assert len(query(postgres_database, "SELECT * FROM t")) == len(cases)


async def test_without_create_nothing_is_made(url: str, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="there is no table t"):
        await write(url, tmp_path, batch(id=[1]), create=False)
    query(url, "CREATE TABLE t (id INTEGER)")
    await write(url, tmp_path, batch(id=[1]), create=False)
    with pytest.raises(PermanentError, match="no column 'new'"):
        await write(url, tmp_path, batch(id=[2], new=["x"]), create=False)
    assert query(url, "SELECT * FROM t") == [{"id": 1}]


async def test_rows_of_one_batch_go_to_several_tables(url: str, tmp_path: Path) -> None:
    rows = batch(kind=["a", "b", "a", 'x"y; --'], v=[1, 2, 3, 4])
    await write(url, tmp_path, rows, [rows, rows], table_name=Expr(sql="concat('of_', kind)"))
    assert [row["v"] for row in query(url, "SELECT v FROM of_a")] == [1, 3] * 3
    assert [row["v"] for row in query(url, "SELECT v FROM of_b")] == [2] * 3
    assert [row["v"] for row in query(url, 'SELECT v FROM "of_x""y; --"')] == [4] * 3


async def test_a_table_named_by_a_row_reaches_nothing_of_the_database(url: str, tmp_path: Path) -> None:
    names = ["fine", None, "", "pg_catalog.pg_class", "sqlite_master", "_penstock_checkpoints", "a\x00b", "x" * 300]
    with pytest.raises(RowsRejected) as refusal:
        await write(url, tmp_path, batch(kind=names), table_name=Expr(sql="kind"))
    assert sorted(refusal.value.reasons) == [1, 2, 3, 4, 5, 6, 7]


async def test_rejected_rows_are_counted_in_the_batch_that_was_given(url: str, tmp_path: Path) -> None:
    name = Expr(sql="kind")
    component = Sql(url=url, table_name=name, key=["id"])
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(kind=["a", "b"], id=[1, 1], v=[1.5, 1.5])])
        rows = batch(kind=["a", "b", "b", "a", "b"], id=[1, 1, 2, None, 2], v=["1", "2", "x", "4", "5"])
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([rows])
    assert sorted(refusal.value.reasons) == [2, 3]


async def test_a_schema_may_be_named(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        schema = "main"
    else:
        schema = "iot"
        query(url, "CREATE SCHEMA iot")
    await write(url, tmp_path, batch(id=[1]), batch(id=[1], v=[2]), table_name=f"{schema}.t", key=["id"])
    assert query(url, f"SELECT * FROM {schema}.t") == [{"id": 1, "v": 2}]


async def test_a_key_replaces_and_keeps_what_the_row_does_not_bring(url: str, tmp_path: Path) -> None:
    await write(
        url,
        tmp_path,
        batch(a=[1, 1], b=["x", "y"], v=[1, 2], note=["keep", "keep"]),
        batch(a=[1, 1, 1], b=["x", "z", "x"], v=[5, 6, 7]),
        upsert=True,
        upsert_keys=["a", "b"],
    )
    assert query(url, "SELECT * FROM t ORDER BY b") == [
        {"a": 1, "b": "x", "v": 7, "note": "keep"},
        {"a": 1, "b": "y", "v": 2, "note": "keep"},
        {"a": 1, "b": "z", "v": 6, "note": None},
    ]


async def test_a_key_works_on_a_table_that_has_none(url: str, tmp_path: Path) -> None:
    await write(url, tmp_path, batch(id=[1, 2], v=[1, 2]))
    await write(url, tmp_path, batch(id=[2, 3], v=[9, 3]), key=["id"])
    await write(url, tmp_path, batch(id=[3], tags=[["a"]]), batch(id=[3], tags=[["b"]]), key=["id"])
    found = query(url, "SELECT * FROM t ORDER BY id")
    assert [(row["id"], row["v"]) for row in found] == [(1, 1), (2, 9), (3, 3)]


async def test_a_key_that_is_not_one_is_an_error(url: str, tmp_path: Path) -> None:
    await write(url, tmp_path, batch(id=[1, 1]))
    with pytest.raises(PermanentError):
        await write(url, tmp_path, batch(id=[2]), key=["id"])
    with pytest.raises(PermanentError, match="no key column 'id'"):
        await write(url, tmp_path, batch(other=[2]), key=["id"])


async def test_names_that_are_too_long_are_refused_not_cut(url: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="longer than"):
        await write(url, tmp_path, batch(**{"c" * 300: [1]}))


async def test_payloads_of_a_codec_are_kept_as_bytes(url: str, tmp_path: Path) -> None:
    await write(url, tmp_path, batch(a=[1, 2]), codec="json")
    assert [json.loads(bytes(row["__value__"])) for row in query(url, "SELECT * FROM t")] == [{"a": 1}, {"a": 2}]


async def opened_writes(writer: Any, *entries: int) -> None:
    assert isinstance(writer, TransactionalWriter)
    for entry in entries:
        await writer.write_and_save([batch(id=[entry])], {"in": {"position": entry, "rows": entry}})


async def test_rows_written_by_a_call_whose_answer_was_lost_are_not_written_again(url: str, tmp_path: Path) -> None:
    component = Sql(url=url, table_name="t")
    for _ in range(2):
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            await opened_writes(writer, 1)
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await opened_writes(writer, 2)
    assert sorted(row["id"] for row in query(url, "SELECT * FROM t")) == [1, 2]


@pytest.mark.crash
@pytest.mark.parametrize("kills", [4])
async def test_rows_and_positions_agree_after_kill_9(url: str, tmp_path: Path, kills: int) -> None:
    program = f"""
import asyncio, pathlib
import datafusion  # noqa: F401  (imported before a loop runs, not by the first expression)
import pyarrow as pa
from penstock.outputs.sql import Sql
from penstock.testing.contexts import lend_context
async def main():
    async with lend_context(pathlib.Path({str(tmp_path)!r})) as context:
        async with Sql(url={url!r}, table_name="t").open(context) as writer:
            saved = await writer.load("in") or {{"position": 0, "rows": 0}}
            while True:
                start = saved["position"]
                rows = pa.record_batch({{"id": pa.array(range(start, start + 100))}})
                saved = {{"position": start + 100, "rows": start + 100}}
                await writer.write_and_save([rows], {{"in": saved}})
                print(saved["position"], flush=True)
asyncio.run(main())
"""
    said = 0
    for kill in range(kills):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(5 + 3 * kill):
            said = int(await process.stdout.readline())
        await asyncio.sleep(0.003 * kill)
        os.kill(process.pid, signal.SIGKILL)
        rest = (await process.stdout.read()).split()
        said = int(rest[-1]) if rest else said
        await process.wait()
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        saved = await writer.load("in")
    found = query(url, "SELECT count(*) AS n, count(DISTINCT id) AS d, max(id) AS m FROM t")[0]
    assert saved is not None
    assert found == {"n": saved["position"], "d": saved["position"], "m": saved["position"] - 1}
    assert saved["position"] >= said


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_many_writers_share_a_table(url: str, tmp_path: Path) -> None:
    component = Sql(url=url, table_name="t", key=["id"])

    async def run(number: int) -> None:
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            for round in range(10):
                rows = batch(id=[1000 * number + round, -1], **{f"c{(number + round) % 4}": [1, number]})
                while True:
                    try:
                        await writer.write([rows])
                        break
                    except TransientError:
                        await asyncio.sleep(0.01)

    await asyncio.gather(*(run(number) for number in range(5)))
    assert len(query(url, "SELECT * FROM t")) == 51


async def test_sqlite_is_read_while_it_is_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(id=[1])])
        reader = sqlite3.connect(f"file:{tmp_path}/x.db?mode=ro", uri=True, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
        await writer.write([batch(id=[2])])
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (2,)
        reader.close()


async def test_a_sqlite_file_held_by_another_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.clients.sqlite._LOCK_TIMEOUT", 0.05)
    url = f"sqlite:///{tmp_path}/x.db"
    component = Sql(url=url, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(id=[1])])
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="another process is writing"):
            await writer.write([batch(id=[2])])
        other.execute("COMMIT")
        other.close()
        await writer.write([batch(id=[2])])
    assert len(query(url, "SELECT * FROM t")) == 2


async def test_a_cancelled_write_leaves_the_writer_usable(url: str, tmp_path: Path) -> None:
    component = Sql(url=url, table_name="t", key=["id"])
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        for number in range(5):
            writing = asyncio.create_task(writer.write([batch(id=[number])]))
            await asyncio.sleep(0.001 * number)
            writing.cancel()
            await asyncio.wait({writing})
            await writer.write([batch(id=[number])])
    assert len(query(url, "SELECT * FROM t")) == 5


@pytest.mark.server
async def test_r11_a_lost_postgres_is_told_apart_and_comes_back(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    component = Sql(url=postgres_server.url, table_name="t")
    async with lend_context(tmp_path) as context:
        async with component.open(context) as writer:
            await writer.write([batch(id=[1])])
            await asyncio.to_thread(postgres_server.kill)
            with pytest.raises(ConnectionLost) as lost:
                await writer.write([batch(id=[2])])
            assert postgres_server.password not in str(lost.value)
        with pytest.raises(ConnectionLost):
            async with component.open(context):
                pass
        await asyncio.to_thread(postgres_server.start)
        async with component.open(context) as writer:
            await writer.write([batch(id=[2])])
    assert query(postgres_server.url, "SELECT * FROM t ORDER BY id") == [{"id": 1}, {"id": 2}]


@pytest.mark.server
async def test_postgres_errors_are_told_apart(postgres_database: str, tmp_path: Path) -> None:
    component = Sql(url=postgres_database, table_name="t")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([batch(id=[1])])
        database = postgres_database.rpartition("/")[2]
        query(postgres_database, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        async with component.open(context) as replica:
            with pytest.raises(ConnectionLost, match="read-only"):
                await replica.write([batch(id=[2])])
        with psycopg.connect(postgres_database) as other:
            other.execute("SET transaction_read_only = off")
            other.execute("SET lock_timeout = 0")
            other.execute("LOCK TABLE t")
            writing = asyncio.create_task(writer.write([batch(id=[3])]))
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
            pid = await until(lambda: other.execute(waiting, [database]).fetchone())
            other.execute("SELECT pg_cancel_backend(%s)", pid)
            with pytest.raises(TransientError, match="cancel"):
                await writing


@pytest.mark.server
async def test_postgres_says_who_may_not(postgres_database: str, tmp_path: Path) -> None:
    query(postgres_database, "CREATE TABLE t (id int)")
    query(postgres_database, "DROP ROLE IF EXISTS guest")
    query(postgres_database, "CREATE ROLE guest LOGIN PASSWORD 'guest-secret'")
    guest = postgres_database.replace(postgres_database.split("@")[0], "postgresql://guest:guest-secret")
    with pytest.raises(TransientError, match="permission denied") as refused:
        await write(guest, tmp_path, batch(id=[1]))
    assert "guest-secret" not in str(refused.value)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"garbage" * 1000)
    for scheme in ("sqlite", "duckdb"):
        with pytest.raises(PermanentError, match=r"x\.db"):
            await write(f"{scheme}:///{tmp_path}/x.db", tmp_path, batch(id=[1]))


async def test_a_duckdb_file_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    program = (
        f"import duckdb, sys; c = duckdb.connect({str(tmp_path / 'x.db')!r}); print(1, flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, **pipes)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        with pytest.raises(ConnectionLost, match=r"(?i)lock"):
            await write(f"duckdb:///{tmp_path}/x.db", tmp_path, batch(id=[1]))
    finally:
        await process.communicate(b"")
    await write(f"duckdb:///{tmp_path}/x.db", tmp_path, batch(id=[1]))


REFERENCE = """
type: sql
output_type: {type: postgres, uri: "postgresql://me:hunter2@host/db", ssl: {ssl_mode: verify_full, root_cert: /ca.pem}}
table_name: readings
upsert: true
upsert_keys: [id]
"""


def test_reads_the_long_form() -> None:
    from ruamel.yaml import YAML

    output = Output.parse(YAML(typ="safe").load(REFERENCE))
    assert isinstance(output, Sql)
    assert "hunter2" not in repr(output)
    assert "hunter2" not in output.model_dump_json()
    assert Output.parse({"type": "sql", "output_type": {"type": "duckdb", "path": "x"}, "table_name": "t"})


def test_ssl_options_reach_the_connection() -> None:
    from penstock.clients.postgres import conninfo

    output = Sql.model_validate(
        {
            "output_type": {
                "type": "postgres",
                "uri": "postgresql://h/db",
                "ssl": {"ssl_mode": "verify_ca", "root_cert": "/ca", "client_cert": "/c", "client_key": "/k"},
            },
            "table_name": "t",
        }
    )
    database = output.database()
    found = psycopg.conninfo.conninfo_to_dict(conninfo(database))  # type: ignore[arg-type]
    assert {k: found[k] for k in found if k.startswith("ssl")} == {
        "sslmode": "verify-ca",
        "sslrootcert": "/ca",
        "sslcert": "/c",
        "sslkey": "/k",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table_name": "t"}, "either `url` or `output_type`"),
        ({"url": "mysql://a", "table_name": "t"}, "mysql://user:password"),
        ({"output_type": {"type": "mysql", "uri": "http://a/b"}, "table_name": "t"}, "mysql://user:password"),
        ({"url": "oracle://a", "table_name": "t"}, "sqlite:///"),
        ({"url": "sqlite://x", "table_name": "t"}, "sqlite:///relative"),
        ({"url": "sqlite:///x", "table_name": "t", "upsert": True}, "upsert_keys"),
        ({"url": "sqlite:///x", "table_name": "t", "keys": ["a"]}, "did you mean 'key'"),
        ({"output_type": {"type": "postgres", "uri": "http://x"}, "table_name": "t"}, "postgresql://"),
        ({"output_type": {"type": "sqlite", "paht": "x"}, "table_name": "t"}, "did you mean 'path'"),
    ],
)
def test_r9_wrong_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", "[?]")):
        Output.parse({"type": "sql", **options})
