"""What streams count, as Prometheus sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import PrivateAttr

from penstock import Engine, Output, PenstockError, Stream
from penstock.component import Writer
from penstock.context import Context
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.observe.metrics import registry
from penstock.testing.waiting import until

MESSAGES = [{"id": number} for number in range(100)]


def value(name: str, stream: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"stream": stream, **labels})


async def run(tmp_path: Path, id: str, **options: Any) -> None:
    source = {"type": "memory", "messages": MESSAGES, "codec": "json"}
    output = {"type": "memory", "key": id}
    stream = Stream.model_validate({"id": id, "input": source, "output": output, **options})
    await Engine([stream], data=tmp_path).run()


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("in_flight_plain", {}),
        ("in_flight_buffer", {"buffer": {"type": "memory", "capacity": 10}}),
        ("in_flight_merged", {"pipeline": [{"type": "batch", "count": 7, "timeout": "10s"}]}),
        ("in_flight_log", {"durability": {}}),
        ("in_flight_filtered", {"pipeline": [{"type": "sql", "query": "SELECT * FROM flow WHERE id < 0"}]}),
    ],
)
async def test_nothing_is_in_flight_once_all_is_settled(id: str, options: dict[str, Any], tmp_path: Path) -> None:
    await run(tmp_path, id, **options)
    assert value("penstock_rows_in_total", id) == len(MESSAGES)
    assert value("penstock_in_flight", id) == 0


class Held(Output, type="test_held"):
    """Waits before it writes until it is let go, and may fail then."""

    fails: bool = False
    _writing: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _go: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield self

    async def write(self, batches: Sequence[Batch]) -> None:
        self._writing.set()
        await self._go.wait()
        if self.fails:
            raise PermanentError("it cannot be written")


async def test_what_is_on_its_way_is_in_flight(tmp_path: Path) -> None:
    held = Held()
    running = asyncio.create_task(run(tmp_path, "in_flight_held", output=held, max_in_flight=4))
    await held._writing.wait()
    assert value("penstock_in_flight", "in_flight_held") > 0
    held._go.set()
    await running
    assert value("penstock_in_flight", "in_flight_held") == 0


async def test_nothing_is_in_flight_after_a_failure(tmp_path: Path) -> None:
    held = Held(fails=True)
    held._go.set()
    with pytest.raises(PenstockError):
        await run(tmp_path, "in_flight_failed", output=held, restart={"attempts": 0})
    assert value("penstock_in_flight", "in_flight_failed") == 0
    assert value("penstock_errors_total", "in_flight_failed", kind="nacked") > 0


async def test_a_gap_is_counted_and_noted(tmp_path: Path) -> None:
    log = tmp_path / "app.log"

    async def read_all() -> Engine:
        options = {"type": "file", "path": str(log)}
        stream = Stream(id="gap", input=options, output={"type": "drop"})
        engine = Engine([stream], data=tmp_path / "data")
        await engine.run()
        return engine

    log.write_text("1\n")
    assert (await read_all()).supervised[0].status().note is None
    log.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").unlink()
    log.write_text("2\n")
    status = (await read_all()).supervised[0].status()
    assert status.note is not None
    assert f"{log} was replaced while nothing read it" in status.note
    assert status.is_well
    assert value("penstock_gaps_total", "gap") == 1


async def test_a_stream_that_waits_to_be_started_again_is_down(tmp_path: Path) -> None:
    source = {"type": "memory", "messages": ["not json"], "codec": "json"}
    restart = {"initial": "1h", "attempts": None}
    options = {"id": "waits", "input": source, "output": {"type": "drop"}, "restart": restart}
    stop = asyncio.Event()
    running = asyncio.ensure_future(Engine([Stream.model_validate(options)], data=tmp_path).run(stop))
    await until(lambda: value("penstock_restarts_total", "waits") == 1)
    assert value("penstock_stream_up", "waits") == 0
    stop.set()
    await running
