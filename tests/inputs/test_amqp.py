from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from pamqp import encode
from pydantic import ValidationError

from penstock.clients.amqp_properties import UNREADABLE
from penstock.errors import ConnectionLost, PermanentError
from penstock.inputs.amqp import Amqp
from penstock.metadata import attach
from penstock.outputs import memory
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.faults import FaultProxy
from penstock.testing.servers import RabbitmqServer
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until

from ..faults.streams import run_on
from ..rabbitmq import channel, make_queue, messages, send, unique

pytestmark = pytest.mark.server


def reading(server: RabbitmqServer, queue: str, **options: Any) -> Amqp:
    return Amqp(**{"url": server.url, "queue": queue, "codec": "json", **options})


def bodies(count: int) -> list[bytes]:
    return [json.dumps({"id": number}).encode() for number in range(count)]


class TestQueue(InputSuite):
    checkpointed = False
    bounded = False

    @pytest.fixture
    async def component(self, shared_rabbitmq_server: RabbitmqServer) -> Amqp:
        queue = await make_queue(shared_rabbitmq_server)
        await send(shared_rabbitmq_server, queue, bodies(5))
        return reading(shared_rabbitmq_server, queue, batch_size=1)

    def expected(self, component: Any) -> list[Any]:
        return [{"id": number} for number in range(5)]


async def test_metadata_has_key_headers_properties_and_whether_it_comes_again(shared_rabbitmq_server, tmp_path):
    exchange, queue = unique(), unique()
    declare = {
        "exchanges": [{"name": exchange, "type": "topic"}],
        "queues": [{"name": queue}],
        "bindings": [{"queue": queue, "exchange": exchange, "routing_key": "a.#"}],
    }
    component = reading(shared_rabbitmq_server, queue, declare=declare)
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    headers = {"trace": "abc", "queue": "mine", "n": 5, "deep": {"x": [1, "ü"]}}
    for again in ("false", "true"):
        async with lend_context(tmp_path) as context, component.open(context) as reader:
            if again == "false":
                async with channel(shared_rabbitmq_server) as found:
                    message = aio_pika.Message(b"{}", headers=headers, message_id="7", priority=3, timestamp=at)
                    await (await found.get_exchange(exchange)).publish(message, "a.b.c")
            delivery = await reader.read()
            (row,) = rows_of(attach(delivery.batch, delivery.origin))
        assert row["__meta_key"] == b"a.b.c"
        assert delivery.origin.columns(1)[4].cast("int64").to_pylist() == [int(at.timestamp()) * 1_000_000_000]
        assert dict(row["__meta_ext"]) == {
            "exchange": exchange,
            "queue": queue,
            "routing_key": "a.b.c",
            "redelivered": again,
            "message_id": "7",
            "priority": "3",
            "delivery_mode": "1",
            "trace": "abc",
            "header.queue": "mine",
            "n": "5",
            "deep": '{"x": [1, "\\u00fc"]}',
        }


async def test_properties_that_are_no_text_or_no_time_hold_nothing_up(shared_rabbitmq_server, tmp_path, monkeypatch):
    queue = await make_queue(shared_rabbitmq_server)

    def raw(text: str) -> bytes:
        return bytes([len(text)]) + text.encode("latin-1")

    def late(_: Any) -> bytes:
        return (2**63 - 1).to_bytes(8, "big")

    with monkeypatch.context() as patch:  # as a sender that checks nothing
        patch.setattr(encode, "short_string", raw)
        patch.setitem(encode.METHODS, "shortstr", raw)
        patch.setitem(encode.METHODS, "timestamp", late)
        told = {"correlation_id": "\xff\x00", "timestamp": datetime(2026, 3, 1, tzinfo=UTC), "headers": {"\xfe": 1}}
        await send(shared_rabbitmq_server, queue, bodies(1), **told)
    await send(shared_rabbitmq_server, queue, bodies(2)[1:], headers={"fine": "yes"})
    component = reading(shared_rabbitmq_server, queue, batch_size=2, linger="10s")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        delivery = await reader.read()
        odd, fine = rows_of(attach(delivery.batch, delivery.origin))
        await delivery.ack()
    assert [odd["__value__"], fine["__value__"]] == bodies(2)
    assert dict(odd["__meta_ext"])["correlation_id"] == "\\xff\x00"
    assert dict(odd["__meta_ext"])[UNREADABLE].startswith("\x01\\xfe")
    assert delivery.origin.columns(2)[4].to_pylist() == [None, None]
    assert dict(fine["__meta_ext"])["fine"] == "yes"


async def test_many_messages_are_one_batch_and_no_more_than_prefetch_are_taken(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    await send(shared_rabbitmq_server, queue, bodies(30))
    component = reading(shared_rabbitmq_server, queue, batch_size=20, prefetch=20, linger="10s")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        delivery = await reader.read()
        assert delivery.batch.num_rows == 20
        async with channel(shared_rabbitmq_server) as found:
            assert (await found.declare_queue(queue, passive=True)).declaration_result.message_count == 10
        await until(lambda: reader.progress().total == 30)


async def test_only_rows_that_are_wrong_are_rejected_and_become_dead_letters(shared_rabbitmq_server, tmp_path):
    refused, queue = await make_queue(shared_rabbitmq_server), unique()
    made = {"name": queue, "dead_letter_exchange": "", "dead_letter_routing_key": refused}
    sent = [*bodies(3), b"no json", *bodies(2), b"nor this"]
    options = {"declare": {"queues": [made]}, "reject": True}
    component = reading(shared_rabbitmq_server, queue, **options)
    async with lend_context(tmp_path) as context, component.open(context):
        await send(shared_rabbitmq_server, queue, sent)
    memory.clear("out")
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_on(tmp_path, stop, input=component))

    async def are_moved() -> bool:
        async with channel(shared_rabbitmq_server) as found:
            there = await found.declare_queue(refused, passive=True)
        return bool(there.declaration_result.message_count == 2) or running.done()

    await until(are_moved)
    stop.set()
    assert [row["id"] for row in await running] == [0, 1, 2, 0, 1]
    assert [message.body for message in await messages(shared_rabbitmq_server, refused)] == [b"no json", b"nor this"]
    assert await messages(shared_rabbitmq_server, queue) == []


async def test_without_reject_a_row_that_is_wrong_stays_in_the_queue(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    await send(shared_rabbitmq_server, queue, [b"no json"])
    component = reading(shared_rabbitmq_server, queue)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        await (await reader.read()).nack(PermanentError("no"))
        with pytest.raises(Exception, match="a batch was refused"):
            await reader.read()

    async def is_back() -> bool:
        return [message.body for message in await messages(shared_rabbitmq_server, queue)] == [b"no json"]

    await until(is_back)


async def test_acks_in_any_order_ack_only_their_own(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    await send(shared_rabbitmq_server, queue, bodies(6))
    component = reading(shared_rabbitmq_server, queue, batch_size=1)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        deliveries = [await reader.read() for _ in range(6)]
        for number in (3, 0, 4):
            await deliveries[number].ack()
    assert [json.loads(one.body)["id"] for one in await messages(shared_rabbitmq_server, queue)] == [1, 2, 5]


async def test_a_queue_that_is_not_there_is_waited_for(shared_rabbitmq_server, tmp_path):
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="no queue 'absent'"):
            await reading(shared_rabbitmq_server, "absent").open(context).__aenter__()


async def test_a_queue_that_is_deleted_ends_reading(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = reading(shared_rabbitmq_server, queue)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        async with channel(shared_rabbitmq_server) as found:
            await found.queue_delete(queue)
        with pytest.raises(ConnectionLost, match="was deleted"):
            await reader.read()


async def test_a_queue_that_is_there_otherwise_is_an_error(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = reading(shared_rabbitmq_server, queue, declare={"queues": [{"name": queue, "type": "quorum"}]})
    async with lend_context(tmp_path) as context:
        with pytest.raises(PermanentError, match="x-queue-type"):
            await component.open(context).__aenter__()


async def test_an_exclusive_reader_waits_for_the_other(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = reading(shared_rabbitmq_server, queue, exclusive=True, priority=3)
    async with lend_context(tmp_path) as context, component.open(context):
        with pytest.raises(ConnectionLost, match="exclusive use"):
            await component.open(context).__aenter__()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"password": "hunter2secret"}, "ACCESS_REFUSED"),
        ({"vhost": "absent"}, "the virtual host is not there"),
    ],
)
async def test_what_the_broker_refuses_is_said_without_secrets(shared_rabbitmq_server, tmp_path, options, reason):
    vhost = options.pop("vhost", "")
    component = reading(shared_rabbitmq_server, "a", url=f"{shared_rabbitmq_server.url}/{vhost}", **options)
    async with lend_context(tmp_path) as context:
        with pytest.raises((PermanentError, ConnectionLost), match=reason) as refusal:
            await component.open(context).__aenter__()
    for secret in ("hunter2secret", shared_rabbitmq_server.password):
        assert secret not in str(refusal.value)
        assert secret not in repr(component)


async def test_tls_is_verified(shared_rabbitmq_server, tmp_path):
    server = shared_rabbitmq_server
    queue = await make_queue(server)
    options = {"url": f"amqps://127.0.0.1:{server.tls_port}", "username": server.user, "password": server.password}
    trusting = reading(server, queue, **options, tls={"ca": str(server.certificate.certificate)})
    async with lend_context(tmp_path) as context:
        async with trusting.open(context):
            pass
        with pytest.raises(PermanentError, match=r"(?i)certificate"):
            await reading(server, queue, **options).open(context).__aenter__()


async def test_the_first_server_that_answers_is_used(shared_rabbitmq_server, tmp_path):
    queue = await make_queue(shared_rabbitmq_server)
    component = reading(shared_rabbitmq_server, queue, url=f"amqp://127.0.0.1:1, {shared_rabbitmq_server.url}")
    async with lend_context(tmp_path) as context, component.open(context):
        pass


async def test_a_server_that_says_nothing_is_given_up(shared_rabbitmq_server, tmp_path):
    async with FaultProxy("127.0.0.1", shared_rabbitmq_server.port) as proxy:
        proxy.passing.clear()
        component = reading(shared_rabbitmq_server, "a", url=f"amqp://127.0.0.1:{proxy.port}", timeout="200ms")
        async with lend_context(tmp_path) as context:
            with pytest.raises(ConnectionLost, match=r"no answer within 0\.2 s"):
                await component.open(context).__aenter__()
        proxy.passing.set()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "http://x"}, "amqp://127"),
        ({"url": "amqp://x?heartbeat=1"}, "without a query"),
        ({"queue": ""}, "at least 1 character"),
        ({"prefetch": 70_000}, "65535"),
        ({"declare": {"queues": [{"name": "a", "type": "stream"}]}}, "pattern"),
        ({"declare": {"queue": []}}, "did you mean 'queues'"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    with pytest.raises(ValidationError, match=reason):
        Amqp(**{"url": "amqp://localhost", "queue": "a", **options})


def test_names_and_passwords_may_have_any_characters():
    component = Amqp(url="amqp://h/v%2Fhost", username="a@b", password="p:/?#ü", queue="a")
    assert component.target(component.urls[0], "penstock a&b").startswith(
        "amqp://a%40b:p%3A%2F%3F%23%C3%BC@h:5672/v%2Fhost?heartbeat=10&name=penstock%20a%26b"
    )
