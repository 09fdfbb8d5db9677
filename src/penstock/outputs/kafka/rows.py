"""The messages that batches become, by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ...delivery import Batch
from ...errors import PermanentError, RowsRejected
from .._payloads import bodies

if TYPE_CHECKING:
    from . import Kafka

Row = tuple[str, bytes | None, str | None, int | None, tuple[tuple[str, str], ...]]
"""Topic, payload, key, partition and headers."""
MAX_PARTITION = (1 << 31) - 1


class Messages:
    """Topics, payloads, keys, partitions and headers of all rows of a write."""

    def __init__(self, config: Kafka, batches: Sequence[Batch]) -> None:
        """Evaluate the expressions; raises RowsRejected for rows without a topic, or with a wrong partition."""
        batches = [batch for batch in batches if batch.num_rows]
        self.payloads: list[bytes | None] = []
        self.topic = config.topic.constant
        """The topic, where it is the same for all rows."""
        self.topics: list[str | None] = []
        self.keys: list[str | None] | None = None if config.key is None else []
        self.partitions: list[int | None] | None = None if config.partition is None else []
        self.headers: list[list[tuple[str, str]]] | None = [] if config.headers else None
        refused: dict[int, str] = {}
        for batch in batches:
            start = len(self.payloads)
            self.payloads += bodies(config, batch, config.value_field).to_pylist()
            if len(self.payloads) - start != batch.num_rows:
                raise PermanentError("the codec does not make one payload of each row, as a message needs")
            if self.topic is None:
                self.topics += config.topic.evaluate(batch).to_pylist()
            if config.key is not None and self.keys is not None:
                self.keys += config.key.evaluate(batch).to_pylist()
            if config.partition is not None and self.partitions is not None:
                texts = config.partition.evaluate(batch)
                self.partitions += _numbers(texts, start, refused)
            if self.headers is not None:
                self.headers += _headers(config, batch)
        refused |= {row: "topic: it is null" for row, topic in enumerate(self.topics) if topic is None}
        refused |= self._too_large(config.max_message_bytes)
        if refused:
            raise RowsRejected(refused, across=True)

    def _too_large(self, limit: int) -> dict[int, str]:
        """Return the rows that the producer would not take, so that they are known before any is sent."""
        sizes = [len(payload) if payload is not None else 0 for payload in self.payloads]
        if self.keys is not None:
            sizes = [size + len((key or "").encode()) for size, key in zip(sizes, self.keys, strict=True)]
        if max(sizes, default=0) <= limit:
            return {}
        reason = f"is larger than `max_message_bytes` ({limit})"
        return {row: f"a message of {size} bytes {reason}" for row, size in enumerate(sizes) if size > limit}

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def is_plain(self) -> bool:
        """Whether the messages are payloads for one topic, and nothing else."""
        return self.topic is not None and self.keys is None and self.partitions is None and self.headers is None

    def topic_of(self, row: int) -> str:
        """Return the topic of a row."""
        return self.topic or self.topics[row] or ""

    def options(self, row: int) -> dict[str, Any]:
        """Return key, partition and headers of a row, as the producer takes them."""
        found: dict[str, Any] = {}
        if self.keys is not None:
            found["key"] = self.keys[row]
        if self.partitions is not None and (partition := self.partitions[row]) is not None:
            found["partition"] = partition
        if self.headers is not None:
            found["headers"] = self.headers[row]
        return found

    def row(self, row: int) -> Row:
        """Return all of a row, to be compared with others."""
        key = self.keys[row] if self.keys is not None else None
        partition = self.partitions[row] if self.partitions is not None else None
        headers = tuple(self.headers[row]) if self.headers is not None else ()
        return (self.topic_of(row), self.payloads[row], key, partition, headers)


def _numbers(texts: pa.StringArray, start: int, refused: dict[int, str]) -> list[int | None]:
    """Return the partitions, and note the rows whose partition is not a number."""
    is_number = pc.match_substring_regex(texts, r"^[0-9]{1,10}$").fill_null(True)
    for row in pc.indices_nonzero(pc.invert(is_number)).to_pylist():
        refused[start + row] = f"partition: expected a whole number from 0, not {texts[row].as_py()!r}"
    found = pc.if_else(is_number, texts, None).cast(pa.int64()).to_pylist()
    for row, partition in enumerate(found):
        if partition is not None and partition > MAX_PARTITION:
            refused[start + row] = f"partition: {partition} is beyond any"
    return found  # type: ignore[no-any-return]


def _headers(config: Kafka, batch: Batch) -> list[list[tuple[str, str]]]:
    names = list(config.headers)
    columns = [config.headers[name].evaluate(batch).to_pylist() for name in names]
    return [
        [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
        for values in zip(*columns, strict=True)
    ]
