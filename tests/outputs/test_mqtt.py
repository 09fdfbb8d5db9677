from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import paho.mqtt.client as paho
import pyarrow as pa
import pytest

from penstock.component import Output
from penstock.errors import ConnectionLost, RowsRejected, TransientError
from penstock.outputs.mqtt import Mqtt
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.servers import MosquittoServer
from penstock.testing.suites.outputs import OutputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server


def writing(server: MosquittoServer, **options: Any) -> Mqtt:
    return Mqtt(host="127.0.0.1", port=server.port, username=server.user, password=server.password, **options)


class Listener:
    """Another client of the broker."""

    def __init__(self, server: MosquittoServer, topic: str) -> None:
        self.messages: list[Any] = []
        client = self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set(server.user, server.password)
        subscribed = threading.Event()
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda *got: self.messages.append(got[-1])
        client.connect("127.0.0.1", server.port)
        client.loop_start()
        client.subscribe(topic, qos=2)
        assert subscribed.wait(60)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class MqttSuite(OutputSuite):
    refuses = False
    qos = 1

    @pytest.fixture
    def component(self, shared_mosquitto_server: MosquittoServer) -> Iterator[Output]:
        topic = uuid.uuid4().hex
        self.listener = Listener(shared_mosquitto_server, f"{topic}/#")
        self.end = f"{topic}/end"
        yield writing(shared_mosquitto_server, topic=f"{topic}/rows", qos=self.qos)
        self.listener.close()

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        before = sum(message.topic == self.end for message in self.listener.messages)
        await asyncio.to_thread(self.listener.client.publish(self.end, "", qos=2).wait_for_publish, 60)
        await until(lambda: sum(message.topic == self.end for message in self.listener.messages) > before)
        return [json.loads(message.payload) for message in self.listener.messages if message.topic != self.end]


class TestOnce(MqttSuite):
    qos = 1


class TestExactlyOnce(MqttSuite):
    qos = 2


async def test_topics_are_those_of_each_row_and_retained(mosquitto_server, tmp_path):
    component = writing(
        mosquitto_server, topic={"type": "expr", "expr": "concat('t/', id)"}, retain=True, value_field="body"
    )
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([pa.record_batch({"id": [1, 2, 3], "body": ["a", "b", None]})])
    listener = Listener(mosquitto_server, "t/#")
    await until(lambda: len(listener.messages) == 2)
    assert {(m.topic, m.payload, m.retain) for m in listener.messages} == {("t/1", b"a", True), ("t/2", b"b", True)}
    listener.close()


async def test_rows_that_cannot_be_published_are_named(mosquitto_server, tmp_path):
    component = writing(
        mosquitto_server, topic={"type": "expr", "expr": "topic"}, value_field="body", max_packet_size=2048
    )
    rows = pa.record_batch({"topic": ["a", None, "a/+", "", "b"], "body": ["x", "x", "x", "x", "y" * 3000]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([rows.slice(0, 2), rows.slice(2)])
    assert set(refusal.value.reasons) == {1, 2, 3, 4}


async def test_a_frozen_broker_is_a_lost_connection(mosquitto_server, tmp_path):
    component = writing(mosquitto_server, topic="a", timeout="300ms")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        mosquitto_server.pause()
        with pytest.raises(ConnectionLost, match="no answer within"):
            await writer.write([sample(0, 10)])
        mosquitto_server.resume()


async def test_a_topic_that_the_user_may_not_write_refuses_its_row_where_rows_choose_topics(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("user penstock\ntopic readwrite open/#\n")
    (tmp_path / "acl").chmod(0o600)
    rows = pa.record_batch({"topic": ["open/a", "closed/b"], "__value__": [b"1", b"2"]})
    with MosquittoServer(acl_file=tmp_path / "acl") as server:
        chosen = writing(server, topic={"type": "expr", "expr": "topic"})
        async with lend_context(tmp_path) as context, chosen.open(context) as writer:
            with pytest.raises(RowsRejected, match="not authorized") as refusal:
                await writer.write([rows])
            assert set(refusal.value.reasons) == {1}
        fixed = writing(server, topic="closed/c")
        async with lend_context(tmp_path) as context, fixed.open(context) as writer:
            with pytest.raises(TransientError, match="not authorized"):
                await writer.write([rows.slice(0, 1)])
