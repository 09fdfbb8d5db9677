"""The messages of pgoutput, protocol version 1, gathered into runs of changes of one table.

See https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. The server sends transactions
whole, in the order of their commits, and keeps large ones on its own disk until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

import msgspec

from .values import Column, Kind

HEADER_SIZE = 25
"""Bytes before a message: `w`, where it is in the WAL, where the WAL ends, the time."""
MAX_SIZE = 8 << 20
"""Bytes of changes that are taken at once, unless one change is larger."""
_BEGIN, _COMMIT, _ATTRIBUTE = Struct(">QqI"), Struct(">BQQq"), Struct(">Ii")
_ROWS = frozenset(b"IUD")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where reading goes on, as it is saved."""

    system: str
    """The server, by its system identifier."""
    slot: str
    """The slot that is read."""
    lsn: int = 0
    """Where in the WAL to begin: behind the last transaction that was read to its end."""
    commit: int = 0
    """Which transaction after that was read in part, by where its commit is; 0 for none."""
    rows: int = 0
    """How many rows of it were read."""
    snapshot: list[int] | None = None
    """The next table and batch of the snapshot; None once it is read."""


@dataclass(slots=True)
class Transaction:
    """A transaction that was committed."""

    commit: int
    committed_at: int
    """When, in microseconds since 2000."""
    id: int
    rows: int = 0
    """How many of its rows were read."""


class Relation(NamedTuple):
    """A table as it was when rows were changed."""

    schema: str
    table: str
    columns: Sequence[Column]


@dataclass(slots=True)
class Part:
    """Consecutive rows of one transaction."""

    transaction: Transaction
    first: int
    """The number of the first one in the transaction."""
    count: int = 0


@dataclass(slots=True)
class Run:
    """Changes of one table, one after the other."""

    relation: Relation
    is_truncation: bool = False
    messages: list[bytes] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


class Protocol:
    """Gathers messages into runs, and knows where each run ends."""

    def __init__(self, place: Place, rows: int, kind: Callable[[int, int], Kind]) -> None:
        """``rows`` is the most in one run; ``kind`` returns a type by its number and modifier."""
        self._place, self._rows, self._kind = place, rows, kind
        self._passed = (place.commit, place.rows)
        self._relations: dict[bytes, Relation] = {}
        self._transaction: Transaction | None = None
        self._run: Run | None = None
        self._key = b""
        self._gathered = self._size = 0
        self._done: list[tuple[Run, Place]] = []
        self.reached = place.lsn
        """Behind the last transaction that was read to its end."""

    @property
    def is_between(self) -> bool:
        """Whether no transaction is under way, and all that was read is taken."""
        return self._transaction is None and self._run is None and not self._done

    @property
    def is_full(self) -> bool:
        """Whether enough was gathered to be taken."""
        return self._gathered >= self._rows or self._size >= MAX_SIZE

    def take(self) -> list[tuple[Run, Place]]:
        """Return the runs that were gathered, each with the place behind it."""
        self._close()
        done, self._done = self._done, []
        self._gathered = self._size = 0
        return done

    def pass_over(self, lsn: int) -> None:
        """Note that nothing comes before ``lsn``."""
        if self.is_between:
            self.reached = max(self.reached, lsn)

    def feed(self, message: bytes) -> None:
        """Take a message with its header."""
        tag = message[HEADER_SIZE]
        if tag in _ROWS:
            self._feed_row(message)
        elif tag == ord("B"):
            commit, committed_at, number = _BEGIN.unpack_from(message, HEADER_SIZE + 1)
            self._transaction = Transaction(commit, committed_at, number)
        elif tag == ord("C"):
            self._transaction = None
            self.reached = _COMMIT.unpack_from(message, HEADER_SIZE + 1)[2]
        elif tag == ord("R"):
            self._close()
            self._relations[message[HEADER_SIZE + 1 : HEADER_SIZE + 5]] = self._relation(message)
        elif tag == ord("T"):
            self._truncate(message)

    def _feed_row(self, message: bytes) -> None:
        transaction = self._transaction
        assert transaction is not None
        number = transaction.rows
        if transaction.commit == self._passed[0] and number < self._passed[1]:
            transaction.rows = number + 1
            return
        key = message[HEADER_SIZE + 1 : HEADER_SIZE + 5]
        run = self._run
        if run is None or key != self._key:
            self._close()
            run, self._key = Run(self._relations[key]), key
            self._run = run
        transaction.rows = number + 1
        run.messages.append(message)
        self._gathered += 1
        self._size += len(message)
        parts = run.parts
        if not parts or parts[-1].transaction is not transaction:
            parts.append(Part(transaction, number))
        parts[-1].count += 1

    def _truncate(self, message: bytes) -> None:
        count = int.from_bytes(message[HEADER_SIZE + 1 : HEADER_SIZE + 5])
        for index in range(count):
            start = HEADER_SIZE + 6 + 4 * index
            transaction = self._transaction
            assert transaction is not None
            number = transaction.rows
            self._close()
            transaction.rows = number + 1
            if transaction.commit == self._passed[0] and number < self._passed[1]:
                continue
            relation = self._relations[message[start : start + 4]]
            self._gathered += 1
            self._run = Run(relation, True, [message], [Part(transaction, number, 1)])
            self._close()

    def _close(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        inside = self._transaction
        more = {"commit": inside.commit, "rows": inside.rows} if inside is not None else {"commit": 0, "rows": 0}
        place = msgspec.structs.replace(self._place, lsn=self.reached, **more)
        self._done.append((run, place))

    def _relation(self, message: bytes) -> Relation:
        start = HEADER_SIZE + 5
        schema, start = _text(message, start)
        table, start = _text(message, start)
        count = int.from_bytes(message[start + 1 : start + 3])
        start += 3
        columns = []
        for _ in range(count):
            is_key = bool(message[start] & 1)
            name, start = _text(message, start + 1)
            oid, modifier = _ATTRIBUTE.unpack_from(message, start)
            start += _ATTRIBUTE.size
            columns.append(Column(name, self._kind(oid, modifier), is_key))
        return Relation(schema or "pg_catalog", table, columns)


def _text(message: bytes, start: int) -> tuple[str, int]:
    end = message.index(0, start)
    return message[start:end].decode(), end + 1
