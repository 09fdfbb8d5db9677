from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.component import Reader
from penstock.context import Context
from penstock.errors import ConfigError, ConnectionLost, PermanentError
from penstock.inputs.postgres_cdc import PostgresCdc
from penstock.inputs.postgres_cdc.values import TEXT, Kind, convert
from penstock.metadata import ABSENT, attach
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context
from penstock.testing.pytest_plugin import _serve
from penstock.testing.servers import PostgresServer
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server
OWN = ("op", "ts_ms", "source_db", "source_table", "before", "source", ABSENT)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from _serve(lambda: PostgresServer(fsync=False, wal_level="logical", max_replication_slots=60))


class Source:
    """A database with a slot and a publication of its own."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.create_database()
        self.slot = f"s{secrets.token_hex(6)}"
        self.connection = psycopg.connect(self.url, autocommit=True)

    def run(self, statement: str) -> list[Any]:
        cursor = self.connection.execute(statement)
        return cursor.fetchall() if cursor.description else []

    def component(self, *tables: str, **options: Any) -> PostgresCdc:
        return PostgresCdc(**{"url": self.url, "slot": self.slot, "tables": tables, "linger": "5ms", **options})

    def confirmed(self) -> int:
        ((found,),) = self.run(
            f"SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = '{self.slot}'"
        )
        return found

    def slots(self) -> list[Any]:
        return self.run(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{self.slot}'")

    def drop_slot(self) -> None:
        named = f"slot_name = '{self.slot}'"
        self.run(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE {named}")
        for _ in range(200):
            try:
                self.run(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {named}")
                return
            except psycopg.errors.ObjectInUse:
                self.run("SELECT pg_sleep(0.02)")


@pytest.fixture
def source(server: PostgresServer) -> Iterator[Source]:
    made = Source(server)
    yield made
    made.drop_slot()
    made.connection.close()
    with psycopg.connect(server.url, autocommit=True) as connection:  # many of them fill a disk
        connection.execute(f"DROP DATABASE {made.url.rpartition('/')[2]} WITH (FORCE)")


@asynccontextmanager
async def reading(
    component: PostgresCdc, folder: Path, store: MemoryStore | None = None, **options: Any
) -> AsyncIterator[tuple[Reader, Context]]:
    async with lend_context(folder, store, **options) as context, component.open(context) as reader:
        yield reader, context


async def take(reader: Reader, count: int) -> list[dict[str, Any]]:
    """Read rows and ack them."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        delivery = await reader.read()
        found += delivery.batch.to_pylist()
        await delivery.ack()
    return found


async def began(reader: Reader) -> asyncio.Task[Any]:
    """Begin to read, and return once nothing but changes can come."""
    task = asyncio.ensure_future(reader.read())
    await until(lambda: task.done() or getattr(reader, "_place", None) is not None)
    return task


class _Suite(InputSuite):
    bounded = False

    async def everything(self, component: Any, directory: Any) -> list[Any]:
        return [{"id": number, "name": f"n{number}"} for number in range(6)]

    def rows(self, component: Any, delivery: Any) -> list[Any]:
        return [
            {key: value for key, value in row.items() if key not in OWN} for row in super().rows(component, delivery)
        ]

    def fill(self, source: Source) -> None:
        for number in range(6):
            source.run(f"INSERT INTO rows VALUES ({number}, 'n{number}')")


class TestSnapshot(_Suite):
    @pytest.fixture
    def component(self, source: Source) -> PostgresCdc:
        source.run("CREATE TABLE rows (id int PRIMARY KEY, name text)")
        self.fill(source)
        return source.component("rows", batch_size=1)


class TestChanges(_Suite):
    @pytest.fixture
    def component(self, source: Source) -> PostgresCdc:
        source.run("CREATE TABLE rows (id int PRIMARY KEY, name text)")
        source.run("CREATE PUBLICATION penstock FOR TABLE rows")
        source.run(f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput')")
        self.fill(source)
        return source.component(snapshot="never", batch_size=1)


async def test_between_snapshot_and_changes_there_is_no_gap_and_no_double(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows SELECT generate_series(0, 4999)")
    stop = asyncio.Event()
    written = 5000

    def write() -> int:
        count = written
        with psycopg.connect(source.url, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO rows VALUES (%s)", (count,))
                count += 1
        return count

    writing = asyncio.ensure_future(asyncio.to_thread(write))
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        found = await take(reader, 5000)
        while found[-1]["op"] != "c":
            found += await take(reader, 1)
        stop.set()
        written = await writing
        found += await take(reader, written - len(found))
    assert [row["id"] for row in found if row["op"] == "r"][:5000] == list(range(5000))
    assert sorted(row["id"] for row in found) == list(range(written))


COLUMNS = {
    "i2": ("int2", "-32768", -32768),
    "i8": ("int8", "9223372036854775807", 9223372036854775807),
    "f4": ("float4", "'1.5'", 1.5),
    "f8": ("float8", "'-Infinity'", float("-inf")),
    "ok": ("bool", "true", True),
    "price": ("numeric(12,3)", "123456789.125", Decimal("123456789.125")),
    "wide": ("numeric(60,2)", "1" + "0" * 50 + ".25", Decimal("1" + "0" * 50 + ".25")),
    "exact": ("numeric", "0.1000000000000000000000000000000000000001", "0.1000000000000000000000000000000000000001"),
    "stamp": ("timestamp", "'2026-02-28 23:59:59.999999'", datetime(2026, 2, 28, 23, 59, 59, 999999)),
    "zoned": ("timestamptz", "'2026-06-01 12:00:00.5+05:30'", datetime(2026, 6, 1, 6, 30, 0, 500000, UTC)),
    "day": ("date", "'0001-01-01'", date(1, 1, 1)),
    "raw": ("bytea", r"'\x00ff10'", b"\x00\xff\x10"),
    "none": ("bytea", "NULL", None),
    "doc": ("jsonb", """'{"a": [1, null, "é"]}'""", '{"a": [1, null, "é"]}'),
    "plain": ("json", """'{"a":1}'""", '{"a":1}'),
    "key": ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "span": ("interval", "'1 day 2 hours'", "P1DT2H"),
    "texts": ("text[]", """ARRAY['a"b', NULL, 'c,d', '', 'NULL']""", '["a\\"b",null,"c,d","","NULL"]'),
    "grid": ("int[]", "'[0:1][1:2]={{1,2},{3,NULL}}'", "[[1,2],[3,null]]"),
    "flags": ("bool[]", "'{t,f}'", "[true,false]"),
    "odd": ("float8[]", "'{NaN,1.5,1e300}'", '["NaN",1.5,1e+300]'),
    "boxes": ("box[]", "'{(2,2),(1,1);(3,3),(0,0)}'", '["(2,2),(1,1)","(3,3),(0,0)"]'),
    "docs": ("jsonb[]", """ARRAY['{"a": 1}'::jsonb]""", '[{"a": 1}]'),
    "mood": ("mood", "'so, so'", "so, so"),
    "moods": ("mood[]", "'{good,\"so, so\"}'", '["good","so, so"]'),
    "small": ("small_price", "1.5", Decimal("1.50")),
    "quoted": ("text", "E'tab\\there, \"and\" \\\\ line\\nbreak'", 'tab\there, "and" \\ line\nbreak'),
    "blank": ("text", "''", ""),
}


async def test_every_type_is_exact_in_the_snapshot_and_in_the_stream(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TYPE mood AS ENUM ('good', 'so, so')")
    source.run("CREATE DOMAIN small_price AS numeric(5,2)")
    declared = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
    values = ", ".join(value for _, value, _ in COLUMNS.values())
    source.run(f"CREATE TABLE rows (id serial PRIMARY KEY, {declared}, twice int GENERATED ALWAYS AS (i2 * 2) STORED)")
    source.run(f"INSERT INTO rows ({', '.join(COLUMNS)}) VALUES ({values.replace('-32768', '-3')})")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        (first,) = await take(reader, 1)
        source.run(f"INSERT INTO rows ({', '.join(COLUMNS)}) VALUES ({values.replace('-32768', '-3')})")
        (second,) = await take(reader, 1)
    expected = {name: value for name, (_, _, value) in COLUMNS.items()} | {"i2": -3}
    for row in (first, second):
        assert {name: row[name] for name in COLUMNS} == expected
        assert "twice" not in row


async def test_what_a_type_cannot_hold_is_text_in_its_batch(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY, day date, at timestamptz, price numeric(5,2), hour time)")
    source.run("INSERT INTO rows VALUES (1, 'infinity', '-infinity', 'NaN', '24:00:00')")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        (first,) = await take(reader, 1)
        source.run("INSERT INTO rows VALUES (2, '0044-03-15 BC', 'infinity', 'NaN', '24:00')")
        (second,) = await take(reader, 1)
    assert [first[name] for name in ("day", "at", "price", "hour")] == ["infinity", "-infinity", "NaN", "24:00:00"]
    assert [second[name] for name in ("day", "at", "price", "hour")] == ["0044-03-15 BC", "infinity", "NaN", "24:00:00"]


async def test_changes_are_told_with_what_was_before(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY, name text, price numeric(5,2), tags int[])")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        task = await began(reader)
        source.run("INSERT INTO rows VALUES (1, 'a', 1.5, '{1}'), (2, NULL, NULL, NULL)")
        source.run("UPDATE rows SET name = 'b' WHERE id = 1")
        source.run("UPDATE rows SET id = 3 WHERE id = 2")
        source.run("ALTER TABLE rows REPLICA IDENTITY FULL")
        source.run("""UPDATE rows SET name = 'c"' WHERE id = 1""")
        source.run("DELETE FROM rows WHERE id = 3")
        source.run("ALTER TABLE rows REPLICA IDENTITY DEFAULT")
        source.run("DELETE FROM rows WHERE id = 1")
        source.run("TRUNCATE rows")
        first = await task
        await first.ack()
        found = first.batch.to_pylist()
        found += await take(reader, 8 - len(found))
    assert [row["op"] for row in found] == ["c", "c", "u", "u", "u", "d", "d", "t"]
    assert [row["before"] for row in found] == [
        None,
        None,
        None,
        '{"id":2}',
        '{"id":1,"name":"b","price":1.50,"tags":[1]}',
        '{"id":3,"name":null,"price":null,"tags":null}',
        '{"id":1}',
        None,
    ]
    assert [row["id"] for row in found] == [1, 2, 1, 3, 1, 3, 1, None]
    sources = [json.loads(row["source"]) for row in found]
    assert {one["schema"] for one in sources} == {"public"}
    assert [one.get("absent") for one in sources[:6]] == [None] * 6
    assert sources[6]["absent"] == ["name", "price", "tags"]
    assert sources[7]["absent"] == ["id", "name", "price", "tags"]
    assert len({(one["lsn"], one["seq"]) for one in sources}) == 8
    assert [one["seq"] for one in sources[:2]] == [0, 1]


async def test_a_large_value_that_did_not_change_is_absent_and_not_null(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY, n int, large text, other text)")
    source.run("ALTER TABLE rows ALTER large SET STORAGE EXTERNAL")
    large = "x" * 20_000
    source.run(f"INSERT INTO rows VALUES (1, 0, '{large}', NULL)")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        await take(reader, 1)
        source.run("UPDATE rows SET n = 1")
        (without,) = await take(reader, 1)
        source.run("ALTER TABLE rows REPLICA IDENTITY FULL")
        source.run("UPDATE rows SET n = 2")
        (whole,) = await take(reader, 1)
        source.run("UPDATE rows SET large = NULL")
        (null,) = await take(reader, 1)
    assert without["large"] is None
    assert without[ABSENT] == '["large"]'
    assert json.loads(without["source"])["absent"] == ["large"]
    assert whole["large"] == large
    assert whole.get(ABSENT) is None
    assert null["large"] is None
    assert null.get(ABSENT) is None
    assert json.loads(null["before"])["large"] == large


async def test_columns_may_change_while_it_runs(source: Source, tmp_path: Path) -> None:
    """Rows are read as their table was when they were written, also if it has changed since."""
    source.run("CREATE TABLE rows (id int PRIMARY KEY, a int)")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        task = await began(reader)
        source.run("INSERT INTO rows VALUES (1, 1)")
        source.run("ALTER TABLE rows ADD b text DEFAULT 'new'")
        source.run("INSERT INTO rows VALUES (2, 2)")
        source.run("ALTER TABLE rows ALTER a TYPE text")
        source.run("INSERT INTO rows VALUES (3, 'three')")
        source.run("ALTER TABLE rows DROP b")
        source.run("ALTER TABLE rows RENAME a TO c")
        source.run("INSERT INTO rows VALUES (4, 'four')")
        source.run("ALTER TABLE rows RENAME TO others")
        source.run("INSERT INTO others VALUES (5, 'five')")
        first = await task
        await first.ack()
        found = first.batch.to_pylist()
        found += await take(reader, 5 - len(found))
    rows = [{key: value for key, value in row.items() if key not in OWN} for row in found]
    assert rows == [
        {"id": 1, "a": 1},
        {"id": 2, "a": 2, "b": "new"},
        {"id": 3, "a": "three", "b": "new"},
        {"id": 4, "c": "four"},
        {"id": 5, "c": "five"},
    ]
    assert [row["source_table"] for row in found] == ["rows"] * 4 + ["others"]


async def test_columns_called_like_ours_are_kept(source: Source, tmp_path: Path) -> None:
    source.run('CREATE TABLE "Odd ""name" (op int PRIMARY KEY, source text)')
    source.run("""INSERT INTO "Odd ""name" VALUES (7, 'mine')""")
    component = source.component('public."Odd ""name"')
    async with reading(component, tmp_path) as (reader, _):
        (row,) = await take(reader, 1)
    assert (row["op"], row["source"], row["__op"], row["source_table"]) == (7, "mine", "r", 'Odd "name')


async def test_a_large_transaction_comes_in_batches_and_goes_on_in_its_middle(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("CREATE TABLE others (id int PRIMARY KEY)")
    component, store = source.component("rows", "others", batch_size=1000), MemoryStore()
    found: list[dict[str, Any]] = []
    async with reading(component, tmp_path, store) as (reader, _):
        task = await began(reader)
        with source.connection.transaction():
            source.run("INSERT INTO rows SELECT generate_series(0, 9999)")
            source.run("INSERT INTO others SELECT generate_series(0, 4999)")
        for number in range(3):
            delivery = await task if number == 0 else await reader.read()
            assert delivery.batch.num_rows <= 2000
            found += delivery.batch.to_pylist()
            await delivery.ack()
        await reader.read()  # and never acked
    assert len(found) < 10_000
    async with reading(component, tmp_path, store) as (reader, _):
        found += await take(reader, 15_000 - len(found))
        source.run("INSERT INTO rows VALUES (10000)")
        found += await take(reader, 1)
    assert [row["id"] for row in found] == [*range(10_000), *range(5000), 10_000]


async def test_tables_take_turns_in_the_order_of_the_commits(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE a (id int PRIMARY KEY)")
    source.run("CREATE TABLE b (id int PRIMARY KEY)")
    async with reading(source.component("a", "b"), tmp_path) as (reader, _):
        task = await began(reader)
        for number in range(20):
            source.run(f"INSERT INTO {'ab'[number % 2]} VALUES ({number})")
        first = await task
        await first.ack()
        batch = attach(first.batch, first.origin)
        assert dict(batch.column("__meta_ext")[0].as_py()) == {"schema": "public", "table": "a"}
        found = first.batch.to_pylist()
        found += await take(reader, 20 - len(found))
    assert [row["id"] for row in found] == list(range(20))


async def test_only_what_is_durable_is_confirmed(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (0)")
    component = source.component("rows", batch_size=1)
    async with reading(component, tmp_path) as (reader, _):
        await take(reader, 1)
        before = source.confirmed()
        source.run("INSERT INTO rows VALUES (1)")
        source.run("INSERT INTO rows VALUES (2)")
        first, second = await reader.read(), await reader.read()
        await second.ack()
        await asyncio.to_thread(source.run, "SELECT pg_sleep(0.6)")
        assert source.confirmed() == before
        await first.ack()
        await until(lambda: source.confirmed() > before)


async def test_changes_that_are_not_published_do_not_fill_the_disk(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("CREATE TABLE noise (id int)")
    async with reading(source.component("rows", status_interval="100ms"), tmp_path) as (reader, _):
        task = await began(reader)
        source.run("INSERT INTO noise SELECT generate_series(1, 10000)")
        ((reached,),) = source.run("SELECT (pg_current_wal_lsn() - '0/0')::int8")
        await until(lambda: source.confirmed() >= reached)
        task.cancel()
    assert source.confirmed() >= reached


async def test_progress_shows_the_wal_that_is_kept(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    async with reading(source.component("rows", max_kept_wal=0), tmp_path) as (reader, _):
        task = await began(reader)
        await until(lambda: reader.progress().trouble)
        progress = reader.progress()
        task.cancel()
    assert list(progress.partitions) == [f"{source.slot} (WAL kept)"]
    assert "which fills its disk" in progress.trouble


async def test_opening_alone_makes_no_slot(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    async with reading(source.component("rows"), tmp_path):
        pass
    assert source.slots() == []


async def test_a_slot_of_somebody_else_is_not_touched(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run(f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput')")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        with pytest.raises(PermanentError, match="this stream has read nothing of it"):
            await reader.read()
    assert source.slots() == [(False,)]


async def test_a_slot_of_another_kind_is_refused(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run(f"SELECT pg_create_logical_replication_slot('{source.slot}', 'test_decoding')")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        with pytest.raises(PermanentError, match="test_decoding"):
            await reader.read()


async def test_a_slot_that_is_gone_is_told(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (1)")
    store = MemoryStore()
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        await take(reader, 1)
    source.drop_slot()
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        with pytest.raises(PermanentError, match="is gone"):
            await reader.read()
    gaps: list[str] = []
    again = source.component("rows", when_lost="snapshot")
    async with reading(again, tmp_path, store, note_gap=gaps.append) as (reader, _):
        assert [row["op"] for row in await take(reader, 1)] == ["r"]
    assert "is gone" in gaps[0]


async def test_a_slot_that_was_invalidated_is_told(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (1)")
    store = MemoryStore()
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        await take(reader, 1)
    await until(lambda: source.slots() == [(False,)])
    source.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    source.run("SELECT pg_reload_conf()")
    for number in range(4):
        source.run(f"INSERT INTO rows VALUES ({number + 2})")
        source.run("SELECT pg_switch_wal()")
    source.run("CHECKPOINT")
    source.run("ALTER SYSTEM RESET max_slot_wal_keep_size")
    source.run("SELECT pg_reload_conf()")
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        with pytest.raises(PermanentError, match="invalidated"):
            await reader.read()
    gaps: list[str] = []
    again = source.component("rows", when_lost="snapshot")
    async with reading(again, tmp_path, store, note_gap=gaps.append) as (reader, _):
        assert [row["id"] for row in await take(reader, 5)] == [1, 2, 3, 4, 5]
    assert "invalidated" in gaps[0]


async def test_a_slot_that_was_moved_by_another_is_told(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (1)")
    store, gaps = MemoryStore(), list[str]()
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        await take(reader, 1)
        task = await began(reader)
        source.run("INSERT INTO rows VALUES (2)")
        await (await task).ack()
    source.run("INSERT INTO rows VALUES (3)")
    await until(lambda: source.slots() == [(False,)])
    source.run(f"SELECT pg_replication_slot_advance('{source.slot}', pg_current_wal_lsn())")
    async with reading(source.component("rows"), tmp_path, store, note_gap=gaps.append) as (reader, _):
        task = await began(reader)
        source.run("INSERT INTO rows VALUES (4)")
        assert (await task).batch.to_pylist()[0]["id"] == 4
    assert "another reader" in gaps[0]


async def test_a_slot_that_is_read_elsewhere_is_waited_for(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (1)")
    store = MemoryStore()
    async with reading(source.component("rows"), tmp_path, store) as (reader, context):
        await take(reader, 1)
        await context.ledger.flush()
        task = await began(reader)
        async with reading(source.component("rows"), tmp_path, store) as (second, _):
            with pytest.raises(ConnectionLost, match="active"):
                await second.read()
        task.cancel()


async def test_a_temporary_slot_ends_with_the_connection(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows VALUES (1)")
    store, gaps = MemoryStore(), list[str]()
    component = source.component("rows", temporary=True)
    async with reading(component, tmp_path, store) as (reader, _):
        await take(reader, 1)
        assert source.slots() == [(True,)]
    await until(lambda: source.slots() == [])
    async with reading(component, tmp_path, store, note_gap=gaps.append) as (reader, _):
        assert len(await take(reader, 1)) == 1
    assert "temporary" in gaps[0]


async def test_a_publication_without_the_table_is_refused(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("CREATE TABLE others (id int PRIMARY KEY)")
    source.run("CREATE PUBLICATION penstock FOR TABLE others")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        with pytest.raises(PermanentError, match="ADD TABLE rows"):
            await reader.read()
    assert source.slots() == []


async def test_a_table_that_could_not_be_changed_any_more_is_not_published(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int)")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        with pytest.raises(PermanentError, match="REPLICA IDENTITY FULL"):
            await reader.read()
    assert source.run("SELECT 1 FROM pg_publication") == []


async def test_only_published_columns_and_rows_are_read(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE people (id int PRIMARY KEY, name text, password text)")
    source.run("CREATE PUBLICATION penstock FOR TABLE people (id, name) WHERE (id > 1)")
    source.run("INSERT INTO people VALUES (1, 'a', 'secret'), (2, 'b', 'secret')")
    async with reading(source.component(), tmp_path) as (reader, _):
        found = await take(reader, 1)
        source.run("INSERT INTO people VALUES (-1, 'c', 'secret'), (3, 'd', 'secret')")
        found += await take(reader, 1)
    assert [row["name"] for row in found] == ["b", "d"]
    assert "secret" not in str(found)


async def test_a_partitioned_table_is_one_table(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    source.run("CREATE TABLE low PARTITION OF rows FOR VALUES FROM (0) TO (10)")
    source.run("CREATE TABLE high PARTITION OF rows FOR VALUES FROM (10) TO (20)")
    source.run("INSERT INTO rows VALUES (1), (11)")
    async with reading(source.component("rows"), tmp_path) as (reader, _):
        found = await take(reader, 2)
        source.run("INSERT INTO rows VALUES (2), (12)")
        found += await take(reader, 2)
    assert sorted(row["id"] for row in found) == [1, 2, 11, 12]
    assert {row["source_table"] for row in found} == {"rows"}


async def test_a_snapshot_that_was_begun_is_begun_anew_and_one_that_was_read_goes_on(
    source: Source, tmp_path: Path
) -> None:
    """A crash while the slot is made leaves a slot that is ours; after that, rows come from the files."""
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    source.run("INSERT INTO rows SELECT generate_series(0, 9)")
    component = source.component("rows", batch_size=2)
    folder = tmp_path / "snapshots" / "test"
    async with reading(component, tmp_path) as (reader, _):
        await reader.read()  # and never acked
    source.run("INSERT INTO rows VALUES (10)")
    store = MemoryStore()
    async with reading(component, tmp_path, store) as (reader, _):
        assert [row["id"] for row in await take(reader, 4)] == [0, 1, 2, 3]
    async with reading(component, tmp_path, store) as (reader, _):
        found = await take(reader, 7)
        assert [row["id"] for row in found] == list(range(4, 11))
        assert [row["op"] for row in found] == ["r"] * 6 + ["c"]
    manifest = json.loads((folder / "snapshot.json").read_text()) if folder.exists() else {}
    assert folder.stat().st_mode & 0o077 == 0 if folder.exists() else True
    source.drop_slot()
    source.run(f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput')")
    folder.mkdir(parents=True, exist_ok=True)
    begun = {"system": manifest.get("system") or _system(source), "slot": source.slot}
    (folder / "snapshot.json").write_text(json.dumps(begun))
    async with reading(component, tmp_path) as (reader, _):
        assert [row["op"] for row in await take(reader, 11)] == ["r"] * 11


def _system(source: Source) -> str:
    ((found,),) = source.run("SELECT system_identifier::text FROM pg_control_system()")
    return found


async def test_a_position_of_another_server_is_refused(source: Source, tmp_path: Path) -> None:
    source.run("CREATE TABLE rows (id int PRIMARY KEY)")
    store = MemoryStore()
    await store.save({"test": {"position": {"system": "1", "slot": source.slot, "lsn": 5}, "rows": 0}})
    async with reading(source.component("rows"), tmp_path, store) as (reader, _):
        with pytest.raises(ConfigError, match="of the server 1"):
            await reader.read()


async def test_without_logical_decoding_it_says_what_to_set(postgres_database: str, tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context:
        with pytest.raises(PermanentError, match="ALTER SYSTEM SET wal_level"):
            await PostgresCdc(url=postgres_database).open(context).__aenter__()


async def test_who_may_not_replicate_is_told_so_without_the_password(source: Source, tmp_path: Path) -> None:
    source.run("CREATE ROLE reader LOGIN PASSWORD 'hunter2secret'")
    url = source.url.replace(source.url.split("//")[1].split("@")[0], "reader:hunter2secret")
    async with lend_context(tmp_path) as context:
        with pytest.raises((PermanentError, ConnectionLost), match=r"(?i)replication") as refusal:
            await PostgresCdc(url=url).open(context).__aenter__()
    assert "hunter2secret" not in str(refusal.value)


ARRAYS = st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))))


@pytest.fixture(scope="module")
def connection(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url, autocommit=True) as made:
        yield made


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example(values=[";", "{", "}", ",", "null", "", " ", "\\", '"', None])
@given(values=ARRAYS)
def test_any_array_of_texts_is_read_as_it_is(connection: psycopg.Connection[Any], values: list[str | None]) -> None:
    ((printed,),) = connection.execute("SELECT (%s::text[])::text", (values,)).fetchall()
    (found,) = convert(pa.array([printed]), Kind("text", TEXT, is_array=True)).to_pylist()
    assert json.loads(found) == values


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "mysql://x"}, "postgresql://"),
        ({"slot": "Not-A-Slot"}, "pattern"),
        ({"snapshot": "sometimes"}, "initial"),
        ({"tabels": ["a"]}, "did you mean 'tables'"),
        ({"linger": "5s"}, "less than or equal"),
        ({"codec": "json"}, "changes have columns"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PostgresCdc(**{"url": "postgresql://u:p@h/d", **options})
