"""How far a consumer is behind its partitions, and what stands in its way."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ...clients.kafka import describe_error
from ...clients.kafka.errors import AUTHORIZATION
from ...errors import ConnectionLost

PROBE_TIMEOUT = 1.0
"""Seconds that servers have to answer before they are asked again."""
STANDSTILL_INTERVAL = 5.0
"""Seconds without messages until servers are asked whether there are any; after as long again it reconnects."""
LAG_INTERVAL = 0.5
"""Seconds for which the ends of partitions are believed."""
_TELLS_TROUBLE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._SSL, KafkaError._RESOLVE, *AUTHORIZATION})


class Watch:
    """Watches a consumer; all is called in its thread, but for reading what was found."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], int] = {}
        """The offset at which each partition ends."""
        self.reached: dict[tuple[str, int], int] = {}
        """Where each partition ended when all of it had been fetched: behind marks that are no messages."""
        self.trouble: str | None = None
        """What stands in the way; None once messages or answers come again."""
        self._last_error = ""
        self._measured_at = 0.0
        self._idle_since = time.monotonic()
        self._stands_still = False

    def note_error(self, error: KafkaError) -> None:
        """Note what the library says of its connections; raises KafkaException if it cannot go on."""
        self.note_trouble(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._last_error:
            self.trouble = f"kafka: {error.str()}: {self._last_error}"
        self._last_error = describe_error(error)

    def note_trouble(self, error: KafkaError) -> None:
        """Note an error if it stands in the way; raises KafkaException if the library cannot go on."""
        if error.fatal():
            raise KafkaException(error)
        if error.code() in _TELLS_TROUBLE:
            self.trouble = f"kafka: {describe_error(error)}"

    def note_arrival(self, now: float) -> None:
        """Note that something came at ``now``."""
        self._idle_since, self._stands_still = now, False

    def note_end(self, topic: str, partition: int, offset: int) -> None:
        """Note that all of a partition was fetched."""
        self.reached[topic, partition] = offset
        self.trouble = None

    def measure(self, consumer: Consumer) -> bool:
        """Note now and then where the partitions end, as the last answers of the servers said.

        Returns whether it has looked, and the consumer has partitions.
        """
        now = time.monotonic()
        if now - self._measured_at < LAG_INTERVAL:
            return False
        self._measured_at = now
        ends = {}
        for one in consumer.assignment():
            ends[one.topic, one.partition] = consumer.get_watermark_offsets(one, cached=True)[1]
        self.ends = ends
        return bool(ends)

    def probe(self, consumer: Consumer, topic: str) -> None:
        """Ask servers that were away whether they are back."""
        if self.trouble is None:
            return
        try:
            consumer.list_topics(topic, timeout=PROBE_TIMEOUT)
        except KafkaException:
            return
        self.trouble = None

    def check_progress(self, consumer: Consumer, now: float) -> None:
        """Raise ConnectionLost if the library fetches nothing though messages wait.

        It may stand still for ever when a server is killed amid its first answer.
        """
        if now - self._idle_since < STANDSTILL_INTERVAL:
            return
        self._idle_since = now
        try:
            places = consumer.position(consumer.assignment())
            waiting = [place for place in places if self._has_more(consumer, place)]
        except KafkaException:  # the servers are away, which is told elsewhere
            return
        if waiting and self._stands_still:
            names = ", ".join(f"{one.topic}/{one.partition}" for one in waiting)
            raise ConnectionLost(f"kafka: nothing of {names} is fetched, though there are messages")
        self._stands_still = bool(waiting)

    def _has_more(self, consumer: Consumer, place: TopicPartition) -> bool:
        oldest, end = consumer.get_watermark_offsets(place, timeout=PROBE_TIMEOUT)
        begun = place.offset if place.offset >= 0 else oldest
        return bool(end > max(begun, self.reached.get((place.topic, place.partition), 0)))
