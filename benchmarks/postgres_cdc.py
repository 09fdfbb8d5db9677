"""From the changes of PostgreSQL into a file, beside the bare client that receives and drops the same changes."""

from __future__ import annotations

import asyncio
import json
import select
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, Unavailable, measured, rate

_ROWS = 400_000
_ROWS_TIMED = 300
_INTERVAL = 0.01
_TABLE = "CREATE TABLE readings (id bigint PRIMARY KEY, sensor text, celsius float8, at timestamptz, note text)"
_FILL = "SELECT i, 'sensor-' || i %% 100, 20.5, now(), repeat('x', 40) FROM generate_series(%s::int, %s::int) i"


def _serve(stack: ExitStack, *, rows: int) -> Any:
    """A server with a slot, behind which ``rows`` rows were committed, a thousand at once."""
    import psycopg

    from penstock.testing.servers import PostgresServer

    server = stack.enter_context(PostgresServer(wal_level="logical", max_wal_size="4GB"))
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute("CREATE PUBLICATION penstock FOR TABLE readings")
        connection.execute("SELECT pg_create_logical_replication_slot('penstock', 'pgoutput')")
        for start in range(0, rows, 1000):
            connection.execute(f"INSERT INTO readings {_FILL}", (start, start + 999))
    return server


def _engine(server: Any, folder: Path) -> Any:
    from penstock import Configuration, Engine

    stream = {
        "id": "copy",
        "input": {"type": "postgres_cdc", "url": server.url, "snapshot": "never"},
        "output": {"type": "file", "path": str(folder / "out.jsonl")},
    }
    configuration = {"streams": [stream], "data": folder / "data", "health_check": {"enabled": False}}
    return Engine.of(Configuration.model_validate(configuration))


async def _file(folder: Path, stack: ExitStack) -> Sample:
    from penstock.testing.waiting import until

    engine, stop = _engine(_serve(stack, rows=_ROWS), folder), asyncio.Event()
    with measured() as span:
        running = asyncio.ensure_future(engine.run(stop))
        await until(lambda: running.done() or (engine.supervised and engine.supervised[0].metrics.rows_out >= _ROWS))
    stop.set()
    await running
    return rate(_ROWS, span)


async def _bare(folder: Path, stack: ExitStack) -> Sample:
    import psycopg
    from psycopg.conninfo import make_conninfo

    server = _serve(stack, rows=_ROWS)

    def receive() -> Span:
        conninfo = make_conninfo(server.url, replication="database")
        with closing(psycopg.connect(conninfo, autocommit=True)) as connection, measured() as span:
            connection.execute(
                "START_REPLICATION SLOT penstock LOGICAL 0/0 (proto_version '1', publication_names 'penstock')"
            )
            seen, pgconn = 0, connection.pgconn
            while seen < _ROWS:
                select.select([connection.fileno()], [], [])
                pgconn.consume_input()
                while (message := pgconn.get_copy_data(1))[0] > 0:
                    seen += bytes(message[1])[25:26] == b"I"
        return span

    return rate(_ROWS, await asyncio.to_thread(receive))


async def _latency(folder: Path, stack: ExitStack) -> Sample:
    """From the moment a commit returns until the row can be read in the file."""
    server = _serve(stack, rows=0)
    engine, stop = _engine(server, folder), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    committed, appeared = [0.0] * _ROWS_TIMED, [0.0] * _ROWS_TIMED
    writing = asyncio.ensure_future(asyncio.to_thread(_write, server.url, committed))
    path, end = folder / "out.jsonl", 0
    while not all(appeared):
        await asyncio.sleep(0.001)
        if not path.exists():
            continue
        data = path.read_bytes()
        for line in data[end : data.rfind(b"\n") + 1].splitlines():
            appeared[json.loads(line)["id"]] = time.perf_counter()
        end = data.rfind(b"\n") + 1
    await writing
    stop.set()
    await running
    taken = sorted(1000 * max(0.0, there - done) for there, done in zip(appeared, committed, strict=True))
    return Sample(taken[int(0.95 * _ROWS_TIMED)], notes={"median ms": taken[_ROWS_TIMED // 2]})


def _write(url: str, committed: list[float]) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(_ROWS_TIMED):
            connection.execute(f"INSERT INTO readings {_FILL}", (number, number))
            committed[number] = time.perf_counter()
            time.sleep(_INTERVAL)


def _measuring(work: Callable[[Path, ExitStack], Any]) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import uvloop

        with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sample: Sample = runner.run(work(folder, stack))
            return sample

    return measure


def _find() -> None:
    from penstock.testing.servers import ServerMissing, postgres_binaries

    try:
        postgres_binaries()
    except ServerMissing as missing:
        raise Unavailable(str(missing)) from missing


CASES = [
    Case(
        "cdc-file",
        "brokers",
        "PostgreSQL changes -> file, rows of 80 bytes",
        "rows/s",
        _measuring(_file),
        reach=60_000,
        runs=3,
        warm=_find,
    ),
    Case(
        "cdc-bare",
        "brokers",
        "psycopg alone, receiving and dropping the changes",
        "rows/s",
        _measuring(_bare),
        role="ceiling",
        runs=3,
        warm=_find,
    ),
    Case(
        "cdc-latency",
        "brokers",
        "from a commit to its row in the file, p95",
        "ms",
        _measuring(_latency),
        reach=250,
        more_is_better=False,
        runs=3,
        warm=_find,
    ),
]
