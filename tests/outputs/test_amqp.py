from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Output
from penstock.errors import ConnectionLost, RowsRejected, TransientError
from penstock.outputs.amqp import Amqp
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import RabbitmqServer
from penstock.testing.suites.outputs import OutputSuite

from ..rabbitmq import make_queue, messages, unique

pytestmark = pytest.mark.server
KEY = {"type": "expr", "expr": "key"}


def writing(server: RabbitmqServer, key: Any, **options: Any) -> Amqp:
    return Amqp(**{"url": server.url, "routing_key": key, **options})


class TestQueue(OutputSuite):
    refuses = False

    @pytest.fixture
    async def component(self, shared_rabbitmq_server: RabbitmqServer) -> Output:
        self.server, self.queue = shared_rabbitmq_server, await make_queue(shared_rabbitmq_server)
        return writing(shared_rabbitmq_server, self.queue)

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        return [json.loads(message.body) for message in await messages(self.server, self.queue)]


async def test_key_headers_and_properties_are_those_of_each_row(shared_rabbitmq_server, tmp_path):
    exchange, queue = unique(), unique()
    declare = {
        "exchanges": [{"name": exchange, "type": "topic"}],
        "queues": [{"name": queue, "message_ttl": "1h", "max_length": 9}],
        "bindings": [{"queue": queue, "exchange": exchange, "routing_key": "#"}],
    }
    component = writing(
        shared_rabbitmq_server,
        KEY,
        exchange=exchange,
        declare=declare,
        headers={"trace": {"type": "expr", "expr": "trace"}, "source": "penstock"},
        properties={"message_id": KEY, "type": "reading", "priority": 4, "expiration": "60000"},
        value_field="body",
    )
    rows = pa.record_batch({"key": ["a.1", "a.2", "a.3"], "trace": ["x", None, "z"], "body": ["1", "2", None]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([rows])
    found = await messages(shared_rabbitmq_server, queue)
    assert [(m.routing_key, m.body, m.headers, m.message_id) for m in found] == [
        ("a.1", b"1", {"trace": "x", "source": "penstock"}, "a.1"),
        ("a.2", b"2", {"source": "penstock"}, "a.2"),
    ]
    assert {(m.type, m.priority, int(m.delivery_mode), m.expiration) for m in found} == {("reading", 4, 2, 60)}


async def test_rows_that_no_queue_gets_are_named_and_the_others_sent_once(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = writing(shared_rabbitmq_server, KEY, value_field="body", properties={"message_id": "same"})
    rows = pa.record_batch({"key": [queue, "absent", queue, None], "body": ["1", "2", "3", "4"]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected, match="no routing key"):
            await writer.write([rows])
        with pytest.raises(RowsRejected, match="no queue gets it: exchange '', routing key 'absent'") as refusal:
            await writer.write([rows.slice(0, 1), rows.slice(1, 2)])
        assert set(refusal.value.reasons) == {1}
        await writer.write([rows.slice(0, 1), rows.slice(2, 1)])
    assert [message.body for message in await messages(shared_rabbitmq_server, queue)] == [b"1", b"3"]


async def test_without_mandatory_the_broker_drops_what_no_queue_gets(shared_rabbitmq_server, tmp_path):
    component = writing(shared_rabbitmq_server, "absent", mandatory=False, persistent=False)
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([sample(0, 3)])


async def test_an_exchange_that_is_not_there_is_waited_for(shared_rabbitmq_server, tmp_path):
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="no exchange 'absent'"):
            await writing(shared_rabbitmq_server, "a", exchange="absent").open(context).__aenter__()


async def test_an_exchange_of_some_rows_that_is_not_there_refuses_only_these(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = writing(shared_rabbitmq_server, queue, exchange=KEY, value_field="body")
    rows = pa.record_batch({"key": ["", "absent"], "body": ["1", "2"]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected, match="there is no exchange 'absent'") as refusal:
            await writer.write([rows])
        assert set(refusal.value.reasons) == {1}
        await writer.write([rows.slice(0, 1)])
    assert [message.body for message in await messages(shared_rabbitmq_server, queue)] == [b"1"]


@pytest.mark.parametrize(
    ("options", "cells", "reason"),
    [
        ({}, {"key": "k" * 256}, "routing key of 256 bytes"),
        ({"properties": {"message_id": {"type": "expr", "expr": "x"}}}, {"x": "ü" * 128}, "message_id of 256 bytes"),
        ({"properties": {"expiration": {"type": "expr", "expr": "x"}}}, {"x": "soon"}, "milliseconds"),
        ({"properties": {"priority": {"type": "expr", "expr": "x"}}}, {"x": "256"}, "up to 255"),
        ({"headers": {"h": {"type": "expr", "expr": "x"}}}, {"x": "y" * 70_000}, "headers"),
    ],
)
async def test_what_would_end_the_connection_of_all_refuses_its_row(
    shared_rabbitmq_server, tmp_path, options, cells, reason
):
    component = writing(shared_rabbitmq_server, KEY, **options)
    rows = pa.RecordBatch.from_pylist([{"key": "a", **cells}])
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected, match=reason):
            await writer.write([rows])


async def test_a_queue_that_is_full_is_tried_again_without_doubling(shared_rabbitmq_server, tmp_path):
    queue = unique()
    made = {"name": queue, "max_length": 2, "arguments": {"x-overflow": "reject-publish"}}
    component = writing(shared_rabbitmq_server, queue, declare={"queues": [made]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(TransientError, match="may be full"):
            await writer.write([sample(0, 3)])
        assert [json.loads(m.body)["id"] for m in await messages(shared_rabbitmq_server, queue)] == [0, 1]
        with pytest.raises(TransientError, match="may be full"):
            await writer.write([sample(0, 3)])
    assert len(await messages(shared_rabbitmq_server, queue)) == 2


async def test_a_message_that_is_too_large_refuses_its_row(tmp_path):
    with RabbitmqServer({"max_message_size": 1000}) as server:
        queue = await make_queue(server)
        component = writing(server, queue, value_field="body")
        rows = pa.record_batch({"body": ["a", "b" * 2000, "c"]})
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            with pytest.raises(TransientError):
                await writer.write([rows])
            with pytest.raises(RowsRejected, match="2000 bytes are more than the 1000") as refusal:
                await writer.write([rows])
            assert set(refusal.value.reasons) == {1}
            await writer.write([rows.slice(0, 1), rows.slice(2)])
        assert {message.body for message in await messages(server, queue)} == {b"a", b"c"}


async def test_a_broker_that_confirms_nothing_is_a_lost_connection(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    async with FaultProxy("127.0.0.1", shared_rabbitmq_server.port) as proxy:
        url = shared_rabbitmq_server.url.replace(str(shared_rabbitmq_server.port), str(proxy.port))
        component = writing(shared_rabbitmq_server, queue, url=url, timeout="500ms")
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            proxy.passing.clear()
            with pytest.raises(ConnectionLost, match="no answer within"):
                await writer.write([sample(0, 10)])
            writing_on = asyncio.ensure_future(proxy.cut())
            proxy.passing.set()
            await writing_on


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"properties": {"mesage_id": "a"}}, "message_id"),
        ({"headers": {"": "a"}}, "1 to 255 bytes"),
        ({"routing_kee": "a"}, "did you mean 'routing_key'"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    with pytest.raises(ValidationError, match=reason):
        Amqp(**{"url": "amqp://localhost", "routing_key": "a", **options})
