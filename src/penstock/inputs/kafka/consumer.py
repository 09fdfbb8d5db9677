"""The thread that calls librdkafka: what it fetches goes to the event loop, which says when there is room.

All calls are made in it: the consumer lets one thread in at a time, so that any other would wait for a poll to end.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from ...clients.kafka import Group, classify_error, describe_error
from ...clients.kafka.errors import UNKNOWN_TOPIC
from ...clients.kafka.options import Log
from ...errors import ConnectionLost, PenstockError
from .messages import parts
from .watch import PROBE_TIMEOUT, Watch

if TYPE_CHECKING:
    from . import Kafka

T = TypeVar("T")
MAX_WAITING = 2
"""How many batches wait to be read at most."""
IDLE_INTERVAL = 0.5
"""Seconds after which the thread looks whether there is anything to do while no messages come."""
BUSY_INTERVAL = 0.05
"""The same while messages came lately, so that what is settled of them is soon committed."""
BUSY_TIME = 5.0
"""Seconds that count as lately."""
ROOM_TIMEOUT = 2.0
"""Seconds without room after which fetching pauses, which drops what was fetched ahead."""
LOOP_TIMEOUT = 60.0
"""Seconds that the event loop has to do its part of a rebalance."""


class Member(Protocol):
    """The part of a consumer that lives on the event loop."""

    async def follow(self, partitions: Sequence[tuple[str, int]]) -> list[int | None]:
        """Begin to follow partitions; return where each goes on, None where the group knows."""
        ...

    async def give_up(self, partitions: Sequence[tuple[str, int]], *, is_lost: bool) -> None:
        """Commit what is settled of partitions and follow them no more; lost ones are others' already."""
        ...

    def take(self, messages: list[Message]) -> None:
        """Take a batch to be read."""
        ...

    def fail(self, error: PenstockError) -> None:
        """Note why nothing more comes."""
        ...

    def report_gap(self, reason: str) -> None:
        """Note that messages are missing."""
        ...


class ConsumerThread:
    """Polls a consumer for as long as it is open."""

    def __init__(self, config: Kafka, member: Member) -> None:
        self._config, self._member, self._loop = config, member, asyncio.get_running_loop()
        self.watch = Watch()
        """How far it is, and what stands in the way."""
        self._consumer = Consumer({**config.settings(), "error_cb": self.watch.note_error}, logger=Log())
        self.group = Group(config.consumer_group)
        self.is_ended = asyncio.Event()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(MAX_WAITING)
        self._closing, self._subscribes = threading.Event(), False
        self._is_paused = False
        self._message_size = 1  # on average, lately
        self._busy_until = 0.0
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)

    # What follows is called on the event loop.

    async def open(self) -> None:
        """Look for the servers and the topics; raises PenstockError."""
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    def subscribe(self) -> None:
        """Join the group and begin to fetch."""
        self._subscribes = True
        self._calls.put(None)

    def close(self) -> None:
        """Leave the group, which has happened once ``is_ended`` is set."""
        self._closing.set()
        self._calls.put(None)

    def make_room(self) -> None:
        """Note that a batch was read."""
        self._room.release()
        self._calls.put(None)

    async def commit(self, places: Sequence[TopicPartition]) -> None:
        """Commit positions to the group; raises PenstockError."""
        if self._closing.is_set():
            raise ConnectionLost("kafka: the connection is closed")
        result: Future[Any] = Future()
        self._calls.put((result, lambda: self._consumer.commit(offsets=list(places), asynchronous=False)))
        try:
            async with asyncio.timeout(self._config.request_timeout):
                done = await asyncio.wrap_future(result)
        except (KafkaException, TimeoutError, RuntimeError) as error:
            raise classify_error(error, "committing") from error
        for place in done or ():
            if place.error is not None:
                raise classify_error(KafkaException(place.error), "committing")

    # What follows is called in the thread.

    def _run(self) -> None:
        try:
            try:
                self._look()
            except BaseException as error:
                self._opened.set_exception(classify_error(error, f"connecting to {', '.join(self._config.brokers)}"))
                return
            self._opened.set_result(None)
            self._follow()
        except BaseException as error:
            if not self._closing.is_set():
                self._on_loop(self._member.fail, classify_error(error, "reading"))
        finally:
            self._closing.set()
            self._refuse_calls()
            self._consumer.close()
            self._on_loop(lambda _: self.is_ended.set(), None)

    def _look(self) -> None:
        """Look for each topic; raises ConnectionLost if it is not there."""
        for topic in self._config.topics:
            if topic.startswith("^"):
                self._ask_for(None)
                continue
            error = self._ask_for(topic).topics[topic].error
            if error is not None and error.code() in UNKNOWN_TOPIC:
                raise ConnectionLost(f"kafka: there is no topic {topic!r}")
            if error is not None:
                raise ConnectionLost(f"kafka: topic {topic!r}: {describe_error(error)}")

    def _ask_for(self, topic: str | None) -> Any:
        deadline = time.monotonic() + self._config.request_timeout
        while True:
            try:
                return self._consumer.list_topics(topic, timeout=PROBE_TIMEOUT)
            except KafkaException as error:
                self._consumer.poll(0)  # what went wrong is told by a callback
                if self._closing.is_set() or time.monotonic() > deadline:
                    raise ConnectionLost(self.watch.trouble or str(classify_error(error, "connecting"))) from error

    def _follow(self) -> None:
        config = self._config
        while not self._subscribes and not self._closing.is_set():
            self._serve(None)
        if not self._closing.is_set():
            self._consumer.subscribe(
                config.topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
        while not self._closing.is_set():
            messages = self._fetch()
            for part in parts(messages, config.batch_max_bytes) if messages else ():
                self._hand_over(part)
            while self._serve(0):
                pass

    def _serve(self, timeout: float | None) -> bool:
        """Do one call that waits, or wait for one; return whether there was anything."""
        try:
            call = self._calls.get(block=timeout != 0, timeout=timeout or None)
        except queue.Empty:
            return False
        if call is not None and call[0].set_running_or_notify_cancel():
            self._busy_until = time.monotonic() + BUSY_TIME
            try:
                call[0].set_result(call[1]())
            except BaseException as error:
                call[0].set_exception(error)
        return True

    def _refuse_calls(self) -> None:
        while not self._calls.empty():
            call = self._calls.get()
            if call is not None and call[0].set_running_or_notify_cancel():
                call[0].set_exception(ConnectionLost("kafka: the connection is closed"))

    def _fetch(self) -> list[Message]:
        now = time.monotonic()
        first = self._consumer.poll(BUSY_INTERVAL if now < self._busy_until else IDLE_INTERVAL)
        self._measure()
        if first is None:
            self.watch.probe(self._consumer, self._config.topics[0])
            self.watch.check_progress(self._consumer, now)
            return []
        self.watch.note_arrival(now)
        if (error := first.error()) is not None:
            self._note_event(error, first)
            return []
        config = self._config
        most = max(1, min(config.batch_max_rows, config.batch_max_bytes // self._message_size))
        messages = [first, *self._consumer.consume(most - 1, config.batch_linger)] if most > 1 else [first]
        found = [message for message in messages if message.error() is None]
        for message in messages if len(found) < len(messages) else ():
            if (error := message.error()) is not None:
                self._note_event(error, message)
        self._message_size = max(1, sum(map(len, found)) // len(found))
        self._busy_until = time.monotonic() + BUSY_TIME
        self.watch.trouble = None
        return found

    def _hand_over(self, messages: list[Message]) -> None:
        """Wait for room, and serve the group meanwhile: who does not poll for minutes is thrown out of it."""
        pause_at = time.monotonic() + ROOM_TIMEOUT
        while not self._room.acquire(blocking=False):
            if self._closing.is_set():
                return
            self._measure()
            if self._serve(BUSY_INTERVAL) or time.monotonic() < pause_at:
                continue
            if not self._is_paused:
                self._is_paused = True
                self._consumer.pause(self._consumer.assignment())
            event = self._consumer.poll(0)
            if event is not None and (error := event.error()) is not None:
                self._note_event(error, event)
            elif event is not None:  # fetched before the pause took effect
                messages.append(event)
        if self._is_paused:
            self._is_paused = False
            self._consumer.resume(self._consumer.assignment())
        self._note_membership()
        self._on_loop(self._member.take, messages)

    def _note_membership(self) -> None:
        """Let an output that commits for this member know which generation of the group it belongs to."""
        self.group.metadata = self._consumer.consumer_group_metadata()

    def _measure(self) -> None:
        if self.watch.measure(self._consumer):
            self._note_membership()

    def _note_event(self, error: KafkaError, message: Message) -> None:
        topic, partition = message.topic(), message.partition()
        if error.code() == KafkaError._PARTITION_EOF and topic is not None and partition is not None:
            self.watch.note_end(topic, partition, message.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and topic is not None and partition is not None:
            self._begin_anew(TopicPartition(topic, partition))
        elif error.code() in UNKNOWN_TOPIC:
            raise ConnectionLost(f"kafka: topic {topic!r} is gone: {describe_error(error)}")
        else:
            self.watch.note_trouble(error)

    def _begin_anew(self, partition: TopicPartition) -> None:
        """Go on with the oldest message there is, since the position is not there: deleted, or of another topic."""
        oldest = self._consumer.get_watermark_offsets(partition, timeout=self._config.request_timeout)[0]
        name = f"{partition.topic}/{partition.partition}"
        reason = f"kafka: the position in {name} is not there any more; it goes on with offset {oldest}"
        self._on_loop(self._member.report_gap, reason)
        self._consumer.incremental_unassign([partition])  # it is not fetched any more, so nothing can be sought in it
        self._consumer.incremental_assign([TopicPartition(partition.topic, partition.partition, oldest)])

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        keys = [(one.topic, one.partition) for one in partitions]
        known = self._on_loop_wait(self._member.follow(keys))
        starts = [TopicPartition(*key, offset) for key, offset in zip(keys, known, strict=True) if offset is not None]
        unknown = [TopicPartition(*key) for key, offset in zip(keys, known, strict=True) if offset is None]
        starts += self._committed(unknown) if unknown else []
        consumer.incremental_assign(starts)
        if self._is_paused:
            consumer.pause(starts)
        self._note_membership()

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return where the group goes on, or begins."""
        timeout, found, new = self._config.request_timeout, [], []
        for one in self._consumer.committed(partitions, timeout=timeout):
            if one.error is not None:
                raise KafkaException(one.error)
            if one.offset >= 0:
                found.append(TopicPartition(one.topic, one.partition, one.offset))
            elif self._config.start_from_latest:
                newest = self._consumer.get_watermark_offsets(one, timeout=timeout)[1]
                new.append(TopicPartition(one.topic, one.partition, newest))
            else:
                found.append(TopicPartition(one.topic, one.partition, OFFSET_BEGINNING))
        if new:  # or else what comes before the first commit would be skipped after a crash
            self._consumer.commit(offsets=new, asynchronous=False)
        return found + new

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer, partitions, is_lost=False)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer, partitions, is_lost=True)

    def _give_up(self, consumer: Consumer, partitions: list[TopicPartition], *, is_lost: bool) -> None:
        keys = [(one.topic, one.partition) for one in partitions]
        if not self._closing.is_set():
            self._on_loop_wait(self._member.give_up(keys, is_lost=is_lost))
        for key in keys:
            self.watch.reached.pop(key, None)
        consumer.incremental_unassign(partitions)

    def _on_loop(self, call: Callable[[T], None], value: T) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, value)

    def _on_loop_wait(self, doing: Coroutine[Any, Any, T]) -> T:
        """Return what the event loop makes of it; what it wants of this thread meanwhile is done."""
        result = asyncio.run_coroutine_threadsafe(doing, self._loop)
        result.add_done_callback(lambda _: self._calls.put(None))
        deadline = time.monotonic() + LOOP_TIMEOUT
        while not result.done():
            self._serve(IDLE_INTERVAL)
            if not result.done() and (self._closing.is_set() or time.monotonic() > deadline):
                result.cancel()
                raise ConnectionLost("kafka: a rebalance was broken off")
        return result.result()
