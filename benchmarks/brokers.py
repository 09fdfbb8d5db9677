"""From NATS, Redis, MQTT and RabbitMQ into PostgreSQL and files, beside bare clients that read the same messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, Unavailable, measured, rate

MESSAGES = 100_000
_QUERY = "SELECT id, sensor, value FROM flow WHERE value > 0"  # keeps all


def _payload(number: int) -> bytes:
    return json.dumps({"id": number, "sensor": f"sensor-{number % 100:03}", "value": 20.5, "note": "x" * 60}).encode()


async def run_stream(stream: dict[str, Any], folder: Path) -> Span:
    """Run a stream until it has written all messages."""
    from penstock import Configuration, Engine
    from penstock.testing.waiting import until

    configuration = {"streams": [stream], "data": folder / "data", "health_check": {"enabled": False}}
    engine = Engine.of(Configuration.model_validate(configuration))
    stop = asyncio.Event()

    def is_done() -> bool:
        return bool(engine.supervised) and engine.supervised[0].metrics.rows_out >= MESSAGES

    with measured() as span:
        running = asyncio.ensure_future(engine.run(stop))
        await until(lambda: is_done() or running.done())
    stop.set()
    await running
    return span


async def _fill_nats(server: Any) -> None:
    import nats
    from nats.js.api import StreamConfig

    from penstock.testing.waiting import until

    connection = await nats.connect(server.url)
    await connection.jetstream().add_stream(StreamConfig("in", subjects=["in.>"]))
    for number in range(MESSAGES):
        await connection.publish("in.rows", _payload(number))
        if number % 1000 == 0:
            await connection.flush()
    await connection.flush()

    async def are_kept() -> Any:
        return (await connection.jetstream().stream_info("in")).state.messages == MESSAGES

    await until(are_kept)
    await connection.close()


async def _nats(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import NatsServer, PostgresServer

    server, database = stack.enter_context(NatsServer()), stack.enter_context(PostgresServer())
    await _fill_nats(server)
    mode = {"type": "jet_stream", "stream": "in", "consumer_name": "copy"}
    stream = {
        "id": "copy",
        "input": {"type": "nats", "url": server.url, "mode": mode, "codec": "json"},
        "pipeline": {"processors": [{"type": "sql", "query": _QUERY}]},
        "output": {"type": "sql", "url": database.url, "table_name": "rows"},
    }
    return await run_stream(stream, folder)


async def _bare_nats(folder: Path, stack: ExitStack) -> Span:
    import nats
    from nats.aio.msg import Msg

    from penstock.testing.servers import NatsServer

    server = stack.enter_context(NatsServer())
    await _fill_nats(server)
    connection = await nats.connect(server.url)
    await connection.jetstream().add_consumer("in", durable_name="bare", max_ack_pending=MESSAGES)
    done, seen = asyncio.Event(), 0

    async def ack(message: Msg) -> None:
        nonlocal seen
        await connection.publish(message.reply)
        seen += 1
        if seen == MESSAGES:
            done.set()

    inbox = connection.new_inbox()
    await connection.subscribe(inbox, cb=ack, pending_msgs_limit=0, pending_bytes_limit=0)
    with measured() as span:
        await connection.publish("$JS.API.CONSUMER.MSG.NEXT.in.bare", b'{"batch": %d}' % MESSAGES, inbox)
        await done.wait()
        await connection.flush()
    await connection.close()
    return span


async def fill_redis(server: Any) -> None:
    """Put the messages into the stream `in`."""
    from redis.asyncio import Redis

    async with Redis.from_url(server.url) as client:
        for start in range(0, MESSAGES, 10_000):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, start + 10_000):
                pipeline.xadd("in", {"value": _payload(number)})
            await pipeline.execute()


async def _redis(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import RedisServer

    server = stack.enter_context(RedisServer())
    await fill_redis(server)
    kind = {"type": "stream", "streams": ["in"], "field": "value"}
    mode = {"type": "single", "url": server.url}
    stream = {
        "id": "copy",
        "input": {"type": "redis", "mode": mode, "redis_type": kind, "codec": "json"},
        "output": {"type": "file", "path": str(folder / "out.jsonl")},
    }
    return await run_stream(stream, folder)


async def _bare_redis(folder: Path, stack: ExitStack) -> Span:
    from redis.asyncio import Redis

    from penstock.testing.servers import RedisServer

    server = stack.enter_context(RedisServer())
    await fill_redis(server)
    async with Redis.from_url(server.url) as client:
        await client.xgroup_create("in", "bare", "0")
        seen = 0
        with measured() as span:
            while seen < MESSAGES:
                answer: Any = await client.xreadgroup("bare", "one", {"in": ">"}, count=8192)
                ((_, entries),) = answer
                await client.xack("in", "bare", *[entry for entry, _ in entries])
                seen += len(entries)
    return span


async def _mqtt(folder: Path, stack: ExitStack) -> Span:
    from penstock.inputs.mqtt import Mqtt
    from penstock.outputs.mqtt import Mqtt as Publisher
    from penstock.testing.contexts import lend_context
    from penstock.testing.servers import MosquittoServer

    server = stack.enter_context(MosquittoServer(autosave_on_changes="false", autosave_interval=1800))
    connection = {"host": "127.0.0.1", "port": server.port, "username": server.user, "password": server.password}
    session = {**connection, "client_id": "bench", "topics": ["in/#"]}
    async with lend_context(folder) as context:
        async with Mqtt.model_validate(session).open(context):
            pass
        async with Publisher.model_validate({**connection, "topic": "in/rows"}).open(context) as writer:
            from penstock.metadata import payloads

            for start in range(0, MESSAGES, 10_000):
                await writer.write([payloads([_payload(number) for number in range(start, start + 10_000)])])
    stream = {
        "id": "copy",
        "input": {"type": "mqtt", **session, "codec": "json"},
        "output": {"type": "file", "path": str(folder / "out.jsonl")},
    }
    return await run_stream(stream, folder)


async def _fill_rabbitmq(server: Any, folder: Path) -> dict[str, Any]:
    from penstock.metadata import payloads
    from penstock.outputs.amqp import Amqp
    from penstock.testing.contexts import lend_context

    options = {"url": server.url, "routing_key": "in", "declare": {"queues": [{"name": "in"}]}}
    async with lend_context(folder) as context, Amqp.model_validate(options).open(context) as writer:
        with measured() as span:
            for start in range(0, MESSAGES, 10_000):
                await writer.write([payloads([_payload(number) for number in range(start, start + 10_000)])])
    return {"options": {"url": server.url, "queue": "in"}, "span": span}


async def _rabbitmq(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import RabbitmqServer

    filled = await _fill_rabbitmq(stack.enter_context(RabbitmqServer()), folder)
    stream = {
        "id": "copy",
        "input": {"type": "amqp", **filled["options"], "codec": "json"},
        "output": {"type": "file", "path": str(folder / "out.jsonl")},
    }
    return await run_stream(stream, folder)


async def _bare_rabbitmq(folder: Path, stack: ExitStack) -> Span:
    import aio_pika

    from penstock.testing.servers import RabbitmqServer

    server = stack.enter_context(RabbitmqServer())
    await _fill_rabbitmq(server, folder)
    connection = await aio_pika.connect(server.url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=8192)
    done, seen = asyncio.Event(), 0

    async def ack(message: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 2048 == 0 or seen == MESSAGES:
            await message.ack(multiple=True)
        if seen == MESSAGES:
            done.set()

    with measured() as span:
        await (await channel.get_queue("in")).consume(ack)
        await done.wait()
    await connection.close()
    return span


async def _publish_rabbitmq(folder: Path, stack: ExitStack) -> Span:
    from penstock.testing.servers import RabbitmqServer

    span: Span = (await _fill_rabbitmq(stack.enter_context(RabbitmqServer()), folder))["span"]
    return span


async def _bare_publish_rabbitmq(folder: Path, stack: ExitStack) -> Span:
    import aio_pika

    from penstock.testing.servers import RabbitmqServer

    connection = await aio_pika.connect(stack.enter_context(RabbitmqServer()).url)
    channel = await connection.channel()
    await channel.declare_queue("in", durable=True)

    async def publish(number: int) -> None:
        message = aio_pika.Message(_payload(number), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "in")

    with measured() as span:
        for start in range(0, MESSAGES, 1000):
            await asyncio.gather(*map(publish, range(start, start + 1000)))
    await connection.close()
    return span


def _measuring(work: Callable[[Path, ExitStack], Any]) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import uvloop

        with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return rate(MESSAGES, runner.run(work(folder, stack)))

    return measure


def _find() -> None:
    from penstock.testing.servers import (
        ServerMissing,
        mosquitto_program,
        nats_program,
        postgres_binaries,
        rabbitmq_program,
        redis_program,
    )

    try:
        for find in (nats_program, postgres_binaries, redis_program, mosquitto_program, rabbitmq_program):
            find()
    except ServerMissing as missing:
        raise Unavailable(str(missing)) from missing


def _case(name: str, what: str, work: Callable[[Path, ExitStack], Any], reach: float | None = None) -> Case:
    role: Any = "penstock" if reach is not None else "ceiling"
    return Case(name, "brokers", what, "messages/s", _measuring(work), reach=reach, role=role, runs=3, warm=_find)


CASES = [
    _case("nats-sql-postgres", "NATS JetStream -> SQL -> PostgreSQL, JSON of 120 bytes", _nats, 50_000),
    _case("nats-bare", "nats-py alone, reading and acking", _bare_nats),
    _case("redis-file", "Redis stream -> file, JSON of 120 bytes", _redis, 60_000),
    _case("redis-bare", "redis-py alone, reading and acking", _bare_redis),
    _case("mqtt-file", "MQTT QoS 1 -> file, JSON of 120 bytes", _mqtt, 15_000),
    _case("amqp-file", "RabbitMQ -> file, JSON of 120 bytes", _rabbitmq, 8_000),
    _case("amqp-bare", "aio-pika alone, reading and acking", _bare_rabbitmq),
    _case("amqp-publish", "output amqp, each message persistent and confirmed", _publish_rabbitmq, 4_000),
    _case("amqp-publish-bare", "aio-pika alone, a thousand confirmations awaited at once", _bare_publish_rabbitmq),
]
