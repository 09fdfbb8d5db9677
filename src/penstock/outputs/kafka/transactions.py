"""The live output in transactions, with the positions of the input where the stream wants that."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ...clients.kafka import Group, Groups, classify_error, describe_error
from ...clients.kafka.errors import FENCED
from ...delivery import Batch, Position
from ...errors import ConfigError, ConnectionLost, PenstockError, TransientError
from .producer import MessageProducer
from .rows import Messages
from .writer import KafkaWriter

MAX_TRIALS = 5
"""How often rows are sent on trial that are dropped because of the trial before."""
_UNDONE = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class Place(TypedDict):
    """A position of the `kafka` input."""

    group: str
    topic: str
    partition: int
    offset: int


class TransactionalKafkaWriter(KafkaWriter):
    """Sends the rows of each write, and the positions that go with them, in one transaction."""

    _is_ready = False

    def _make(self) -> MessageProducer:
        own = f"penstock-{self._context.name.partition('/')[0]}-{uuid.uuid4().hex}"
        try:
            return MessageProducer(self._config, self._config.settings(self._config.transactional_id or own))
        except KafkaException as error:
            raise classify_error(error, "settings") from error

    async def load(self, key: str) -> Position | None:
        """Return None, since the group of the input has the positions, once what a crash left open is settled."""
        await self._call_in_thread(self._prepare)
        return None

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Commit positions."""
        await self.write_and_save([], positions)

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Send all rows and commit the positions, or neither."""
        places = [_place(key, position) for key, position in positions.items()]
        await self._call_in_thread(lambda: self._write_and_save(batches, places))

    def _hanging(self, message: str) -> PenstockError:
        """The stream starts anew, from what is committed: sending positions may hang for ever after a lost answer."""
        return PenstockError(message)

    def _write(self, batches: Sequence[Batch]) -> None:
        self._write_and_save(batches, [])

    def _write_and_save(self, batches: Sequence[Batch], places: Sequence[Place]) -> None:
        self._prepare()
        messages = self._messages(batches)
        if not len(messages) and not places:
            return
        groups = {place["group"]: self._group(place["group"]) for place in places}
        self._call("beginning a transaction", self._producer.producer.begin_transaction)
        try:
            failed = self._producer.send(messages, range(len(messages)))
            if not failed:
                self._commit(groups, places)
                return
        except (TransientError, ConnectionLost):
            self._abort()
            raise
        self._abort()
        refused = self._refused(messages, failed)
        raise self._verdict(failed, refused) or TransientError("kafka: the transaction was undone")

    def _prepare(self) -> None:
        """Undo what an earlier producer of this name left open, and shut it out; raises ConnectionLost."""
        if not self._is_ready:
            timeout = self._config.request_timeout
            self._call("opening transactions", lambda: self._producer.producer.init_transactions(timeout))
            self._is_ready = True

    def _group(self, name: str) -> Group:
        stream = self._context.name.partition("/")[0]
        group = Groups.of(self._context).find(stream, name)
        if group.is_lost:
            raise PenstockError(f"kafka: partitions of group {name!r} went to another member")
        return group

    def _commit(self, groups: Mapping[str, Group], places: Sequence[Place]) -> None:
        timeout, producer = self._config.request_timeout, self._producer.producer
        for name, group in groups.items():
            own = [TopicPartition(one["topic"], one["partition"], one["offset"]) for one in places]
            own = [at for at, one in zip(own, places, strict=True) if one["group"] == name]
            if group.is_lost:
                raise PenstockError(f"kafka: partitions of group {name!r} went to another member")
            send = partial(producer.send_offsets_to_transaction, own, group.metadata, timeout)
            self._repeat("committing positions", send)
        self._repeat("committing a transaction", partial(producer.commit_transaction, timeout), is_final=True)

    def _sending(
        self, producer: Any, places: list[TopicPartition], metadata: Any, timeout: float
    ) -> Callable[[], None]:
        return lambda: producer.send_offsets_to_transaction(places, metadata, timeout)

    def _repeat(self, what: str, call: Callable[[], None], *, is_final: bool = False) -> None:
        """Call until it succeeds or cannot; raises PenstockError if nobody knows whether a final one did."""
        deadline = time.monotonic() + 2 * self._config.request_timeout
        while True:
            try:
                call()
                return
            except KafkaException as error:
                found: KafkaError = error.args[0]
                if not found.retriable() or found.txn_requires_abort() or found.fatal():
                    raise self._meaning(what, found) from error
                if time.monotonic() > deadline or self._producer.is_closing:
                    message = f"kafka: {what}: {describe_error(found)}"
                    if is_final:
                        raise PenstockError(f"{message}; whether it succeeded is unknown") from error
                    raise TransientError(message) from error

    def _call(self, what: str, call: Callable[..., None]) -> None:
        try:
            call()
        except KafkaException as error:
            raise self._meaning(what, error.args[0]) from error

    def _meaning(self, what: str, error: KafkaError) -> PenstockError:
        """Return what an error of a transaction means: after a fatal one there is only a new producer."""
        message = f"kafka: {what}: {describe_error(error)}"
        if error.code() in FENCED:
            name = self._config.transactional_id
            return ConfigError(f"{message}: another process has taken over as `transactional_id` {name!r}")
        if error.fatal():
            return PenstockError(message)
        return TransientError(message) if self._is_ready else ConnectionLost(message)

    def _abort(self) -> None:
        """Undo what was sent; what cannot be undone now is when the next producer of this name begins."""
        try:
            self._producer.producer.abort_transaction(self._config.request_timeout)
        except KafkaException as error:
            found: KafkaError = error.args[0]
            if found.code() in FENCED:
                raise self._meaning("undoing a transaction", found) from error
            self._is_ready = False
            raise PenstockError(f"kafka: undoing a transaction: {describe_error(found)}") from error

    def _try(self, messages: Messages, rows: Sequence[int]) -> dict[int, KafkaError]:
        """Send some rows on trial."""
        failed: dict[int, KafkaError] = {}
        for _ in range(MAX_TRIALS):
            self._call("beginning a transaction", self._producer.producer.begin_transaction)
            try:
                failed = self._producer.send(messages, rows)
            finally:
                self._abort()
            if all(error.code() not in _UNDONE for error in failed.values()):
                break
        return failed


def _place(key: str, position: Any) -> Place:
    try:
        return msgspec.convert(position["position"], Place)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise ConfigError(
            f"output 'kafka' cannot keep the position of {key!r}: `checkpoint: output` needs the input `kafka`, of "
            "the same servers, and no `durability`",
            path="checkpoint",
        ) from error
