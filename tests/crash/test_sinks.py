"""Kill -9 a stream that writes to databases: every row is written, and none of them twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pymysql
import pytest

from penstock.testing.servers import ClickhouseServer, InfluxdbServer, MariadbServer, MongodbServer

from .harness import kill_repeatedly
from .test_kill import SLOW, Lines, running

pytestmark = [pytest.mark.crash, pytest.mark.server, pytest.mark.timeout(600)]
KILLS = 3
Sink = tuple[dict[str, Any], Callable[[], list[int]]]
"""The options of a stream that writes, and what reads all numbers back."""


@contextmanager
def mongodb() -> Iterator[Sink]:
    with MongodbServer() as server:
        client: Any = pymongo.MongoClient(server.url)
        rows = client["tests"]["rows"]
        output = {"type": "mongodb", "uri": server.url, "database": "tests", "collection": "rows"}
        query = "SELECT n AS _id, n FROM flow"
        yield {"output": output, "query": query}, lambda: [row["n"] for row in rows.find()]
        client.close()


@contextmanager
def clickhouse() -> Iterator[Sink]:
    with ClickhouseServer() as server:
        access = {"url": server.url, "username": server.user, "password": server.password}
        output = {"type": "clickhouse", **access, "table_name": "rows", "key": ["n"]}
        yield {"output": output}, lambda: [int(line) for line in server.query("SELECT n FROM rows FINAL").split()]


@contextmanager
def influxdb() -> Iterator[Sink]:
    with InfluxdbServer() as server:
        access = {"url": server.url, "version": 1, "username": server.user, "password": server.password}
        output = {"type": "influxdb", **access, "database": server.database, "measurement": "rows"}
        query = "SELECT n, n AS at FROM flow"

        def found() -> list[int]:
            (series,) = server.query("SELECT n FROM rows")
            return [int(n) for _, n in series["values"]]

        yield {"output": {**output, "timestamp_field": "at"}, "query": query}, found


@contextmanager
def mariadb() -> Iterator[Sink]:
    with MariadbServer() as server:

        def found() -> list[int]:
            access = {"user": server.user, "password": server.password, "database": "penstock"}
            connection = pymysql.connect(host="127.0.0.1", port=server.port, ssl_disabled=True, **access)
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT n FROM `rows`")
                return [n for (n,) in cursor.fetchall()]

        output = {"type": "sql", "url": server.url, "table_name": "rows"}
        yield {"output": output, "checkpoint": "output"}, found


@pytest.mark.parametrize("sink", [mongodb, clickhouse, influxdb, mariadb], ids=lambda sink: sink.__name__)
def test_no_row_is_lost_or_doubled(tmp_path: Path, sink: Any) -> None:
    lines = Lines(tmp_path / "rows.jsonl")
    lines.add(1500)
    with sink() as (options, found):
        query = options.pop("query", "SELECT n FROM flow")
        stream = {
            "id": "copy",
            "input": {"type": "file", "path": str(lines.path), "format": "json", "chunk_size": 2000},
            "pipeline": {"thread_num": 2, "processors": [SLOW, {"type": "sql", "query": query}]},
            "max_in_flight": 4,
            **options,
        }
        with running(tmp_path, stream) as process:
            kill_repeatedly(process, KILLS, random.Random(5), more=lambda: lines.add(200))
            process.start()
            assert process.wait() == 0, process.tail()
        numbers = found()
    print(f"{sink.__name__}: {process.kills} kills, {len(numbers)} rows")
    assert sorted(numbers) == list(range(lines.count))
