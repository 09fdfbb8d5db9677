"""Write batches to tables without transactions: what is repeated carries the token that it had before."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...clients.deadline import Deadline
from ...delivery import Batch
from ...errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from ..sql.columns import Column
from ..sql.fitting import Fitting
from ..sql.parts import Indexes, Target, route
from ..sql.session import Table
from ..sql.upserting import alike, last_of_each
from .session import ClickhouseSession
from .types import misfits


@dataclass(frozen=True)
class _Group:
    """Rows of one table that have the same columns: one insert."""

    table: Table
    columns: Sequence[Column]
    batch: Batch
    rows: Indexes
    """The index of each row, counted through all batches of the call."""

    def part(self, start: int, stop: int) -> _Group:
        return _Group(self.table, self.columns, self.batch.slice(start, stop - start), self.rows[start:stop])

    def without(self, refused: Mapping[int, str]) -> _Group:
        at = np.flatnonzero(~np.isin(self.rows, np.fromiter(refused, np.int64)))
        return _Group(self.table, self.columns, self.batch.take(pa.array(at)), self.rows[at])

    def is_same(self, other: _Group) -> bool:
        names = [column.name for column in self.columns]
        same = self.table == other.table and names == [column.name for column in other.columns]
        return same and self.batch.equals(other.batch)


class ClickhouseWriter:
    """A server that is written."""

    def __init__(self, session: ClickhouseSession, calls: Deadline, target: Target) -> None:
        self._session, self._calls, self._target = session, calls, target
        self._fitting = Fitting(session, target)
        self._batches: Sequence[Batch] = ()
        self._token = ""
        self._done: set[str] = set()
        """The inserts of this write that were confirmed."""
        self._kept: list[_Group] = []
        """What was written of a write of which other rows were refused: the next is without those."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write all rows; returns once the server has confirmed each insert."""
        try:
            await self._calls.run(self._write, batches)
        except ConnectionLost as error:
            # It connects again by itself, and a new writer would not know the tokens.
            raise TransientError(str(error)) from error

    def _write(self, batches: Sequence[Batch]) -> None:
        is_repeated = len(batches) == len(self._batches) and all(map(_is_one, batches, self._batches))
        if not (is_repeated and self._token):
            self._batches, self._token, self._done = list(batches), secrets.token_hex(16), set()
        try:
            self._put(batches)
        except (TransientError, ConnectionLost):
            self._fitting.forget()
            raise
        except (pa.ArrowException, TypeError, ValueError) as error:
            self._token = ""
            raise PermanentError(f"the rows cannot be written: {error}") from error
        except BaseException:
            self._token = ""
            raise
        self._token = ""

    def _put(self, batches: Sequence[Batch]) -> None:
        refused: dict[int, str] = {}
        groups = list(self._groups(batches, refused))
        if refused:
            raise RowsRejected(refused, across=True)
        kept, self._kept = self._kept, []
        if kept and len(kept) == len(groups) and all(map(_Group.is_same, kept, groups)):
            return
        for number, group in enumerate(groups):
            self._insert(group, f"{self._token}-{number}", refused)
        if refused:
            left = (group.without(refused) for group in groups)
            self._kept = [group for group in left if group.batch.num_rows]
            raise RowsRejected(refused, across=True)

    def _groups(self, batches: Sequence[Batch], refused: dict[int, str]) -> Iterator[_Group]:
        session, key = self._session, self._target.key
        tables = route(batches, self._target, session, refused)
        for table, parts in tables.items():
            for rows in self._fitting.fit(table, parts, refused):
                if key:
                    at = [index for index, column in enumerate(rows.columns) if column.name in key]
                    rows = last_of_each(rows, at)
                for columns, batch, indexes in alike(rows, lambda column: column.has_default or column.refuses_null):
                    for row, reason in misfits(columns, batch).items():
                        refused.setdefault(int(indexes[row]), f"table {table}: {reason}")
                    yield _Group(table, columns, batch, indexes)

    def _insert(self, group: _Group, token: str, refused: dict[int, str]) -> None:
        """Insert the rows, and where the server refuses a value, parts of them, down to the row that it is in."""
        waiting = [(0, group.batch.num_rows)]
        while waiting:
            start, stop = waiting.pop()
            part, own = group.part(start, stop), f"{token}-{start}-{stop}"
            if own in self._done or start == stop:
                continue
            try:
                self._session.insert_once(part.table, part.columns, part.batch, own)
            except PermanentError as error:
                if stop - start == 1:
                    refused[int(part.rows[0])] = str(error)
                    continue
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
            else:
                self._done.add(own)


def _is_one(one: Batch, other: Batch) -> bool:
    return one is other
