"""The health service under the load of phones: how fast it promises, stores and answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from . import exports
from .case import Case, Sample, Unavailable, peak_memory, processor_seconds
from .server import running, wait_for

_PAYLOADS = 20
_PHONES, _MINUTES = 50, 5
_MILLION = 1_000_000
_GENEROUS = {f"PENSTOCK_HEALTH_{kind}__REQUESTS": "1000000" for kind in ("INGEST", "READ", "BY_ADDRESS")} | {
    f"PENSTOCK_HEALTH_{kind}__BYTES": "1000000000000" for kind in ("INGEST", "READ", "BY_ADDRESS")
}
"""Limits are on, and counted; they are set where this load does not reach them."""


class Service:
    """A running ``penstock up``, and a key for it."""

    def __init__(self, address: str, key: str, pid: int) -> None:
        self._address, self._headers, self.pid = address, {"authorization": f"Bearer {key}"}, pid
        self._local = threading.local()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._address, timeout=60)
        connection.request(method, path, body, {**self._headers, "content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def get(self, path: str) -> Any:
        """Return the answer to a GET, which must be 200."""
        status, answer = self._ask("GET", path)
        assert status == 200, f"{path}: {status} {answer}"
        return answer

    def post(self, body: bytes) -> tuple[str, float]:
        """Send an export; returns its id, and how long the answer took in ms."""
        began = time.perf_counter()
        status, answer = self._ask("POST", "/api/v1/ingest", body)
        took = (time.perf_counter() - began) * 1000
        assert status in (200, 202), f"{status} {answer}"
        return answer["id"], took

    def wait(self, ingest: str) -> dict[str, Any]:
        """Return the outcome of an ingest, once it is processed."""
        while (answer := self.get(f"/api/v1/ingest/{ingest}"))["state"] not in ("processed", "failed"):
            time.sleep(0.02)
        assert answer["state"] == "processed", answer
        parts = (answer[name] for name in ("stored", "updated", "unchanged", "quarantined"))
        assert answer["received"] == sum(parts), answer
        return dict(answer)


@contextmanager
def _service(folder: Path, database: str) -> Iterator[Service]:
    from penstock.testing.servers import PostgresServer, ServerMissing, free_port

    with ExitStack() as stack:
        environment = dict(_GENEROUS)
        if database == "postgresql":
            try:
                environment["PENSTOCK_DATABASE_URL"] = stack.enter_context(PostgresServer()).url
            except ServerMissing as missing:
                raise Unavailable(str(missing)) from missing
        address, data, log = f"127.0.0.1:{free_port()}", folder / "data", folder / "log"
        command = [sys.executable, "-m", "penstock", "up", "--address", address, "--data", str(data)]
        command += ["--inbox", str(folder / "inbox")]
        pid = stack.enter_context(running(command, log, environment))
        wait_for(f"http://{address}/health/ready", pid, log)
        keys = [sys.executable, "-m", "penstock", "health", "keys", "create", "--name", "bench", "--data", str(data)]
        keys += ["--scope", "ingest", "--scope", "read"]
        made = subprocess.run(keys, check=True, capture_output=True, text=True, env={**os.environ, **environment})
        yield Service(address, made.stdout.strip(), pid)


def _acknowledged(database: str) -> Callable[[Path], Sample]:
    """How long the answer to a payload takes, while nothing else is to be done."""

    def measure(folder: Path) -> Sample:
        with _service(folder, database) as service:
            took: list[float] = []
            for n in range(_PAYLOADS + 2):
                ingest, ms = service.post(exports.body(first_day=4 * n, seed=n))
                service.wait(ingest)
                took.append(ms)
            took = sorted(took[2:])
            return Sample(
                took[int(len(took) * 0.95) - 1], None, peak_memory(service.pid), {"p50 ms": statistics.median(took)}
            )

    return measure


def _stored(database: str) -> Callable[[Path], Sample]:
    """Points stored a second, from the first request to the last commit, payload after payload."""

    def measure(folder: Path) -> Sample:
        bodies = [exports.body(first_day=4 * n, seed=n) for n in range(_PAYLOADS + 1)]
        with _service(folder, database) as service:
            service.wait(service.post(bodies.pop())[0])
            cpu, began = processor_seconds(service.pid), time.perf_counter()
            sent = [service.post(body) for body in bodies]
            outcomes = [service.wait(ingest) for ingest, _ in sent]
            seconds = time.perf_counter() - began
            cpu = processor_seconds(service.pid) - cpu
            points = sum(outcome["stored"] for outcome in outcomes)
            assert points == sum(outcome["received"] for outcome in outcomes)
            notes = {"ack p95 ms": sorted(ms for _, ms in sent)[int(len(sent) * 0.95) - 1]}
            return Sample(points / seconds, cpu, peak_memory(service.pid), notes)

    return measure


def _large(folder: Path) -> Sample:
    """How long the answer to 50 MB takes; the memory is that of storing them, too."""
    body = exports.body(days=126)
    with _service(folder, "sqlite") as service:
        before = peak_memory(service.pid)
        ingest, ms = service.post(body)
        began = time.perf_counter()
        outcome = service.wait(ingest)
        notes = {
            "MB sent": len(body) / 1e6,
            "points/s": outcome["received"] / (time.perf_counter() - began),
            "peak MB": peak_memory(service.pid),
            "idle MB": before,
        }
        return Sample(ms / 1000, None, peak_memory(service.pid), notes)


def _beside(database: str) -> Callable[[Path], Sample]:
    """How long a point takes to be stored while 50 MB of another user's body are."""

    def measure(folder: Path) -> Sample:
        with _service(folder, database) as service:
            large, _ = service.post(exports.body(days=126))
            took: list[float] = []
            while service.get(f"/api/v1/ingest/{large}")["state"] != "processed":
                began = time.perf_counter()
                service.wait(service.post(json.dumps(_small(len(took), 1)).encode())[0])
                took.append((time.perf_counter() - began) * 1000)
            took.sort()
            notes = {"p95 ms": took[int(len(took) * 0.95)], "max ms": took[-1]}
            return Sample(statistics.median(took), None, peak_memory(service.pid), notes)

    return measure


def _phones(database: str) -> Callable[[Path], Sample]:
    """Fifty phones at once, for minutes: nothing is refused, and what was accepted is there."""

    def measure(folder: Path) -> Sample:
        with _service(folder, database) as service:
            until = time.monotonic() + _MINUTES * 60
            sent: list[tuple[str, int, float]] = []
            failures: list[BaseException] = []

            def phone(number: int) -> None:
                day = number * 1000
                try:
                    while time.monotonic() < until:
                        export = _small(day, number)
                        ingest, ms = service.post(json.dumps(export).encode())
                        sent.append((ingest, exports.count(export), ms))
                        day += 1
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=phone, args=(number,)) for number in range(_PHONES)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - began
            assert not failures, failures[0]
            outcomes = [service.wait(ingest) for ingest, _, _ in sent]
            lost = sum(count for _, count, _ in sent) - sum(o["stored"] + o["unchanged"] for o in outcomes)
            took = sorted(ms for _, _, ms in sent)
            notes = {
                "p95 ms": took[int(len(took) * 0.95)],
                "max ms": took[-1],
                "errors": 0.0,
                "points lost": float(lost),
            }
            return Sample(len(sent) / seconds, None, peak_memory(service.pid), notes)

    return measure


def _small(day: int, phone: int) -> dict[str, Any]:
    """About 40 KB: some hours of a day."""
    export = exports.export(days=1, first_day=day % 20000, seed=phone)
    for metric in export["data"]["metrics"]:
        metric["data"] = metric["data"][:37]
        for point in metric["data"]:
            point["source"] = f"phone {phone}"
    return export


def _daily(database: str) -> Callable[[Path], Sample]:
    """A year of minutes, by day."""

    def measure(folder: Path) -> Sample:
        with _service(folder, database) as service:
            points = list(exports.points("step_count", "count", 365 * 1440))
            for first in range(0, len(points), 100_000):
                metric = {"name": "step_count", "units": "count", "data": points[first : first + 100_000]}
                service.wait(service.post(json.dumps({"data": {"metrics": [metric]}}).encode())[0])
            path = "/api/v1/metrics/step_count/aggregate?by=day&timezone=Europe/Berlin&start=2025-01-01&end=2026-01-02"
            took: list[float] = []
            for _ in range(30):
                began = time.perf_counter()
                answer = service.get(path)
                took.append((time.perf_counter() - began) * 1000)
            assert sum(day["count"] for day in answer["data"]) == len(points)
            return Sample(statistics.median(took), None, peak_memory(service.pid), {"p95 ms": sorted(took)[28]})

    return measure


def _million(folder: Path) -> Sample:
    """A million points through the output; reading them is not timed. All are new, then none is."""
    from penstock.apps.health.store.migrations import migrate
    from penstock.apps.health.store.output import Store
    from penstock.apps.health.store.session import Session
    from penstock.platform.database import Database

    with _postgres() as url:
        database = Database.of(url)
        migrate(database)
        store = Store(Session(database))
        notes = {}
        try:
            first = _write(store, folder)
            notes["again s"] = _write(store, folder)
            notes["bytes a point"] = database.call(_room) / _MILLION
        finally:
            store.close()
            database.close()
        return Sample(first, None, peak_memory(), notes)


def _room(connection: Any) -> float:
    """Return how many bytes the points take, with their indexes and the texts beside them."""
    from sqlalchemy import text

    size = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname LIKE 'health_compact%' AND relkind = 'r'"
    )
    return float(connection.scalar(text(size)))


def _write(store: Any, folder: Path) -> float:
    """Write a million points of a metric, minute by minute; returns the seconds of writing alone."""
    from penstock.apps.health.acceptance import Accepted, Outcome
    from penstock.apps.health.export.division import divide
    from penstock.apps.health.export.points import parse
    from penstock.apps.health.export.slices import pack
    from penstock.identifiers import new_id

    seconds = 0.0
    outcomes: list[Outcome] = []
    body = folder / "body"
    for first in range(0, _MILLION, 250_000):
        data = list(exports.points("heart_rate", "count/min", 250_000, first_minute=first))
        body.write_text(json.dumps({"data": {"metrics": [{"name": "heart_rate", "units": "count/min", "data": data}]}}))
        del data
        size = body.stat().st_size
        accepted = Accepted(id=new_id(), user=1, received_at=exports.START, raw="body", bytes=size, sha256="")
        for part in divide(accepted, lambda: body.open("rb"), size):
            rows = parse(pack(part))
            began = time.perf_counter()
            store.write([rows], outcomes)
            seconds += time.perf_counter() - began
    counts = [outcome.counts for outcome in outcomes]
    assert sum(one.received for one in counts) == sum(one.stored + one.unchanged for one in counts) == _MILLION
    return seconds


def _copied(folder: Path) -> Sample:
    """The same columns of a million points, by one COPY into a table without an index."""
    import psycopg

    lines = [
        f"1\theart_rate\t{exports.START + timedelta(minutes=n)}\tWatch\t{n % 90}\tcount/min\n" for n in range(_MILLION)
    ]
    with _postgres() as url, psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE points (user_id bigint, metric text, time timestamptz, source text, value float8, unit text)"
        )
        began = time.perf_counter()
        with connection.cursor().copy("COPY points FROM STDIN") as copy:
            for first in range(0, _MILLION, 10_000):
                copy.write("".join(lines[first : first + 10_000]))
        connection.commit()
        return Sample(time.perf_counter() - began, None, peak_memory())


@contextmanager
def _postgres() -> Iterator[str]:
    from penstock.testing.servers import PostgresServer, ServerMissing

    try:
        with PostgresServer() as server:
            yield server.url
    except ServerMissing as missing:
        raise Unavailable(str(missing)) from missing


def _checked(database: str) -> Callable[[Path], Sample]:
    """How long it takes to know a key again: its state is read each time, its hash was verified once."""

    def measure(folder: Path) -> Sample:
        with ExitStack() as stack:
            url = stack.enter_context(_postgres()) if database == "postgresql" else f"sqlite:///{folder}/penstock.db"
            took = sorted(asyncio.run(_checks(url)))
            return Sample(statistics.median(took), None, peak_memory(), {"p99 ms": took[int(len(took) * 0.99)]})

    return measure


async def _checks(url: str) -> list[float]:
    from penstock.platform.access import keys
    from penstock.platform.access.gate import Gate
    from penstock.platform.access.options import AccessOptions
    from penstock.platform.access.request import AuthRequest
    from penstock.platform.access.schema import SCRIPTS, VERSION_TABLE
    from penstock.platform.access.scopes import Limit, Scope, Scopes
    from penstock.platform.database import Database
    from penstock.platform.migration import migrate

    database = Database.of(url)
    await asyncio.to_thread(migrate, database, SCRIPTS, VERSION_TABLE)
    make = partial(keys.create, name="bench", scopes=["bench.read"])
    made = await asyncio.to_thread(database.call, make)
    headers = [(b"authorization", f"Bearer {made.secret}".encode())]
    scope = {"method": "GET", "headers": headers, "client": ("127.0.0.1", 1)}
    request = AuthRequest.read(scope, "bench.read", "GET /bench", "bench", ())
    unlimited = Limit(requests=10**9, bytes=10**12)
    gate, took = Gate(AccessOptions(by_address=unlimited), Scopes([Scope("bench.read", "", unlimited)]), database), []
    async with gate.open():
        for _ in range(2000):
            began = time.perf_counter()
            await gate.admit(request, is_frequent=True)
            took.append((time.perf_counter() - began) * 1000)
    database.close()
    return took[100:]


def _pair(
    name: str,
    what: str,
    unit: str,
    make: Callable[[str], Callable[[Path], Sample]],
    reach: float,
    more: bool,
    **options: Any,
) -> list[Case]:
    return [
        Case(
            f"health-{name}-{database}",
            "health",
            f"Penstock: {what}, {'SQLite' if database == 'sqlite' else 'PostgreSQL'}",
            unit,
            make(database),
            reach=reach,
            more_is_better=more,
            **options,
        )
        for database in ("sqlite", "postgresql")
    ]


_PAYLOAD = "a payload of 1.7 MB with 16 k points"
CASES = [
    Case(
        "health-million",
        "health",
        "Penstock: 1 M new points are written to PostgreSQL",
        "s",
        _million,
        reach=25,
        more_is_better=False,
        runs=3,
    ),
    Case(
        "health-million-copy",
        "health",
        "one COPY of 1 M rows, no index, no partitions",
        "s",
        _copied,
        role="ceiling",
        more_is_better=False,
        runs=3,
    ),
    *_pair("key", "a key is known again", "ms", _checked, 1, False, runs=3),
    *_pair("ack", f"{_PAYLOAD} is acknowledged, p95", "ms", _acknowledged, 100, False, runs=3),
    *_pair("stored", f"points stored, {_PAYLOAD} after another", "points/s", _stored, 25_000, True, runs=3),
    Case(
        "health-beside",
        "health",
        "Penstock: a small body is stored beside one of 50 MB, SQLite (p50)",
        "ms",
        _beside("sqlite"),
        reach=1000,
        more_is_better=False,
        runs=1,
    ),
    Case(
        "health-large",
        "health",
        "Penstock: a body of 50 MB is acknowledged, SQLite",
        "s",
        _large,
        reach=1,
        more_is_better=False,
        limits={"peak MB": 300},
        runs=3,
    ),
    *_pair("daily", "the daily aggregate over a year of minutes, over HTTP", "ms", _daily, 50, False, runs=1),
    *_pair(
        "phones",
        f"{_PHONES} phones send 40 KB each, again and again for {_MINUTES} minutes",
        "req/s",
        _phones,
        0,
        True,
        runs=1,
        limits={"errors": 0, "points lost": 0},
    ),
]
