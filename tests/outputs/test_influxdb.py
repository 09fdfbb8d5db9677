from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp.web
import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Output
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from penstock.outputs.influxdb import Influxdb
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import InfluxdbServer
from penstock.testing.suites.outputs import OutputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server


def writing(server: InfluxdbServer, measurement: Any, *, port: int | None = None, **options: Any) -> Influxdb:
    given = {
        "url": f"http://127.0.0.1:{port or server.port}",
        "version": 1,
        "database": server.database,
        "username": server.user,
        "password": server.password,
        "measurement": measurement,
        **options,
    }
    return Influxdb.model_validate(given)


def _read(server: InfluxdbServer, measurement: str) -> list[dict[str, Any]]:
    quoted = measurement.replace("\\", "\\\\").replace('"', '\\"')
    series = server.query(f'SELECT * FROM "{quoted}"')
    return [
        {name: value for name, value in zip(each["columns"], row, strict=True) if value is not None}
        for each in series
        for row in each["values"]
    ]


async def read(server: InfluxdbServer, measurement: str) -> list[dict[str, Any]]:
    return await asyncio.to_thread(_read, server, measurement)


class TestPoints(OutputSuite):
    refuses = False
    rejects_rows = True
    refused_types = frozenset({"binary"})  # which is no text in UTF-8

    @pytest.fixture
    def component(self, shared_influxdb_server: InfluxdbServer) -> Output:
        self.server, self.measurement = shared_influxdb_server, uuid.uuid4().hex
        return writing(self.server, self.measurement)

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        rows = await read(self.server, self.measurement)
        return [{name: value for name, value in row.items() if name != "time"} for row in rows]

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        return sample(0, 3).append_column("bad", pa.array([1.5, float("inf"), None])), {1}


async def write(server: InfluxdbServer, folder: Path, measurement: str, *batches: Batch, **options: Any) -> None:
    async with lend_context(folder) as context, writing(server, measurement, **options).open(context) as writer:
        for batch in batches:
            await writer.write([batch])


async def test_typed_conflicts_are_the_error_of_their_row(
    shared_influxdb_server: InfluxdbServer, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex
    await write(shared_influxdb_server, tmp_path, name, pa.record_batch({"v": ["text"]}))
    rows = pa.record_batch({"m": ["other" + name, name, "other" + name], "v": [1, 2, 3]})
    output = writing(shared_influxdb_server, {"type": "expr", "expr": "m"}, fields=[{"field": "v"}])
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        with pytest.raises(RowsRejected) as refused:
            await writer.write([rows])
        assert set(refused.value.reasons) == {1}
        assert "type conflict" in refused.value.reasons[1]
        await writer.write([rows.take(pa.array([0, 2]))])
    assert [row["v"] for row in await read(shared_influxdb_server, "other" + name)] == [1, 3]


async def test_names_and_texts_are_escaped(shared_influxdb_server: InfluxdbServer, tmp_path: Path) -> None:
    name = 'a, b=c "d" \\e'
    text = 'quote" back\\slash, = \n line é😀\\'
    rows = pa.record_batch({"t": ["x, y=z\\ w", ""], 'f, =" g': [text, text], "n": [1, 2]})
    await write(shared_influxdb_server, tmp_path, name, rows, tags=[{"field": "t", "tag_name": "tag, ="}])
    found = await read(shared_influxdb_server, name)
    assert [{key: value for key, value in row.items() if key != "time"} for row in found] == [
        {"tag, =": "x, y=z\\ w", 'f, =" g': text, "n": 1},
        {'f, =" g': text, "n": 2},
    ]


async def test_points_with_a_time_are_there_once(shared_influxdb_server: InfluxdbServer, tmp_path: Path) -> None:
    name, moment = uuid.uuid4().hex, datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
    rows = pa.record_batch({"at": [moment, moment + datetime.timedelta(seconds=1)], "v": [1, 2]})
    for _ in range(2):
        await write(shared_influxdb_server, tmp_path, name, rows, timestamp_field="at")
    found = await read(shared_influxdb_server, name)
    assert [row["v"] for row in found] == [1, 2]
    assert found[0]["time"] == 1709208000123456000


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        ({"v": [float("nan")]}, {}, "no finite number"),
        ({"v": pa.array([None], pa.int64())}, {}, "no field"),
        ({"w": pa.array([None, 1], pa.int64()), "v": pa.array([None, 2], pa.int64())}, {}, "row 0: it has no field"),
        ({"v": [1], "at": pa.array([None], pa.timestamp("us"))}, {"timestamp_field": "at"}, "time is null"),
        ({"v": [1], "t": ["a\\"]}, {"tags": [{"field": "t"}]}, "backslash"),
        ({"v": [1], "t": ["a\nb"]}, {"tags": [{"field": "t"}]}, "line break"),
        ({"v": ["x"]}, {"fields": [{"field": "v", "field_type": "float"}]}, "expected a number"),
        ({"v": pa.array([2**64 - 1], pa.uint64())}, {}, "whole number"),
    ],
)
async def test_rows_without_a_form_are_refused(
    shared_influxdb_server: InfluxdbServer, tmp_path: Path, columns: Any, options: Any, reason: str
) -> None:
    with pytest.raises(RowsRejected, match=reason):
        await write(shared_influxdb_server, tmp_path, "m", pa.record_batch(columns), **options)


async def test_null_fields_and_tags_are_left_out(shared_influxdb_server: InfluxdbServer, tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    rows = pa.record_batch({"t": ["a", None, "c"], "v": [1, None, 3], "w": [None, 2, 3]})
    await write(shared_influxdb_server, tmp_path, name, rows, tags=[{"field": "t"}])
    found = [
        {key: value for key, value in row.items() if key != "time"} for row in await read(shared_influxdb_server, name)
    ]
    assert found == [{"t": "a", "v": 1}, {"w": 2}, {"t": "c", "v": 3, "w": 3}]


async def test_a_column_that_influxdb_would_drop_is_refused(
    shared_influxdb_server: InfluxdbServer, tmp_path: Path
) -> None:
    with pytest.raises(PermanentError, match="'time'"):
        await write(shared_influxdb_server, tmp_path, "m", pa.record_batch({"time": [1], "v": [1]}))


async def test_a_server_that_is_cut_off_killed_or_frozen_loses_and_doubles_nothing(
    influxdb_server: InfluxdbServer, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(influxdb_server.port) as proxy, lend_context(tmp_path) as context:
        output = writing(influxdb_server, "rows", port=proxy.port, timeout="2s", timestamp_field="id")
        async with output.open(context) as writer:

            async def write_through(batches: list[Batch]) -> None:
                async def is_written() -> bool:
                    try:
                        await writer.write(batches)
                    except (TransientError, ConnectionLost):
                        return False
                    return True

                await until(is_written)

            await write_through([sample(1, 10)])
            await proxy.cut()
            await write_through([sample(11, 10)])
            await asyncio.to_thread(influxdb_server.kill)
            with pytest.raises((TransientError, ConnectionLost)):
                await writer.write([sample(21, 10)])
            await asyncio.to_thread(influxdb_server.start)
            await write_through([sample(21, 10)])
            influxdb_server.pause()
            task = asyncio.ensure_future(write_through([sample(31, 10)]))
            await asyncio.sleep(0.1)
            influxdb_server.resume()
            await task
    assert [row["time"] for row in await read(influxdb_server, "rows")] == list(range(1, 41))


@pytest.mark.parametrize("options", [{"password": "not-the-password"}, {"database": "missing"}])
async def test_what_somebody_can_mend_is_waited_for_without_a_secret(
    shared_influxdb_server: InfluxdbServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(TransientError) as refused:
        await write(shared_influxdb_server, tmp_path, "m", sample(0, 1), **options)
    assert "not-the-password" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "path", "query", "authorization"),
    [
        (
            {"version": 2, "org": "o", "bucket": "b", "token": "sesame-sesame"},
            "/api/v2/write",
            {"org": "o", "bucket": "b", "precision": "ns"},
            "Token sesame-sesame",
        ),
        (
            {"version": 3, "database": "d", "token": "sesame-sesame"},
            "/api/v3/write_lp",
            {"db": "d", "precision": "nanosecond", "accept_partial": "false"},
            "Bearer sesame-sesame",
        ),
    ],
)
async def test_versions_2_and_3_are_asked_in_their_own_way(
    tmp_path: Path, options: dict[str, Any], path: str, query: dict[str, str], authorization: str
) -> None:
    """By a double, since there is no package of these servers: it answers as they do."""
    seen: list[tuple[str, dict[str, str], str | None, str]] = []
    statuses = iter([429, 401, 204])

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        told = request.headers.get("Authorization")
        seen.append((request.path, dict(request.query), told, await request.text()))
        return aiohttp.web.Response(status=next(statuses), text='{"code": "x", "message": "sesame-sesame"}')

    application = aiohttp.web.Application()
    application.router.add_post("/{rest:.*}", answer)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    output = Influxdb.model_validate({"url": f"http://127.0.0.1:{port}", "measurement": "m", **options})
    rows = [pa.record_batch({"u": pa.array([7], pa.uint64()), "b": [True], "s": ["x"]})]
    try:
        async with lend_context(tmp_path) as context, output.open(context) as writer:
            for _ in range(2):
                with pytest.raises(TransientError) as refused:
                    await writer.write(rows)
                assert "sesame" not in str(refused.value)
            await writer.write(rows)
    finally:
        await runner.cleanup()
    assert {one[:3] for one in [(p, tuple(q.items()), a) for p, q, a, _ in seen]} == {
        (path, tuple(query.items()), authorization)
    }
    assert len({body for *_, body in seen}) == 1
    assert seen[0][3].startswith('m u=7u,b=true,s="x" ')


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "needs `org`"),
        ({"version": 1}, "needs `database`"),
        ({"version": 3, "database": "d", "org": "o"}, "not for version 3"),
        ({"org": "o", "bucket": "b", "tags": [{"field": "time"}]}, "would drop it"),
        ({"org": "o", "bucket": "b", "tags": [{"field": "a"}], "fields": [{"field": "a"}]}, "two fields"),
        ({"org": "o", "bucket": "b", "codec": "json"}, "a point has fields"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Influxdb.model_validate({"url": "http://127.0.0.1:8086", "measurement": "m", **options})


def test_the_documented_options_of_others_are_taken() -> None:
    Influxdb.model_validate(
        {
            "url": "http://127.0.0.1:8086",
            "org": "o",
            "bucket": "b",
            "token": "t",
            "measurement": "m",
            "fields": [{"field": "v", "field_name": "value", "field_type": "float"}],
            "tags": [{"field": "s", "tag_name": "sensor"}],
            "timestamp_field": "at",
            "batch_size": 1000,
            "flush_interval": 1,
            "retry_count": 3,
            "timeout_ms": 5000,
        }
    )
