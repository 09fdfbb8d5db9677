from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paho.mqtt.client as paho
import pytest
import uvloop
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import ValidationError

from penstock.errors import ConnectionLost, PermanentError
from penstock.inputs.mqtt import Mqtt
from penstock.metadata import attach
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.servers import MosquittoServer, make_certificate
from penstock.testing.suites import InputSuite

pytestmark = pytest.mark.server


def reading(server: MosquittoServer, **options: Any) -> Mqtt:
    credentials = {"username": server.user, "password": server.password}
    return Mqtt(host="127.0.0.1", port=server.port, **{"topics": ["a/#"], "linger": "0s", **credentials, **options})


@contextmanager
def connected(server: MosquittoServer, version: int = paho.MQTTv5) -> Iterator[paho.Client]:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
    client.username_pw_set(server.user, server.password)
    client.connect("127.0.0.1", server.port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def publish(server: MosquittoServer, *messages: tuple[str, str], qos: int = 1, **options: Any) -> None:
    with connected(server) as client:
        for topic, payload in messages:
            client.publish(topic, payload, qos=qos, **options).wait_for_publish(60)


async def subscribed(component: Mqtt, folder: Any) -> None:
    """Let the broker begin to keep messages for the component."""
    async with lend_context(folder) as context, component.open(context):
        pass


async def read_some(component: Mqtt, folder: Any, count: int, *, ack: bool = True) -> list[Any]:
    rows: list[Any] = []
    async with lend_context(folder) as context, component.open(context) as reader:
        while len(rows) < count:
            delivery = await reader.read()
            rows += rows_of(attach(delivery.batch, delivery.origin))
            if ack:
                await delivery.ack()
        for ledger in context.ledgers:
            await ledger.flush()
    return rows


class MqttSuite(InputSuite):
    checkpointed = False
    committing = True
    bounded = False
    qos = 1

    @pytest.fixture
    async def component(self, shared_mosquitto_server: MosquittoServer, tmp_path: Any) -> Mqtt:
        topic = uuid.uuid4().hex
        made = reading(
            shared_mosquitto_server, topics=[topic], client_id=topic, codec="json", batch_size=1, qos=self.qos
        )
        await subscribed(made, tmp_path)
        messages = [(topic, json.dumps({"id": number})) for number in range(5)]
        await asyncio.to_thread(publish, shared_mosquitto_server, *messages, qos=self.qos)
        return made

    def expected(self, component: Any) -> list[Any]:
        return [{"id": number} for number in range(5)]


class TestOnce(MqttSuite):
    pass


class TestExactlyOnce(MqttSuite):
    qos = 2


for suite in (TestOnce, TestExactlyOnce):
    # Acks are told to the broker in the order of reading, so the one behind a hole comes again.
    suite.test_out_of_order_acks_never_skip = None  # type: ignore[assignment]


@pytest.mark.parametrize("qos", [1, 2])
async def test_only_what_is_acked_without_a_hole_is_gone(mosquitto_server, tmp_path, qos):
    component = reading(mosquitto_server, qos=qos, batch_size=1)
    await subscribed(component, tmp_path)
    publish(mosquitto_server, *[("a/b", str(number)) for number in range(5)], qos=qos)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        deliveries = [await reader.read() for _ in range(5)]
        for number in (0, 1, 3):
            await deliveries[number].ack()
        for ledger in context.ledgers:
            await ledger.flush()
    again = await read_some(component, tmp_path, 3)
    assert [row["__value__"] for row in again] == [b"2", b"3", b"4"]


async def test_what_is_on_its_way_when_the_connection_is_lost_does_not_come_twice(
    mosquitto_server, tmp_path, fault_proxy
):
    async with fault_proxy(mosquitto_server.port) as proxy, lend_context(tmp_path) as context:
        component = reading(mosquitto_server, batch_size=1).model_copy(update={"port": proxy.port})
        async with component.open(context) as reader:
            await asyncio.to_thread(publish, mosquitto_server, ("a/b", "0"), ("a/b", "1"))
            first = await reader.read()
            await proxy.cut()
            while True:
                try:
                    second = await reader.read()
                except ConnectionLost:
                    break
                del second
        async with component.open(context) as reader:
            await first.ack()
            await asyncio.to_thread(publish, mosquitto_server, ("a/b", "2"))
            rows: list[bytes] = []
            while b"2" not in rows:
                rows += [row["__value__"] for row in rows_of((await reader.read()).batch)]
            for ledger in context.ledgers:
                await ledger.flush()
    assert b"0" not in rows


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_topics_and_user_properties_are_told(mosquitto_server, tmp_path, version):
    component = reading(mosquitto_server, topics=[f"t{number}/+" for number in range(30)], version=version, qos=0)
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("unit", "K")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        await asyncio.to_thread(publish, mosquitto_server, ("t29/x", "1"), properties=properties)
        delivery = await reader.read()
    (row,) = rows_of(attach(delivery.batch, delivery.origin))
    expected = {"topic": "t29/x"} | ({"unit": "K"} if version == "5" else {})
    assert dict(row["__meta_ext"]) == expected
    assert row["__meta_source"] == "mqtt"


async def test_the_members_of_a_group_share_messages(mosquitto_server, tmp_path):
    options = {"topics": ["$share/group/jobs/#"]}
    async with (
        lend_context(tmp_path) as context,
        lend_context(tmp_path / "other") as other,
        reading(mosquitto_server, **options).open(context) as first,
        reading(mosquitto_server, **options).open(other) as second,
    ):
        messages = [(f"jobs/{number}", str(number)) for number in range(40)]
        await asyncio.to_thread(publish, mosquitto_server, *messages)
        found: list[bytes] = []
        every = asyncio.Event()

        async def collect(reader: Any) -> None:
            while True:
                found.extend(row["__value__"] for row in rows_of((await reader.read()).batch))
                if len(found) >= 40:
                    every.set()

        tasks = [asyncio.ensure_future(collect(reader)) for reader in (first, second)]
        await every.wait()
        for task in tasks:
            task.cancel()
    assert sorted(map(int, found)) == list(range(40))


async def test_a_second_client_of_the_same_name_is_told(mosquitto_server, tmp_path):
    component = reading(mosquitto_server, client_id="same")
    async with (
        lend_context(tmp_path) as context,
        component.open(context) as reader,
        lend_context(tmp_path) as other,
        component.open(other),
    ):
        with pytest.raises(ConnectionLost, match="client id"):
            await reader.read()


async def test_streams_and_folders_have_sessions_of_their_own(mosquitto_server, tmp_path):
    component = reading(mosquitto_server)
    async with (
        lend_context(tmp_path / "a") as one,
        lend_context(tmp_path / "b") as two,
        lend_context(tmp_path / "a", name="other") as three,
        component.open(one) as first,
        component.open(two) as second,
        component.open(three) as third,
    ):
        await asyncio.to_thread(publish, mosquitto_server, ("a/b", "1"))
        for reader in (first, second, third):
            assert (await reader.read()).batch.num_rows == 1


async def test_a_message_that_is_too_large_ends_the_connection_in_words(mosquitto_server, tmp_path):
    component = reading(mosquitto_server, max_packet_size=2048, version="3.1.1")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        await asyncio.to_thread(publish, mosquitto_server, ("a/b", "x" * 5000))
        with pytest.raises(ConnectionLost, match="the most is 2048"):
            await reader.read()


async def test_a_frozen_broker_is_a_lost_connection(mosquitto_server, tmp_path):
    async with lend_context(tmp_path) as context, reading(mosquitto_server, keep_alive=1).open(context) as reader:
        mosquitto_server.pause()
        with pytest.raises(ConnectionLost, match="nothing was heard"):
            await reader.read()
        mosquitto_server.resume()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_wrong_password_is_said_without_it(mosquitto_server, tmp_path, version):
    component = reading(mosquitto_server, version=version, password="hunter2secret")
    async with lend_context(tmp_path) as context:
        with pytest.raises(PermanentError, match=r"not authorized|password") as refusal:
            await component.open(context).__aenter__()
    assert "hunter2secret" not in str(refusal.value) + repr(component)


async def test_tls_is_verified(tmp_path):
    made = make_certificate(tmp_path)
    with MosquittoServer(certfile=made.certificate, keyfile=made.key) as server:
        await subscribed(reading(server, tls={"ca": str(made.certificate)}), tmp_path)
        async with lend_context(tmp_path) as context:
            with pytest.raises(PermanentError, match=r"(?i)certificate"):
                await reading(server, tls={}).open(context).__aenter__()


async def test_a_broker_that_knows_the_old_protocol_only_is_spoken_to_in_that(tmp_path):
    serving = []

    async def serve(received: asyncio.StreamReader, sent: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        data = await received.read(1000)
        sent.write(b"\x20\x02\x00\x00" if data[8] == 4 else b"\x20\x02\x00\x01")
        if data[8] == 4:
            await received.read(1000)
            sent.write(b"\x90\x03\x00\x01\x01" + b"\x30\x06\x00\x01ahey")
            await received.read(1000)
        sent.close()
        with suppress(ConnectionError):
            await sent.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    component = Mqtt(host="127.0.0.1", port=server.sockets[0].getsockname()[1], topics=["a"])
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        assert rows_of((await reader.read()).batch) == [{"__value__": b"hey"}]
    await asyncio.gather(*serving)
    server.close()


def test_it_runs_on_uvloop(mosquitto_server, tmp_path):
    component = reading(mosquitto_server)

    async def run() -> None:
        await subscribed(component, tmp_path)
        await asyncio.to_thread(publish, mosquitto_server, ("a/b", "1"))
        assert len(await read_some(component, tmp_path, 1)) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"topics": []}, "at least 1"),
        ({"qos": 3}, "0, 1 or 2"),
        ({"version": "4"}, "pattern"),
        ({"topic": "a"}, "did you mean 'topics'"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    with pytest.raises(ValidationError, match=reason):
        Mqtt(**{"host": "h", "topics": ["a"], **options})
