from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from penstock.errors import ConnectionLost
from penstock.inputs.modbus import Modbus, Point
from penstock.metadata import attach
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import make_certificate
from penstock.testing.suites import InputSuite

REGISTERS = [7, 0xFFFE, *struct.unpack(">4H", struct.pack(">d", -1.5)), *struct.unpack(">2H", struct.pack(">f", 20.25))]
LEVEL = {"type": "holding_registers", "name": "level", "address": 0, "data_type": "int16"}


@asynccontextmanager
async def device(framer: FramerType = FramerType.SOCKET, port: int = 0) -> AsyncIterator[int]:
    bits = [SimData(0, values=[True, False, True, True] * 4, datatype=DataType.BITS)]
    words = [SimData(0, values=REGISTERS, datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(
        SimDevice(1, simdata=(bits, bits, words, words)), framer=framer, address=("127.0.0.1", port)
    )
    await server.listen()
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


def modbus(port: int, *points: dict[str, Any], **options: Any) -> Modbus:
    return Modbus(**{"addr": f"127.0.0.1:{port}", "points": points or (LEVEL,), "interval": "1ms", **options})


async def read_one(component: Modbus, folder: Path) -> dict[str, Any]:
    async with lend_context(folder) as context, component.open(context) as reader:
        (row,) = (await reader.read()).batch.to_pylist()
        return row


class TestModbus(InputSuite):
    replayable = checkpointed = bounded = limited = False

    @pytest.fixture
    async def component(self) -> AsyncIterator[Modbus]:
        async with device() as port:
            yield modbus(port)

    async def everything(self, component: Any, directory: Any) -> list[Any]:
        return [{"level": 7}] * 6


@pytest.mark.parametrize(("framing", "framer"), [("tcp", FramerType.SOCKET), ("rtu", FramerType.RTU)])
async def test_points_of_each_kind_are_columns(framing: str, framer: FramerType, tmp_path: Path) -> None:
    points = [
        LEVEL,
        {"type": "holding_registers", "name": "raw", "address": 0, "quantity": 2},
        {"type": "input_registers", "name": "energy", "address": 2, "data_type": "float64"},
        {"type": "input_registers", "name": "celsius", "address": 6, "data_type": "float32", "scale": 2, "offset": 1},
        {"type": "holding_registers", "name": "both", "address": 0, "quantity": 2, "data_type": "int16"},
        {"type": "coils", "name": "valves", "address": 0, "quantity": 4},
        {"type": "discrete_inputs", "name": "doors", "address": 1},
    ]
    async with device(framer) as port:
        row = await read_one(modbus(port, *points, framing=framing), tmp_path)
    assert row == {
        "level": 7,
        "raw": [7, 0xFFFE],
        "energy": -1.5,
        "celsius": 41.5,
        "both": [7, -2],
        "valves": [True, False, True, True],
        "doors": [False],
    }


@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("word_order", ["big", "little"])
@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [
        ("int16", "h", -2),
        ("uint16", "H", 65535),
        ("int32", "i", -(2**31)),
        ("uint32", "I", 2**32 - 1),
        ("int64", "q", -(2**63)),
        ("uint64", "Q", 2**64 - 1),
        ("float32", "f", 1.5),
        ("float64", "d", -1e300),
    ],
)
def test_numbers_of_each_order_are_exact(byte_order: str, word_order: str, kind: str, code: str, value: Any) -> None:
    data = struct.pack(f">{code}", value)
    words = [data[start : start + 2] for start in range(0, len(data), 2)]
    if word_order == "little":
        words.reverse()
    registers = [int.from_bytes(word, byte_order) for word in words]  # type: ignore[arg-type]
    point = Point(
        type="input_registers", name="x", address=0, data_type=kind, byte_order=byte_order, word_order=word_order
    )
    assert point.count == len(words)
    assert point.column(registers).to_pylist() == [value]


async def test_metadata_tells_when_and_where(tmp_path: Path) -> None:
    async with device() as port, lend_context(tmp_path) as context, modbus(port).open(context) as reader:
        delivery = await reader.read()
        batch = attach(delivery.batch, delivery.origin)
    assert batch.column("__meta_timestamp").null_count == 0
    assert dict(batch.column("__meta_ext")[0].as_py()) == {"addr": f"127.0.0.1:{port}"}


async def test_a_point_that_the_device_refuses_is_named(tmp_path: Path) -> None:
    async with device() as port:
        with pytest.raises(ConnectionLost, match="far: the device refuses it"):
            await read_one(modbus(port, {**LEVEL, "name": "far", "address": 5000}), tmp_path)


async def test_a_connection_that_is_cut_or_swallowed_ends_reading(tmp_path: Path) -> None:
    """The reference goes on asking over the connection that is dead."""
    async with device() as port, FaultProxy("127.0.0.1", port) as proxy:
        for swallows in (False, True):
            component = modbus(proxy.port, timeout="300ms")
            async with lend_context(tmp_path) as context, component.open(context) as reader:
                await reader.read()
                if swallows:
                    proxy.passing.clear()
                else:
                    await proxy.cut()
                with pytest.raises(ConnectionLost):
                    await reader.read()
            proxy.passing.set()
        assert await read_one(modbus(proxy.port), tmp_path) == {"level": 7}


async def test_a_device_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    async with device() as port:
        pass
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}"):
            await modbus(port).open(context).__aenter__()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"addr": "nowhere"}, "expected an address"),
        ({"points": [LEVEL, LEVEL]}, "two points are called 'level'"),
        ({"points": [{**LEVEL, "quantity": 126}]}, "at most 125"),
        ({"points": [{**LEVEL, "data_type": "float32", "quantity": 3}]}, "multiple"),
        ({"points": [{**LEVEL, "type": "coils"}]}, "are bits"),
        ({"points": [{"type": "coils", "name": "a", "address": 65535, "quantity": 2}]}, "within 65536"),
        ({"codec": "json"}, "points are columns"),
        ({"slave": 1}, "did you mean 'slave_id'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Modbus(**{"addr": "h:502", "points": [LEVEL], "interval": "1s", **options})


async def test_rows_come_at_the_interval(tmp_path: Path) -> None:
    async with (
        device() as port,
        lend_context(tmp_path) as context,
        modbus(port, interval="1h").open(context) as reader,
    ):
        await reader.read()
        again = asyncio.ensure_future(reader.read())
        done, _ = await asyncio.wait({again}, timeout=0.05)
        again.cancel()
        assert not done


async def test_a_device_is_read_over_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    words = [SimData(0, values=REGISTERS, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[True], datatype=DataType.BITS)]
    device = SimDevice(1, simdata=(bits, bits, words, words))
    server = ModbusTlsServer(device, address=("127.0.0.1", 0), sslctx=made.context())
    await server.listen()
    try:
        port = server.transport.sockets[0].getsockname()[1]
        assert await read_one(modbus(port, tls={"ca": str(made.certificate)}), tmp_path) == {"level": 7}
        with pytest.raises(ConnectionLost, match="self-signed certificate"):
            await read_one(modbus(port, tls={}), tmp_path)
    finally:
        await server.shutdown()
