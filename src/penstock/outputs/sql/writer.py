"""Write batches to tables: make the tables fit the batches, the batches fit the tables, and both move or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from ...checkpoint import FORMAT, FORMAT_KEY, check_format
from ...clients.database import TableChanged
from ...clients.deadline import Deadline
from ...delivery import Batch, Position
from ...errors import ConfigError, ConnectionLost, PenstockError, PermanentError, RowsRejected
from .fitting import Fitting, Rows
from .parts import Part, Target, route
from .session import NO_POSITION, POSITIONS, Session, Table
from .upserting import alike, last_of_each


class SqlWriter:
    """A database that is written; positions may be kept in it, in the transaction of the rows."""

    def __init__(self, session: Session, calls: Deadline, target: Target, seen: dict[str, str | None]) -> None:
        """``seen`` holds the positions as this run of the stream last saw them, over all of its connections."""
        self._session, self._calls, self._target, self._seen = session, calls, target, seen
        self._fitting = Fitting(session, target)
        self._unsure = True
        self._is_format_saved: bool | None = None
        self._all_named = False
        """Whether the last call was refused for rows that were all found, not for one that the database met first."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write the rows in one transaction; returns once the database has committed."""
        await self._calls.run(self._write, batches, [])

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Write the rows and save the positions in one transaction."""
        await self._calls.run(self._write, batches, _entries(positions))

    async def load(self, key: str) -> Position | None:
        """Return the position that was saved under ``key``."""
        text = await self._calls.run(self._load, key)
        return None if text is None else msgspec.json.decode(text)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Save positions alone."""
        await self._calls.run(self._write, [], _entries(positions))

    def _load(self, key: str) -> str | None:
        try:
            self._check_format()
            text = self._session.load(key)
        except Exception as error:
            raise self._undone(error) from error
        self._seen[key] = None if text == NO_POSITION else text
        return text

    def _check_format(self) -> None:
        """Raise ConfigError, once and before anything is written, if the positions are not kept as we keep them."""
        if self._is_format_saved is not None:
            return
        columns = self._session.describe(Table(POSITIONS))
        if columns is not None and set(columns) != {"key", "position"}:
            raise ConfigError(f"{POSITIONS} has the columns {', '.join(columns)}, expected key and position")
        found = self._session.load(FORMAT_KEY)
        check_format(found, f"the table {POSITIONS} of the database")
        self._is_format_saved = found is not None

    def _write(self, batches: Sequence[Batch], entries: Sequence[tuple[str, str]]) -> None:
        """Another process may have changed a table: if that makes an error, do it again with the tables as they are."""
        for known in (bool(self._fitting.tables), False):
            try:
                self._all_named = False
                self._transact(batches, entries)
            except BaseException as error:
                failure = self._undone(error)
                if known and isinstance(failure, PermanentError | TableChanged):
                    continue
                if isinstance(failure, PermanentError) and not self._all_named:
                    self._name_rows(batches)
                if isinstance(failure, RowsRejected):
                    raise RowsRejected(failure.reasons, across=len(batches) > 1) from error
                raise failure from error
            else:
                return

    def _name_rows(self, batches: Sequence[Batch]) -> None:
        """Raise RowsRejected if trying the rows of each table by themselves tells which of them fail.

        All of it is undone. Where that tells nothing, the error of the call stands.
        """
        refused: dict[int, str] = {}
        self._fitting.careful = True
        try:
            for parts in route(batches, self._target, self._session, refused).values():
                self._isolate(parts, refused)
        except Exception as error:  # After this one nothing more can be told, in this transaction.
            failure = self._undone(error)
            if not isinstance(failure, PermanentError):
                raise failure from error
            return
        finally:
            self._fitting.careful = False
        self._undone(PermanentError("only tried"))
        if refused:
            raise RowsRejected(refused, across=len(batches) > 1)

    def _isolate(self, parts: Sequence[Part], refused: dict[int, str]) -> None:
        """Write the rows of one table, or else parts of them, down to the row that fails."""
        waiting = [list(parts)]
        while waiting:
            some = [part for part in waiting.pop() if len(part.rows)]
            if not some:
                continue
            found: dict[int, str] = {}
            try:
                with self._session.nested():
                    ready = self._fitting.fit(some[0].table, some, found)
                    if not found:
                        for rows in ready:
                            self._insert(rows)
                        continue
                    raise RowsRejected(found)
            except Exception as error:
                self._fitting.forget()
                failure = self._classify(error)
                if isinstance(failure, RowsRejected):
                    refused |= failure.reasons
                    waiting += reversed(_around(some, failure.reasons))
                elif not isinstance(failure, PermanentError):
                    raise
                elif sum(len(part.rows) for part in some) == 1:
                    refused[int(some[0].rows[0])] = str(failure)
                else:
                    waiting += reversed(_halves(some))

    def _undone(self, error: BaseException) -> BaseException:
        self._fitting.forget()
        self._unsure = True
        try:
            self._session.rollback()
        except Exception as another:
            if isinstance(error, Exception) and not isinstance(error, PenstockError):
                return ConnectionLost(str(self._session.classify_error(error)))  # whose cause is the first error
            error = another
        return self._classify(error) if isinstance(error, Exception) else error

    def _classify(self, error: Exception) -> PenstockError:
        if isinstance(error, PenstockError):
            return error
        if isinstance(error, pa.ArrowException | TypeError | ValueError):
            return PermanentError(f"the rows cannot be written: {error}")
        return self._session.classify_error(error)

    def _transact(self, batches: Sequence[Batch], entries: Sequence[tuple[str, str]]) -> None:
        if entries:
            if self._is_saved(entries):
                self._session.rollback()
                self._seen.update(entries)
                return
            # Before the rows: whoever writes the same again, while this may still be committed, waits here.
            self._session.save(entries)
            if self._is_format_saved is False:
                self._session.save([(FORMAT_KEY, FORMAT)])
        self._put(batches)
        self._session.commit()
        self._seen.update(entries)
        self._is_format_saved = self._is_format_saved or bool(entries)
        self._unsure = False

    def _put(self, batches: Sequence[Batch]) -> None:
        """Write the rows, without ending the transaction."""
        refused: dict[int, str] = {}
        tables = route(batches, self._target, self._session, refused)
        ready = [rows for table, parts in tables.items() for rows in self._fitting.fit(table, parts, refused)]
        self._all_named = bool(refused)
        if refused:
            raise RowsRejected(refused, across=len(batches) > 1)
        for rows in ready:
            self._insert(rows)

    def _is_saved(self, entries: Sequence[tuple[str, str]]) -> bool:
        """Whether these positions were saved by a call whose answer was lost: then its rows are there too.

        Raises ConfigError if another process has moved one of them: it has written the rows that belong to it.
        """
        saved = self._session.claim([key for key, _ in entries])
        if self._unsure and all(saved.get(key) == position for key, position in entries):
            return True
        for key, _ in entries:
            found = saved.get(key)
            if key in self._seen and (None if found == NO_POSITION else found) != self._seen[key]:
                if found is None:
                    raise ConfigError(
                        f"the position {key!r} is gone from the database: the table or file was deleted, emptied or "
                        "replaced while it was in use"
                    )
                raise ConfigError(
                    f"another process has moved the position {key!r}: it runs the same stream, and this one stops, so "
                    "that no row is written twice"
                )
        return False

    def _insert(self, rows: Rows) -> None:
        """Insert the rows; raises RowsRejected counted through the call."""
        session, key = self._session, self._target.key
        folded = {session.folded(name) for name in key}
        if key:
            at = [index for index, column in enumerate(rows.columns) if session.folded(column.name) in folded]
            rows = last_of_each(rows, at)
        every = self._fitting.tables[rows.table].values()
        for columns, batch, indexes in alike(rows, lambda column: bool(key) or column.has_default):
            there = {column.name for column in columns}
            may_lack = bool(key) and any(column.is_required and column.name not in there for column in every)
            try:
                if columns:
                    session.insert(rows.table, columns, batch, key, update_first=may_lack)
                else:
                    session.insert_defaults(rows.table, batch.num_rows)
            except RowsRejected as rejected:
                reasons = {int(indexes[row]): reason for row, reason in rejected.reasons.items()}
                if not rows.merged.isdisjoint(reasons):
                    raise PermanentError(next(iter(reasons.values()))) from rejected
                raise RowsRejected(reasons) from rejected


def _around(parts: Sequence[Part], refused: Mapping[int, str]) -> list[list[Part]]:
    """Return the rows before, between and behind those that are refused, in order.

    Rows that are refused together for what they hold leave the others together.
    """
    if len(refused) > 1:
        return [[part.without(refused) for part in parts]]
    (bad,) = refused
    before, behind = [], []
    for part in parts:
        before.append(part.take(np.flatnonzero(part.rows < bad)))
        behind.append(part.take(np.flatnonzero(part.rows > bad)))
    return [before, behind]


def _halves(parts: Sequence[Part]) -> list[list[Part]]:
    if len(parts) > 1:
        return [list(parts[: len(parts) // 2]), list(parts[len(parts) // 2 :])]
    (part,) = parts
    middle, end = len(part.rows) // 2, len(part.rows)
    return [[part.take(np.arange(middle))], [part.take(np.arange(middle, end))]]


def _entries(positions: Mapping[str, Position]) -> list[tuple[str, str]]:
    return [(key, msgspec.json.encode(position).decode()) for key, position in positions.items()]
