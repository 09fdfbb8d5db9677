"""Go through a query's result: once from its beginning, or again and again from where its cursor is."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...delivery import Batch, Position
from ...errors import PenstockError, PermanentError
from .source import CURSOR, Fetched, Field, Source, quoted

_MAX_SEEN = 1000
"""How many rows that share the cursor's value are told apart by a hash of each; more are only counted."""


class Taken(msgspec.Struct, forbid_unknown_fields=True):
    """How many rows of a result were delivered."""

    rows: int


class Behind(msgspec.Struct, forbid_unknown_fields=True):
    """The value of the cursor up to which all was delivered, and which of the rows that share it."""

    value: str | None = None
    seen: list[str] | None = []
    count: int = 0


class Once:
    """The whole result, in the query's own order; ``rows`` of it were delivered already."""

    def __init__(self, source: Source, query: str, fields: Sequence[Field], position: Taken | None, rows: int) -> None:
        self._rows = position.rows if position is not None else 0
        self._source, self.query, self._fields, self._batch_rows = source, query, fields, rows
        self._batches = self._rest()

    def _rest(self) -> Generator[tuple[Batch, Position], None, None]:
        source, skip = self._source, self._rows
        statement = source.select(self.query, self._fields)
        with closing(_classify_errors(source, source.stream(statement, self._fields, self._batch_rows))) as batches:
            for fetched in batches:
                batch = fetched.batch
                rest = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - rest.num_rows
                if rest.num_rows:
                    self._rows += rest.num_rows
                    yield rest, {"rows": self._rows}

    def fetch(self) -> tuple[Batch, Position] | None:
        """Return the next rows and where reading resumes after them; None at the end."""
        try:
            return next(self._batches, None)
        except PenstockError:
            self._batches = self._rest()
            raise

    def stop(self) -> None:
        """Let go of a result that was not read to its end."""
        self._batches.close()


class Horizon:
    """How far rows may be read: up to the greatest value of the cursor that was there ``delay`` seconds ago.

    A row with a smaller value that is committed within that time is read before those with greater ones.
    """

    def __init__(self, delay: float, *, once: bool, now: Callable[[], float] = time.monotonic) -> None:
        self.delay, self._once, self._now = delay, once, now
        self._found: deque[tuple[float, str]] = deque()
        self._limit: str | None = None
        self._looked = False

    def is_watching(self) -> bool:
        """Return whether values that appear later are read as well."""
        return not (self._once and self._looked)

    def add(self, greatest: str | None) -> None:
        """Take in the greatest value that is there now."""
        self._looked = True
        if greatest is not None and greatest != (self._found[-1][1] if self._found else self._limit):
            self._found.append((self._now(), greatest))

    def limit(self) -> str | None:
        """Return the value up to which rows may be read; None while there is none."""
        while self._found and self._found[0][0] + self.delay <= self._now():
            self._limit = self._found.popleft()[1]
        return self._limit

    def wait(self) -> float | None:
        """Return the seconds until the limit moves; None if it does not."""
        return max(self._found[0][0] + self.delay - self._now(), 0) if self._found else None


class Incremental:
    """Rows whose cursor has grown, in its order; begins again behind the last of them each time it was through.

    Rows that have the cursor's last value may still be joined by others: each time they are read again, and those
    that were delivered are told apart by their hashes. If they are too many for that, they are all delivered again
    when their number has changed.
    """

    def __init__(
        self,
        source: Source,
        query: str,
        fields: Sequence[Field],
        position: Behind | None,
        rows: int,
        cursor: str,
        start: str | float | None,
        horizon: Horizon,
    ) -> None:
        self._source, self.query, self._fields, self._batch_rows = source, query, fields, rows
        found = next((field for field in fields if field.name == cursor), None)
        if found is None:
            names = ", ".join(field.name for field in fields)
            raise PermanentError(f"the query has no column {cursor!r} for its cursor; it has {names}")
        self._cursor, self._start, self._horizon = found, start, horizon
        position = position or Behind()
        self._last, self._seen, self._count = position.value, position.seen, position.count
        self._batches: Generator[tuple[Batch, Position], None, None] | None = None

    def doubts(self) -> str | None:
        """Return what about the values of the cursor may make rows be missed."""
        try:
            return self._source.doubts(self.query, self._cursor)
        except Exception as error:
            raise self._source.classify_error(error) from error

    def wait(self) -> float | None:
        """Return in how many seconds rows that are there already may be read; None if there are no such rows."""
        return self._horizon.wait()

    def nulls(self) -> int:
        """Return how many rows have no cursor and so are never read."""
        name = quoted(self._cursor.name)
        return self._counted(f"SELECT count(*) FROM ({self.query}\n) AS penstock WHERE penstock.{name} IS NULL")  # noqa: S608

    def _counted(self, statement: str) -> int:
        try:
            return self._source.count(statement)
        except Exception as error:
            raise self._source.classify_error(error) from error

    def fetch(self) -> tuple[Batch, Position] | None:
        """Return the next rows and where reading resumes after them; None when there are no more for now."""
        if self._batches is None:
            self._batches = self._new()
        found = None
        try:
            found = next(self._batches, None)
        finally:
            if found is None:
                self._batches = None
                self._source.rest()
        return found

    def stop(self) -> None:
        """Let go of a result that was not read to its end."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _new(self) -> Generator[tuple[Batch, Position], None, None]:
        source, last = self._source, self._last
        after = source.literal(self._cursor, last) if last is not None else None
        if last is None and self._start is not None:
            after = source.start(self._cursor, self._start)
        until = None
        if self._horizon.delay:
            if self._horizon.is_watching():
                self._horizon.add(self._greatest())
            limit = self._horizon.limit()
            if limit is None:
                return
            until = source.literal(self._cursor, limit)
        known, skip = Counter(self._seen or ()), self._to_skip(after)
        statement = source.select_after(self.query, self._fields, self._cursor, after, until)
        fields = [*self._fields, Field(CURSOR, pa.string(), "")]
        with closing(_classify_errors(source, source.stream(statement, fields, self._batch_rows))) as batches:
            for fetched in batches:
                full = fetched.batch
                cursors = full.column(full.num_columns - 1)
                batch = full.select(full.schema.names[:-1])
                drop: list[int] = []
                if last is not None and (known or skip):
                    ties = np.flatnonzero(pc.equal(cursors, last).to_numpy(zero_copy_only=False))
                    drop = self._delivered(fetched, ties, known, skip)
                    skip = max(skip - len(drop), 0)
                    if len(ties) < batch.num_rows:  # What has another value comes after all of them.
                        known, skip = Counter(), 0
                if len(drop) < batch.num_rows:
                    chosen = np.delete(np.arange(batch.num_rows), drop)
                    batch = batch.take(pa.array(chosen)) if drop else batch
                    yield batch, self._moved(fetched, cursors, chosen)

    def _greatest(self) -> str | None:
        source = self._source
        statement = source.greatest(self.query, self._cursor)
        with closing(_classify_errors(source, source.stream(statement, [Field(CURSOR, pa.string(), "")], 1))) as rows:
            found = next(rows, None)
        return found.batch.column(0)[0].as_py() if found is not None else None

    def _to_skip(self, after: str | None) -> int:
        """Return how many rows of the last value to pass over, where they were only counted."""
        if self._seen is not None or self._last is None:
            return 0
        name = f"penstock.{quoted(self._cursor.name)}"
        now = self._counted(f"SELECT count(*) FROM ({self.query}\n) AS penstock WHERE {name} = {after}")  # noqa: S608
        if now == self._count:
            return now
        self._count = 0
        return 0

    def _delivered(self, fetched: Fetched, ties: np.ndarray[Any, Any], known: Counter[str], skip: int) -> list[int]:
        """Return which rows of the last value were delivered before."""
        if skip:
            return [int(row) for row in ties[:skip]]
        found = []
        for row in ties:
            digest = _hash(fetched, int(row))
            if known[digest]:
                known[digest] -= 1
                found.append(int(row))
        return found

    def _moved(self, fetched: Fetched, cursors: pa.Array, chosen: np.ndarray[Any, Any]) -> Position:
        """Move behind the chosen rows, and return the position."""
        value = cursors[int(chosen[-1])].as_py()
        ties = chosen[pc.equal(cursors, value).to_numpy(zero_copy_only=False)[chosen]]
        if value != self._last:
            self._last, self._seen, self._count = value, [], 0
        self._count += len(ties)
        if self._seen is not None and self._count <= _MAX_SEEN:
            self._seen = [*self._seen, *(_hash(fetched, int(row)) for row in ties)]
        else:
            self._seen = None
        return {"value": value, "count": self._count, "seen": self._seen}


def _classify_errors(source: Source, batches: Iterator[Fetched]) -> Generator[Fetched, None, None]:
    try:
        yield from batches
    except (PenstockError, GeneratorExit):
        raise
    except Exception as error:
        raise source.classify_error(error) from error


def _hash(fetched: Fetched, row: int) -> str:
    """Return what tells a row from others, the same in each process."""
    return hashlib.blake2b(fetched.stored(row), digest_size=8).hexdigest()
