"""The input that is pushed to, by the suite that all inputs pass."""

import asyncio
import socket

import pytest

from penstock.component import Input
from penstock.errors import ConnectionLost
from penstock.testing.contexts import lend_context
from penstock.testing.servers import free_port
from penstock.testing.suites import InputSuite

ROWS = [{"n": n} for n in range(5)]


def send(port, *payloads):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for payload in payloads:
            sender.sendto(payload, ("127.0.0.1", port))


class TestUdp(InputSuite):
    replayable = bounded = limited = checkpointed = False

    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "udp", "port": free_port(), "codec": "json"})

    async def supply(self, component, context):
        await asyncio.to_thread(send, component.port, *(b'{"n": %d}' % row["n"] for row in ROWS))

    def expected(self, component):
        return ROWS


async def test_what_does_not_fit_is_dropped_and_reported_once(tmp_path):
    component, gaps, has_gap = Input.parse({"type": "udp", "port": free_port(), "capacity": 2}), [], asyncio.Event()

    def note_gap(reason):
        gaps.append(reason)
        has_gap.set()

    async with lend_context(tmp_path, note_gap=note_gap) as context, component.open(context) as reader:
        send(component.port, b"a", b"b", b"c", b"d")
        await has_gap.wait()
        delivery = await reader.read()
        assert delivery.batch.column("__value__").to_pylist() == [b"a", b"b"]
        assert delivery.origin.ext == {"remote": "127.0.0.1"}
        await delivery.ack()
    assert len(gaps) == 1


async def test_an_address_that_is_taken_is_a_lost_connection(tmp_path):
    component = Input.parse({"type": "udp", "port": free_port()})
    async with lend_context(tmp_path) as context, component.open(context):
        with pytest.raises(ConnectionLost, match=r"udp 127\.0\.0\.1"):
            async with component.open(context):
                pass
