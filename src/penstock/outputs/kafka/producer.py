"""The producer, called in one thread: sends messages and tells which of them failed, and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ...clients.kafka import classify_error, describe_error
from ...clients.kafka.errors import AUTHORIZATION, UNKNOWN_TOPIC
from ...clients.kafka.options import Log
from ...errors import ConnectionLost
from . import TOPIC
from .rows import Messages

if TYPE_CHECKING:
    from . import Kafka

FLUSH_INTERVAL = 0.5
"""Seconds after which a thread that waits for answers looks whether it is to end."""
PROBE_TIMEOUT = 1.0
"""Seconds that servers have to answer before they are asked again."""
CREATION_TIMEOUT = 3.0
"""Seconds that servers have to make a topic by themselves, where they do so."""
TOPIC_TTL = 30.0
"""Seconds for which it is believed that a topic is not there, and how many partitions one has."""
MAX_TOPICS = 10_000
"""How many topics are remembered."""

Identity = tuple[str | None, bytes | None, bytes | None]
"""Topic, key and payload of a message: all that is told of one that failed."""


class MessageProducer:
    """Sends messages and waits until all are acknowledged or have failed."""

    def __init__(self, config: Kafka, settings: Mapping[str, Any]) -> None:
        self._config = config
        callbacks = {"error_cb": self._note_error, "on_delivery": self._note_failure}
        self.producer = Producer({**settings, **callbacks}, logger=Log())
        self.trouble: str | None = None
        self._failed: dict[Identity, KafkaError] = {}
        self._closing = threading.Event()
        self._topics: dict[str, tuple[float, int]] = {}

    @property
    def is_closing(self) -> bool:
        """Whether it is to end."""
        return self._closing.is_set()

    def close(self) -> None:
        """Give up what is under way; may be called from any thread."""
        self._closing.set()

    def end(self) -> None:
        """Drop what was not acknowledged, and the connection."""
        self.producer.purge(in_queue=True, in_flight=True, blocking=False)
        self.producer.poll(0)
        del self.producer  # here, since its end takes a while

    def connect(self, topic: str | None) -> None:
        """Look for the servers; raises ConnectionLost if they do not answer, or if ``topic`` is not there."""
        deadline = time.monotonic() + self._config.request_timeout
        while True:
            try:
                self.producer.list_topics(topic, timeout=PROBE_TIMEOUT)
                break
            except KafkaException as error:
                self.producer.poll(0)  # what went wrong is told by a callback
                where = f"connecting to {', '.join(self._config.brokers)}"
                if self._closing.is_set() or time.monotonic() > deadline:
                    raise ConnectionLost(self.trouble or str(classify_error(error, where))) from error
        if topic is not None and (reason := self.check_topics({topic}).get(topic)) is not None:
            raise ConnectionLost(f"kafka: {reason}")

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has, which was looked for."""
        return self._topics[topic][1]

    def check_topics(self, topics: set[str]) -> dict[str, str]:
        """Look for topics that are not known yet; return why some cannot be sent to. Raises ConnectionLost."""
        now = time.monotonic()
        refused = {topic: f"{topic!r} is not the name of a topic" for topic in topics if not TOPIC.fullmatch(topic)}
        asked = [topic for topic in topics if topic not in refused and self._is_unknown(topic, now)]
        missing = [topic for topic in asked if not self._ask_for(topic)]
        while missing and time.monotonic() - now < CREATION_TIMEOUT and not self._closing.is_set():
            self.producer.poll(0.1)
            missing = [topic for topic in missing if not self._ask_for(topic)]
        for topic in topics - refused.keys():
            if self._topics[topic][1] == 0:
                refused[topic] = f"there is no topic {topic!r}"
        return refused

    def _is_unknown(self, topic: str, now: float) -> bool:
        asked_at, _ = self._topics.get(topic, (float("-inf"), 0))
        return now - asked_at > TOPIC_TTL

    def _ask_for(self, topic: str) -> bool:
        try:
            found = self.producer.list_topics(topic, timeout=self._config.request_timeout).topics[topic]
        except KafkaException as error:
            raise classify_error(error, f"topic {topic!r}") from error
        if found.error is not None and found.error.code() in AUTHORIZATION:
            raise ConnectionLost(f"kafka: topic {topic!r}: {describe_error(found.error)}")
        if len(self._topics) >= MAX_TOPICS:
            self._topics.clear()
        self._topics[topic] = (time.monotonic(), len(found.partitions))
        return bool(found.partitions)

    def send(self, messages: Messages, rows: Sequence[int] | range) -> dict[int, KafkaError]:
        """Send some rows and wait until each is acknowledged or has failed; return those that failed."""
        self._failed = {}
        failed: dict[int, KafkaError] = {}
        if messages.is_plain:
            self._queue_payloads(messages, rows, failed)
        else:
            for row in rows:
                topic, options = messages.topic_of(row), messages.options(row)
                self._queue(topic, messages.payloads[row], row, failed, options)
        self._flush()
        if self._failed:
            failed |= {row: error for row in rows if (error := self._failed.get(_identity(messages, row))) is not None}
        return failed

    def _queue_payloads(self, messages: Messages, rows: Sequence[int] | range, failed: dict[int, KafkaError]) -> None:
        """Queue payloads for one topic, most of them without a look at each."""
        produce, topic, payloads = self.producer.produce, messages.topic, messages.payloads
        assert topic is not None
        left = iter(rows)
        for row in left:
            try:
                produce(topic, payloads[row])
            except (BufferError, KafkaException):
                self._queue(topic, payloads[row], row, failed, {})

    def _queue(
        self, topic: str, payload: bytes | None, row: int, failed: dict[int, KafkaError], options: Mapping[str, Any]
    ) -> None:
        while True:
            try:
                self.producer.produce(topic, payload, **options)
                return
            except BufferError:
                if self._closing.is_set():
                    raise ConnectionLost("kafka: the connection is closed") from None
                self.producer.poll(FLUSH_INTERVAL)
            except KafkaException as error:
                failed[row] = error.args[0]
                return

    def _flush(self) -> None:
        try:
            while self.producer.flush(FLUSH_INTERVAL):
                if self._closing.is_set():
                    raise ConnectionLost("kafka: the connection is closed")
        except (KafkaException, SystemError) as error:  # the latter after a fatal error, which it fails to raise
            raise ConnectionLost(self.trouble or str(error)) from error

    def _note_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed[message.topic(), _bytes(message.key()), _bytes(message.value())] = error

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self.trouble is None:  # which says less
            self.trouble = f"kafka: {describe_error(error)}"


def is_of_row(error: KafkaError, *, one_topic: bool) -> bool:
    """Tell whether a failure is the fault of the message: a topic that all have is that of the configuration."""
    if error.code() in UNKNOWN_TOPIC:
        return not one_topic or error.code() == KafkaError._UNKNOWN_PARTITION
    return error.code() in _OF_ROW


_OF_ROW = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
        KafkaError._BAD_MSG,
        KafkaError._INVALID_ARG,
    }
)
"""What is wrong with one message, whenever it is sent."""


def _identity(messages: Messages, row: int) -> Identity:
    key = messages.keys[row] if messages.keys is not None else None
    return (messages.topic_of(row), _bytes(key), messages.payloads[row])


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
