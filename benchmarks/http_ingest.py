"""Rows over HTTP, answered once they are durable, under the load of wrk in another process."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cache, readings
from .case import Case, Sample, Unavailable, peak_memory, processor_seconds
from .server import running, wait_for

_SECONDS, _WARM_SECONDS = 5, 1
_LINES = 1000
_STREAM = """
data: {data}
health_check: {{address: "{address}"}}
streams:
  - id: ingest
    input: {{type: http, address: "{address}", path: /events, codec: json}}
    durability: {{}}
    output: {output}
"""
_OUTPUTS = {
    "drop": "{type: drop}",
    "sqlite": '{{type: sql, url: "sqlite:///{folder}/rows.db", table_name: events}}',
}
_LUA = """
local file = io.open({body!r}, "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = {kind!r}
file:close()
done = function(summary, latency, requests)
  io.write(string.format(
    '\\n{{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
      + summary.errors.timeout))
end
"""


def _require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise Unavailable("wrk is not installed; install it with: apt-get install wrk")


def _load(folder: Path, url: str, rows: int, connections: int, seconds: int) -> dict[str, float]:
    """Post requests of so many rows for a while; returns what wrk found."""
    kind = "application/x-ndjson" if rows > 1 else "application/json"
    body = folder / f"body-{rows}"
    with readings.readings().open("rb") as lines:
        body.write_bytes(b"".join(next(lines) for _ in range(rows)))
    script = folder / f"post-{rows}.lua"
    script.write_text(_LUA.format(body=str(body), kind=kind))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert not found["failed"], f"{found['failed']:.0f} of {found['requests']:.0f} requests failed:\n{done.stdout}"
    return found


def _under_load(folder: Path, url: str, pid: int, rows: int, connections: int) -> Sample:
    _load(folder, url, rows, connections, _WARM_SECONDS)
    cpu = processor_seconds(pid)
    found = _load(folder, url, rows, connections, _SECONDS)
    cpu = processor_seconds(pid) - cpu
    notes = {"p50 ms": found["p50"], "p99 ms": found["p99"], "server CPU us/request": cpu / found["requests"] * 1e6}
    notes["requests"] = found["requests"]
    return Sample(rows * found["requests"] / found["seconds"], cpu, peak_memory(pid), notes)


def _penstock(output: str, rows: int, connections: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        from penstock.testing.servers import free_port

        address = f"127.0.0.1:{free_port()}"
        written = _OUTPUTS[output].format(folder=folder) if output == "sqlite" else _OUTPUTS[output]
        file = folder / "stream.yaml"
        file.write_text(_STREAM.format(data=folder / "data", address=address, output=written))
        log = folder / "log"
        with running([sys.executable, "-m", "penstock", "run", str(file)], log) as pid:
            wait_for(f"http://{address}/readiness", pid, log)
            sample = _under_load(folder, f"http://{address}/events", pid, rows, connections)
            accepted = _rows_in(address)
        answered = sample.notes["requests"] * rows
        assert accepted >= answered, f"{answered} rows were answered 200, {accepted} were read"
        if output == "sqlite":
            _check(folder, accepted)
        return sample

    return measure


def _rows_in(address: str) -> int:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith('penstock_rows_in_total{stream="ingest"}'):
                return int(float(line.rpartition(" ")[2]))
    raise RuntimeError("/metrics does not tell how many rows came in")


def _check(folder: Path, accepted: int) -> None:
    """Every row that was answered 200 is in the table once the server has ended."""
    with sqlite3.connect(folder / "rows.db") as connection:
        found = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    assert found >= accepted, f"{accepted} rows were accepted, {found} are in the table"


_APP = "benchmarks.http_ingest:bare"


async def bare(scope, receive, send):  # type: ignore[no-untyped-def]
    """The least an application can do: read the body, check that it is JSON, answer."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, answer = 200, b'{"accepted":1}'
    if body:
        try:
            _decode(body)
        except ValueError:
            status = 400
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _decode(body: bytes) -> object:
    import msgspec

    return msgspec.json.Decoder().decode_lines(body)


@contextmanager
def _uvicorn(folder: Path) -> Iterator[tuple[str, int]]:
    from penstock.testing.servers import free_port

    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "uvicorn", _APP, "--port", str(port), "--no-access-log"]
    with running(command, log, {"PYTHONPATH": str(cache.ROOT)}) as pid:
        wait_for(f"http://127.0.0.1:{port}/", pid, log)
        yield f"http://127.0.0.1:{port}/", pid


def _bare(rows: int, connections: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        with _uvicorn(folder) as (url, pid):
            return _under_load(folder, url, pid, rows, connections)

    return measure


def _cases(what: str, suffix: str, rows: int, connections: int, reach: float, p99: float | None) -> list[Case]:
    unit = "rows/s" if rows > 1 else "req/s"
    limits = {"p99 ms": p99} if p99 else {}
    return [
        Case(
            f"http-{suffix}",
            "http",
            f"Penstock: {what} -> write-ahead log -> drop",
            unit,
            _penstock("drop", rows, connections),
            reach=reach,
            limits=limits,
            warm=_require_wrk,
        ),
        Case(
            f"http-{suffix}-sqlite",
            "http",
            f"Penstock: {what} -> write-ahead log -> SQLite",
            unit,
            _penstock("sqlite", rows, connections),
            warm=_require_wrk,
        ),
        Case(
            f"http-{suffix}-bare",
            "http",
            f"bare ASGI and msgspec on uvicorn: {what}, kept nowhere",
            unit,
            _bare(rows, connections),
            role="ceiling",
            warm=_require_wrk,
        ),
    ]


CASES = [
    *_cases("JSON Lines, 1000 rows a request, 16 connections", "lines", _LINES, 16, 4e5, None),
    *_cases("one JSON event a request, 64 connections", "events", 1, 64, 12e3, 20),
]
