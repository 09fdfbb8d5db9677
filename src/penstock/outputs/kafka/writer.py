"""The live output: sends rows, and knows which have arrived where a write succeeds in part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from ...clients.kafka import classify_error, describe_error
from ...context import Context
from ...delivery import Batch
from ...errors import ConnectionLost, PenstockError, RowsRejected, TransientError
from ...runtime.threads import Workers
from .._memory import ArrivalMemory
from .producer import MessageProducer, is_of_row
from .rows import Messages, Row

if TYPE_CHECKING:
    from . import Kafka


CLOSE_TIMEOUT = 2.0
"""Seconds that dropping what was not acknowledged may take."""


class KafkaWriter:
    """Sends rows, each of which is acknowledged when a write returns."""

    def __init__(self, config: Kafka, context: Context, workers: Workers) -> None:
        self._config, self._context, self._workers = config, context, workers
        self._producer = self._make()
        self._memory: ArrivalMemory[Row] = ArrivalMemory()

    def _make(self) -> MessageProducer:
        try:
            return MessageProducer(self._config, self._config.settings(None))
        except KafkaException as error:
            raise classify_error(error, "settings") from error

    async def connect(self) -> None:
        """Look for the servers and the topic; raises ConnectionLost."""
        await self._call_in_thread(lambda: self._producer.connect(self._config.topic.constant))

    async def close(self) -> None:
        """Give up what is under way."""
        self._producer.close()
        with suppress(TimeoutError, PenstockError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._workers.call(self._producer.end)

    async def write(self, batches: Sequence[Batch]) -> None:
        """Send all rows; returns once each is acknowledged."""
        await self._call_in_thread(lambda: self._write(batches))

    async def _call_in_thread(self, work: Callable[[], None]) -> None:
        try:
            await self._workers.call(work)
        except TimeoutError as error:
            self._producer.close()
            raise self._hanging(f"kafka: no answer within {self._config.call_timeout:g} s") from error

    def _hanging(self, message: str) -> PenstockError:
        return ConnectionLost(message)

    def _write(self, batches: Sequence[Batch]) -> None:
        messages = self._messages(batches)
        rows: Sequence[int] = range(len(messages))
        left = rows
        if self._memory.is_waiting:
            left = list(self._memory.left(batches, {row: messages.row(row) for row in rows}))
        if not left:
            self._remember(messages, left, ())
            return
        try:
            failed = self._producer.send(messages, left)
            refused = self._refused(messages, failed)
        except PenstockError:
            raise  # nobody knows what has arrived
        self._remember(messages, left, failed)
        error = self._verdict(failed, refused)
        self._memory.expect(None if error is None or isinstance(error, RowsRejected) else list(batches))
        if error is not None:
            raise error

    def _messages(self, batches: Sequence[Batch]) -> Messages:
        """Evaluate the rows; raises RowsRejected for those whose topic or partition is not there."""
        messages = Messages(self._config, batches)
        topics = set(messages.topics) if messages.topic is None else set()
        refused = self._producer.check_topics({topic for topic in topics if topic is not None}) if topics else {}
        if refused:
            rows = enumerate(messages.topics)
            raise RowsRejected({row: refused[topic] for row, topic in rows if topic in refused}, across=True)
        if messages.partitions is not None:
            self._check_partitions(messages, messages.partitions)
        return messages

    def _check_partitions(self, messages: Messages, partitions: Sequence[int | None]) -> None:
        if messages.topic is not None:
            self._producer.check_topics({messages.topic})
        refused = {}
        for row, partition in enumerate(partitions):
            count = self._producer.partitions(messages.topic_of(row))
            if partition is not None and 0 < count <= partition:
                refused[row] = f"partition: {messages.topic_of(row)} has {count}, there is no partition {partition}"
        if refused:
            raise RowsRejected(refused, across=True)

    def _refused(self, messages: Messages, failed: dict[int, KafkaError]) -> dict[int, str]:
        """Return the rows that would always fail, out of those that ``failed``, and why; sends the others.

        The servers refuse messages in the groups in which they were sent, so which one is at fault is found by sending
        fewer and fewer at once.
        """
        suspects = [row for row, error in failed.items() if is_of_row(error, one_topic=messages.topic is not None)]
        if len(suspects) < len(failed):
            return {}  # something else is the matter, which comes first
        refused: dict[int, str] = {}
        waiting = [suspects] if suspects else []
        while waiting:
            some = waiting.pop()
            if len(some) == 1 and len(suspects) == 1:
                refused[some[0]] = describe_error(failed[some[0]])
                continue
            again = self._try(messages, some)
            for row in some:
                failed.pop(row, None)
            failed |= again
            if any(not is_of_row(error, one_topic=messages.topic is not None) for error in again.values()):
                return {}
            if len(some) == 1:
                refused |= {row: describe_error(error) for row, error in again.items()}
            elif again:
                rest = sorted(again)
                middle = len(rest) // 2
                waiting += [part for part in (rest[middle:], rest[:middle]) if part]
        return refused

    def _try(self, messages: Messages, rows: Sequence[int]) -> dict[int, KafkaError]:
        return self._producer.send(messages, rows)

    def _remember(self, messages: Messages, left: Sequence[int], failed: Mapping[int, object] | tuple[()]) -> None:
        """Note what has arrived of the rows that were ``left`` to be sent."""
        if not failed and not self._memory.is_waiting:
            return
        rows = {row: messages.row(row) for row in range(len(messages))}
        sent = {row: rows[row] for row in left}
        self._memory.settle(rows, sent, {row: rows[row] for row in failed})

    def _verdict(self, failed: Mapping[int, KafkaError], refused: Mapping[int, str]) -> PenstockError | None:
        """Return what the failures mean: try again if that may help any, else refuse the rows."""
        others = [error for row, error in failed.items() if row not in refused]
        if others:
            message = f"kafka: {len(others)} messages were not acknowledged: {describe_error(others[0])}"
            if self._producer.trouble is not None:
                message += f"; {self._producer.trouble}"
            # A new producer would not know what has arrived, and this one connects again by itself.
            is_over = any(error.fatal() for error in others)
            return ConnectionLost(message) if is_over else TransientError(message)
        return RowsRejected(refused, across=True) if refused else None
