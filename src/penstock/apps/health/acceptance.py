"""An ingest from its acceptance to its outcome: what is promised, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa

from ...context import Context
from ...platform.archive import Receipt
from ...platform.outcomes import Outcomes

State = Literal["accepted", "processing", "processed", "failed"]
OTHERS = "(others)"
"""As what the points of further types are counted together, where a body has very many types."""


class Accepted(Receipt, frozen=True, kw_only=True, omit_defaults=True):
    """A body that is durable and will be processed."""

    user: int
    key: str | None = None
    received_at: datetime
    content_type: str = "application/json"
    content_encoding: str = ""
    form: str = "export"
    """How it is read: ``export`` (the app's JSON in all its forms, the internal form included), ``csv``,
    ``multipart``, or ``domain:<name>`` for the bodies of POST /api/v1/ingest/<name>."""
    headers: dict[str, str] = {}
    """What the app said of the run: automation-name, -id, -aggregation, -period, session-id, boundary ...; of CSV also
    ``timezone``, that of times without an offset, and ``timezone-from``: ``request`` or ``user``."""
    attempt: int = 1
    """Greater than 1 when it is processed again from its raw body."""


class Counts(msgspec.Struct):
    """What became of the points of a type, or of all. ``received`` is the sum of the four others."""

    received: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0

    def add(self, other: Counts) -> None:
        """Add ``other`` to this."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A point that could not be stored, and why."""

    id: int
    type: str
    index: int | None
    path: str
    reason: str


class Outcome(msgspec.Struct, kw_only=True):
    """How far an ingest is."""

    id: str
    state: State
    counts: Counts = msgspec.field(default_factory=Counts)
    types: dict[str, Counts] = {}
    quarantined: list[Quarantined] = []
    """The first hundred."""
    warnings: list[dict[str, Any]] = []
    """The first hundred: type, index, warning, message."""
    error: str | None = None
    """Why nothing of the body could be read."""
    duplicate: bool = False
    """Whether the same bytes had been received from this user before, and nothing changed."""
    received_at: datetime | None = None
    completed_at: datetime | None = None
    bytes: int = 0
    sha256: str = ""
    attempt: int = 1
    timezone: str | None = None
    """That of times without an offset, where it was said; without one they are taken as UTC, each with a warning."""


SCHEMA = pa.schema([pa.field("accepted", pa.binary(), nullable=False)])
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Accepted).decode


def batch(accepted: Accepted) -> pa.RecordBatch:
    """Return the row that goes into the stream."""
    return pa.RecordBatch.from_arrays([pa.array([_encode(accepted)], pa.binary())], schema=SCHEMA)


def unpack(batch: pa.RecordBatch) -> list[Accepted]:
    """Return the ingests of the rows of the stream; raises msgspec.DecodeError."""
    return [_decode(value) for value in batch.column("accepted").to_pylist()]


def outcomes_of(context: Context) -> Outcomes[Outcome]:
    """Return the ingests that are under way: the store and the API of an engine share them."""
    return Outcomes.of(context, "health")


def counted(types: Mapping[str, Counts]) -> Counts:
    """Return the sum over all types."""
    total = Counts()
    for counts in types.values():
        total.add(counts)
    return total
