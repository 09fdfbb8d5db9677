"""An ingest from its acceptance to its outcome: what is promised, and what became of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

import msgspec
import pyarrow as pa

from ...identifiers import new_id
from ...platform.archive import Receipt

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


class Outcomes:
    """Knows which ingests of this process are under way, and tells those who wait for one what became of it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._loop = asyncio.get_running_loop()
        self._underway: dict[str, int] = {}
        self._noting = threading.Lock()

    def begin(self, user: int, ingest: str | None = None) -> str:
        """Note that an ingest of ``user`` is under way, a new one if none is named, and return its id.

        Whoever gets a greater id, gets it after this one is noted. From any thread.
        """
        with self._noting:
            begun = ingest or new_id()
            self._underway[begun] = user
            return begun

    def end(self, ingest: str) -> None:
        """Note that an ingest is stored, or never will be. From any thread."""
        with self._noting:
            self._underway.pop(ingest, None)

    def before(self, user: int, ingest: str) -> str | None:
        """Return the greatest id of an earlier ingest of ``user`` that is under way. From any thread."""
        with self._noting:
            return max((one for one, whose in self._underway.items() if whose == user and one < ingest), default=None)

    def expect(self, ingest: str) -> asyncio.Future[Outcome]:
        """Return the outcome to come of ``ingest``; cancel it when it is not awaited any more."""
        future = self._waiting[ingest] = self._loop.create_future()
        future.add_done_callback(lambda _: self._waiting.pop(ingest, None))
        return future

    def settle(self, outcome: Outcome) -> None:
        """Tell who waits, from any thread; the ingest is under way no more."""
        self.end(outcome.id)
        self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Outcome) -> None:
        future = self._waiting.get(outcome.id)
        if future is not None and not future.done():
            future.set_result(outcome)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Outcomes] = WeakKeyDictionary()


def outcomes() -> Outcomes:
    """Return the one of the running loop: the store and the API of a process share it."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Outcomes()
    return _of_loop[loop]


def counted(types: Mapping[str, Counts]) -> Counts:
    """Return the sum over all types."""
    total = Counts()
    for counts in types.values():
        total.add(counts)
    return total
