"""Where messages of NATS came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...metadata import Origin

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_SHORT, _LONG = 9, 12
"""How many parts the reply subject of a message of JetStream has: without and with a domain."""


def origin(messages: Sequence[Msg], stream: str | None = None, **known: Any) -> Origin:
    """Return the origin of messages: their subjects and headers, and what else is ``known``."""
    more = {} if stream is None else {"stream": stream}
    by_subject: dict[str, dict[str, str]] = {}
    for subject in {message.subject for message in messages}:
        by_subject[subject] = {**more, "subject": subject}
    ext: Mapping[str, str] | list[Mapping[str, str]]
    if len(by_subject) == 1 and not any(message.headers for message in messages):
        (ext,) = by_subject.values()
    else:
        ext = [
            {**message.headers, **by_subject[message.subject]} if message.headers else by_subject[message.subject]
            for message in messages
        ]
    return Origin("nats", ext=ext, **known)


class Told:
    """What the reply subjects of messages tell: ``$JS.ACK.<stream>.<consumer>.<delivered>.<number>...``."""

    def __init__(self, replies: Sequence[str]) -> None:
        parts = pc.split_pattern(pa.array(replies, pa.string()), ".")
        lengths = set(pc.list_value_length(parts).to_pylist())
        if lengths not in ({_SHORT}, {_LONG}):
            raise ValueError(f"a reply subject that is not known: {replies[0]!r}")
        (length,) = lengths
        self._flat, self._length = parts.flatten(), length
        self._first = 4 if length == _SHORT else 6

    def _column(self, at: int, kind: pa.DataType) -> pa.Array:
        picked = np.arange(self._first + at, len(self._flat), self._length)
        return self._flat.take(pa.array(picked)).cast(kind)

    @property
    def delivered(self) -> pa.Array:
        """How often each was delivered."""
        return self._column(0, pa.int64())

    @property
    def numbers(self) -> pa.Array:
        """The number of each in its stream."""
        return self._column(1, pa.uint64())

    @property
    def times(self) -> pa.Array:
        """When each was stored."""
        return self._column(3, pa.int64()).cast(pa.timestamp("ns"))

    @property
    def pending(self) -> int:
        """How many messages were left after the last."""
        return int(self._column(4, pa.int64())[-1].as_py())
