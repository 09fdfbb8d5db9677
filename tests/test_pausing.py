"""A stream is paused, resumed and restarted while the process runs, and loses and repeats nothing by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import Engine, PenstockError, PermanentError, Stream
from penstock.observe.health import Pages
from penstock.outputs import memory
from penstock.supervision import SupervisedStream

COUNTING = {"type": "generate", "context": "{}", "interval": "1ms", "batch_size": 1}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(tmp_path: Path, **options: Any) -> AsyncIterator[SupervisedStream]:
    stream = {"id": "one", "input": COUNTING, "retry": {"initial": "5ms"}, **options}
    engine, stop = Engine([Stream.model_validate(stream)], data=tmp_path), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.supervised)
    try:
        yield engine.supervised[0]
    finally:
        stop.set()
        await asyncio.wait({task})
        if (error := task.exception()) is not None and not isinstance(error, PenstockError):
            raise error


def numbered(tmp_path: Path) -> dict[str, Any]:
    """A file of numbered rows, which is read by position."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"n": {n}}}\n' for n in range(20_000)))
    return {"type": "file", "path": str(file), "codec": "json", "batch_rows": 100, "follow": True}


async def test_a_pause_writes_what_is_in_flight_and_resuming_goes_on_there(tmp_path: Path) -> None:
    output = {"type": "memory", "key": "paused"}
    async with running(tmp_path, input=numbered(tmp_path), output=output) as one:
        await until(lambda: memory.rows("paused"))
        for _ in range(3):
            one.pause()
            await until(lambda: one.state == "paused")
            assert one.metrics.unsettled == 0
            written = len(memory.rows("paused"))
            assert written == one.metrics.rows_in == one.metrics.rows_out
            assert one.status().is_well
            one.resume()
            await until(lambda before=written: len(memory.rows("paused")) > before or before == 20_000)
        await until(lambda: len(memory.rows("paused")) >= 20_000)
        one.restart()
        await until(lambda: one.state == "running" and one.flow is not None)
    assert [row["n"] for row in memory.rows("paused")] == list(range(20_000))


async def test_a_paused_stream_stops_with_the_process_and_counts_as_ready(tmp_path: Path) -> None:
    async with running(tmp_path, output="drop") as one:
        await until(lambda: one.state == "running")
        one.pause()
        await until(lambda: one.state == "paused")
        pages = Pages(lambda: [one.status()], None)  # type: ignore[arg-type]
        assert pages._readiness({})[0] == 200
    assert one.state == "stopped"


async def test_a_stream_is_paused_while_it_waits_to_be_started_again(tmp_path: Path) -> None:
    missing = {"type": "sql", "url": "sqlite:////nowhere/at/all/rows.db", "table_name": "rows"}
    again = {"attempts": None, "initial": "1h", "maximum": "1h"}
    async with running(tmp_path, output=missing, restart=again, retry={"attempts": 1}) as one:
        one.pause()
        await until(lambda: one.state == "paused")
        one.resume()
        await until(lambda: one.state != "paused")


async def test_what_does_not_fit_the_state_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, output="drop") as one:
        with pytest.raises(PermanentError, match="is not paused"):
            one.resume()
        one.pause()
        with pytest.raises(PermanentError, match="paused already"):
            one.pause()
        with pytest.raises(PermanentError, match="paused already"):
            one.restart()
        await until(lambda: one.state == "paused")
    for ask in (one.pause, one.restart):
        with pytest.raises(PermanentError):
            ask()


async def test_a_stream_that_has_ended_is_not_started_again(tmp_path: Path) -> None:
    few = {**COUNTING, "count": 3}
    async with running(tmp_path, input=few, output="drop") as one:
        await until(lambda: one.state == "finished")
        with pytest.raises(PermanentError, match="has ended"):
            one.restart()


async def test_rates_are_of_the_last_seconds(tmp_path: Path) -> None:
    async with running(tmp_path, output="drop", stall_timeout="40ms") as one:
        await until(lambda: one.metrics.rates().rows_out > 0)
        one.pause()
        await until(lambda: one.state == "paused")
        assert one.metrics.rates() == (0.0, 0.0, 0.0)
