"""From Kafka to Kafka through crashes, rebalances and outages: nothing is lost, and in transactions nothing doubled.

Sending positions, which hangs for ever after a cut connection, is among what the test of the network meets.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from penstock.testing.faults import FaultProxy
from penstock.testing.forks import Fork
from penstock.testing.servers import KafkaServer, free_port

from ..kafka import QUIET, make_topic, read_values, send

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]
PARTITIONS = 3
TIMEOUT = 120.0
BOTH = pytest.mark.parametrize("exactly_once", [False, True], ids=["at-least-once", "exactly-once"])


class Pipeline:
    """A stream between two topics, run by one or several processes."""

    def __init__(self, server: KafkaServer, folder: Path, exactly_once: bool, brokers: str = "") -> None:
        self.server, self.folder, self.exactly_once = server, folder, exactly_once
        self.source, self.target = make_topic(server.brokers, PARTITIONS), make_topic(server.brokers)
        self._brokers, self._group = brokers or server.brokers, f"group-{uuid.uuid4().hex[:8]}"
        self.sent = 0

    def start(self, name: str = "a", **options: Any) -> Process:
        connection = {"brokers": self._brokers, "request_timeout": "4s"}
        transactions = {"exactly_once": True, "transactional_id": f"{self._group}-{name}", "transaction_timeout": "20s"}
        stream = {
            "id": "copy",
            "input": {
                "type": "kafka",
                **connection,
                "topics": [self.source],
                "consumer_group": self._group,
                "session_timeout": "2s",
                "batch_max_rows": 100,
            },
            "output": {
                "type": "kafka",
                **connection,
                "topic": self.target,
                "delivery_timeout": "4s",
                **(transactions if self.exactly_once else {}),
            },
            "checkpoint": "output" if self.exactly_once else "state",
            "retry": {"maximum": "1s"},
            "shutdown_timeout": "10s",
            "stall_timeout": "3s",
            **options,
        }
        return Process(self.folder / name, stream)

    def feed(self, count: int) -> None:
        for partition in range(PARTITIONS):
            numbers = [n for n in range(self.sent, self.sent + count) if n % PARTITIONS == partition]
            send(self.server.brokers, self.source, [b"%d" % number for number in numbers], partition=partition)
        self.sent += count

    def written(self) -> int:
        """How many messages were written, those of transactions that were undone and their marks included."""
        settings = {"bootstrap.servers": self.server.brokers, "group.id": "watcher", **QUIET}
        consumer = Consumer(settings)
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self.target, 0), timeout=60)[1])
        finally:
            consumer.close()

    def found(self) -> list[int]:
        return [int(value) for value in read_values(self.server.brokers, self.target)]

    def check(self) -> None:
        """Wait until all is there, and see that it is there as it should be."""
        deadline = time.monotonic() + TIMEOUT
        while len(set(found := self.found())) < self.sent:
            assert time.monotonic() < deadline, self.describe(found)
            time.sleep(0.2)
        assert set(found) == set(range(self.sent)), "rows were lost"
        if self.exactly_once:
            assert [number for number, count in Counter(found).items() if count > 1] == []
            for partition in range(PARTITIONS):
                own = [number for number in found if number % PARTITIONS == partition]
                assert own == sorted(own)

    def describe(self, found: list[int]) -> str:
        """Tell what is missing, and what each process says."""
        missing = sorted(set(range(self.sent)) - set(found))
        logs = "".join(f"\n== {log}\n{log.read_text()[-3000:]}" for log in self.folder.glob("*/log"))
        return f"{len(missing)} rows are missing, of {self.sent}: {missing[:20]}{logs}"


class Process:
    """A process that runs the stream."""

    def __init__(self, folder: Path, stream: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        configuration = {
            "streams": [stream],
            "data": str(folder / "data"),
            "health_check": {"address": self.address},
        }
        file = folder / "stream.json"
        file.write_text(json.dumps(configuration))
        self.log = folder / "log"
        self.fork = Fork(("-m", "penstock"), ["run", str(file)], log=self.log)

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)["streams"]["copy"]
        except urllib.error.HTTPError as error:
            found = json.load(error)["streams"]["copy"]
        except OSError:
            assert self.fork.poll() is None, self.log.read_text()[-3000:]
            return {"state": "not there", "trouble": "it does not answer"}
        return found

    def is_well(self) -> bool:
        return self.health()["trouble"] is None

    def stop(self) -> int:
        self.fork.terminate()
        return self.fork.wait(60)

    def kill(self) -> None:
        self.fork.kill()
        self.fork.wait(60)


@contextmanager
def ended(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.crash
@BOTH
def test_killed_twenty_times(shared_kafka_server: KafkaServer, tmp_path: Path, exactly_once: bool) -> None:
    pipeline = Pipeline(shared_kafka_server, tmp_path, exactly_once)
    moments = random.Random(7)
    for _ in range(20):
        pipeline.feed(600)
        enough = pipeline.written() + moments.randrange(1, 500)
        process = pipeline.start()
        with ended(process):
            eventually(lambda enough=enough: pipeline.written() >= enough)
    process = pipeline.start()
    with ended(process):
        pipeline.check()
        assert process.stop() == 0


@BOTH
def test_members_come_and_go_amid_batches(shared_kafka_server: KafkaServer, tmp_path: Path, exactly_once: bool) -> None:
    pipeline = Pipeline(shared_kafka_server, tmp_path, exactly_once)
    pipeline.feed(6000)
    first = pipeline.start("a")
    with ended(first):
        eventually(lambda: pipeline.written() > 500)
        second = pipeline.start("b")
        with ended(second):
            eventually(lambda: second.health().get("lag"))
            pipeline.feed(6000)
            third = pipeline.start("c")
            with ended(third):
                eventually(lambda: third.health().get("lag"))
                pipeline.feed(3000)
                assert first.stop() == 0
                pipeline.feed(3000)
                second.kill()
                pipeline.check()
                assert third.stop() == 0


@BOTH
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_the_server_is_away(kafka_server: KafkaServer, tmp_path: Path, fault: str, exactly_once: bool) -> None:
    pipeline = Pipeline(kafka_server, tmp_path, exactly_once)
    pipeline.feed(3000)
    process = pipeline.start()
    with ended(process):
        eventually(lambda: pipeline.written() > 100)
        kafka_server.kill() if fault == "kill" else kafka_server.pause()
        eventually(lambda: not process.is_well())
        assert "kafka" in str(process.health()["trouble"]) or "no answer" in str(process.health()["trouble"])
        kafka_server.start() if fault == "kill" else kafka_server.resume()
        pipeline.feed(3000)
        pipeline.check()
        eventually(process.is_well)
        assert process.stop() == 0


@pytest.mark.parametrize(("fault", "exactly_once"), [("kill", False), ("freeze", True)])
def test_a_stop_ends_it_though_the_server_is_away(
    kafka_server: KafkaServer, tmp_path: Path, fault: str, exactly_once: bool
) -> None:
    pipeline = Pipeline(kafka_server, tmp_path, exactly_once)
    pipeline.feed(3000)
    process = pipeline.start()
    with ended(process):
        eventually(lambda: pipeline.written() > 100)
        kafka_server.kill() if fault == "kill" else kafka_server.pause()
        eventually(lambda: not process.is_well())
        asked = time.monotonic()
        process.stop()
        assert time.monotonic() - asked < 30, "its `shutdown_timeout` is 10 s"


@pytest.mark.parametrize(("fault", "exactly_once"), [("cut", True), ("swallow", False)])
async def test_the_network_is_away(kafka_server: KafkaServer, tmp_path: Path, fault: str, exactly_once: bool) -> None:
    async with FaultProxy("127.0.0.1", kafka_server.proxied_port, listen=kafka_server.proxy_port) as proxy:
        brokers = f"127.0.0.1:{kafka_server.proxy_port}"
        pipeline = await asyncio.to_thread(Pipeline, kafka_server, tmp_path, exactly_once, brokers)

        def run_until(condition: Callable[[], Any]) -> Any:
            return asyncio.to_thread(eventually, condition)

        await asyncio.to_thread(pipeline.feed, 3000)
        process = await asyncio.to_thread(pipeline.start)
        try:
            await run_until(lambda: pipeline.written() > 100)
            if fault == "cut":
                for _ in range(5):
                    await proxy.cut()
                    await asyncio.to_thread(pipeline.feed, 500)
            else:
                proxy.passing.clear()
                await run_until(lambda: not process.is_well())
                proxy.passing.set()
                await proxy.cut()
            await asyncio.to_thread(pipeline.feed, 1000)
            await asyncio.to_thread(pipeline.check)
            await run_until(process.is_well)
            assert await asyncio.to_thread(process.stop) == 0
        finally:
            await asyncio.to_thread(process.kill)
