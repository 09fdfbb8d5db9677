from __future__ import annotations

import asyncio
import datetime
import io
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.clients.clickhouse import Connection
from penstock.component import Output
from penstock.delivery import Batch
from penstock.errors import ConfigError, ConnectionLost, PenstockError, PermanentError, RowsRejected, TransientError
from penstock.outputs.clickhouse import Clickhouse
from penstock.testing.batches import plain, rows_of, sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import ClickhouseServer
from penstock.testing.suites.outputs import OutputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server
DAY = datetime.date(2024, 2, 29)


def writing(server: ClickhouseServer, table: str, *, port: int | None = None, **options: Any) -> Clickhouse:
    url = f"http://127.0.0.1:{port or server.port}"
    given = {"url": url, "username": server.user, "password": server.password, "table_name": table, **options}
    return Clickhouse.model_validate(given)


def read(server: ClickhouseServer, table: str, columns: str = "*", final: str = "") -> list[dict[str, Any]]:
    """Return the rows of a table, which is empty if there is none."""
    if "(" not in table and server.query(f"EXISTS {table}") == b"0\n":
        return []
    found = server.query(f"SELECT {columns} FROM {table} {final} FORMAT ArrowStream")
    with pa.ipc.open_stream(io.BytesIO(found)) as stream:
        table_read = stream.read_all()
    kinds = [pa.field(one.name, pa.binary() if one.type == pa.string() else one.type) for one in table_read.schema]
    return [
        {name: _text(value) for name, value in plain(row).items()}
        for row in table_read.cast(pa.schema(kinds)).to_pylist()
    ]


def _text(value: Any) -> Any:
    """ClickHouse has one type for text and bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


async def write(server: ClickhouseServer, folder: Path, table: str, *batches: Batch, **options: Any) -> None:
    async with lend_context(folder) as context, writing(server, table, **options).open(context) as writer:
        for batch in batches:
            await writer.write([batch])


class ClickhouseSuite(OutputSuite):
    ordered = False
    rejects_rows = True
    options: dict[str, Any] = {}
    final = ""

    @pytest.fixture
    def component(self, shared_clickhouse_server: ClickhouseServer) -> Output:
        self.server, self.table = shared_clickhouse_server, f"t{uuid.uuid4().hex}"
        return writing(self.server, self.table, **self.options)

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        return await asyncio.to_thread(read, self.server, self.table, "*", self.final)

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        days = pa.array([DAY, datetime.date(1700, 1, 1), None, DAY])
        return sample(0, 4).append_column("day", days), {1}


class TestAppend(ClickhouseSuite):
    pass


class TestReplace(ClickhouseSuite):
    keyed = True
    options = {"key": ["id"]}
    final = "FINAL"


async def test_typed_conflicts_are_the_error_of_their_row(
    shared_clickhouse_server: ClickhouseServer, tmp_path: Path
) -> None:
    table = f"t{uuid.uuid4().hex}"
    shared_clickhouse_server.query(
        f"CREATE TABLE {table} (n Int8, e Nullable(Enum8('a' = 1)), u Nullable(UUID), d Nullable(Date), "
        "t Nullable(DateTime), f Nullable(FixedString(2)), c Nullable(Int64), CONSTRAINT small CHECK n < 100) "
        "ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"
    )
    cases: dict[str, list[Any]] = {
        "n": [1, 300, None, 100],
        "e": ["a", "b"],
        "u": ["61f0c404-5cb3-11e7-907b-a6006ad3dba0", "nonsense"],
        "d": [DAY, datetime.date(1950, 1, 1)],
        "t": [datetime.datetime(2024, 1, 1), datetime.datetime(2200, 1, 1)],
        "f": ["ab", "abc"],
        "c": [1.0, 1.5],
    }
    async with (
        lend_context(tmp_path) as context,
        writing(shared_clickhouse_server, table).open(context) as writer,
    ):
        for name, values in cases.items():
            for bad in values[1:]:
                mixed = [values[0], bad, values[0]]
                columns = {name: mixed} if name == "n" else {"n": [1, 1, 1], name: mixed}
                rows = pa.record_batch({key: pa.array(each) for key, each in columns.items()})
                with pytest.raises(RowsRejected) as refused:
                    await writer.write([rows])
                assert set(refused.value.reasons) == {1}, (name, bad)
                await writer.write([rows.take(pa.array([0, 2]))])
    count = sum(2 * (len(values) - 1) for values in cases.values())
    assert len(read(shared_clickhouse_server, table, "n")) == count


async def test_rows_whose_answer_was_lost_are_not_there_twice(
    shared_clickhouse_server: ClickhouseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, call = f"t{uuid.uuid4().hex}", Connection.call
    lost = iter([True, True, False])

    def losing(self: Connection, query: str, body: bytes = b"", settings: Any = None) -> bytes:
        answer = call(self, query, body, settings)
        if body and next(lost):
            raise ConnectionLost("the answer was lost")
        return answer

    monkeypatch.setattr(Connection, "call", losing)
    batches = [sample(0, 50), sample(50, 10)]
    async with (
        lend_context(tmp_path) as context,
        writing(shared_clickhouse_server, table).open(context) as writer,
    ):
        for _ in range(2):
            with pytest.raises(TransientError):
                await writer.write(batches)
        await writer.write(batches)
    assert sorted(row["id"] for row in read(shared_clickhouse_server, table)) == list(range(60))


async def test_equal_batches_are_rows_of_their_own(shared_clickhouse_server: ClickhouseServer, tmp_path: Path) -> None:
    table = f"t{uuid.uuid4().hex}"
    await write(shared_clickhouse_server, tmp_path, table, sample(0, 3), sample(0, 3))
    assert len(read(shared_clickhouse_server, table)) == 6


async def test_names_are_only_names(shared_clickhouse_server: ClickhouseServer, tmp_path: Path) -> None:
    table = "we`ird \\ \"table's"
    rows = pa.record_batch({"a`b\\": [1], "c.d": [2], "select 'x'": [3]})
    await write(shared_clickhouse_server, tmp_path, table, rows)
    escaped = table.replace("\\", "\\\\").replace("`", "\\`")
    assert read(shared_clickhouse_server, f"`{escaped}`") == rows_of(rows)
    shared_clickhouse_server.query(f"DROP TABLE `{escaped}`")


async def test_nested_columns_that_are_there_take_nested_values(
    shared_clickhouse_server: ClickhouseServer, tmp_path: Path
) -> None:
    table = f"t{uuid.uuid4().hex}"
    shared_clickhouse_server.query(
        f"CREATE TABLE {table} (a Array(Nullable(Int64)), m Map(String, Float64), "
        "t Tuple(x Int64, y Nullable(String)), j JSON) ENGINE = Memory"
    )
    rows = pa.record_batch(
        {
            "a": pa.array([[1, None]]),
            "m": pa.array([[("k", 0.5)]], pa.map_(pa.string(), pa.float64())),
            "t": pa.array([{"x": 1, "y": "z"}]),
            "j": pa.array([{"deep": {"er": [1, 2]}}]),
        }
    )
    await write(shared_clickhouse_server, tmp_path, table, rows)
    (found,) = (
        json.loads(line)
        for line in shared_clickhouse_server.query(f"SELECT * FROM {table} FORMAT JSONEachRow").splitlines()
    )
    assert found["a"] == [1, None]
    assert found["m"] == {"k": 0.5}
    assert found["t"] == {"x": 1, "y": "z"}
    assert [int(each) for each in found["j"]["deep"]["er"]] == [1, 2]
    with pytest.raises(RowsRejected):
        await write(shared_clickhouse_server, tmp_path, table, pa.record_batch({"a": pa.array([["x"]])}))


async def test_what_a_key_would_not_do_is_said(shared_clickhouse_server: ClickhouseServer, tmp_path: Path) -> None:
    table = f"t{uuid.uuid4().hex}"
    await write(shared_clickhouse_server, tmp_path, table, sample(0, 1))
    with pytest.raises(ConfigError, match="ReplacingMergeTree"):
        await write(shared_clickhouse_server, tmp_path, table, sample(0, 1), key=["id"])


async def test_without_create_nothing_is_made(shared_clickhouse_server: ClickhouseServer, tmp_path: Path) -> None:
    table = f"t{uuid.uuid4().hex}"
    with pytest.raises(TransientError, match="there is no table"):
        await write(shared_clickhouse_server, tmp_path, table, sample(0, 1), create=False)
    await write(shared_clickhouse_server, tmp_path, table, sample(0, 1))
    with pytest.raises(PermanentError, match="no column 'more'"):
        await write(shared_clickhouse_server, tmp_path, table, pa.record_batch({"more": [1]}), create=False)


async def test_a_server_that_is_cut_off_killed_or_frozen_loses_and_doubles_nothing(
    clickhouse_server: ClickhouseServer, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(clickhouse_server.port) as proxy, lend_context(tmp_path) as context:
        output = writing(clickhouse_server, "rows", port=proxy.port, timeout="5s")
        async with output.open(context) as writer:

            async def write_through(batches: list[Batch]) -> None:
                """Write as the stream does: the same batches until they are written."""

                async def is_written() -> bool:
                    try:
                        await writer.write(batches)
                    except (TransientError, ConnectionLost):
                        return False
                    return True

                await until(is_written)

            await write_through([sample(0, 10)])
            await proxy.cut()
            await write_through([sample(10, 10)])
            proxy.passing.clear()
            swallowed = [sample(20, 10)]
            task = asyncio.ensure_future(write_through(swallowed))
            await asyncio.sleep(0.1)
            await proxy.cut()
            proxy.passing.set()
            await task
            await asyncio.to_thread(clickhouse_server.kill)
            killed = [sample(30, 10)]
            with pytest.raises(TransientError):
                await writer.write(killed)
            await asyncio.to_thread(clickhouse_server.start)
            await write_through(killed)
            clickhouse_server.pause()
            frozen = asyncio.ensure_future(write_through([sample(40, 10)]))
            await asyncio.sleep(0.1)
            clickhouse_server.resume()
            await frozen
    found = await asyncio.to_thread(read, clickhouse_server, "rows")
    assert sorted(row["id"] for row in found) == list(range(50))


async def test_a_deadline_ends_a_call_that_is_not_answered(
    shared_clickhouse_server: ClickhouseServer, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(shared_clickhouse_server.port) as proxy, lend_context(tmp_path) as context:
        output = writing(shared_clickhouse_server, "never", port=proxy.port, timeout="200ms")
        proxy.passing.clear()
        with pytest.raises(ConnectionLost, match="timeout"):
            async with output.open(context):
                pass
        proxy.passing.set()


async def test_who_may_not_write_is_told_without_the_password(
    shared_clickhouse_server: ClickhouseServer, tmp_path: Path
) -> None:
    with pytest.raises(PenstockError) as refused:
        await write(shared_clickhouse_server, tmp_path, "t", sample(0, 1), password="not-the-password")
    assert isinstance(refused.value, ConnectionLost)
    assert "Authentication" in str(refused.value)
    assert "not-the-password" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "clickhouse://x"}, "expected a URL"),
        ({"url": "http://u:p@x"}, "user and password"),
        ({"tls": {}}, "https"),
        ({"password": "sés"}, "ASCII"),
        ({"tabel": "x"}, "tabel"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Clickhouse.model_validate({"url": "http://127.0.0.1:8123", "table_name": "t", **options})
