"""The output `kafka` against a real Kafka."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datafusion  # noqa: F401 - it reads files when it is imported, which is not for the event loop
import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Output
from penstock.delivery import Batch
from penstock.errors import ConfigError, PermanentError, RowsRejected
from penstock.testing.batches import sample
from penstock.testing.contexts import lend_context
from penstock.testing.servers import KafkaServer
from penstock.testing.suites.outputs import OutputSuite

from ..kafka import make_topic, read_topic, read_values

pytestmark = pytest.mark.server


def kafka(server: KafkaServer, topic: Any, **options: Any) -> Output:
    return Output.parse({"type": "kafka", "brokers": server.brokers, "topic": topic, **options})


def values(*payloads: bytes | None) -> Batch:
    return pa.record_batch({"__value__": pa.array(payloads, pa.binary())})


async def write(component: Output, directory: Path, *batches: Batch) -> None:
    async with lend_context(directory / "data") as context, component.open(context) as writer:
        await writer.write(batches)


class KafkaSuite(OutputSuite):
    rejects_rows = True

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        (brokers,), topic = component.brokers, component.topic.constant  # type: ignore[attr-defined]
        return [json.loads(value) for value in read_values(brokers, topic)]

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        rows = self.sample(0, 4)
        large = pa.array(["x", "y" * 2_000_000, "z", "y" * 2_000_000])
        return rows.append_column("large", large), {1, 3}

    def written(self, batch: Batch) -> list[dict[str, Any]]:
        codec = Output.parse("drop").payloads(batch)
        return [json.loads(payload) for payload in codec.to_pylist()]


class TestKafka(KafkaSuite):
    @pytest.fixture
    def component(self, shared_kafka_server: KafkaServer) -> Output:
        return kafka(shared_kafka_server, make_topic(shared_kafka_server.brokers))


class TestTransactions(KafkaSuite):
    @pytest.fixture
    def component(self, shared_kafka_server: KafkaServer) -> Output:
        topic = make_topic(shared_kafka_server.brokers)
        return kafka(shared_kafka_server, topic, exactly_once=True, transactional_id=f"t-{uuid.uuid4().hex}")


async def test_topic_key_partition_and_headers_are_told_for_each_row(
    shared_kafka_server: KafkaServer, tmp_path: Path
) -> None:
    topics = [make_topic(shared_kafka_server.brokers, 3) for _ in range(2)]
    rows = pa.record_batch(
        {
            "topic": [topics[0], topics[1], topics[0]],
            "key": ["a", None, "ü"],
            "partition": [2, 0, None],
            "id": [1, 2, 3],
        }
    )
    expressions = {name: {"type": "expr", "expr": name} for name in ("topic", "key", "partition")}
    headers = {"source": "test", "key": {"type": "expr", "expr": "key"}}
    component = kafka(shared_kafka_server, **expressions, headers=headers)
    await write(component, tmp_path, rows)
    first, second = (read_topic(shared_kafka_server.brokers, topic) for topic in topics)
    found = {one.key(): (one.partition(), one.headers()) for one in first}
    assert found[b"a"] == (2, [("source", b"test"), ("key", b"a")])
    assert found["ü".encode()][1] == [("source", b"test"), ("key", "ü".encode())]
    (one,) = second
    assert (one.key(), one.partition(), one.headers()) == (None, 0, [("source", b"test")])
    assert json.loads(one.value() or b"")["id"] == 2


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read_back(
    shared_kafka_server: KafkaServer, tmp_path: Path, compression: str
) -> None:
    topic = make_topic(shared_kafka_server.brokers)
    await write(kafka(shared_kafka_server, topic, compression=compression), tmp_path, sample(0, 500))
    assert [json.loads(value)["id"] for value in read_values(shared_kafka_server.brokers, topic)] == list(range(500))


async def test_a_null_payload_is_a_tombstone(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic = make_topic(shared_kafka_server.brokers)
    await write(kafka(shared_kafka_server, topic), tmp_path, values(b"a", None, b"", b"b"))
    assert read_values(shared_kafka_server.brokers, topic) == [b"a", None, b"", b"b"]


async def test_value_field_is_sent_as_it_is(shared_kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic = make_topic(shared_kafka_server.brokers)
    rows = pa.record_batch({"text": ["a", None], "id": [1, 2]})
    await write(kafka(shared_kafka_server, topic, value_field="text"), tmp_path, rows)
    assert read_values(shared_kafka_server.brokers, topic) == [b"a", None]
    with pytest.raises(PermanentError, match="no column 'other'"):
        await write(kafka(shared_kafka_server, topic, value_field="other"), tmp_path, rows)


@pytest.mark.parametrize("exactly_once", [False, True])
async def test_a_message_that_the_servers_find_too_large_costs_no_other(
    shared_kafka_server: KafkaServer, tmp_path: Path, exactly_once: bool
) -> None:
    """They refuse the whole group in which it was sent."""
    topic = make_topic(shared_kafka_server.brokers, max_message_bytes="20000")
    payloads = [b"%d" % number for number in range(50)]
    payloads[7] = payloads[33] = b"x" * 50_000
    component = kafka(shared_kafka_server, topic, linger="20ms", exactly_once=exactly_once)
    async with lend_context(tmp_path / "data") as context, component.open(context) as writer:
        batch = values(*payloads)
        with pytest.raises(RowsRejected) as refusal:
            await writer.write([batch])
        assert set(refusal.value.reasons) == {7, 33}
        rest = [payload for payload in payloads if len(payload) < 10]
        await writer.write([values(*rest)])
    found = read_values(shared_kafka_server.brokers, topic)
    assert sorted(found) == sorted(rest), "each of the others is there once"


async def test_rows_for_topics_and_partitions_that_are_not_there_are_refused_alone(
    shared_kafka_server: KafkaServer, tmp_path: Path
) -> None:
    topic = make_topic(shared_kafka_server.brokers, 2)
    names = [topic, "no such topic!", None, "../x", topic]
    rows = pa.record_batch({"topic": names, "id": [1, 2, 3, 4, 5]})
    component = kafka(shared_kafka_server, {"type": "expr", "expr": "topic"})
    with pytest.raises(RowsRejected) as refusal:
        await write(component, tmp_path, rows.slice(0, 4))
    assert set(refusal.value.reasons) == {2}
    rows = rows.filter(pa.array([name is not None for name in names]))
    with pytest.raises(RowsRejected) as refusal:
        await write(component, tmp_path, rows)
    assert set(refusal.value.reasons) == {1, 2}
    rows = pa.record_batch({"at": ["0", "1", "2", "-1", "9999999999", None, "x"]})
    component = kafka(shared_kafka_server, topic, partition={"type": "expr", "expr": "at"})
    with pytest.raises(RowsRejected) as refusal:
        await write(component, tmp_path, rows)
    assert set(refusal.value.reasons) == {3, 4, 6}
    with pytest.raises(RowsRejected, match="there is no partition 2") as refusal:
        await write(component, tmp_path, rows.slice(0, 3))
    assert set(refusal.value.reasons) == {2}


async def test_a_second_producer_of_one_name_shuts_out_the_first(
    shared_kafka_server: KafkaServer, tmp_path: Path
) -> None:
    topic = make_topic(shared_kafka_server.brokers)
    component = kafka(shared_kafka_server, topic, exactly_once=True, transactional_id=f"t-{uuid.uuid4().hex}")
    async with lend_context(tmp_path / "data") as context, component.open(context) as first:
        await first.write([values(b"1")])
        async with component.open(context) as second:
            await second.write([values(b"2")])
            with pytest.raises(ConfigError, match="another process has taken over"):
                await first.write([values(b"3")])
            await second.write([values(b"4")])
    assert read_values(shared_kafka_server.brokers, topic) == [b"1", b"2", b"4"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"topic": "a b"}, "not the name of a topic"),
        ({"acks": 0}, "would lose messages"),
        ({"transactional_id": "a"}, "exactly_once: true"),
        ({"exactly_once": True, "acks": "1"}, "needs `acks: all`"),
        ({"value_field": "a", "codec": "json"}, "no `codec` beside it"),
        ({"librdkafka": {"acks": 1}}, "set by other options"),
        ({"librdkafka": {"sasl.password": "x"}}, "may hold a secret"),
        ({"brokers": "http://a:1"}, "expected host:port"),
        ({"security": {"sasl": {"mechanism": "plain"}}}, "needs `username` and `password`"),
        ({"security": {"protocol": "plaintext", "tls": {}}}, "has no `tls`"),
        ({"offset_commit_group": "a"}, "checkpoint: output"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Output.parse({"type": "kafka", "brokers": "localhost", "topic": "a", **options})
