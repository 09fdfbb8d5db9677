"""What tests do with a Kafka besides Penstock: make topics, send messages, read them back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

QUIET = {"log_level": 0}


def make_topic(brokers: str, partitions: int = 1, name: str = "", **config: str) -> str:
    """Make an empty topic and return its name."""
    name = name or f"topic-{uuid.uuid4().hex[:10]}"
    admin = AdminClient({"bootstrap.servers": brokers, **QUIET})
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, config=settings)])[name].result(60)
    return name


def send(brokers: str, topic: str, values: Iterable[bytes | None], **options: Any) -> None:
    """Send messages, and return once they are there."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 1, "enable.idempotence": True, **QUIET})
    failures: list[Any] = []
    for value in values:
        while True:
            try:
                producer.produce(
                    topic, value, on_delivery=lambda error, _: failures.append(error) if error else None, **options
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert failures == []


def read_topic(brokers: str, topic: str, *, committed: bool = True) -> list[Message]:
    """Return all messages of a topic, partition by partition."""
    settings = {"bootstrap.servers": brokers, "group.id": f"reader-{uuid.uuid4().hex[:8]}", "enable.auto.commit": False}
    isolation = "read_committed" if committed else "read_uncommitted"
    consumer = Consumer({**settings, "isolation.level": isolation, "enable.partition.eof": True, **QUIET})
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[Message] = []
        ended: set[int | None] = set()
        deadline = time.monotonic() + 60
        while len(ended) < len(partitions):
            assert time.monotonic() < deadline, f"the end of {topic} was not reached"
            for message in consumer.consume(1000, 0.2):
                if message.error() is not None:
                    ended.add(message.partition())
                else:
                    found.append(message)
        return sorted(found, key=lambda one: (one.partition() or 0, one.offset() or 0))
    finally:
        consumer.close()


def read_values(brokers: str, topic: str, *, committed: bool = True) -> list[Any]:
    """Return the payloads of all messages of a topic."""
    return [message.value() for message in read_topic(brokers, topic, committed=committed)]


def committed_offsets(brokers: str, group: str, topic: str, partitions: Sequence[int] = (0,)) -> list[int]:
    """Return what a group has committed."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, **QUIET})
    try:
        places = [TopicPartition(topic, number) for number in partitions]
        return [one.offset for one in consumer.committed(places, timeout=60)]
    finally:
        consumer.close()


def delete_before(brokers: str, topic: str, offset: int) -> None:
    """Delete the messages of the first partition that are before ``offset``."""
    admin = AdminClient({"bootstrap.servers": brokers, **QUIET})
    for done in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        done.result(60)
