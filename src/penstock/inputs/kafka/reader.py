"""The live input: batches of messages as deliveries, one checkpoint for each partition."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import Message, TopicPartition

from ...checkpoint import Checkpoint
from ...clients.kafka import Groups
from ...component import Progress
from ...context import Context
from ...delivery import Delivery, Position
from ...errors import PenstockError, TransientError
from .consumer import ConsumerThread
from .messages import MessageOrigin, payloads

if TYPE_CHECKING:
    from . import Kafka

REVOCATION_TIMEOUT = 10.0
"""Seconds during which what is in flight of a partition that is taken away may still be settled."""
CLOSE_TIMEOUT = 5.0
"""Seconds that leaving the group may take; a member that does not say so is missed by the servers."""
COMMIT_INTERVAL = 0.05
"""Seconds during which positions are gathered for one request."""


@dataclass(eq=False, slots=True)
class Partition:
    """A partition that this member owns."""

    topic: str
    number: int
    checkpoint: Checkpoint
    position: int | None
    """The offset behind what was delivered last."""
    is_owned: bool = True
    """Whether its messages may still be delivered."""
    is_lost: bool = False
    """Whether it is another member's already, so that nothing may be committed."""

    @property
    def name(self) -> str:
        """Its name in checkpoints."""
        return f"{self.topic}/{self.number}"


class KafkaReader:
    """Reads as a member of a group."""

    def __init__(self, config: Kafka, context: Context) -> None:
        self._config, self._context = config, context
        self._thread = ConsumerThread(config, self)
        self._stream = context.name.partition("/")[0]
        self._owned: dict[tuple[str, int], Partition] = {}
        self._waiting: deque[list[Message]] = deque()
        self._arrived = asyncio.Event()
        self._failure: PenstockError | None = None
        self._is_started = False
        own = re.compile(re.escape(context.kept_as) + r"/[^/]+/[0-9]+")
        self._left_over = {key for key in context.checkpoints if own.fullmatch(key)}
        """What a connection before followed, until it is known what this one does."""
        self._to_commit: dict[tuple[str, int], int] = {}
        self._committing: asyncio.Task[None] | None = None
        self._read = 0

    async def __aenter__(self) -> Self:
        """Look for the servers and the topics; raises ConnectionLost or ConfigError."""
        try:
            await self._thread.open()
        except BaseException:
            await self._close()
            raise
        Groups.of(self._context).join(self._stream, self._thread.group)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        Groups.of(self._context).leave(self._stream, self._thread.group)
        self._thread.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._thread.is_ended.wait()
        except TimeoutError:  # the thread ends by itself, or with the process
            self._context.log.warning("%s: the servers were not told that it leaves the group", self._context.name)

    async def read(self) -> Delivery:
        """Wait for the next messages, of partitions that are still ours."""
        if not self._is_started:
            self._is_started = True
            self._thread.subscribe()
        while True:
            if self._failure is not None:
                raise self._failure
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            for key in {(one.topic(), one.partition()) for one in self._waiting[0]}:
                if (partition := self._find(key)) is not None:
                    await partition.checkpoint.room()
            if self._failure is None and (delivery := self._next()) is not None:
                return delivery

    def _find(self, key: tuple[str | None, int | None]) -> Partition | None:
        partition = self._owned.get(key)  # type: ignore[arg-type]
        return partition if partition is not None and partition.is_owned else None

    def _next(self) -> Delivery | None:
        """Lend what waits first; None if nothing of it is ours any more."""
        messages = self._waiting.popleft()
        self._thread.make_room()
        keys = [(one.topic(), one.partition()) for one in messages]
        owned = {key: partition for key in set(keys) if (partition := self._find(key)) is not None}
        if len(owned) > 1 or any(key not in owned for key in set(keys)):
            messages = [one for one, key in zip(messages, keys, strict=True) if key in owned]
        if not messages:
            return None
        loans = []
        for partition, last, count in _ends(messages, owned):
            partition.position = last + 1
            loans.append(partition.checkpoint.lend(self._position(partition, last + 1), count))
        self._read += len(messages)
        return Delivery(payloads(messages), loans, MessageOrigin("kafka", messages=messages))

    def _position(self, partition: Partition, offset: int) -> Position:
        if not self._context.positions_with_rows:
            return offset
        place = {"topic": partition.topic, "partition": partition.number, "offset": offset}
        return {**place, "group": self._config.consumer_group}

    def progress(self) -> Progress:
        """Return how many messages were read and are left, as of the last answers of the servers."""
        lag = {one.name: self._left(one) for one in self._owned.values() if one.is_owned}
        return Progress(self._read, self._read + sum(lag.values()), "messages", lag, self._thread.watch.trouble)

    def _left(self, partition: Partition) -> int:
        key = (partition.topic, partition.number)
        end, reached = self._thread.watch.ends.get(key, 0), self._thread.watch.reached.get(key, 0)
        return max(0, end - max(partition.position or 0, reached))

    # What follows is called by the thread, on the event loop.

    def take(self, messages: list[Message]) -> None:
        """Take a batch to be read."""
        self._waiting.append(messages)
        self._arrived.set()

    def fail(self, error: PenstockError) -> None:
        """Note why nothing more comes."""
        self._failure = self._failure or error
        self._arrived.set()

    def report_gap(self, reason: str) -> None:
        """Note that messages are missing."""
        self._context.report_gap(reason)

    async def follow(self, partitions: Sequence[tuple[str, int]]) -> list[int | None]:
        """Begin to follow partitions; return where each goes on, None where the group knows."""
        found: list[int | None] = []
        for topic, number in partitions:
            commit = None if self._context.positions_with_rows else self._committing_to(topic, number)
            name = f"{topic}/{number}"
            checkpoint = await self._context.checkpoint(name, commit=commit)
            position = checkpoint.position
            offset = position["offset"] if isinstance(position, dict) else position
            self._owned[topic, number] = Partition(topic, number, checkpoint, offset)
            found.append(offset)
            self._left_over.discard(checkpoint.key)
        for key in list(self._left_over):  # they went to other members while it was not connected
            await self._context.release(key.removeprefix(self._context.kept_as).removeprefix("/"))
        self._left_over.clear()
        return found

    async def give_up(self, partitions: Sequence[tuple[str, int]], *, is_lost: bool) -> None:
        """Let what is in flight of partitions be settled, commit it, and follow them no more."""
        given_up = [one for key in partitions if (one := self._owned.get(key)) is not None]
        for one in given_up:
            one.is_owned, one.is_lost = False, is_lost
        if not is_lost:
            settling = [asyncio.ensure_future(one.checkpoint.settled()) for one in given_up]
            if settling:
                _, late = await asyncio.wait(settling, timeout=REVOCATION_TIMEOUT)
                for still in late:
                    still.cancel()
        in_flight = [one.name for one in given_up if not one.checkpoint.is_settled]
        if in_flight and self._context.positions_with_rows:
            self._thread.group.is_lost = True
            names = ", ".join(in_flight)
            self.fail(PenstockError(f"kafka: {names} went to another member while rows were in flight"))
            return
        for one in given_up:
            await self._context.release(one.name)
            del self._owned[one.topic, one.number]

    def _committing_to(self, topic: str, number: int) -> Callable[[Position], Awaitable[None]]:
        async def commit(position: Position) -> None:
            partition = self._owned.get((topic, number))
            if partition is None:
                raise TransientError(f"kafka: {topic}/{number} is not assigned at the moment")
            if partition.is_lost:
                return
            self._to_commit[topic, number] = position
            if self._committing is None or self._committing.done():
                self._committing = asyncio.ensure_future(self._commit())
            await asyncio.shield(self._committing)

        return commit

    async def _commit(self) -> None:
        """Commit the positions of all partitions that have moved, in as few requests as may be."""
        await self._context.clock.sleep(COMMIT_INTERVAL)
        while self._to_commit:
            moved, self._to_commit = self._to_commit, {}
            try:
                await self._thread.commit([TopicPartition(*key, offset) for key, offset in moved.items()])
            except PenstockError:
                self._to_commit.clear()  # those who wait come again, if the partition is still ours then
                raise


def _ends(
    messages: Sequence[Message], owned: dict[tuple[str | None, int | None], Partition]
) -> list[tuple[Partition, int, int]]:
    """Return each partition with the offset of its last message and how many there are."""
    if len(owned) == 1:
        (partition,) = owned.values()
        return [(partition, messages[-1].offset() or 0, len(messages))]
    last: dict[tuple[str | None, int | None], int] = {}
    counts: dict[tuple[str | None, int | None], int] = {}
    for one in messages:
        key = (one.topic(), one.partition())
        last[key] = one.offset() or 0
        counts[key] = counts.get(key, 0) + 1
    return [(owned[key], last[key], counts[key]) for key in last]
