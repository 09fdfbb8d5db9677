"""A broker is cut off, swallowed, refused, killed, frozen: no row is lost, and a stop is obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pytest

from penstock import Engine
from penstock.errors import PenstockError
from penstock.outputs import memory
from penstock.testing.faults import FaultProxy
from penstock.testing.waiting import until

from .brokers import BROKERS, Broker
from .streams import numbers, stream

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = 400
FAST = {"initial": "20ms", "maximum": "200ms"}


@pytest.fixture(params=BROKERS, ids=lambda kind: kind.__name__.lower())
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    with request.param.serve() as server:
        made = request.param(server)
        await made.prepare()
        yield made
        made.close()


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    memory.clear("out")
    stop = asyncio.Event()
    engine = Engine([stream(retry=FAST, shutdown_timeout="3s", **options)], data=folder / "data")
    task = asyncio.ensure_future(engine.run(stop))
    try:
        yield engine
    finally:
        stop.set()
        began = monotonic()
        await asyncio.wait({task}, timeout=60)
        assert task.done()
        assert monotonic() - began < 30
    task.result()


def arrived(count: int) -> Callable[[], bool]:
    return lambda: set(numbers(memory.rows("out"))) >= set(range(count))


async def cut(proxy: FaultProxy, broker: Broker) -> None:
    await proxy.cut()


async def swallow(proxy: FaultProxy, broker: Broker) -> None:
    proxy.passing.clear()
    await asyncio.sleep(0.3)
    await proxy.cut()
    proxy.passing.set()


async def refuse(proxy: FaultProxy, broker: Broker) -> None:
    await proxy.refuse()
    await asyncio.sleep(0.3)
    await proxy.accept()


async def slow(proxy: FaultProxy, broker: Broker) -> None:
    proxy.delay, proxy.rate = 0.05, 200_000.0


async def kill(proxy: FaultProxy, broker: Broker) -> None:
    await asyncio.to_thread(broker.server.kill)
    await asyncio.to_thread(broker.server.start)


async def freeze(proxy: FaultProxy, broker: Broker) -> None:
    broker.server.pause()
    await asyncio.sleep(0.5)
    broker.server.resume()


FAULTS = [cut, swallow, refuse, slow, kill, freeze]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_no_row_is_lost_on_the_way_in(
    broker: Broker, fault: Any, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(broker.port) as proxy:
        await broker.produce(range(ROWS))
        async with running(tmp_path, input=broker.input(proxy.port)):
            await until(lambda: memory.rows("out"))
            await fault(proxy, broker)
            await broker.produce(range(ROWS, 2 * ROWS))
            await until(arrived(2 * ROWS))
    assert set(numbers(memory.rows("out"))) == set(range(2 * ROWS))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_no_row_is_lost_on_the_way_out(
    broker: Broker, fault: Any, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    rows = {"type": "generate", "context": '{"n": 1}', "interval": "5ms", "batch_size": 20, "count": ROWS}
    numbered = {
        "type": "python",
        "function": "number",
        "script": (
            "import itertools\nimport pyarrow as pa\ncount = itertools.count()\n"
            "def number(batch):\n"
            "    return pa.record_batch({'n': pa.array([next(count) for _ in range(batch.num_rows)])})\n"
        ),
    }
    async with (
        fault_proxy(broker.port) as proxy,
        running(
            tmp_path,
            input={**rows, "codec": "json"},
            output=broker.output(proxy.port),
            pipeline={"thread_num": 1, "processors": [numbered]},
        ),
    ):
        await asyncio.sleep(0.05)
        await fault(proxy, broker)

        async def all_there() -> bool:
            return set(await broker.written()) >= set(range(ROWS))

        await until(all_there)
    assert set(await broker.written()) == set(range(ROWS))


async def test_a_stop_is_obeyed_while_nothing_passes(
    broker: Broker, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(broker.port) as proxy:
        await broker.produce(range(ROWS))
        with suppress(PenstockError):  # what cannot be acked is not all that was to be done
            async with running(tmp_path, input=broker.input(proxy.port)):
                await until(lambda: memory.rows("out"))
                proxy.passing.clear()
        proxy.passing.set()
        await proxy.cut()
        async with running(tmp_path, input=broker.input(proxy.port)):
            await broker.produce(range(ROWS, ROWS + 1))
            await until(lambda: ROWS in numbers(memory.rows("out")))


async def test_a_stop_is_obeyed_while_nobody_answers(
    broker: Broker, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    async with fault_proxy(broker.port) as proxy:
        await proxy.refuse()
        async with running(tmp_path, input=broker.input(proxy.port)) as engine:
            await until(lambda: [one for one in engine.supervised if one.status().trouble])
