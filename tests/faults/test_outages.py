"""Outputs and inputs that are down for a while: order is kept, nothing is lost, and a stop is prompt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import (
    ConnectionLost,
    Context,
    Engine,
    Input,
    Output,
    PenstockError,
    PermanentError,
    Processor,
    RowsRejected,
    TransientError,
)
from penstock.checkpoint import Checkpoint
from penstock.component import Reader, Writer
from penstock.config.configuration import HealthCheck
from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput
from penstock.outputs import memory
from penstock.testing.faults import HANG, FaultProxy, Faults, FaultyInput, FaultyOutput
from penstock.testing.servers import PostgresServer, free_port

from ..crash.harness import Process
from .streams import ERRORS, OUT, letters, lines, messages, numbers, run, run_on, stream, until


def faulty(**faults: Faults) -> FaultyOutput:
    return FaultyOutput(memory.Memory(key="out"), **faults)


@pytest.mark.parametrize("fault", [TransientError("busy"), ConnectionLost("gone"), ConnectionResetError("reset")])
async def test_an_output_that_fails_for_a_while_gets_every_row_in_order(tmp_path: Path, fault: Exception) -> None:
    faults = Faults({n: fault for n in range(3, 60) if n % 3})
    rows = await run(tmp_path, input=messages(300), output=faulty(writing=faults), pipeline=["test_faults_jitter"])
    assert numbers(rows) == list(range(300))
    assert faults.calls > 30


async def test_an_output_that_does_not_open_for_a_while_gets_every_row(tmp_path: Path) -> None:
    opening = Faults.repeated(ConnectionLost("starting"), 8)
    rows = await run(
        tmp_path, input=messages(50), output=faulty(opening=opening, writing=Faults({5: ConnectionLost("gone")}))
    )
    assert numbers(rows) == list(range(50))
    assert opening.calls == 10


async def test_an_answer_that_got_lost_doubles_rows_but_loses_none(tmp_path: Path) -> None:
    rows = await run(
        tmp_path, input=messages(50), output=faulty(written=Faults({1: ConnectionLost("cut"), 4: TransientError("?")}))
    )
    assert sorted(set(numbers(rows))) == list(range(50))


async def test_the_error_output_may_be_down_for_a_while(tmp_path: Path) -> None:
    errors = FaultyOutput(
        memory.Memory(key="errors"),
        opening=Faults.repeated(ConnectionLost("down"), 3),
        writing=Faults.repeated(TransientError("busy"), 5),
    )
    source = {"type": "memory", "messages": ['{"n": 1}', "bad", '{"n": 3}', "worse"], "codec": "json"}
    rows = await run(tmp_path, input=source, error_output=errors)
    assert numbers(rows) == [1, 3]
    assert [letter["payload"] for letter in letters()] == ["bad", "worse"]


async def test_an_error_output_that_refuses_stops_the_stream_and_the_row_is_read_again(tmp_path: Path) -> None:
    errors = FaultyOutput(memory.Memory(key="errors"), writing=Faults({0: PermanentError("no room for letters")}))
    source = lines(tmp_path / "in.json", [{"n": 1}, "bad", {"n": 3}])
    with pytest.raises(PenstockError, match="no room for letters"):
        await run(tmp_path, input=source, error_output=errors)
    assert numbers(await run_on(tmp_path, input=source, error_output=ERRORS)) == [1, 3]
    assert len(letters()) == 1


class Jitter(Processor, type="test_faults_jitter"):
    """Takes longer for some batches than for others."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        time.sleep(hash(str(batch.column(0)[0])) % 5 / 2000)
        return [batch]


async def test_r2_order_is_kept_with_four_threads_and_an_unreliable_output(tmp_path: Path) -> None:
    rows = await run(
        tmp_path,
        input=messages(500),
        pipeline={"thread_num": 4, "processors": ["test_faults_jitter"]},
        output=faulty(writing=Faults({n: TransientError("busy") for n in range(0, 40, 4)})),
    )
    assert numbers(rows) == list(range(500))


class Filtering(Processor, type="test_faults_filtering"):
    """Filters whole batches: those whose number is divisible."""

    by: int

    def process(self, batch: Batch) -> Sequence[Batch]:
        return [] if batch.column("n")[0].as_py() % self.by == 0 else [batch]


async def test_r1_three_thousand_batches_of_which_every_fifth_is_filtered_never_stall(tmp_path: Path) -> None:
    rows = await run(tmp_path, input=messages(3000), pipeline=[{"type": "test_faults_filtering", "by": 5}])
    assert numbers(rows) == [n for n in range(3000) if n % 5]


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_r1_a_stream_that_filters_everything_ends_and_goes_on_behind_it(tmp_path: Path, checkpoint: str) -> None:
    source = lines(tmp_path / "in.json", [{"n": n} for n in range(1000)])
    filtering = [{"type": "test_faults_filtering", "by": 1}]
    assert await run(tmp_path, input=source, pipeline=filtering, checkpoint=checkpoint) == []
    with (tmp_path / "in.json").open("a") as file:
        file.write('{"n": 1000}\n')
    if checkpoint == "state":  # an output saves positions with rows only
        assert numbers(await run_on(tmp_path, input=source, checkpoint=checkpoint)) == [1000]


async def test_r4_an_ack_that_comes_early_does_not_pass_over_a_row_that_failed(tmp_path: Path) -> None:
    """The second delivery is refused while later ones are already processed: reading goes on with it."""

    class Refusing(Processor, type="test_faults_refusing"):
        def process(self, batch: Batch) -> Sequence[Batch]:
            if 30 in batch.column("n").to_pylist():
                time.sleep(0.05)
                raise ValueError("thirty")
            return [batch]

    source = lines(tmp_path / "in.json", [{"n": n} for n in range(200)], chunk_size=100)
    with pytest.raises(PenstockError, match="thirty"):
        await run(
            tmp_path,
            input=source,
            pipeline={"thread_num": 4, "processors": ["test_faults_refusing"]},
        )
    before = numbers(memory.rows("out"))
    assert before == list(range(len(before)))
    assert len(before) <= 30
    after = numbers(await run_on(tmp_path, input=source))
    assert sorted(set(after)) == list(range(200))
    assert len(after) == 200, "what was written before the refusal is not written again"


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_bad_row_fails_alone_when_it_is_written(tmp_path: Path, checkpoint: str) -> None:
    """A whole number column, then a text that is none, in the middle of a batch that was filtered before."""
    rows: list[Any] = [{"n": n, "value": n} for n in range(100)]
    rows[40] = {"n": 40, "value": "forty"}
    url = f"sqlite:///{tmp_path / 'out.db'}"
    with contextlib.closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, value INTEGER)")
    await run(
        tmp_path,
        input=lines(tmp_path / "in.json", rows, chunk_size=100_000),
        output={"type": "sql", "url": url, "table_name": "rows"},
        error_output=ERRORS,
        checkpoint=checkpoint,
    )
    with contextlib.closing(sqlite3.connect(tmp_path / "out.db")) as database:
        assert database.execute("SELECT count(*), sum(n) FROM rows").fetchall() == [(99, sum(range(100)) - 40)]
    (letter,) = letters()
    assert json.loads(letter["payload"]) == rows[40]
    assert letter["stage"] == "output"
    assert json.loads(letter["metadata"])["source"] == "file"


class Several(Processor, type="test_faults_several"):
    """Makes several batches out of one."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        return [batch.slice(start, 10) for start in range(0, batch.num_rows, 10)]


class Named(Output, type="test_faults_named"):
    """Rejects a row by its number, and only of a single batch."""

    bad: int

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        async with memory.Memory(key="out").open(context) as writer:
            inner: Any = writer
            bad = self.bad

            class Writing:
                load, save = inner.load, inner.save

                async def write(self, batches: Sequence[Batch]) -> None:
                    await self.write_and_save(batches, {})

                async def write_and_save(self, batches: Sequence[Batch], positions: Any) -> None:
                    found = [n for batch in batches for n in batch.column("n").to_pylist()]
                    if bad in found:
                        raise RowsRejected({found.index(bad): "bad"}) if len(batches) == 1 else PermanentError("one is")
                    await inner.write_and_save(batches, positions)

            yield Writing()


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_bad_row_fails_alone_though_its_delivery_became_several_batches(
    tmp_path: Path, checkpoint: str
) -> None:
    rows = await run(
        tmp_path,
        input=lines(tmp_path / "in.json", [{"n": n} for n in range(100)], chunk_size=100_000),
        pipeline=["test_faults_several"],
        output={"type": "test_faults_named", "bad": 55},
        error_output=ERRORS,
        checkpoint=checkpoint,
    )
    assert sorted(numbers(rows)) == [n for n in range(100) if n != 55]
    assert [json.loads(letter["payload"]) for letter in letters()] == [{"n": 55}]


@pytest.mark.parametrize("opening", [True, False])
@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_an_input_that_is_lost_is_opened_again_without_loss_or_doubling(
    tmp_path: Path, checkpoint: str, opening: bool
) -> None:
    source = Input.parse(lines(tmp_path / "in.json", [{"n": n} for n in range(400)]))
    reading = Faults({n: ConnectionLost("cut") for n in (0, 2, 3, 9)} | {5: TransientError("later")})
    lost = FaultyInput(
        source, opening=Faults.repeated(ConnectionLost("refused"), 2 if opening else 0, start=1), reading=reading
    )
    rows = await run(
        tmp_path, input=lost, checkpoint=checkpoint, pipeline={"thread_num": 3, "processors": ["test_faults_jitter"]}
    )
    assert numbers(rows) == list(range(400))


class Dying(Output, type="test_faults_dying"):
    """Its first connection is dead as soon as it is open; positions are asked for over the next."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        OPENED.append(len(OPENED))
        async with memory.Memory(key="out").open(context) as writer:
            inner: Any = writer
            dead = len(OPENED) == 1

            class Writing:
                write, save, write_and_save = inner.write, inner.save, inner.write_and_save

                async def load(self, key: str) -> Any:
                    if dead:
                        raise ConnectionLost("the connection is gone for good")
                    return await inner.load(key)

            yield Writing()


OPENED: list[int] = []


async def test_positions_are_asked_for_over_a_new_connection_when_the_old_one_is_lost(tmp_path: Path) -> None:
    OPENED.clear()
    async with asyncio.timeout(60):
        rows = await run(tmp_path, input=messages(10), output={"type": "test_faults_dying"}, checkpoint="output")
    assert numbers(rows) == list(range(10))
    assert len(OPENED) == 2


@pytest.mark.parametrize("hanging", ["input", "output"])
async def test_a_stop_is_prompt_while_something_hangs_when_it_is_opened(tmp_path: Path, hanging: str) -> None:
    options: dict[str, Any] = {"input": messages(5)}
    if hanging == "input":
        options["input"] = FaultyInput(Input.parse(messages(5)), opening=Faults({0: HANG}))
    else:
        options["output"] = faulty(opening=Faults({0: HANG}))
    stop = asyncio.Event()
    running = asyncio.ensure_future(run(tmp_path, stop, **options))
    await until(lambda: options[hanging].opening.calls)
    stop.set()
    began = time.monotonic()
    assert await running == []
    assert time.monotonic() - began < 20  # otherwise for ever, or for the 30 s that a stop may take
    assert numbers(await run_on(tmp_path, input=messages(5))) == list(range(5))


async def test_a_stop_while_an_output_hangs_ends_after_the_shutdown_timeout(tmp_path: Path) -> None:
    stop, writing = asyncio.Event(), Faults({0: HANG})
    source = lines(tmp_path / "in.json", [{"n": n} for n in range(100)])
    options = {"input": source, "output": faulty(writing=writing), "shutdown_timeout": "500ms"}
    running = asyncio.ensure_future(run(tmp_path, stop, **options))
    await until(lambda: writing.calls)
    stop.set()
    began = time.monotonic()
    with pytest.raises(PenstockError, match="shutdown timeout"):
        await running
    assert time.monotonic() - began < 20  # otherwise for ever, or for the 30 s that a stop may take
    assert sorted(set(numbers(await run_on(tmp_path, input=source)))) == list(range(100))


async def test_the_end_of_the_input_flushes_windows_and_buffers(tmp_path: Path) -> None:
    long = {"type": "tumbling_window", "interval": "1h"}
    rows = await run(tmp_path, input=messages(100), buffer=long)
    assert numbers(rows) == list(range(100))
    batch = {"type": "batch", "count": 1000, "timeout_ms": 3_600_000}
    rows = await run(tmp_path / "2", input=messages(100), buffer={"type": "memory", "capacity": 64}, pipeline=[batch])
    assert numbers(rows) == list(range(100))


async def test_a_slow_consumer_holds_reading_back(tmp_path: Path) -> None:
    """However much there is to read, only so many deliveries are on their way."""
    from penstock.inputs.generate import Generate
    from penstock.testing.faults import Slow

    reading = Faults()
    source = FaultyInput(
        Generate.model_validate({"context": '{"n": 1}', "interval": "0s", "batch_size": 10, "codec": "json"}),
        reading=reading,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    slow = faulty(writing=Faults.repeated(Slow(0.6), 3))
    await run(tmp_path, stop, input=source, output=slow, max_in_flight=4, pipeline=["test_faults_jitter"])
    assert reading.calls < 20


async def test_a_postgres_that_is_stopped_and_started_gets_every_row_once(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    import psycopg

    stop = asyncio.Event()
    output = {"type": "sql", "url": postgres_server.url, "table_name": "rows"}
    source = {"type": "generate", "context": '{"a": 1}', "interval": "2ms", "batch_size": 1, "codec": "json"}
    query = "SELECT __meta_offset AS n FROM flow"
    working = asyncio.create_task(
        run(
            tmp_path,
            stop,
            input=source,
            output=output,
            checkpoint="output",
            pipeline=[{"type": "sql", "query": query}],
            retry={"initial": "20ms", "maximum": "100ms"},
        )
    )

    def count() -> int:
        with psycopg.connect(postgres_server.url) as database:
            if database.execute("SELECT to_regclass('rows')").fetchone() == (None,):
                return 0
            found = database.execute("SELECT count(*) FROM rows").fetchone()
            assert found is not None
            return int(found[0])

    async def more_rows() -> None:
        nonlocal wanted
        wanted += 30
        await until(lambda: asyncio.to_thread(lambda: count() >= wanted))

    wanted = 0
    for end in (postgres_server.stop, postgres_server.kill, postgres_server.stop):
        await more_rows()
        await asyncio.to_thread(end)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(postgres_server.start)
    await more_rows()
    assert not working.done(), "it goes on"
    stop.set()
    await working

    def found() -> list[int]:
        with psycopg.connect(postgres_server.url) as database:
            return [int(n) for (n,) in database.execute("SELECT n FROM rows ORDER BY n").fetchall()]

    rows = await asyncio.to_thread(found)
    print(f"{len(rows)} rows through three outages of the server")
    assert len(rows) > 100
    assert rows == list(range(len(rows)))


async def test_a_network_that_cuts_and_swallows_costs_nothing(tmp_path: Path, postgres_server: PostgresServer) -> None:
    import psycopg

    async with FaultProxy("127.0.0.1", postgres_server.port) as proxy:
        url = postgres_server.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        source = lines(tmp_path / "in.json", [{"n": n} for n in range(3000)])
        working = asyncio.create_task(
            run(
                tmp_path,
                input=source,
                output={"type": "sql", "url": url, "table_name": "rows"},
                checkpoint="output",
                max_in_flight=2,
                pipeline=["test_faults_jitter"],
                retry={"initial": "20ms", "maximum": "50ms"},
            )
        )
        for _ in range(5):
            await asyncio.sleep(0.15)
            await proxy.cut()
        proxy.passing.clear()
        await asyncio.sleep(0.2)
        proxy.passing.set()
        await asyncio.wait_for(working, 60)

    def found() -> list[int]:
        with psycopg.connect(postgres_server.url) as database:
            return [int(n) for (n,) in database.execute("SELECT n FROM rows ORDER BY n").fetchall()]

    assert await asyncio.to_thread(found) == list(range(3000))


def ends_promptly(process: Process, once_it_says: str) -> None:
    try:
        process.start()
        deadline = time.monotonic() + 90
        while once_it_says not in process.tail():
            assert time.monotonic() < deadline, process.tail()
            time.sleep(0.05)
        code, took = process.terminate()
        assert (code, took < 20) == (0, True), f"exit code {code} after {took:.1f} s: {process.tail()}"
    finally:
        process.close()


def test_a_sigterm_while_the_database_is_away_exits_promptly(tmp_path: Path) -> None:
    url = f"postgresql://penstock:secret@127.0.0.1:{free_port()}/none"
    output = {"type": "sql", "url": url, "table_name": "rows"}
    process = Process(tmp_path, {"streams": [{"input": messages(5), "output": output}]})
    ends_promptly(process, "writing failed")


def test_r11_a_sigterm_while_the_input_is_reconnecting_exits_promptly(tmp_path: Path) -> None:
    source = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/", "interval": "10ms"}
    process = Process(tmp_path, {"streams": [{"input": source, "output": "drop"}]})
    ends_promptly(process, "opening it again")


def test_a_process_whose_inputs_end_exits_by_itself(tmp_path: Path) -> None:
    window = {"type": "tumbling_window", "interval": "1h"}
    streams = [{"id": f"s{number}", "input": messages(50), "output": "drop", "buffer": window} for number in range(3)]
    process = Process(tmp_path, {"streams": streams})
    try:
        process.start()
        assert process.wait(40) == 0, process.tail()
    finally:
        process.close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_row_that_nobody_takes_ends_in_failure_and_is_not_lost(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "in.json").write_text('{"n": 1}\nnonsense\n{"n": 3}\n')
    url = f"sqlite:///{tmp_path / 'out.db'}"
    bad: dict[str, Any] = {
        "id": "bad",
        "input": {"type": "file", "path": str(tmp_path / "in.json")},
        "output": {"type": "sql", "url": url, "table_name": "rows"},
        "restart": {"attempts": 2, "initial": "50ms"},
    }
    good = {
        "id": "good",
        "input": {"type": "generate", "context": "{}", "interval": "50ms", "codec": "json"},
        "output": "drop",
    }
    process = Process(tmp_path, {"streams": [bad, good], "health_check": {"address": address}})
    try:
        process.start()
        process.wait_until_running()
        deadline = time.monotonic() + 90
        while '"failed"' not in (page := get(f"http://{address}/health"))[1]:
            assert time.monotonic() < deadline, page
            time.sleep(0.05)
        status, text = page
        assert status == 503
        assert json.loads(text)["streams"]["good"]["state"] == "running"
        assert json.loads(get(f"http://{address}/api/v1/streams/bad")[1])["restarts"] == 2
        assert get(f"http://{address}/readiness")[0] == 503
        code, _ = process.terminate()
        assert code == 1
        assert "nonsense" not in process.tail() or "decode" in process.tail()
    finally:
        process.close()
    again = Process(tmp_path, {"streams": [{**bad, "error_output": {"type": "stdout"}}]})
    try:
        again.start()
        assert again.wait() == 0, again.tail()
    finally:
        again.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "out.db")) as database:
        assert database.execute("SELECT n FROM rows ORDER BY n").fetchall() == [(1,), (3,)]
    assert '"payload":"nonsense"' in again.tail()


async def test_an_outage_shows_on_the_health_page_and_ends(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    source = {"type": "generate", "context": '{"n": 1}', "interval": "20ms", "codec": "json"}
    faults = Faults.repeated(TransientError("the database is full"), 1_000_000, start=3)
    engine = Engine(
        [stream(input=source, output=faulty(writing=faults), retry={"initial": "20ms", "maximum": "20ms"})],
        health_check=HealthCheck(address=address),
        data=tmp_path,
    )
    memory.clear("out")
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(stop))

    async def health(status: int) -> str | None:
        with contextlib.suppress(OSError):
            found, text = await asyncio.to_thread(get, f"http://{address}/health")
            return text if found == status else None
        return None

    assert "the database is full" in (await until(lambda: health(503)) or "")
    faults.faults.clear()
    await until(lambda: health(200))
    stop.set()
    await running


@pytest.mark.slow
async def test_many_restarts_leak_neither_tasks_nor_threads(tmp_path: Path) -> None:
    import threading

    source = Input.parse(lines(tmp_path / "in.json", [{"n": n} for n in range(10)]))
    broken = FaultyInput(source, reading=Faults.repeated(PermanentError("broken"), 1000))
    options: dict[str, Any] = {
        "input": broken,
        "output": OUT,
        "pipeline": [{"type": "sql", "query": "SELECT * FROM flow"}, "test_faults_jitter"],
        "restart": {"attempts": 1000, "initial": "0s", "maximum": "0s"},
    }
    counts: list[tuple[int, int]] = []
    engine = Engine([stream(**options)], data=tmp_path)
    memory.clear("out")
    running = asyncio.create_task(engine.run())
    while not running.done():
        await asyncio.sleep(0.05)
        if engine.supervised:
            counts.append((len(asyncio.all_tasks()), threading.active_count()))
    await running
    assert engine.supervised[0].restarts == 1000
    assert numbers(memory.rows("out")) == list(range(10))
    print(f"tasks and threads over 1000 restarts: first {counts[0]}, most {max(counts)}, last {counts[-1]}")
    assert max(tasks for tasks, _ in counts) < 30
    assert max(threads for _, threads in counts) < 60


class Consumer:
    """One connection to a broker; what is committed stands in the list that all share."""

    def __init__(self, number: int, commits: list[tuple[int, int]]) -> None:
        self.number, self.is_open, self._commits = number, True, commits
        self.has_last = asyncio.Event()

    async def commit(self, position: Any) -> None:
        if not self.is_open:
            raise RuntimeError(f"consumer {self.number} is closed")
        self._commits.append((self.number, position))
        if position == 23:
            self.has_last.set()


class Broker(Input, type="test_faults_broker"):
    """Deliver two rows, lose the connection, and deliver three rows from a second consumer."""

    _consumers: list[Consumer] = PrivateAttr(default_factory=list)
    _commits: list[tuple[int, int]] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        consumer = Consumer(len(self._consumers) + 1, self._commits)
        self._consumers.append(consumer)
        yield BrokerReader(consumer, await context.checkpoint("0", commit=consumer.commit))
        consumer.is_open = False


class BrokerReader:
    def __init__(self, consumer: Consumer, checkpoint: Checkpoint) -> None:
        self._consumer, self._checkpoint, self._count = consumer, checkpoint, 0

    async def read(self) -> Delivery:
        if self._consumer.number == 1 and self._count == 2:
            raise ConnectionLost("the broker went away")
        if self._count == 3:
            await self._consumer.has_last.wait()
            raise EndOfInput
        self._count += 1
        number = self._consumer.number * 10 + self._count
        return await self._checkpoint.deliver(pa.record_batch({"n": [number]}), number)


async def test_a_broker_that_was_lost_got_the_commits_of_the_connection_after_it(tmp_path: Path) -> None:
    source = Broker()
    async with asyncio.timeout(60):
        rows = await run(tmp_path, input=source)
    assert numbers(rows) == [11, 12, 21, 22, 23]
    assert source._commits[-1] == (2, 23)
