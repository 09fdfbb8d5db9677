"""An engine by a clock that jumps: every user of time waits through hours that take no time of the machine."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import ConnectionLost, Context, Engine, Input, Output, PenstockError, Stream, TransientError
from penstock.checkpoint import Ledger
from penstock.component import Writer
from penstock.delivery import Batch, Position
from penstock.stream import Restart
from penstock.testing.clock import FakeClock, StandingClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.faults import HANG, Faults, FaultyInput, FaultyOutput

MINUTE, HOUR = 60, 3600


class Timed(Output, type="test_timed"):
    """Note when how many rows are written."""

    _written: list[tuple[float, int]] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        written = self._written

        class Writing:
            async def write(self, batches: Sequence[Batch]) -> None:
                written.append((context.clock.monotonic(), sum(batch.num_rows for batch in batches)))

        yield Writing()


def every_minute(count: int) -> dict[str, Any]:
    return {"type": "generate", "context": "{}", "interval": "1m", "count": count}


def engine(directory: Path, **options: Any) -> Engine:
    given = {"input": every_minute(3), "restart": {"attempts": 0}, **options}
    return Engine([Stream.model_validate(given)], data=directory, state="memory", clock=FakeClock())


@pytest.mark.parametrize(
    ("buffer", "written"),  # after how many minutes how many rows: all that is held at the end is written then
    [
        ({"type": "tumbling_window", "interval": "1h"}, [(60, 60), (120, 60), (179, 60)]),
        ({"type": "sliding_window", "size": "2h", "slide": "1h"}, [(60, 60), (120, 120), (179, 180)]),
        ({"type": "session_window", "gap": "10m"}, [(179, 180)]),
        ({"type": "memory", "capacity": 1000, "timeout": "90m30s"}, [(90, 91), (179, 89)]),
    ],
    ids=["tumbling", "sliding", "session", "memory"],
)
@jumping
async def test_windows_and_buffers_by_the_time_of_arrival(
    buffer: dict[str, Any], written: list[tuple[int, int]], tmp_path: Path
) -> None:
    output = Timed()
    await engine(tmp_path, input=every_minute(180), output=output, buffer=buffer).run()
    found: Counter[int] = Counter()  # windows that are there at the same time may be one write
    for at, rows in output._written:
        found[int(at + 1) // MINUTE] += rows
    assert [*found.items()] == written


@jumping
async def test_windows_of_a_source_that_falls_silent(tmp_path: Path) -> None:
    buffer = {
        "type": "tumbling_window",
        "interval": "10s",
        "time": "event",
        "timestamp_field": "at",
        "timestamp_unit": "s",
        "idle_timeout": "5h",
    }
    source = FaultyInput(
        Input.parse({"type": "memory", "messages": ['{"at": 1}', '{"at": 2}'], "codec": "json"}),
        reading=Faults({2: HANG}),
    )
    output, stop = Timed(), asyncio.Event()
    running = asyncio.ensure_future(
        engine(tmp_path, input=source, output=output, buffer=buffer, shutdown_timeout="1m").run(stop)
    )
    await asyncio.sleep(6 * HOUR)
    assert output._written == [(pytest.approx(5 * HOUR, abs=1), 2)]
    stop.set()
    await asyncio.wait({running})


@jumping
async def test_an_output_that_is_away_is_tried_again_after_growing_waits(tmp_path: Path) -> None:
    output = Timed()
    faults = Faults({call: ConnectionLost("away") if call % 2 else TransientError("busy") for call in range(10)})
    options = {"retry": {"initial": "1m", "maximum": "1h"}, "input": every_minute(1)}
    await engine(tmp_path, output=FaultyOutput(output, writing=faults), **options).run()
    ((at, rows),) = output._written
    longest = sum(min(MINUTE * 2**attempt, HOUR) for attempt in range(10))
    assert rows == 1
    assert longest / 2 <= at <= longest


@jumping
async def test_an_input_that_is_lost_and_a_stream_that_fails_begin_again_after_a_wait(tmp_path: Path) -> None:
    output = Timed()
    lost = Faults({0: ConnectionLost("away"), 1: ConnectionLost("away"), 2: ValueError("a defect")})
    restart = {"attempts": 1, "initial": "10h", "maximum": "10h"}
    source = FaultyInput(Input.parse(every_minute(1)), reading=lost)
    retry = {"initial": "1h", "maximum": "1h"}
    await engine(tmp_path, input=source, output=output, restart=restart, retry=retry).run()
    ((at, _),) = output._written
    assert HOUR + 5 * HOUR <= at <= 2 * HOUR + 10 * HOUR


@jumping
async def test_a_service_that_fails_is_started_again_after_a_wait(tmp_path: Path) -> None:
    began: list[float] = []

    class Service:
        name = "failing"

        def served(self) -> Sequence[tuple[str, str]]:
            return ()

        async def serve(self, context: Context, stop: asyncio.Event) -> None:
            began.append(context.clock.monotonic())
            if len(began) < 4:
                raise RuntimeError("it broke")
            stop_all.set()
            await stop.wait()

    stop_all = asyncio.Event()
    restart = Restart.model_validate({"initial": "1h", "maximum": "8h", "attempts": 3})
    stream = Stream.model_validate({"input": every_minute(100_000), "output": "drop"})
    one = Engine([stream], [Service()], data=tmp_path, state="memory", restart=restart, clock=FakeClock())
    await one.run(stop_all)
    waits = [later - earlier for earlier, later in pairwise(began)]
    assert all(HOUR * 2**n / 2 <= wait <= HOUR * 2**n for n, wait in enumerate(waits))


@jumping
async def test_what_stands_still_is_told_after_the_stall_timeout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = asyncio.Event()
    output = FaultyOutput(Timed(), writing=Faults({0: HANG}))
    stalled = engine(tmp_path, output=output, stall_timeout="2h", shutdown_timeout="5h")
    running = asyncio.ensure_future(stalled.run(stop))
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(HOUR)
        (status,) = [one.status() for one in stalled.supervised]
        assert status.trouble is None
        await asyncio.sleep(2 * HOUR)
    (status,) = [one.status() for one in stalled.supervised]
    assert status.trouble == "no answer from the output for 10800 s"
    assert "no answer from the output for 7" in caplog.text
    stop.set()
    with pytest.raises(PenstockError, match="within the shutdown timeout"):
        await running
    assert FakeClock().monotonic() == pytest.approx(8 * HOUR, abs=5)


class Saving:
    """What saves positions, and fails at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.saved: list[tuple[float, Mapping[str, Position]]] = []

    async def save(self, positions: Mapping[str, Position]) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.saved.append((FakeClock().monotonic(), dict(positions)))


@jumping
async def test_positions_are_saved_after_an_interval_and_again_when_that_failed() -> None:
    saving = Saving(failures=3)
    ledger = Ledger(saving.save, interval=HOUR, clock=FakeClock())
    for position in range(100):
        ledger.move("a", position)
        await asyncio.sleep(1)
    await asyncio.sleep(2 * HOUR)
    # An hour, and thrice as long as a failure makes it wait at most.
    assert saving.saved == [(pytest.approx(HOUR + 15), {"a": 99})]


@jumping
async def test_a_database_is_asked_again_after_the_interval(tmp_path: Path) -> None:
    def execute(statement: str) -> None:
        database = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
        database.execute(statement)
        database.close()

    await asyncio.to_thread(execute, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    await asyncio.to_thread(execute, "INSERT INTO t VALUES (1)")
    incremental = {"cursor": "id", "interval": "1h", "delay": "0s"}
    url = f"sqlite:///{tmp_path}/rows.db"
    component = Input.parse({"type": "sql", "url": url, "select_sql": "SELECT id FROM t", "incremental": incremental})
    clock = FakeClock()
    async with lend_context(tmp_path, clock=clock) as context, component.open(context) as reader:
        await (await reader.read()).ack()
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(30 * MINUTE)
        await asyncio.to_thread(execute, "INSERT INTO t VALUES (2)")
        delivery = await waiting
        assert delivery.batch == pa.record_batch({"id": [2]})
        assert clock.monotonic() == pytest.approx(HOUR, abs=1)
        await delivery.ack()


@jumping
async def test_a_folder_is_looked_at_again_after_the_interval(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    options = {"follow": True, "poll_interval": "1h", "settle_time": "3h", "format": "json"}
    component = Input.parse({"type": "file", "path": str(folder), **options})
    clock = FakeClock(time.time())
    async with lend_context(tmp_path, clock=clock) as context, component.open(context) as reader:
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(30 * MINUTE)
        await asyncio.to_thread((folder / "a.jsonl").write_text, '{"n":1}\n{"n":')
        await (await waiting).ack()
        assert clock.monotonic() == pytest.approx(HOUR, abs=1)
        refused = await reader.read()
        assert clock.monotonic() >= 3 * HOUR, "a line without its end may still be written"
        assert refused.batch.num_rows == 1
        await refused.ack()


@jumping
async def test_an_event_that_comes_ends_a_wait() -> None:
    clock, event = FakeClock(), asyncio.Event()
    asyncio.get_running_loop().call_later(HOUR, event.set)
    assert not await clock.wait(event, MINUTE)
    assert await clock.wait(event, 5 * HOUR)
    assert await clock.wait(event, 0)
    assert clock.monotonic() == HOUR


async def test_a_clock_that_stands_is_moved_by_hand() -> None:
    clock = StandingClock(5.0)
    clock.now += 1
    assert (clock.time(), clock.monotonic()) == (6.0, 6.0)


def test_a_fake_clock_tells_no_time_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="the time of a loop"):
        FakeClock().time()
