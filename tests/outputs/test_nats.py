from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import nats
import pyarrow as pa
import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from penstock.component import Output
from penstock.errors import ConnectionLost, RowsRejected, TransientError
from penstock.outputs.nats import Nats
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.servers import NatsServer
from penstock.testing.suites.outputs import OutputSuite

pytestmark = pytest.mark.server


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[Any]:
    connection = await nats.connect(server.url)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def messages(server: NatsServer, stream: str) -> list[Any]:
    async with jetstream(server) as found:
        count = (await found.stream_info(stream)).state.messages
        return [await found.get_msg(stream, number) for number in range(1, count + 1)]


class TestJetStream(OutputSuite):
    refuses = False

    @pytest.fixture
    async def component(self, shared_nats_server: NatsServer) -> Output:
        self.server, self.stream = shared_nats_server, f"out{uuid.uuid4().hex}"
        await _stream(shared_nats_server, self.stream)
        return Nats(url=shared_nats_server.url, mode={"type": "jet_stream", "subject": f"{self.stream}.rows"})

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        async with jetstream(self.server) as found:
            subscription = await found.pull_subscribe(
                "", stream=self.stream, durable=f"d{uuid.uuid4().hex}", config=ConsumerConfig(ack_policy="none")
            )
            count = (await found.stream_info(self.stream)).state.messages
            rows: list[Any] = []
            while len(rows) < count:
                with suppress(nats.errors.TimeoutError):
                    rows += [json.loads(message.data) for message in await subscription.fetch(500)]
            return rows


async def _stream(server: NatsServer, name: str, **options: Any) -> None:
    async with jetstream(server) as found:
        await found.add_stream(StreamConfig(name, subjects=[f"{name}.>"], **options))


async def test_subject_headers_and_message_id_are_those_of_each_row(nats_server, tmp_path):
    await _stream(nats_server, "rows")
    component = Nats(
        url=nats_server.url,
        mode={
            "type": "jet_stream",
            "subject": {"type": "expr", "expr": "concat('rows.', id)"},
            "message_id": {"type": "expr", "expr": "id"},
        },
        headers={"origin": "here", "id": {"type": "expr", "expr": "nullif(id, 1)"}},
        value_field="body",
    )
    rows = pa.record_batch({"id": [0, 1, 2], "body": ["a", "b", None]})
    async with lend_context(tmp_path) as context:
        for _ in range(2):  # the second time JetStream knows them
            async with component.open(context) as writer:
                await writer.write([rows])
    found = await messages(nats_server, "rows")
    assert [(message.subject, message.data) for message in found] == [("rows.0", b"a"), ("rows.1", b"b")]
    assert [message.headers.get("id") for message in found] == ["0", None]
    assert all(message.headers["origin"] == "here" for message in found)


async def test_rows_that_cannot_be_published_are_named(nats_server, tmp_path):
    await _stream(nats_server, "some")
    mode = {"type": "jet_stream", "subject": {"type": "expr", "expr": "subject"}}
    component = Nats(url=nats_server.url, mode=mode, value_field="body")
    subjects = ["some.a", None, "some.*", "some. b", "some..b", "some.c"]
    rows = pa.record_batch({"subject": subjects, "body": ["x", "x", "x", "x", "x", "y" * (2 << 20)]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([rows.slice(0, 2), rows.slice(2)])
    assert set(refusal.value.reasons) == {1, 2, 3, 4, 5}
    assert await messages(nats_server, "some") == []


async def test_what_the_stream_refuses_is_refused_and_the_rest_is_there_once(nats_server, tmp_path):
    await _stream(nats_server, "short", max_msg_size=100)
    mode = {"type": "jet_stream", "subject": "short.a"}
    component = Nats(url=nats_server.url, mode=mode, value_field="body")
    rows = pa.record_batch({"body": ["a", "b" * 1000, "c"]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([rows])
        assert set(refusal.value.reasons) == {1}
        await writer.write([rows.take(pa.array([0, 2]))])
        await writer.write([rows.take(pa.array([0, 2]))])
    assert [message.data for message in await messages(nats_server, "short")] == [b"a", b"c", b"a", b"c"]


async def test_a_subject_that_no_stream_takes_is_tried_again(nats_server, tmp_path):
    component = Nats(url=nats_server.url, mode={"type": "jet_stream", "subject": "nobody"})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(TransientError, match="no stream takes"):
            await writer.write([sample(0, 2)])


async def test_core_messages_are_at_the_server_when_a_write_returns(nats_server, tmp_path):
    component = Nats(url=nats_server.url, mode={"type": "regular", "subject": "core"})
    connection = await nats.connect(nats_server.url)
    subscription = await connection.subscribe("core")
    await connection.flush()
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        await writer.write([sample(0, 5_000), sample(5_000, 10)])
    seen = [json.loads((await subscription.next_msg(60)).data)["id"] for _ in range(5_010)]
    assert seen == list(range(5_010))
    await connection.close()


async def test_a_frozen_server_is_a_lost_connection(nats_server, tmp_path):
    await _stream(nats_server, "frozen")
    component = Nats(url=nats_server.url, mode={"type": "jet_stream", "subject": "frozen.a"}, timeout="300ms")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        nats_server.pause()
        with pytest.raises(ConnectionLost, match="no answer within"):
            await writer.write([sample(0, 20_000)])
        nats_server.resume()


async def write_twice(writer):
    await writer.write([sample(0, 1)])
    await writer.write([sample(1, 1)])


async def test_a_subject_that_may_not_be_published_to_is_an_error(tmp_path):
    user = {"user": "a", "password": "pw", "permissions": {"publish": ["ok"]}}
    with NatsServer(authorization={"users": [user]}) as server:
        component = Nats(
            url=server.address, auth={"username": "a", "password": "pw"}, mode={"type": "regular", "subject": "no"}
        )
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            # Without JetStream nothing is confirmed: it may be told with a later write.
            with pytest.raises(ConnectionLost, match=r"(?i)permissions"):
                await write_twice(writer)
