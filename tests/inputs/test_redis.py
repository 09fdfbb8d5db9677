from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from redis import Redis as Client

from penstock.errors import ConnectionLost, PenstockError, PermanentError
from penstock.inputs.redis import Redis
from penstock.metadata import attach
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.servers import RedisServer, make_certificate
from penstock.testing.suites import InputSuite
from penstock.testing.waiting import until

pytestmark = pytest.mark.server


def single(server: RedisServer) -> dict[str, Any]:
    return {"type": "single", "url": server.url}


def connect(server: RedisServer) -> Client:
    return Client.from_url(server.url)


class RedisSuite(InputSuite):
    checkpointed = False
    committing = True
    bounded = False

    def expected(self, component: Any) -> list[Any]:
        return [{"id": number} for number in range(5)]


class TestStream(RedisSuite):
    @pytest.fixture
    def component(self, shared_redis_server: RedisServer) -> Redis:
        key = uuid.uuid4().hex
        with connect(shared_redis_server) as client:
            for number in range(5):
                client.xadd(key, {"value": json.dumps({"id": number})})
        kind = {"type": "stream", "streams": [key], "field": "value"}
        return Redis(mode=single(shared_redis_server), redis_type=kind, batch_size=1, codec="json")


class TestList(RedisSuite):
    @pytest.fixture
    def component(self, shared_redis_server: RedisServer) -> Redis:
        key = uuid.uuid4().hex
        with connect(shared_redis_server) as client:
            client.rpush(key, *[json.dumps({"id": number}) for number in range(5)])
        return Redis(
            mode=single(shared_redis_server), redis_type={"type": "list", "list": [key]}, batch_size=1, codec="json"
        )


for suite in (TestStream, TestList):
    # Acks are told to the server in the order of reading, so the one behind a hole comes again.
    suite.test_out_of_order_acks_never_skip = None  # type: ignore[assignment]


async def read_some(component: Redis, folder: Any, count: int, *, ack: bool = True) -> list[Any]:
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


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_only_what_is_acked_without_a_hole_is_gone(redis_server, tmp_path, kind):
    with connect(redis_server) as client:
        for number in range(5):
            client.xadd("s", {"v": number})
            client.rpush("l", number)
    what = {"type": "stream", "streams": ["s"]} if kind == "stream" else {"type": "list", "list": ["l"]}
    component = Redis(mode=single(redis_server), redis_type=what, batch_size=1)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        deliveries = [await reader.read() for _ in range(5)]
        for number in (0, 1, 3):
            await deliveries[number].ack()
        for ledger in context.ledgers:
            await ledger.flush()
    again = [row["__value__"] for row in await read_some(component, tmp_path, 3)]
    expected = [b'{"v":"%d"}' if kind == "stream" else b"%d"] * 3
    assert again == [form % number for form, number in zip(expected, (2, 3, 4), strict=True)]
    with connect(redis_server) as client:
        pending = client.xpending("s", "penstock")["pending"] if kind == "stream" else len(client.keys("*penstock*"))
    assert pending == (0 if kind == "stream" else 1)


async def test_entries_carry_their_stream_id_and_time(redis_server, tmp_path):
    with connect(redis_server) as client:
        entry = client.xadd("a", {"x": "1", "y": "2"}, id="1700000000123-4").decode()
    kind = {"type": "stream", "streams": ["a", "b"]}
    (row,) = await read_some(Redis(mode=single(redis_server), redis_type=kind), tmp_path, 1)
    assert json.loads(row["__value__"]) == {"x": "1", "y": "2"}
    assert dict(row["__meta_ext"]) == {"stream": "a", "id": entry}
    assert row["__meta_timestamp"] == 1700000000123 * 1_000_000


async def test_entries_that_another_consumer_abandoned_are_taken_over(redis_server, tmp_path):
    with connect(redis_server) as client:
        client.xgroup_create("s", "penstock", "0", mkstream=True)
        for number in range(3):
            client.xadd("s", {"v": number})
        client.xreadgroup("penstock", "dead", {"s": ">"}, count=2)
    kind = {"type": "stream", "streams": ["s"], "field": "v", "claim_idle": "50ms"}
    rows = await read_some(Redis(mode=single(redis_server), redis_type=kind), tmp_path, 3)
    assert sorted(row["__value__"] for row in rows) == [b"0", b"1", b"2"]
    with connect(redis_server) as client:
        assert client.xpending("s", "penstock")["pending"] == 0


async def test_work_that_takes_long_is_not_taken_over(redis_server, tmp_path):
    with connect(redis_server) as client:
        client.xadd("s", {"v": "1"})
    first = {"type": "stream", "streams": ["s"], "consumer": "first", "claim_idle": "600ms"}
    async with (
        lend_context(tmp_path) as context,
        Redis(mode=single(redis_server), redis_type=first).open(context) as reader,
        lend_context(tmp_path) as other,
        Redis(mode=single(redis_server), redis_type={**first, "consumer": "second"}).open(other) as second,
    ):
        await reader.read()
        reading = asyncio.ensure_future(second.read())
        done, _ = await asyncio.wait({reading}, timeout=2)
        reading.cancel()
        assert not done


async def test_entries_that_were_deleted_before_they_were_acked_are_done_with(redis_server, tmp_path):
    with connect(redis_server) as client:
        for number in range(2):
            client.xadd("s", {"v": number})
    component = Redis(mode=single(redis_server), redis_type={"type": "stream", "streams": ["s"], "field": "v"})
    await read_some(component, tmp_path, 2, ack=False)
    with connect(redis_server) as client:
        client.xtrim("s", maxlen=1, approximate=False)
    assert [row["__value__"] for row in await read_some(component, tmp_path, 1)] == [b"1"]


async def test_equal_elements_of_lists_are_all_kept(redis_server, tmp_path):
    with connect(redis_server) as client:
        client.rpush("l", *["same"] * 10)
    component = Redis(mode=single(redis_server), redis_type={"type": "list", "list": ["k", "l"]}, batch_size=3)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        for _ in range(2):
            await (await reader.read()).ack()
        for ledger in context.ledgers:
            await ledger.flush()
            await ledger.restart(ledger._save)
    assert len(await read_some(component, tmp_path, 4)) == 4


async def test_removing_twice_removes_once(redis_server, tmp_path):
    with connect(redis_server) as client:
        client.rpush("l", *range(6))
    component = Redis(mode=single(redis_server), redis_type={"type": "list", "list": ["l"]}, batch_size=2)
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        await (await reader.read()).ack()
        for ledger in context.ledgers:
            await ledger.flush()
        for _ in range(2):
            await reader._source.ack([("l", b"1"), ("l", b"2")])
    assert [row["__value__"] for row in await read_some(component, tmp_path, 4)] == [b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize(
    "subscribe",
    [{"type": "channels", "channels": ["news.a", "news.b"]}, {"type": "patterns", "patterns": ["news.*"]}],
)
async def test_what_is_published_is_read_with_its_channel(redis_server, tmp_path, subscribe):
    component = Redis(mode=single(redis_server), redis_type={"type": "subscribe", "subscribe": subscribe}, linger="1s")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        with connect(redis_server) as client:
            await until(lambda: client.publish("news.a", "1"))
            client.publish("news.b", "2")
        rows: list[Any] = []
        while len(rows) < 2:
            delivery = await reader.read()
            rows += rows_of(attach(delivery.batch, delivery.origin))
    assert [(row["__value__"], dict(row["__meta_ext"])["channel"]) for row in rows] == [
        (b"1", "news.a"),
        (b"2", "news.b"),
    ]


async def test_a_subscription_whose_connection_is_lost_was_never_noticed(redis_server, tmp_path):
    kind = {"type": "subscribe", "subscribe": {"type": "channels", "channels": ["c"]}}
    component = Redis(mode=single(redis_server), redis_type=kind, timeout="3s")
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        redis_server.pause()
        with pytest.raises(ConnectionLost):
            await reader.read()
        redis_server.resume()
    async with lend_context(tmp_path) as context, component.open(context) as reader:
        redis_server.kill()
        with pytest.raises(ConnectionLost):
            await reader.read()


async def test_a_cluster_is_read(tmp_path):
    with RedisServer.cluster() as server:
        mode = {"type": "cluster", "urls": ["redis://127.0.0.1:1", server.url]}
        with connect(server) as client:
            for number in range(3):
                client.rpush("l", number)
                client.xadd("s", {"v": number})
        rows = await read_some(Redis(mode=mode, redis_type={"type": "list", "list": ["l", "m"]}), tmp_path, 3)
        assert [row["__value__"] for row in rows] == [b"0", b"1", b"2"]
        kind = {"type": "stream", "streams": ["s", "t"], "field": "v"}
        rows = await read_some(Redis(mode=mode, redis_type=kind), tmp_path, 3)
        assert [row["__value__"] for row in rows] == [b"0", b"1", b"2"]


async def test_the_master_that_a_sentinel_knows_is_read(redis_server, tmp_path):
    with redis_server.sentinel() as sentinel, connect(redis_server) as client:
        client.rpush("l", "1")
        mode = {"type": "sentinel", "urls": [sentinel.url], "password": redis_server.password}
        rows = await read_some(Redis(mode=mode, redis_type={"type": "list", "list": ["l"]}), tmp_path, 1)
    assert [row["__value__"] for row in rows] == [b"1"]


async def test_tls_is_verified(tmp_path):
    made = make_certificate(tmp_path)
    tls_port = RedisServer().port
    files = {"tls_cert_file": made.certificate, "tls_key_file": made.key, "tls_ca_cert_file": made.certificate}
    with RedisServer(tls_port=tls_port, tls_auth_clients="no", **files) as server:
        with connect(server) as client:
            client.rpush("l", "1")
        mode = {"type": "single", "url": f"rediss://:{server.password}@127.0.0.1:{tls_port}"}
        kind = {"type": "list", "list": ["l"]}
        tls = {"ca": str(made.certificate)}
        assert len(await read_some(Redis(mode=mode, redis_type=kind, tls=tls), tmp_path, 1)) == 1
        with pytest.raises(PenstockError, match=r"(?i)certificate"):
            await read_some(Redis(mode=mode, redis_type=kind), tmp_path, 1)


async def test_a_wrong_password_is_said_without_it(redis_server, tmp_path):
    url = f"redis://:hunter2secret@127.0.0.1:{redis_server.port}"
    component = Redis(mode={"type": "single", "url": url}, redis_type={"type": "list", "list": ["l"]})
    with pytest.raises(PermanentError) as refusal:
        await read_some(component, tmp_path, 1)
    assert "hunter2secret" not in str(refusal.value)
    assert "hunter2secret" not in repr(component)
    assert isinstance(component.mode.url, SecretStr)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": {"type": "single", "url": "http://x"}}, "redis://"),
        ({"mode": {"type": "cluster", "urls": []}}, "at least 1"),
        ({"redis_type": {"type": "list", "list": []}}, "at least 1"),
        ({"redis_type": {"type": "stream", "streams": ["a"], "gruop": "b"}}, "did you mean 'group'"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    mode = {"type": "single", "url": "redis://127.0.0.1"}
    with pytest.raises(ValidationError, match=reason):
        Redis(**{"mode": mode, "redis_type": {"type": "list", "list": ["a"]}, **options})
