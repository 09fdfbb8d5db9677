"""From Kafka through a filter in SQL to Kafka, beside the bare client that copies the same messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .case import Case, Sample, Unavailable, measured, rate

_MESSAGES = 1_000_000
_PARTITIONS = 2
_SIZE = 140
_QUERY = "SELECT * FROM flow WHERE celsius > 0"  # keeps all, so that both write as much


def _payload(number: int) -> bytes:
    row = {"sequence": number, "sensor": f"sensor-{number % 100:03}", "celsius": 20.5, "site": "roof", "note": ""}
    text = json.dumps(row)
    return json.dumps({**row, "note": "x" * (_SIZE - len(text))}).encode()


@contextmanager
def _filled(folder: Path) -> Iterator[str]:
    """Yield the address of a Kafka whose topic ``source`` is full, and ``target`` empty."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    from penstock.testing.servers import KafkaServer
    from penstock.testing.servers.kafka_server import FAST_JVM

    with KafkaServer(jvm=FAST_JVM) as server:
        admin = AdminClient({"bootstrap.servers": server.brokers})
        for done in admin.create_topics([NewTopic(name, _PARTITIONS) for name in ("source", "target")]).values():
            done.result(60)
        producer = Producer({"bootstrap.servers": server.brokers, "linger.ms": 20})
        payloads = [_payload(number) for number in range(1000)]
        for number in range(_MESSAGES):
            if number % 10_000 == 0:
                producer.flush(60)
            producer.produce("source", payloads[number % 1000], partition=number // 1000 % _PARTITIONS)
        producer.flush(60)
        yield server.brokers


def _written(brokers: str) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "watcher"})
    places = [TopicPartition("target", number) for number in range(_PARTITIONS)]
    found = sum(consumer.get_watermark_offsets(place, timeout=60)[1] for place in places)
    consumer.close()
    return int(found)


def _stream(folder: Path) -> Sample:
    import uvloop

    from penstock import Configuration, Engine
    from penstock.testing.waiting import until

    with _filled(folder) as brokers:
        connection = {"type": "kafka", "brokers": brokers}
        stream: dict[str, Any] = {
            "id": "copy",
            "input": {**connection, "topics": ["source"], "consumer_group": "copy", "codec": "json"},
            "pipeline": {"processors": [{"type": "sql", "query": _QUERY}]},
            "output": {**connection, "topic": "target"},
        }
        configuration = {"streams": [stream], "data": folder / "data", "health_check": {"enabled": False}}
        engine = Engine.of(Configuration.model_validate(configuration))

        async def run() -> None:
            stop = asyncio.Event()
            running = asyncio.ensure_future(engine.run(stop))
            await until(lambda: _is_done(engine) or running.done())
            stop.set()
            await running

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, measured() as span:
            runner.run(run())
        assert _written(brokers) == _MESSAGES
    return rate(_MESSAGES, span)


def _is_done(engine: Any) -> bool:
    return bool(engine.supervised) and engine.supervised[0].metrics.rows_out >= _MESSAGES


def _bare(folder: Path) -> Sample:
    from confluent_kafka import Consumer, Producer

    with _filled(folder) as brokers:
        settings = {"bootstrap.servers": brokers, "group.id": "bare", "auto.offset.reset": "earliest"}
        with measured() as span:
            consumer = Consumer({**settings, "enable.auto.commit": False})
            producer = Producer(
                {
                    "bootstrap.servers": brokers,
                    "enable.idempotence": True,
                    "linger.ms": 2,
                    "queue.buffering.max.messages": 1_000_000,
                }
            )
            consumer.subscribe(["source"])
            copied = 0
            while copied < _MESSAGES:
                messages = consumer.consume(8192, 0.1)
                for message in messages:
                    if message.error() is None:
                        producer.produce("target", message.value())
                        copied += 1
                producer.flush(60)
                if messages:
                    consumer.commit(asynchronous=False)
            consumer.close()
        assert _written(brokers) == _MESSAGES
    return rate(_MESSAGES, span)


def _find() -> None:
    from penstock.testing.servers import ServerMissing, kafka_folder

    try:
        kafka_folder()
    except ServerMissing as missing:
        raise Unavailable(str(missing)) from missing


CASES = [
    Case(
        "kafka-sql-kafka",
        "kafka",
        "Kafka -> SQL filter -> Kafka, JSON of 140 bytes, at least once",
        "messages/s",
        _stream,
        reach=250_000,
        runs=3,
        warm=_find,
    ),
    Case(
        "kafka-bare",
        "kafka",
        "its client alone: read, write, confirm, commit; nothing decoded",
        "messages/s",
        _bare,
        role="ceiling",
        runs=3,
        warm=_find,
    ),
]
