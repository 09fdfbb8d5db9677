"""From Redis into ClickHouse, and rows into MongoDB and MariaDB, beside bare inserts of rows that are ready."""

from __future__ import annotations

import asyncio
import io
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .brokers import MESSAGES, fill_redis, run_stream
from .case import Case, Sample, Span, measured, rate
from .write_ahead_log import batch_of

_ROWS, _BATCHES = 8192, 12


async def _clickhouse(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import ClickhouseServer, RedisServer

    server, redis = stack.enter_context(ClickhouseServer()), stack.enter_context(RedisServer())
    await fill_redis(redis)
    stream = {
        "id": "copy",
        "input": {
            "type": "redis",
            "mode": {"type": "single", "url": redis.url},
            "redis_type": {"type": "stream", "streams": ["in"], "field": "value"},
            "codec": "json",
        },
        "output": {
            "type": "clickhouse",
            "url": server.url,
            "username": server.user,
            "password": server.password,
            "table_name": "rows",
        },
    }
    return await run_stream(stream, folder)


def _bare_clickhouse(folder: Path) -> Sample:
    import pyarrow as pa

    from penstock.testing.servers import ClickhouseServer

    batch = batch_of(_ROWS)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    with ClickhouseServer() as server:
        server.query(
            "CREATE TABLE rows (id Int64, sensor String, temperature Float64, at DateTime64(6, 'UTC'), status String) "
            "ENGINE = MergeTree ORDER BY tuple()"
        )
        columns = ", ".join(batch.schema.names)
        query = urllib.parse.urlencode({"query": f"INSERT INTO rows ({columns}) FORMAT ArrowStream"})
        headers = {"X-ClickHouse-User": server.user, "X-ClickHouse-Key": server.password}
        with measured() as span:
            for _ in range(_BATCHES):
                request = urllib.request.Request(f"{server.url}/?{query}", sink.getvalue(), headers)
                urllib.request.urlopen(request, timeout=60).close()
    return rate(_ROWS * _BATCHES, span)


async def _written(folder: Path, output: dict[str, Any]) -> Span:
    from penstock import Output
    from penstock.testing.contexts import lend_context

    batch = batch_of(_ROWS)
    async with lend_context(folder) as context, Output.parse(output).open(context) as writer:
        await writer.write([batch])
        with measured() as span:
            for _ in range(_BATCHES):
                await writer.write([batch])
    return span


async def _mongodb(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import MongodbServer

    server = stack.enter_context(MongodbServer())
    return await _written(folder, {"type": "mongodb", "uri": server.url, "database": "bench", "collection": "rows"})


async def _mariadb(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import MariadbServer

    server = stack.enter_context(MariadbServer())
    return await _written(folder, {"type": "sql", "url": server.url, "table_name": "rows"})


def _bare_mongodb(folder: Path) -> Sample:
    import pymongo

    from penstock.testing.servers import MongodbServer

    rows = batch_of(_ROWS).to_pylist()
    with MongodbServer() as server:
        client: Any = pymongo.MongoClient(server.url)
        with measured() as span:
            for _ in range(_BATCHES):
                client["bench"]["rows"].insert_many([dict(row) for row in rows], ordered=False)
        client.close()
    return rate(_ROWS * _BATCHES, span)


def _measuring(work: Callable[[Path, ExitStack], Any], rows: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import uvloop

        with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return rate(rows, runner.run(work(folder, stack)))

    return measure


def _case(name: str, what: str, measure: Callable[[Path], Sample], **more: Any) -> Case:
    return Case(name, "output", what, "rows/s", measure, **more)


_WRITTEN = _ROWS * _BATCHES
CASES = [
    _case("redis-clickhouse", "Penstock: Redis stream to ClickHouse", _measuring(_clickhouse, MESSAGES), reach=6e4),
    _case("clickhouse-bare", "bare inserts of ready Arrow", _bare_clickhouse, role="ceiling"),
    _case("output-mongodb", "Penstock: MongoDB, 8192 rows a write", _measuring(_mongodb, _WRITTEN)),
    _case("output-mongodb-bare", "pymongo insert_many of ready rows", _bare_mongodb, role="ceiling"),
    _case("output-mariadb", "Penstock: MariaDB, 8192 rows a write", _measuring(_mariadb, _WRITTEN)),
]
