"""The input `kafka` against a real Kafka."""

import asyncio
import base64
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from penstock import Engine, Stream, metadata
from penstock.component import Input, MeasuredReader
from penstock.errors import ConnectionLost
from penstock.testing.contexts import lend_context
from penstock.testing.servers import KafkaServer, free_port
from penstock.testing.servers.kafka_server import PASSWORD, USER
from penstock.testing.suites.inputs import InputSuite
from penstock.testing.waiting import until

from ..kafka import committed_offsets, delete_before, make_topic, read_values, send

pytestmark = pytest.mark.server


def kafka(server: KafkaServer, topic: str, **options: object) -> Input:
    return Input.parse(
        {
            "type": "kafka",
            "brokers": [server.brokers],
            "topics": [topic],
            "consumer_group": f"group-{uuid.uuid4().hex[:10]}",
            **options,
        }
    )


class TestKafka(InputSuite):
    checkpointed = False
    committing = True
    bounded = False

    @pytest.fixture
    def component(self, shared_kafka_server: KafkaServer) -> Input:
        topic = make_topic(shared_kafka_server.brokers)
        send(shared_kafka_server.brokers, topic, [str(number).encode() for number in range(10)])
        return kafka(shared_kafka_server, topic, batch_max_rows=2)

    def expected(self, component: Input) -> list[object]:
        return [{"__value__": str(number).encode()} for number in range(10)]


async def read_rows(component: Input, directory: Path, count: int) -> list[dict[str, Any]]:
    """Read, with metadata, as many rows as are expected, and ack them."""
    found: list[dict[str, Any]] = []
    async with lend_context(directory / "data") as context, component.open(context) as reader, asyncio.timeout(60):
        while len(found) < count:
            delivery = await reader.read()
            rows = metadata.attach(delivery.batch, delivery.origin).drop_columns(["__meta_ingest_time"])
            at = rows.schema.get_field_index("__meta_timestamp")
            found += rows.set_column(at, "__meta_timestamp", rows.column(at).cast("int64")).to_pylist()
            await delivery.ack()
        for ledger in context.ledgers:
            await ledger.flush()
    return found


async def test_metadata_headers_and_tombstones_are_kept(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    brokers = shared_kafka_server.brokers
    topic = make_topic(brokers, 3)
    headers = [("trace", b"1"), ("topic", b"not it"), ("raw", b"\xff"), ("none", None), ("trace", b"2")]
    send(brokers, topic, [b"a"], key=b"k", partition=2, timestamp=1_700_000_000_123, headers=headers)
    send(brokers, topic, [None], key=b"k", partition=2)
    first, second = await read_rows(kafka(shared_kafka_server, topic), tmp_path, 2)
    assert (first["__value__"], second["__value__"]) == (b"a", None)
    assert [row["__meta_partition"] for row in (first, second)] == [2, 2]
    assert [row["__meta_offset"] for row in (first, second)] == [0, 1]
    assert first["__meta_key"] == b"k"
    assert first["__meta_timestamp"] == 1_700_000_000_123_000_000
    assert dict(first["__meta_ext"]) == {
        "topic": topic,
        "trace": "2",
        "header.topic": "not it",
        "raw": "\\xff",
        "none": "",
    }
    assert dict(second["__meta_ext"]) == {"topic": topic}


async def test_batches_keep_to_rows_and_bytes(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic = make_topic(shared_kafka_server.brokers)
    send(shared_kafka_server.brokers, topic, [b"x" * 1000] * 300)
    for options, most in (({"batch_max_rows": 50}, 50), ({"batch_max_bytes": 10_000}, 10)):
        component = kafka(shared_kafka_server, topic, **options)
        sizes: list[int] = []
        async with lend_context(tmp_path / "data") as context, component.open(context) as reader:
            while sum(sizes) < 300:
                sizes.append((await reader.read()).batch.num_rows)
        assert max(sizes) <= most


async def test_a_pattern_reads_all_topics_of_such_names(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    prefix = f"pattern-{uuid.uuid4().hex[:8]}"
    for number in range(2):
        name = make_topic(shared_kafka_server.brokers, name=f"{prefix}-{number}")
        send(shared_kafka_server.brokers, name, [b"%d" % number])
    rows = await read_rows(kafka(shared_kafka_server, f"^{prefix}-.*"), tmp_path, 2)
    assert sorted(row["__value__"] for row in rows) == [b"0", b"1"]


async def test_start_from_latest_is_not_begun_anew_by_a_crash(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    """Where it began is committed at once, or else what comes before the first ack would be skipped."""
    brokers = shared_kafka_server.brokers
    topic = make_topic(brokers)
    send(brokers, topic, [b"old"])
    component = kafka(shared_kafka_server, topic, start_from_latest=True)
    async with lend_context(tmp_path / "data") as context, component.open(context) as reader:
        reading = asyncio.ensure_future(reader.read())
        group = component.consumer_group  # type: ignore[attr-defined]
        await until(lambda: asyncio.to_thread(lambda: committed_offsets(brokers, group, topic) == [1]))
        reading.cancel()
    send(brokers, topic, [b"new"])
    assert [row["__value__"] for row in await read_rows(component, tmp_path, 1)] == [b"new"]


async def test_messages_that_were_deleted_unread_are_told(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    brokers = shared_kafka_server.brokers
    topic = make_topic(brokers)
    send(brokers, topic, [b"%d" % number for number in range(10)])
    component = kafka(shared_kafka_server, topic, batch_max_rows=2)
    assert len(await read_rows(component, tmp_path, 2)) == 2
    delete_before(brokers, topic, 7)
    gaps: list[str] = []
    async with lend_context(tmp_path / "data", note_gap=gaps.append) as context, component.open(context) as reader:
        delivery = await reader.read()
    assert delivery.batch.column(0).to_pylist()[0] == b"7"
    (gap,) = gaps
    assert topic in gap
    assert "goes on with offset 7" in gap


async def test_a_topic_that_is_not_there_is_waited_for(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    component = kafka(shared_kafka_server, "no-such-topic")
    async with lend_context(tmp_path / "data") as context:
        with pytest.raises(ConnectionLost, match="there is no topic 'no-such-topic'"):
            async with component.open(context):
                pass


async def test_servers_that_are_away_are_told(tmp_path: Path) -> None:
    component = Input.parse(
        {
            "type": "kafka",
            "brokers": f"127.0.0.1:{free_port()}",
            "topics": "a",
            "consumer_group": "g",
            "request_timeout": "2s",
        }
    )
    async with lend_context(tmp_path / "data") as context:
        with pytest.raises(ConnectionLost, match="refused"):
            async with component.open(context):
                pass


async def test_lag_is_told_for_each_partition(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic = make_topic(shared_kafka_server.brokers, 2)
    for partition in (0, 1):
        send(shared_kafka_server.brokers, topic, [b"x"] * 10, partition=partition)
    component = kafka(shared_kafka_server, topic, batch_max_rows=1)
    async with lend_context(tmp_path / "data") as context, component.open(context) as reader:
        assert isinstance(reader, MeasuredReader)
        await reader.read()
        await until(lambda: sum(reader.progress().partitions.values()) == 19)
        assert set(reader.progress().partitions) == {f"{topic}/0", f"{topic}/1"}
        for _ in range(19):
            await reader.read()
        await until(lambda: sum(reader.progress().partitions.values()) == 0)


SECURED = {
    "PLAIN": {"sasl": {"mechanism": "plain", "username": USER, "password": PASSWORD}},
    "SCRAM-SHA-256": {"sasl": {"mechanism": "scram_sha_256", "username": USER, "password": PASSWORD}},
    "SCRAM-SHA-512": {"sasl": {"mechanism": "SCRAM-SHA-512", "username": USER, "password": PASSWORD}},
}


@pytest.mark.parametrize("mechanism", list(SECURED))
@pytest.mark.parametrize("tls", [False, True])
async def test_it_says_who_it_is(secured_kafka_server: KafkaServer, tmp_path: Path, mechanism: str, tls: bool) -> None:
    server = secured_kafka_server
    topic = make_topic(server.brokers)
    send(server.brokers, topic, [b"a"])
    assert server.certificate is not None
    port = server.sasl_tls_port if tls else server.sasl_port
    security = {**SECURED[mechanism], **({"tls": {"ca": str(server.certificate.certificate)}} if tls else {})}
    component = kafka(server, topic, brokers=f"127.0.0.1:{port}", security=security)
    assert [row["__value__"] for row in await read_rows(component, tmp_path, 1)] == [b"a"]
    wrong = {"sasl": {**SECURED[mechanism]["sasl"], "password": "wrong-secret"}}
    component = kafka(server, topic, brokers=f"127.0.0.1:{port}", security={**security, **wrong}, request_timeout="3s")
    async with lend_context(tmp_path / "data") as context:
        with pytest.raises(ConnectionLost, match=r"(?i)authentication failed") as failure:
            async with component.open(context):
                pass
    assert "wrong-secret" not in str(failure.value) + repr(component)


async def test_it_shows_a_certificate(secured_kafka_server: KafkaServer, tmp_path: Path) -> None:
    server = secured_kafka_server
    topic = make_topic(server.brokers)
    send(server.brokers, topic, [b"a"])
    assert server.certificate is not None
    ca, key = str(server.certificate.certificate), str(server.certificate.key)
    options = {"brokers": f"127.0.0.1:{server.tls_port}", "request_timeout": "3s"}
    component = kafka(server, topic, security={"tls": {"ca": ca, "certificate": ca, "key": key}}, **options)
    assert [row["__value__"] for row in await read_rows(component, tmp_path, 1)] == [b"a"]
    for security, reason in (({"tls": {}}, "certificate verify failed"), ({"tls": {"ca": ca}}, "(?i)ssl|disconnected")):
        async with lend_context(tmp_path / "data") as context:
            with pytest.raises(ConnectionLost, match=reason):
                async with kafka(server, topic, security=security, **options).open(context):
                    pass


async def test_tokens_are_fetched_for_it(secured_kafka_server: KafkaServer, tmp_path: Path) -> None:
    """The server of tokens is a double: it signs nothing, as the test's Kafka accepts."""
    server = secured_kafka_server
    topic = make_topic(server.brokers)
    send(server.brokers, topic, [b"a"])
    asked: list[dict[str, str]] = []

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    async def token(request: web.Request) -> web.Response:
        asked.append({**{k: str(v) for k, v in (await request.post()).items()}, **dict(request.headers)})
        now = int(time.time())
        claims = {"sub": USER, "iat": now - 5, "exp": now + 600}
        return web.json_response({"access_token": f"{part({'alg': 'none'})}.{part(claims)}.", "expires_in": 600})

    app = web.Application()
    app.router.add_post("/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    oauth = {
        "token_url": f"http://127.0.0.1:{port}/token",
        "client_id": "c",
        "client_secret": "s3cret",
        "scope": "kafka",
    }
    security = {"sasl": {"mechanism": "oauthbearer", "oauth": oauth}}
    try:
        component = kafka(server, topic, brokers=f"127.0.0.1:{server.sasl_port}", security=security)
        assert [row["__value__"] for row in await read_rows(component, tmp_path, 1)] == [b"a"]
    finally:
        await runner.cleanup()
    assert asked[0]["grant_type"] == "client_credentials"
    assert asked[0]["scope"] == "kafka"
    assert "s3cret" not in repr(component)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start_from_latest": "perhaps"}, "boolean"),
        ({"topics": []}, "at least 1"),
        ({"fetch_wait_max_ms": 10_000}, "shorter than `request_timeout`"),
        ({"librdkafka": {"auto.offset.reset": "latest"}}, "set by other options"),
        ({"security": {"sasl": {"mechanism": "oauthbearer"}}}, "needs `oauth`"),
        ({"security": {"tls": {"key": "a"}}}, "both `certificate` and `key`"),
        ({"transactional_offsets": True}, "checkpoint: output"),
        ({"topic": "a"}, "did you mean 'topics'"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options: dict[str, Any], reason: str) -> None:
    given = {"type": "kafka", "brokers": "localhost", "topics": "a", "consumer_group": "g", **options}
    with pytest.raises(ValidationError, match=reason):
        Input.parse(given)


async def test_a_codec_leaves_tombstones_as_rows_of_nulls(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic, target = (make_topic(shared_kafka_server.brokers) for _ in range(2))
    send(shared_kafka_server.brokers, topic, [b'{"id":1}', None, b'{"id":2}'], key=b"k")
    query = "SELECT id, CAST(__meta_key AS VARCHAR) AS key FROM flow"
    output = {"type": "kafka", "brokers": shared_kafka_server.brokers, "topic": target}
    stream = Stream(
        id="tombstones",
        input=kafka(shared_kafka_server, topic, codec="json"),
        pipeline={"processors": [{"type": "sql", "query": query}]},
        output=output,
    )
    engine = Engine([stream], state="memory", data=tmp_path)
    stop = asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    await until(lambda: asyncio.to_thread(lambda: len(read_values(shared_kafka_server.brokers, target)) == 3))
    stop.set()
    await running
    rows = [json.loads(value) for value in read_values(shared_kafka_server.brokers, target)]
    assert [(row.get("id"), row["key"]) for row in rows] == [(1, "k"), (None, "k"), (2, "k")]
