"""Servers that do not answer and libraries that do not return: it is seen, and a stop ends the process in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock import ConnectionLost, Context, Engine, Output, PenstockError
from penstock.clients import postgres
from penstock.clients.database import Postgres
from penstock.component import Writer
from penstock.delivery import Batch
from penstock.observe.condition import Condition
from penstock.outputs import memory
from penstock.state.postgres import PostgresStore
from penstock.testing.clock import StandingClock
from penstock.testing.faults import HANG, FaultProxy, Faults, FaultyInput, FaultyOutput, FaultyProcessor
from penstock.testing.forks import Fork
from penstock.testing.servers import PostgresServer, free_port

from .streams import lines, messages, stream, until


def descendants(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from descendants(int(child))


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """A server that does not run, while the kernel goes on taking what is sent to it."""
    assert server._process is not None
    pids = list(descendants(server._process.pid))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Penstock:
    """``penstock run`` in a process of its own, with its health pages; nobody reads what it prints if so wanted."""

    def __init__(self, folder: Path, *streams: dict[str, Any], unread: bool = False) -> None:
        self.folder, self.port, self._unread = folder, free_port(), unread
        configuration = {
            "health_check": {"address": f"127.0.0.1:{self.port}"},
            "data": str(folder / "data"),
            "streams": list(streams),
        }
        (folder / "streams.json").write_text(json.dumps(configuration))
        self.process: subprocess.Popen[bytes] | Fork

    def __enter__(self) -> Penstock:
        program, arguments = ("-m", "penstock"), ["run", str(self.folder / "streams.json")]
        (self.folder / "log").touch()
        if not self._unread:
            self.process = Fork(program, arguments, log=Path(os.devnull), errors=self.folder / "log", cwd=self.folder)
            return self
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if isinstance(self.process, subprocess.Popen) and self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        found = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name}{{")]
        return float(found[0].rpartition(" ")[2]) if found else -1.0

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert self.process.poll() is None, f"it has ended: {self.log}"
            assert time.monotonic() < deadline, f"{what}: {self.get('/health')} {self.log}"
            time.sleep(0.02)

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; returns the exit code and how long it took to end."""
        began = time.monotonic()
        self.process.terminate()
        return self.process.wait(60), time.monotonic() - began


def post(port: int, rows: Sequence[dict[str, Any]]) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/rows", json.dumps(rows).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def count(url: str) -> tuple[int, int]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT n) FROM t").fetchone()
        assert found is not None
        return found


@pytest.mark.server
@pytest.mark.parametrize("checkpoint", ["state", "output"])
def test_a_frozen_database_is_seen_and_a_stop_ends_in_time(
    checkpoint: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    port, url = free_port(), postgres_server.url
    configuration = {
        "id": "s",
        "input": {"type": "http", "address": f"127.0.0.1:{port}", "path": "/rows", "codec": "json"},
        "durability": {},
        "checkpoint": checkpoint,
        "output": {"type": "sql", "url": url, "table_name": "t"},
        "stall_timeout": "500ms",
        "shutdown_timeout": "3s",
    }
    sent = 0
    with Penstock(tmp_path, configuration) as running:
        running.wait_until(lambda: post(port, [{"n": 0}]), "the first row")
        running.wait_until(lambda: running.metric("penstock_lag") == 0, "the first row in the table")
        sent += 1
        with frozen(postgres_server):
            for _ in range(20):
                assert post(port, [{"n": sent}])
                sent += 1
            running.wait_until(lambda: running.get("/health")[0] == 503, "an unwell stream")
            assert "no answer from the output" in running.get("/health")[1]
            assert running.get("/liveness")[0] == 200
            running.wait_until(lambda: running.metric("penstock_stream_up") == 0, "a gauge that says so")
            before = running.metric("penstock_lag")
            for _ in range(5):
                assert post(port, [{"n": sent}])
                sent += 1
            running.wait_until(lambda: running.metric("penstock_lag") >= before + 5, "a lag that moves")
            assert "no answer from the output" in running.log
            code, took = running.stop()
        assert code == 1
        assert took < 20  # without the option it may take 30 s
        assert "not all was written within the shutdown timeout" in running.log
    with Penstock(tmp_path, configuration) as again:
        again.wait_until(lambda: again.metric("penstock_lag") == 0 and count(url)[1] == sent, "all rows")
        assert again.stop()[0] == 0
    assert count(url)[1] == sent
    if checkpoint == "output":
        assert count(url)[0] == sent


@pytest.mark.server
async def test_a_database_whose_answers_are_swallowed_is_left_and_all_rows_are_written_once(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT", 0.3)
    monkeypatch.setattr(postgres, "ASKING_TIMEOUT", 1)
    async with FaultProxy("127.0.0.1", postgres_server.port) as proxy, asyncio.timeout(120):
        url = postgres_server.url.replace(str(postgres_server.port), str(proxy.port))
        source = lines(tmp_path / "in.json", [{"n": n, "text": "x" * 200} for n in range(400)], codec="json")
        output = {"type": "sql", "url": url, "table_name": "t"}
        options = {"input": source, "output": output, "checkpoint": "output", "max_in_flight": 2}
        engine = Engine([stream(**options, stall_timeout="100ms")], data=tmp_path / "data")
        running = asyncio.ensure_future(engine.run())
        await until(lambda: bool(engine.supervised) and engine.supervised[0].metrics.rows_out > 0)
        proxy.passing.clear()
        await until(lambda: "no answer for" in str(engine.supervised[0].status().trouble) or running.done())
        proxy.passing.set()
        await running
    assert await asyncio.to_thread(count, postgres_server.url) == (400, 400)


@pytest.mark.server
async def test_a_stop_before_a_hanging_database_is_open_ends_in_time(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    output = {"type": "sql", "url": postgres_server.url, "table_name": "t"}
    stop = asyncio.Event()
    with frozen(postgres_server):
        engine = Engine([stream(input=messages(3), output=output, shutdown_timeout="1s")], data=tmp_path)
        running = asyncio.ensure_future(engine.run(stop))
        await asyncio.sleep(0.2)
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.wait({running})
    with contextlib.suppress(PenstockError):
        running.result()


@pytest.fixture
def database(postgres_database: str) -> Postgres:
    return Postgres.model_validate({"uri": postgres_database})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT", 0.3)


@pytest.mark.server
@pytest.mark.usefixtures("impatient")
def test_a_call_whose_backend_is_frozen_ends(database: Postgres) -> None:
    connection = postgres.connect(database, "SELECT 1")
    pid = connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(psycopg.OperationalError, match="no answer for"):
            connection.execute("SELECT 2")
    finally:
        os.kill(pid, signal.SIGCONT)
        connection.close()


@pytest.mark.server
def test_a_statement_that_takes_its_time_is_waited_for(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT", 1.0)
    connection = postgres.connect(database, "SELECT 1")
    assert connection.execute("SELECT pg_sleep(3.5), 7").fetchone() == ("", 7)
    connection.close()


@pytest.mark.server
async def test_positions_that_are_not_saved_for_want_of_an_answer_are_saved_later(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.state.postgres.ANSWER_TIMEOUT", 0.3)
    async with PostgresStore.open(postgres_database) as store:
        assert store._connection is not None
        pid = store._connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionLost, match="no answer for"):
                await store.save({"a": 1})
        finally:
            os.kill(pid, signal.SIGCONT)
        await store.save({"a": 2})
        assert await store.load("a") == 2


HANGING: dict[str, Callable[[], dict[str, Any]]] = {
    "writing": lambda: {"output": FaultyOutput(memory.Memory(key="out"), writing=Faults({0: HANG}))},
    "opening": lambda: {"output": FaultyOutput(memory.Memory(key="out"), opening=Faults({0: HANG}))},
    "error output": lambda: {
        "input": {"type": "memory", "messages": ["bad"], "codec": "json"},
        "error_output": FaultyOutput(memory.Memory(key="out"), writing=Faults({0: HANG})),
    },
    "processing": lambda: {"pipeline": [FaultyProcessor(Faults({0: HANG}))]},
}


@pytest.mark.parametrize("hanging", HANGING.values(), ids=HANGING)
async def test_no_progress_while_there_is_work_is_unwell_and_a_stop_ends_in_time(
    hanging: Callable[[], dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"input": messages(5), "stall_timeout": "50ms", "shutdown_timeout": "500ms", **hanging()}
    engine, stop = Engine([stream(**options)], data=tmp_path / "data"), asyncio.Event()
    with caplog.at_level(logging.WARNING):
        running = asyncio.ensure_future(engine.run(stop))
        async with asyncio.timeout(60):
            await until(lambda: bool(engine.supervised) and "no answer" in str(engine.supervised[0].status().trouble))
            await until(lambda: "no answer from the" in caplog.text)
            stop.set()
            await asyncio.wait({running})
    with contextlib.suppress(PenstockError):
        running.result()


async def test_an_input_that_hangs_while_it_is_opened_or_read_ends_with_the_stop(tmp_path: Path) -> None:
    for faults in ({"opening": Faults({0: HANG})}, {"reading": Faults({2: HANG})}):
        source = FaultyInput(messages_input(), **faults)
        engine, stop = Engine([stream(input=source, shutdown_timeout="500ms")], data=tmp_path / "data"), asyncio.Event()
        running = asyncio.ensure_future(engine.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        async with asyncio.timeout(60):
            await running


def messages_input() -> Any:
    from penstock import Input

    return Input.parse(messages(5))


class HangingClose(Output, type="test_hanging_close"):
    """Writes, and never closes."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        class Writing:
            async def write(self, batches: Sequence[Batch]) -> None: ...

        try:
            yield Writing()
        finally:
            await asyncio.get_running_loop().create_future()


async def test_an_output_that_never_closes_ends_with_the_stop(tmp_path: Path) -> None:
    source = {"type": "generate", "context": {"n": 1}, "interval": "1ms", "codec": "json"}
    options = {"input": source, "output": "test_hanging_close", "shutdown_timeout": "500ms"}
    engine, stop = Engine([stream(**options)], data=tmp_path / "data"), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    await until(lambda: bool(engine.supervised) and engine.supervised[0].metrics.rows_out > 0)
    stop.set()
    async with asyncio.timeout(60):
        with pytest.raises(PenstockError, match="shutdown timeout"):
            await running


class Serving:
    """A service that does not end when it is told to."""

    name = "endless"

    def served(self) -> Sequence[tuple[str, str]]:
        return ()

    async def serve(self, context: Context, stop: asyncio.Event) -> None:
        await asyncio.get_running_loop().create_future()


async def test_a_service_that_does_not_end_leaves_the_streams_time_to_end(tmp_path: Path) -> None:
    source = {"type": "generate", "context": {"n": 1}, "interval": "1ms", "codec": "json"}
    one = stream(input=source, output="drop", shutdown_timeout="1s")
    engine, stop = Engine([one], [Serving()], data=tmp_path / "data"), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    await asyncio.sleep(0.1)
    stop.set()
    async with asyncio.timeout(60):
        await running
    assert engine.supervised[0].state == "stopped"


STUCK_IN_C = """
import ctypes, pathlib, penstock
from contextlib import asynccontextmanager
import asyncio

class Stuck(penstock.Output, type="stuck"):
    '''Hang in a library, in the pool of threads that Python waits for when it exits.'''

    @asynccontextmanager
    async def open(self, context):
        class Writing:
            async def write(self, batches):
                pathlib.Path("stuck").touch()
                await asyncio.to_thread(ctypes.{library}(None).sleep, {seconds})

        yield Writing()

from penstock.cli import app
app(["run", "streams.json"])
"""


@pytest.mark.parametrize(
    ("library", "seconds"), [("CDLL", 1000), ("PyDLL", 3)], ids=["a library", "with the interpreter"]
)
def test_a_library_that_does_not_return_does_not_keep_the_process(library: str, seconds: int, tmp_path: Path) -> None:
    configuration = {
        "health_check": {"enabled": False},
        "streams": [{"input": {"type": "memory", "messages": ["1"]}, "output": "stuck", "shutdown_timeout": "1s"}],
    }
    (tmp_path / "streams.json").write_text(json.dumps(configuration))
    (tmp_path / "stuck.py").write_text(STUCK_IN_C.format(library=library, seconds=seconds))
    process = subprocess.Popen([sys.executable, "stuck.py"], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "stuck").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        began = time.monotonic()
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - began < 20 + (seconds if library == "PyDLL" else 0)
    if library == "CDLL":
        assert process.returncode == 1
        assert b"the stop took longer than 1 s" in said


def test_a_reader_of_our_output_that_reads_nothing_does_not_keep_the_process(tmp_path: Path) -> None:
    """Printing hangs, also what is printed last."""
    source = {
        "type": "generate",
        "context": {"text": "x" * 1000},
        "interval": "1ms",
        "batch_size": 100,
        "codec": "json",
    }
    one = {"id": "s", "input": source, "output": "stdout", "shutdown_timeout": "2s", "stall_timeout": "200ms"}
    with Penstock(tmp_path, one, unread=True) as running:
        running.wait_until(lambda: running.get("/health")[0] == 503, "an unwell stream")
        assert "no answer from the output" in running.get("/health")[1]
        code, took = running.stop()
    assert code == 1
    assert took < 20


def test_what_stands_still_is_logged_once_and_again_when_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    clock = StandingClock()
    condition = Condition("s", stall_timeout=10, clock=clock)
    condition.begin("output")
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            clock.now += 1
            condition.look()
        assert condition.trouble == "no answer from the output for 30 s"
        condition.end("output")
        condition.look()
    assert condition.trouble is None
    assert caplog.messages == ["s: no answer from the output for 10 s", "s: the output goes on"]
