"""Brokers as tests of faults see them: rows go in and come out, whatever the protocol."""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, ClassVar

import nats
import paho.mqtt.client as mqtt
from nats.js.api import ConsumerConfig, StreamConfig
from redis.asyncio import Redis

from penstock.testing.servers import MosquittoServer, NatsServer, RabbitmqServer, RedisServer
from penstock.testing.servers.server import Server

from ..rabbitmq import make_queue, messages, send

COMMON = {"codec": "json", "batch_size": 50, "timeout": "2s"}


def body(number: int) -> bytes:
    return json.dumps({"n": number}).encode()


class Broker:
    """A broker with one place to read from and one to write to."""

    make: ClassVar[type[Server]]
    settings: ClassVar[dict[str, Any]] = {}
    undisturbed: ClassVar[dict[str, Any]] = {}
    """Settings of a server that is not killed itself."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.port: int = server.port

    @classmethod
    def serve(cls, *, undisturbed: bool = False) -> Server:
        """Return a server that keeps what it has confirmed, also over a crash, unless it is ``undisturbed``."""
        return cls.make(**{**cls.settings, **(cls.undisturbed if undisturbed else {})})

    async def prepare(self) -> None:
        """Make the places."""

    def close(self) -> None:
        """Let go of it."""

    def input(self, port: int) -> dict[str, Any]:
        """The options of an input that reaches it at ``port``."""
        raise NotImplementedError

    def output(self, port: int) -> dict[str, Any]:
        """The options of an output that reaches it at ``port``."""
        raise NotImplementedError

    async def produce(self, numbers: Iterable[int]) -> None:
        """Put rows where the input reads, and return once they are kept."""
        raise NotImplementedError

    async def written(self) -> list[int]:
        """Return what the output has written."""
        raise NotImplementedError


class Nats(Broker):
    make = NatsServer

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[Any]:
        connection = await nats.connect(self.server.url)
        try:
            yield connection.jetstream()
        finally:
            with suppress(Exception):
                await connection.close()

    async def prepare(self) -> None:
        async with self.jetstream() as found:
            await found.add_stream(StreamConfig("in", subjects=["in.>"]))
            await found.add_stream(StreamConfig("out", subjects=["out.>"]))

    def _url(self, port: int) -> str:
        return f"nats://{self.server.user}:{self.server.password}@127.0.0.1:{port}"

    def input(self, port: int) -> dict[str, Any]:
        mode = {"type": "jet_stream", "stream": "in", "consumer_name": "penstock", "ack_wait": "1s"}
        return {**COMMON, "type": "nats", "url": self._url(port), "mode": mode}

    def output(self, port: int) -> dict[str, Any]:
        mode = {"type": "jet_stream", "subject": "out.rows", "message_id": {"type": "expr", "expr": "n"}}
        return {"type": "nats", "url": self._url(port), "mode": mode, "timeout": "2s"}

    async def produce(self, numbers: Iterable[int]) -> None:
        async with self.jetstream() as found:
            futures = [await found.publish_async("in.rows", body(number)) for number in numbers]
            await asyncio.gather(*futures)

    async def written(self) -> list[int]:
        async with self.jetstream() as found:
            count = (await found.stream_info("out")).state.messages
            subscription = await found.pull_subscribe(
                "", durable="reading", stream="out", config=ConsumerConfig(ack_policy="none")
            )
            rows: list[int] = []
            while len(rows) < count:
                with suppress(nats.errors.TimeoutError):
                    rows += [json.loads(message.data)["n"] for message in await subscription.fetch(100)]
            await found.delete_consumer("out", "reading")
            return rows


class LastingRabbitmq(RabbitmqServer):
    """A server that lasts from test to test: one that is started by a thread would end with it."""

    _starting = ThreadPoolExecutor(1)

    def start(self) -> None:
        self._starting.submit(super().start).result()


class Rabbitmq(Broker):
    """One server for all tests: to start it takes seconds of a processor."""

    make = LastingRabbitmq
    running: ClassVar[RabbitmqServer | None] = None

    @classmethod
    def serve(cls, *, undisturbed: bool = False) -> Any:
        if cls.running is None:
            cls.running = LastingRabbitmq().__enter__()
            atexit.register(cls.running.remove)
        return nullcontext(cls.running)

    async def prepare(self) -> None:
        self.source, self.target = await make_queue(self.server), await make_queue(self.server)

    def _url(self, port: int) -> str:
        return f"amqp://{self.server.user}:{self.server.password}@127.0.0.1:{port}"

    def input(self, port: int) -> dict[str, Any]:
        return {**COMMON, "type": "amqp", "url": self._url(port), "queue": self.source}

    def output(self, port: int) -> dict[str, Any]:
        return {"type": "amqp", "url": self._url(port), "routing_key": self.target, "timeout": "2s"}

    async def produce(self, numbers: Iterable[int]) -> None:
        await send(self.server, self.source, map(body, numbers))

    async def written(self) -> list[int]:
        return [json.loads(message.body)["n"] for message in await messages(self.server, self.target)]


class RedisStream(Broker):
    make = RedisServer
    settings = {"appendfsync": "always"}

    def _client(self) -> Redis:
        return Redis.from_url(self.server.url)

    def _mode(self, port: int) -> dict[str, Any]:
        return {"type": "single", "url": f"redis://:{self.server.password}@127.0.0.1:{port}"}

    def input(self, port: int) -> dict[str, Any]:
        kind = {"type": "stream", "streams": ["in"], "field": "value"}
        return {**COMMON, "type": "redis", "mode": self._mode(port), "redis_type": kind}

    def output(self, port: int) -> dict[str, Any]:
        kind = {"type": "stream", "key": "out"}
        return {"type": "redis", "mode": self._mode(port), "redis_type": kind, "timeout": "2s"}

    async def produce(self, numbers: Iterable[int]) -> None:
        async with self._client() as client:
            pipeline = client.pipeline()
            for number in numbers:
                pipeline.xadd("in", {"value": body(number)})
            await pipeline.execute()

    async def written(self) -> list[int]:
        async with self._client() as client:
            return [json.loads(fields[b"value"])["n"] for _, fields in await client.xrange("out")]


class RedisList(RedisStream):
    def input(self, port: int) -> dict[str, Any]:
        kind = {"type": "list", "list": ["in"]}
        return {**COMMON, "type": "redis", "mode": self._mode(port), "redis_type": kind}

    def output(self, port: int) -> dict[str, Any]:
        kind = {"type": "list", "key": "out"}
        return {"type": "redis", "mode": self._mode(port), "redis_type": kind, "timeout": "2s"}

    async def produce(self, numbers: Iterable[int]) -> None:
        async with self._client() as client:
            await client.rpush("in", *[body(number) for number in numbers])

    async def written(self) -> list[int]:
        async with self._client() as client:
            return [json.loads(each)["n"] for each in await client.lrange("out", 0, -1)]


class Mqtt(Broker):
    make = MosquittoServer
    settings = {"autosave_interval": 1}
    undisturbed = {"autosave_interval": 1800, "autosave_on_changes": "false"}

    def _options(self, port: int) -> dict[str, Any]:
        credentials = {"username": self.server.user, "password": self.server.password}
        return {"type": "mqtt", "host": "127.0.0.1", "port": port, **credentials, "timeout": "2s", "keep_alive": 1}

    async def prepare(self) -> None:
        self.heard: list[int] = []
        await asyncio.to_thread(self._subscribe)
        await asyncio.to_thread(self._open_session)

    def _client(self, name: str) -> Any:
        version = mqtt.CallbackAPIVersion.VERSION2
        client = mqtt.Client(version, client_id=name, protocol=mqtt.MQTTv311, clean_session=False)
        client.username_pw_set(self.server.user, self.server.password)
        return client

    def _subscribe(self) -> None:
        """Listen to what the output writes."""
        client = self.listener = self._client("listener")
        subscribed = threading.Event()
        client.on_connect = lambda *_: client.subscribe("out/#", qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda *got: self.heard.append(json.loads(got[-1].payload)["n"])
        client.reconnect_delay_set(0.05, 0.2)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert subscribed.wait(60)

    def _open_session(self) -> None:
        """Let the broker keep what comes before the stream has begun."""
        client = self._client("penstock-tests")
        subscribed = threading.Event()
        client.on_connect = lambda *_: client.subscribe("in/#", qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert subscribed.wait(60)
        client.disconnect()
        client.loop_stop()

    def close(self) -> None:
        self.listener.disconnect()
        self.listener.loop_stop()

    def input(self, port: int) -> dict[str, Any]:
        session = {"client_id": "penstock-tests", "topics": ["in/#"], "qos": 1}
        return {**COMMON, **self._options(port), **session}

    def output(self, port: int) -> dict[str, Any]:
        return {**self._options(port), "topic": "out/rows"}

    async def produce(self, numbers: Iterable[int]) -> None:
        await asyncio.to_thread(self._publish, list(numbers))

    def _publish(self, numbers: Sequence[int]) -> None:
        client = self._client(f"producer-{uuid.uuid4().hex}")
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for info in [client.publish("in/rows", body(number), qos=1) for number in numbers]:
            info.wait_for_publish(60)
        client.disconnect()
        client.loop_stop()

    async def written(self) -> list[int]:
        return list(self.heard)


BROKERS: Sequence[type[Broker]] = [Nats, RedisStream, RedisList, Mqtt, Rabbitmq]
