from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.js.api import ConsumerConfig, StreamConfig
from pydantic import ValidationError

from penstock.errors import ConnectionLost, PenstockError, PermanentError
from penstock.inputs.nats import Nats
from penstock.metadata import attach
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.servers import NatsServer, make_certificate
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server


@asynccontextmanager
async def client(server: NatsServer) -> AsyncIterator[nats.NATS]:
    connection = await nats.connect(server.url)
    try:
        yield connection
    finally:
        await connection.close()


async def fill(server: NatsServer, stream: str, rows: int = 5, start: int = 0, **headers: str) -> None:
    async with client(server) as connection:
        jetstream = connection.jetstream()
        await jetstream.add_stream(StreamConfig(stream, subjects=[f"{stream}.>"]))
        for number in range(start, start + rows):
            await jetstream.publish(
                f"{stream}.{number % 2}", json.dumps({"id": number}).encode(), headers=headers or None
            )


def jetstream_input(server: NatsServer, stream: str, **options: Any) -> Nats:
    outer = {name: options.pop(name) for name in ("batch_size", "linger", "timeout") if name in options}
    mode = {"type": "jet_stream", "stream": stream, "consumer_name": "reader", "ack_wait": "2s", **options}
    return Nats(url=server.url, mode=mode, codec="json", **outer)


class TestJetStream(InputSuite):
    checkpointed = False
    committing = True
    bounded = False
    ordered = False  # what is given back comes again among what is new

    @pytest.fixture
    async def component(self, shared_nats_server: NatsServer, request: pytest.FixtureRequest) -> Nats:
        stream = f"S{abs(hash(request.node.nodeid)):x}"
        await fill(shared_nats_server, stream)
        return jetstream_input(shared_nats_server, stream, batch_size=1)

    def expected(self, component: Any) -> list[Any]:
        return [{"id": number} for number in range(5)]

    async def everything(self, component: Any, directory: Any) -> list[Any]:
        return self.expected(component)


async def test_a_durable_consumer_is_made_and_metadata_is_complete(nats_server, tmp_path):
    await fill(nats_server, "readings", 3, trace="abc")
    component = jetstream_input(nats_server, "readings", durable_name="kept")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        delivery = await reader.read()
        rows = rows_of(attach(delivery.batch, delivery.origin))
        assert [row["__meta_offset"] for row in rows] == [1, 2, 3]
        assert {row["__meta_source"] for row in rows} == {"nats"}
        exts = [dict(row["__meta_ext"]) for row in rows]
        assert exts == [{"stream": "readings", "subject": f"readings.{n % 2}", "trace": "abc"} for n in range(3)]
        assert all(row["__meta_timestamp"] for row in rows)
        assert reader.progress().done == reader.progress().total == 3
        async with client(nats_server) as connection:
            info = await connection.jetstream().consumer_info("readings", "kept")
            assert info.config.durable_name == "kept"
            assert info.num_ack_pending == 3
            await delivery.ack()
            for ledger in context.ledgers:
                await ledger.flush()
            assert (await connection.jetstream().consumer_info("readings", "kept")).num_ack_pending == 0


async def test_many_messages_are_one_batch(nats_server, tmp_path):
    await fill(nats_server, "many", 300)
    component = jetstream_input(nats_server, "many", linger="1s", batch_size=300)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        assert (await reader.read()).batch.num_rows == 300


async def test_what_nobody_has_read_is_given_back_at_once(nats_server, tmp_path):
    await fill(nats_server, "left", 4)
    component = jetstream_input(nats_server, "left", batch_size=2, linger="0s", ack_wait="1h")
    for _ in range(2):
        async with lend_context(tmp_path) as context, component.open(context) as reader:
            rows = rows_of((await reader.read()).batch)
            assert [json.loads(row["__value__"])["id"] for row in rows] == [0, 1]


async def test_a_message_that_was_delivered_too_often_is_refused(nats_server, tmp_path):
    await fill(nats_server, "poison", 2)
    component = jetstream_input(nats_server, "poison", max_deliver=2, ack_wait="100ms")
    refused = None
    while refused is None:
        async with lend_context(tmp_path) as context, component.open(context) as reader:
            delivery = await reader.read()
            refused = delivery.error
    assert isinstance(refused, PermanentError)
    assert "more than 2 times" in str(refused)


async def test_work_that_takes_longer_than_ack_wait_is_not_delivered_again(nats_server, tmp_path):
    await fill(nats_server, "slow", 3)
    component = jetstream_input(nats_server, "slow", ack_wait="600ms")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        await reader.read()
        again = asyncio.ensure_future(reader.read())
        done, _ = await asyncio.wait({again}, timeout=2)
        again.cancel()
        assert not done


async def test_only_what_is_acked_without_a_hole_is_acked_to_the_server(nats_server, tmp_path):
    await fill(nats_server, "holes", 4)
    component = jetstream_input(nats_server, "holes", batch_size=1)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        deliveries = [await reader.read() for _ in range(4)]
        for number in (0, 1, 3):
            await deliveries[number].ack()
        for ledger in context.ledgers:
            await ledger.flush()
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        again = [json.loads(rows_of((await reader.read()).batch)[0]["__value__"])["id"] for _ in range(2)]
    assert sorted(again) == [2, 3]


async def test_a_stream_that_is_not_there_is_waited_for(nats_server, tmp_path):
    component = jetstream_input(nats_server, "absent")
    async with lend_context(tmp_path) as context:
        with pytest.raises(ConnectionLost, match="there is no stream 'absent'"):
            await component.open(context).__aenter__()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ConsumerConfig(durable_name="reader", ack_policy="none"), "ack policy"),
        (ConsumerConfig(durable_name="reader", deliver_subject="somewhere"), "pushes"),
    ],
)
async def test_a_consumer_with_which_messages_could_be_lost_is_refused(nats_server, tmp_path, config, reason):
    await fill(nats_server, "odd")
    async with client(nats_server) as connection:
        await connection.jetstream().add_consumer("odd", config)
    async with lend_context(tmp_path) as context:
        with pytest.raises(PermanentError, match=reason):
            await jetstream_input(nats_server, "odd").open(context).__aenter__()


async def test_core_messages_are_shared_by_a_queue_group(nats_server, tmp_path):
    mode = {"type": "regular", "subject": "jobs.*", "queue_group": "workers"}
    component = Nats(url=nats_server.url, mode=mode)
    async with (
        lend_context(tmp_path) as context,
        component.open(context) as first,
        component.open(context) as second,
        client(nats_server) as connection,
    ):
        for number in range(200):
            await connection.publish(f"jobs.{number}", b"x", headers={"n": str(number)})
        await connection.flush()
        seen: list[str] = []

        async def collect(reader):
            while True:
                delivery = await reader.read()
                seen.extend(ext["n"] for ext in delivery.origin.ext)

        tasks = [asyncio.ensure_future(collect(reader)) for reader in (first, second)]
        await until(lambda: len(seen) == 200)
        for task in tasks:
            task.cancel()
        assert sorted(map(int, seen)) == list(range(200))


async def test_a_server_that_is_gone_ends_reading(nats_server, tmp_path):
    await fill(nats_server, "gone", 1)
    async with lend_context(tmp_path) as context, jetstream_input(nats_server, "gone").open(context) as reader:
        await reader.read()
        nats_server.kill()
        with pytest.raises(ConnectionLost):
            await reader.read()


async def test_a_wrong_password_is_said_without_it(nats_server, tmp_path):
    component = Nats(
        url=nats_server.address,
        auth={"username": "penstock", "password": "hunter2secret"},
        mode={"type": "regular", "subject": "a"},
    )
    async with lend_context(tmp_path) as context:
        with pytest.raises(PermanentError, match=r"(?i)authorization") as refusal:
            await component.open(context).__aenter__()
    assert "hunter2secret" not in str(refusal.value)
    assert "hunter2secret" not in repr(component)


async def _round_trip(server: NatsServer, tmp_path: Any, **options: Any) -> None:
    component = Nats(mode={"type": "regular", "subject": "a"}, **options)
    async with lend_context(tmp_path) as context, component.open(context):
        pass


async def test_a_token_is_accepted(tmp_path):
    with NatsServer(authorization={"token": "s3cr3t"}) as server:
        await _round_trip(server, tmp_path, url=server.address, auth={"token": "s3cr3t"})
        with pytest.raises(PermanentError):
            await _round_trip(server, tmp_path, url=server.address, auth={"token": "wrong"})


async def test_an_nkey_is_accepted(tmp_path):
    import nkeys

    keys = nkeys.from_seed(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))
    with NatsServer(authorization={"users": [{"nkey": keys.public_key.decode()}]}) as server:
        await _round_trip(server, tmp_path, url=server.address, auth={"nkey": keys.seed.decode()})
        with pytest.raises(PermanentError):
            await _round_trip(server, tmp_path, url=server.address, auth={"token": "wrong"})


async def test_tls_is_verified(tmp_path):
    made = make_certificate(tmp_path)
    with NatsServer(tls={"cert_file": str(made.certificate), "key_file": str(made.key)}) as server:
        await _round_trip(server, tmp_path, url=server.url, tls={"ca": str(made.certificate)})
        with pytest.raises(PenstockError, match=r"(?i)certificate"):
            await _round_trip(server, tmp_path, url=server.url, tls={})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "http://x"}, "nats://127"),
        ({"auth": {}}, "expected `username`"),
        ({"auth": {"username": "a"}}, "together"),
        ({"mode": {"type": "jet_stream", "stream": "a.b", "consumer_name": "c"}}, "pattern"),
        ({"auth": {"credentials": "/nowhere.creds", "tokn": "x"}}, "did you mean 'token'"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    with pytest.raises(ValidationError, match=reason):
        Nats(**{"url": "nats://localhost", "mode": {"type": "regular", "subject": "a"}, **options})


def test_the_forms_of_the_reference_are_read():
    one = Nats(
        url="nats://h:4222", mode={"type": "jet_stream", "stream": "s", "consumer_name": "c", "durable_name": "d"}
    )
    assert one.mode.consumer == "d"
