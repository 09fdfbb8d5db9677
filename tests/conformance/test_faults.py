import asyncio
import contextlib
from time import monotonic

import pytest

from penstock.component import Input, Output
from penstock.errors import ConnectionLost, EndOfInput, TransientError
from penstock.outputs import memory
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import (
    ABORT,
    HANG,
    Aborted,
    FaultProxy,
    Faults,
    FaultyInput,
    FaultyOutput,
    FaultyProcessor,
    Slow,
)


async def test_an_input_fails_where_the_script_says(tmp_path):
    source = Input.parse({"type": "memory", "messages": ["a", "b"]})
    faulty = FaultyInput(
        source, opening=Faults({0: ConnectionLost("not yet")}), reading=Faults({1: TransientError("later"), 3: ABORT})
    )
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost):
            async with faulty.open(context):
                pass
        async with faulty.open(context) as reader:
            first = await reader.read()
            with pytest.raises(TransientError):
                await reader.read()
            second = await reader.read()
            with pytest.raises(Aborted):
                await reader.read()
            with pytest.raises(EndOfInput):
                await reader.read()
    assert [first.batch["__value__"][0].as_py(), second.batch["__value__"][0].as_py()] == [b"a", b"b"]


async def test_an_output_fails_before_it_writes_or_after(tmp_path):
    memory.clear("faults")
    faulty = FaultyOutput(
        Output.parse({"type": "memory", "key": "faults"}),
        writing=Faults.repeated(TransientError("busy"), 2),
        written=Faults({0: ConnectionLost("no answer")}),
    )
    async with lend_context(tmp_path) as context, faulty.open(context) as writer:
        for _ in range(2):
            with pytest.raises(TransientError):
                await writer.write([sample(0, 1)])
        assert memory.rows("faults") == []
        with pytest.raises(ConnectionLost):
            await writer.write([sample(0, 1)])
        assert len(memory.rows("faults")) == 1
        await writer.write([sample(1, 1)])
    assert len(memory.rows("faults")) == 2


async def test_a_processor_is_slow_or_hangs(tmp_path):
    faulty = FaultyProcessor(Faults({0: Slow(0.05), 1: HANG}))
    async with lend_context(tmp_path) as context, faulty.open(context) as process:
        begin = monotonic()
        assert await process(sample()) == [sample()]
        assert monotonic() - begin >= 0.04
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process(sample()), 0.05)
        assert await process(sample()) == [sample()]


async def _echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy():
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


async def _ask(proxy, wait=2.0):
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        writer.write(b"hello")
        return await asyncio.wait_for(reader.read(100), wait)
    finally:
        writer.close()


async def test_the_network_is_slow(proxy):
    assert await _ask(proxy) == b"hello"
    proxy.delay, begin = 0.05, monotonic()
    assert await _ask(proxy) == b"hello"
    assert monotonic() - begin >= 0.09


async def test_the_network_lets_few_bytes_pass(proxy):
    proxy.rate, begin = 50.0, monotonic()
    assert await _ask(proxy) == b"hello"
    assert monotonic() - begin >= 0.19


async def test_the_network_swallows_everything_for_a_while(proxy):
    proxy.passing.clear()
    with pytest.raises(TimeoutError):
        await _ask(proxy, wait=0.1)
    proxy.passing.set()
    assert await _ask(proxy) == b"hello"


async def test_connections_are_cut(proxy):
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"hello")
    assert await reader.read(100) == b"hello"
    await proxy.cut()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(100), 60) == b""
    writer.close()
    assert await _ask(proxy) == b"hello"


async def test_connections_are_refused_for_a_while(proxy):
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await _ask(proxy)
    await proxy.accept()
    assert await _ask(proxy) == b"hello"


async def test_a_target_that_is_gone_cuts_the_connection():
    async with FaultProxy("127.0.0.1", 1) as proxy:
        with contextlib.suppress(ConnectionError):
            assert await _ask(proxy) == b""
