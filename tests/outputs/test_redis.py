from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import datafusion  # noqa: F401 an import may block no event loop
import pyarrow as pa
import pytest
from redis import Redis as Client

from penstock.component import Output
from penstock.errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from penstock.outputs.redis import Redis
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.servers import RedisServer
from penstock.testing.suites.outputs import OutputSuite

pytestmark = pytest.mark.server


def connect(server: RedisServer) -> Client:
    return Client.from_url(server.url)


def writing(server: RedisServer, kind: dict[str, Any], **options: Any) -> Redis:
    return Redis(mode={"type": "single", "url": server.url}, redis_type=kind, **options)


class RedisSuite(OutputSuite):
    refuses = False
    kind = ""

    @pytest.fixture
    def component(self, shared_redis_server: RedisServer) -> Output:
        self.server, self.key = shared_redis_server, uuid.uuid4().hex
        return writing(shared_redis_server, {"type": self.kind, "key": self.key})


class TestList(RedisSuite):
    kind = "list"

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        with connect(self.server) as client:
            return [json.loads(each) for each in client.lrange(self.key, 0, -1)]


class TestStream(RedisSuite):
    kind = "stream"

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        with connect(self.server) as client:
            return [json.loads(fields[b"value"]) for _, fields in client.xrange(self.key)]


KEY = {"type": "expr", "expr": "key"}


async def test_keys_fields_and_strings_are_those_of_each_row(redis_server, tmp_path):
    rows = pa.record_batch({"key": ["a", "b", "a"], "id": [1, 2, 3], "body": ["x", "y", "z"]})
    kinds = (
        {
            "type": "hashes",
            "key": {"type": "expr", "expr": "concat('h', key)"},
            "field": {"type": "expr", "expr": "id"},
        },
        {"type": "strings", "key": KEY, "ttl": "1h"},
        {"type": "list", "key": {"type": "expr", "expr": "concat('l', key)"}},
        {"type": "stream", "key": "s", "field": "f", "max_len": 1000},
    )
    for kind in kinds:
        component = writing(redis_server, kind, value_field="body")
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            await writer.write([rows])
    with connect(redis_server) as client:
        assert client.hgetall("ha") == {b"1": b"x", b"3": b"z"}
        assert client.get("a") == b"z"
        assert 0 < client.ttl("a") <= 3600
        assert client.lrange("la", 0, -1) == [b"x", b"z"]
        assert [fields for _, fields in client.xrange("s")] == [{b"f": b"x"}, {b"f": b"y"}, {b"f": b"z"}]


async def test_what_is_published_is_heard(redis_server, tmp_path):
    component = writing(redis_server, {"type": "publish", "channel": KEY}, value_field="key")
    with connect(redis_server) as client, client.pubsub() as subscription:
        subscription.psubscribe("*")
        subscription.get_message(timeout=60)
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            await writer.write([pa.record_batch({"key": ["a", "b"]})])
        heard = [subscription.get_message(timeout=60)["data"] for _ in range(2)]
    assert heard == [b"a", b"b"]


async def test_rows_without_a_key_were_skipped_in_silence(redis_server, tmp_path):
    component = writing(redis_server, {"type": "strings", "key": KEY})
    rows = pa.record_batch({"key": ["a", None, "c"]})
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([rows])
    assert set(refusal.value.reasons) == {1}
    with connect(redis_server) as client:
        assert client.dbsize() == 0


async def test_keys_that_hold_something_else_refuse_their_rows_and_the_others_are_there_once(redis_server, tmp_path):
    component = writing(redis_server, {"type": "list", "key": KEY}, value_field="key")
    with connect(redis_server) as client:
        client.set("b", "a string")
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            with pytest.raises(RowsRejected, match="WRONGTYPE") as refusal:
                await writer.write([pa.record_batch({"key": ["a", "b", "c"]})])
            assert set(refusal.value.reasons) == {1}
            await writer.write([pa.record_batch({"key": ["a", "c"]})])
        assert (client.llen("a"), client.llen("c")) == (1, 1)


async def test_a_frozen_server_is_a_lost_connection(redis_server, tmp_path):
    component = writing(redis_server, {"type": "list", "key": "l"}, timeout="300ms")
    async with lend_context(tmp_path) as context, component.open(context) as writer:
        redis_server.pause()
        with pytest.raises(ConnectionLost):
            await writer.write([sample(0, 10)])
        redis_server.resume()


async def test_a_cluster_is_written(tmp_path):
    with RedisServer.cluster() as server:
        component = Redis(
            mode={"type": "cluster", "urls": [server.url]},
            redis_type={"type": "strings", "key": KEY},
            value_field="key",
        )
        async with lend_context(tmp_path) as context, component.open(context) as writer:
            await writer.write([pa.record_batch({"key": [f"k{number}" for number in range(100)]})])
        with connect(server) as client:
            assert client.dbsize() == 100


async def test_a_key_that_the_user_may_not_write_refuses_its_row_where_rows_choose_keys(redis_server, tmp_path):
    redis_server.command("ACL", "SETUSER", "writer", "on", ">sesame", "~a*", "+@all")
    mode = {"type": "single", "url": f"redis://writer:sesame@127.0.0.1:{redis_server.port}"}
    chosen = Redis(mode=mode, redis_type={"type": "list", "key": KEY}, value_field="key")
    fixed = Redis(mode=mode, redis_type={"type": "list", "key": "b"}, value_field="key")
    rows = pa.record_batch({"key": ["a1", "b1"]})
    async with lend_context(tmp_path) as context, chosen.open(context) as writer:
        with pytest.raises(PermanentError, match="permission"):  # of none was anything done: the stream halves them
            await writer.write([rows])
        await writer.write([rows.slice(0, 1)])
    async with lend_context(tmp_path) as context, fixed.open(context) as writer:
        with pytest.raises(TransientError, match="permission"):
            await writer.write([rows])
