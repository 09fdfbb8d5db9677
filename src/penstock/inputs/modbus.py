"""Read the registers and bits of a Modbus device again and again, over TCP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from ..clients.tls import Tls
from ..component import Input, Reader
from ..context import Context
from ..delivery import Delivery
from ..duration import Duration
from ..errors import ConnectionLost
from ..extras import require
from ..metadata import Origin
from ..options import Options

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient

MAX_REGISTERS = 125
MAX_BITS = 2000
"""What one request may ask for, by the protocol."""
_TYPES = {
    "int16": ("i2", pa.int16()),
    "uint16": ("u2", pa.uint16()),
    "int32": ("i4", pa.int32()),
    "uint32": ("u4", pa.uint32()),
    "int64": ("i8", pa.int64()),
    "uint64": ("u8", pa.uint64()),
    "float32": ("f4", pa.float32()),
    "float64": ("f8", pa.float64()),
}


class Point(Options):
    """Values that are read together, which are one column."""

    type: Literal["coils", "discrete_inputs", "holding_registers", "input_registers"]
    """What is read: bits (`coils`, `discrete_inputs`) or registers of 16 bits."""
    name: str = Field(min_length=1)
    """The name of the column."""
    address: int = Field(ge=0, le=65535)
    """The first address, from 0."""
    quantity: int | None = Field(None, ge=1)
    """How many bits or registers; by default one, or as many as a value of `data_type` has."""
    data_type: Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"] | None = None
    """What registers mean; without it the column is a list of the registers, or of the bits."""
    byte_order: Literal["big", "little"] = "big"
    """The order of the two bytes of a register."""
    word_order: Literal["big", "little"] = "big"
    """The order of the registers of a value."""
    scale: float | None = None
    """What a value is multiplied by."""
    offset: float | None = None
    """What is added to a value then."""

    @model_validator(mode="after")
    def _check(self) -> Point:
        if self.is_bits and (self.data_type or self.scale is not None or self.offset is not None):
            raise ValueError(f"`{self.type}` are bits: expected no `data_type`, `scale` or `offset`")
        if self.data_type is None and (self.scale is not None or self.offset is not None):
            raise ValueError("`scale` and `offset` need a `data_type`")
        most = MAX_BITS if self.is_bits else MAX_REGISTERS
        if self.count > most:
            raise ValueError(f"expected a `quantity` of at most {most}, which one request may ask for")
        if self.address + self.count > 65536:
            raise ValueError("expected `address` and `quantity` within 65536 addresses")
        if self.count % self.words:
            raise ValueError(
                f"`{self.data_type}` has {self.words} registers: expected a `quantity` of a multiple of that"
            )
        return self

    @property
    def is_bits(self) -> bool:
        """Whether bits are read."""
        return self.type in ("coils", "discrete_inputs")

    @property
    def words(self) -> int:
        """How many registers a value has."""
        return int(_TYPES[self.data_type][0][1]) // 2 if self.data_type else 1

    @property
    def count(self) -> int:
        """How many bits or registers are asked for."""
        return self.quantity or self.words

    def column(self, found: Sequence[Any]) -> pa.Array:
        """Return what was read as a column of one row: a value, or a list where there are several."""
        if self.is_bits:
            return pa.array([list(found[: self.count])], pa.list_(pa.bool_()))
        if self.data_type is None:
            return pa.array([list(found)], pa.list_(pa.uint16()))
        code, kind = _TYPES[self.data_type]
        words = np.array(found, ">u2" if self.byte_order == "big" else "<u2").reshape(-1, self.words)
        if self.word_order == "little":
            words = words[:, ::-1]
        values = np.frombuffer(words.tobytes(), f">{code}").astype(code)
        if self.scale is not None or self.offset is not None:
            scale, offset = (1.0 if self.scale is None else self.scale), self.offset or 0.0
            values, kind = values.astype("f8") * scale + offset, pa.float64()
        if len(values) == 1:
            return pa.array(values, kind)
        return pa.array([values], pa.list_(kind))


class Modbus(Input, type="modbus"):
    """Read the registers and bits of a Modbus device again and again, over TCP.

    Every `interval` all `points` are read, one after the other, and make one row. Values that nobody reads in time are
    gone: `durability` keeps rows from the moment they are read. A device that cannot be reached, does not answer or
    refuses a point is connected to again, for as long as it takes; no row is made of half an answer.

    A point is a list of bits or of registers, as they are; with `data_type` its registers are numbers, several of them
    a list. `__meta_timestamp` is when the first answer came.

    Example::

        type: modbus
        addr: 192.168.0.20:502
        slave_id: 1
        interval: 1s
        points:
          - {type: holding_registers, name: celsius, address: 0, data_type: int16, scale: 0.1}
          - {type: input_registers, name: energy, address: 10, data_type: float64, word_order: little}
          - {type: coils, name: valves, address: 0, quantity: 8}
    """

    extra: ClassVar[str] = "modbus"

    addr: str
    """The device, as `host:port`."""
    slave_id: int = Field(1, ge=0, le=255)
    """The unit behind the address."""
    points: Sequence[Point] = Field(min_length=1)
    """What is read."""
    interval: Duration = Field(gt=0)
    """How often."""
    framing: Literal["tcp", "rtu"] = "tcp"
    """How messages are framed: those of Modbus TCP, or those of serial lines (RTU) behind a gateway."""
    tls: Tls | None = None
    """How to know the device, and to be known by it, where it speaks Modbus over TLS (mostly at port 802)."""
    timeout: Duration = Field(5.0, gt=0)
    """How long connecting and each answer may take."""

    @field_validator("addr")
    @classmethod
    def _expect_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("expected an address like '192.168.0.20:502'")
        return value

    @model_validator(mode="after")
    def _check(self) -> Modbus:
        require("pymodbus", "Modbus")
        names = [point.name for point in self.points]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two points are called {twice[0]!r}")
        if self.tls is not None and self.framing == "rtu":
            raise ValueError("Modbus over TLS has a framing of its own: expected no `framing: rtu`")
        if self.codec is not None:
            raise ValueError("`codec` decodes payloads, and points are columns: expected none")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect; raises ConnectionLost if that fails."""
        client = await self._client()
        failures = _note_failures(client)
        try:
            try:
                async with asyncio.timeout(self.timeout + 1):
                    is_connected = await client.connect()
            except (OSError, TimeoutError) as error:
                is_connected, failures = False, [error]
            if not is_connected:
                why = next((str(one) for one in failures if str(one)), f"no answer within {self.timeout:g} s")
                raise ConnectionLost(f"modbus {self.addr}: {why}")
            yield _ModbusReader(self, client, context)
        finally:
            client.close()

    async def _client(self) -> AsyncModbusTcpClient:
        from pymodbus import FramerType
        from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient

        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # its errors are raised, and told by us
        host, _, port = self.addr.rpartition(":")
        given: dict[str, Any] = {"port": int(port), "timeout": self.timeout, "retries": 0, "reconnect_delay": 0}
        if self.tls is not None:
            secured = await asyncio.to_thread(self.tls.context)
            return AsyncModbusTlsClient(host.strip("[]"), sslctx=secured, **given)
        framer = FramerType.RTU if self.framing == "rtu" else FramerType.SOCKET
        return AsyncModbusTcpClient(host.strip("[]"), framer=framer, **given)


def _note_failures(client: AsyncModbusTcpClient) -> list[BaseException]:
    """Return a list that gets why connecting fails, which pymodbus only logs."""
    failures: list[BaseException] = []
    connect = client.ctx.call_create

    async def noting() -> Any:
        try:
            return await connect()
        except OSError as error:
            failures.append(error)
            raise

    client.ctx.call_create = noting
    return failures


class _ModbusReader:
    def __init__(self, config: Modbus, client: AsyncModbusTcpClient, context: Context) -> None:
        self._config, self._client, self._clock = config, client, context.clock
        self._due = self._clock.monotonic()

    async def read(self) -> Delivery:
        """Wait until it is time, and read all points."""
        await self._clock.sleep(max(0.0, self._due - self._clock.monotonic()))
        columns, time = [], 0.0
        for point in self._config.points:
            columns.append(point.column(await self._ask(point)))
            time = time or self._clock.time()
        batch = pa.RecordBatch.from_arrays(columns, names=[point.name for point in self._config.points])
        now = self._clock.monotonic()
        missed = max(0.0, now - self._due) // self._config.interval
        self._due += (missed + 1) * self._config.interval
        stamp = pa.array([int(time * 1e9)], pa.timestamp("ns"))
        return Delivery(batch, (), Origin("modbus", timestamp=stamp, ext={"addr": self._config.addr}))

    async def _ask(self, point: Point) -> Sequence[Any]:
        from pymodbus.exceptions import ModbusException

        read = getattr(self._client, f"read_{point.type}")
        where = f"modbus {self._config.addr}: {point.name}"
        timeout = self._config.timeout
        try:
            async with asyncio.timeout(timeout + 1):
                answer = await read(point.address, count=point.count, device_id=self._config.slave_id)
        except (ModbusException, OSError, TimeoutError) as error:
            is_silent = isinstance(error, TimeoutError) or "No response received" in str(error)
            why = f"no answer within {timeout:g} s" if is_silent else str(error)
            raise ConnectionLost(f"{where}: {why}") from error
        if answer.isError():
            raise ConnectionLost(f"{where}: the device refuses it: {answer}")
        found: Sequence[Any] = answer.bits if point.is_bits else answer.registers
        if len(found) < point.count:
            raise ConnectionLost(f"{where}: {len(found)} values came, {point.count} were asked for")
        return found
