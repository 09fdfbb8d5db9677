"""Write batches to tables: make the tables fit the batches, the batches fit the tables, and both move or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.types as is_

from ...clients.database import TableChanged
from ...delivery import Batch, Position
from ...errors import ConfigError, ConnectionLost, PenstockError, PermanentError, RowsRejected
from ...metadata import VALUE, without_metadata
from ...runtime.threads import OwnThread
from ...sql.expression import Expr
from .columns import Column, convert, plain
from .session import NO_POSITION, Session, Table

_RESERVED = ("_penstock", "sqlite_", "pg_")
"""How no table begins whose name comes from the rows."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows for one table."""

    table: Table
    batch: Batch
    rows: np.ndarray[Any, Any]
    """The index of each row in the batch given."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Rows as their table takes them."""

    part: Part
    columns: list[Column]
    batch: Batch
    rows: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Which tables the rows go to, and how."""

    table_name: Expr
    key: tuple[str, ...]
    create: bool
    payloads: Callable[[Batch], pa.BinaryArray] | None
    """Set if the table keeps payloads instead of columns."""
    reserved: tuple[str, ...] = ()
    """Names that no table has, besides those of the database itself, whose name comes from the rows."""


class SqlWriter:
    """A database that is written; positions may be kept in it, in the transaction of the rows."""

    def __init__(self, session: Session, thread: OwnThread, target: Target, seen: dict[str, str | None]) -> None:
        """``seen`` holds the positions as this run of the stream last saw them, over all of its connections."""
        self._session, self._thread, self._target, self._seen = session, thread, target, seen
        self._tables: dict[Table, dict[str, Column]] = {}
        self._unique: set[Table] = set()
        self._unsure = True

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write the rows in one transaction; returns once the database has committed."""
        await self._thread.run(self._write, batches, [])

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Write the rows and save the positions in one transaction."""
        await self._thread.run(self._write, batches, _entries(positions))

    async def load(self, key: str) -> Position | None:
        """Return the position that was saved under ``key``."""
        text = await self._thread.run(self._load, key)
        return None if text is None else msgspec.json.decode(text)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Save positions alone."""
        await self._thread.run(self._write, [], _entries(positions))

    def _load(self, key: str) -> str | None:
        try:
            text = self._session.load(key)
        except Exception as error:
            raise self._undone(error) from error
        self._seen[key] = None if text == NO_POSITION else text
        return text

    def _write(self, batches: Sequence[Batch], entries: Sequence[tuple[str, str]]) -> None:
        """Another process may have changed a table: if that makes an error, do it again with the tables as they are."""
        for known in (bool(self._tables), False):
            try:
                self._transact(batches, entries)
            except BaseException as error:
                failure = self._undone(error)
                if known and isinstance(failure, PermanentError | TableChanged):
                    continue
                if len(batches) > 1 and isinstance(failure, PermanentError):
                    self._name_rows(batches)
                raise failure from error
            else:
                return

    def _name_rows(self, batches: Sequence[Batch]) -> None:
        """Raise RowsRejected, counted across the batches, if writing one after the other tells which rows fail.

        All of it is undone. Where that tells nothing, the error of the call stands.
        """
        reasons: dict[int, str] = {}
        start = 0
        try:
            for batch in batches:
                try:
                    self._put([batch])
                except RowsRejected as rejected:
                    reasons |= {start + row: reason for row, reason in rejected.reasons.items()}
                start += batch.num_rows
        except Exception as error:  # After this one nothing more can be told, in this transaction.
            self._undone(error)
            return
        self._undone(PermanentError("only tried"))
        if reasons:
            raise RowsRejected(reasons, across=True)

    def _undone(self, error: BaseException) -> BaseException:
        self._tables.clear()
        self._unique.clear()
        self._unsure = True
        try:
            self._session.rollback()
        except Exception as another:
            if isinstance(error, Exception) and not isinstance(error, PenstockError):
                return ConnectionLost(str(self._session.classify_error(error)))  # whose cause is the first error
            error = another
        if isinstance(error, PenstockError) or not isinstance(error, Exception):
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
        self._put(batches)
        self._session.commit()
        self._seen.update(entries)
        self._unsure = False

    def _put(self, batches: Sequence[Batch]) -> None:
        """Write the rows, without ending the transaction."""
        parts = _merged(self._parts(batches), keep=len(batches) == 1)
        bad: dict[int, str] = {}
        ready = [self._convert(part, bad) for part in parts]
        if bad:
            _reject(bad, len(batches))
        for rows in ready:
            self._insert(rows, len(batches))

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
                raise ConfigError(
                    f"another process has moved the position {key!r}: it runs the same stream, and this one stops, so "
                    "that no row is written twice"
                )
        return False

    def _insert(self, ready: Ready, batches: int) -> None:
        try:
            self._session.insert(ready.part.table, ready.columns, ready.batch, self._target.key)
        except RowsRejected as rejected:
            _reject({int(ready.rows[row]): reason for row, reason in rejected.reasons.items()}, batches)

    def _parts(self, batches: Sequence[Batch]) -> Iterator[Part]:
        target = self._target
        for batch in batches:
            if not batch.num_rows:
                continue
            if target.payloads is None:
                content = without_metadata(batch)
            else:
                content = pa.record_batch({VALUE: target.payloads(batch)})
            if target.table_name.constant is not None:
                yield Part(self._table(target.table_name.constant), content, np.arange(batch.num_rows))
            else:
                yield from self._split(content, target.table_name.evaluate(batch), len(batches))

    def _table(self, name: str) -> Table:
        schema, dot, bare = name.partition(".")
        table = Table(bare, schema) if dot else Table(name)
        for part in filter(None, (table.schema, table.name)) if dot and schema and bare else (name,):
            self._session.check_name(part, "the table")
        return table

    def _split(self, batch: Batch, names: pa.StringArray, batches: int) -> Iterator[Part]:
        """One part for each table; names that come from rows reach no other schema and no table of the system."""
        found = names.dictionary_encode()
        codes = found.indices.fill_null(len(found.dictionary)).to_numpy()
        refused: dict[int, str] = {int(row): "the table's name is null" for row in np.flatnonzero(names.is_null())}
        for code, name in enumerate(found.dictionary.to_pylist()):
            rows = np.flatnonzero(codes == code)
            reason = self._session.why_no_name(name)
            if reason is None and "." in name:
                reason = "has a dot"
            if reason is None and name.lower().startswith(_RESERVED):
                reason = "is a name for the database itself"
            if reason is None and any(fnmatchcase(name.casefold(), one) for one in self._target.reserved):
                reason = "belongs to Penstock or to an application: choose another name"
            if reason is not None:
                refused |= {int(row): f"the table {name[:80]!r} {reason}" for row in rows}
            elif not refused:
                yield Part(Table(name), batch.take(pa.array(rows)), rows)
        if refused:
            _reject(refused, batches)

    def _convert(self, part: Part, bad: dict[int, str]) -> Ready:
        known = self._known(part)
        session, key = self._session, self._target.key
        columns, arrays = [], []
        for name, values in zip(part.batch.schema.names, part.batch.columns, strict=True):
            column = known.get(session.folded(name))
            if column is None:
                continue  # It has no type yet: all of its values are null.
            values = plain(values)
            wider = session.widen(part.table, column, values, change=self._target.create)
            if wider is not column and wider.takes == column.takes == "":
                known[session.folded(name)] = wider
            array, reasons = convert(values, wider)
            if name in key:
                reasons |= {int(row): f"key column {name} is null" for row in np.flatnonzero(values.is_null())}
            bad |= {int(part.rows[row]): reason for row, reason in reasons.items() if int(part.rows[row]) not in bad}
            columns.append(wider)
            arrays.append(array)
        if not columns:
            raise PermanentError(f"table {part.table}: no column of the rows has a type yet, all values are null")
        batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{index}" for index in range(len(arrays))])
        rows = part.rows
        if key:
            kept = _last_of_each(batch, [index for index, column in enumerate(columns) if column.name in key])
            if kept is not None:
                batch, rows = batch.take(pa.array(kept)), rows[kept]
        return Ready(part, columns, batch, rows)

    def _known(self, part: Part) -> dict[str, Column]:
        """Return the table's columns, after making those that the batch brings."""
        session, names = self._session, part.batch.schema.names
        folded = [session.folded(name) for name in names]
        twice = next((name for name, one in zip(names, folded, strict=True) if folded.count(one) > 1), None)
        if twice is not None:
            raise PermanentError(f"table {part.table}: two columns are called {twice!r}")
        if missing := [name for name in self._target.key if name not in names]:
            raise PermanentError(f"table {part.table}: the rows have no key column {missing[0]!r}")
        known = self._tables.get(part.table)
        if known is None or self._new(part, known):
            session.begin()
            known = self._evolved(part)
            self._tables[part.table] = known
        return known

    def _new(self, part: Part, known: Mapping[str, Column]) -> list[tuple[str, pa.Array]]:
        fields = zip(part.batch.schema.names, part.batch.columns, strict=True)
        return [
            (name, plain(values))
            for name, values in fields
            if self._session.folded(name) not in known and not is_.is_null(plain(values).type)
        ]

    def _evolved(self, part: Part) -> dict[str, Column]:
        session, table, key = self._session, part.table, self._target.key
        found = session.describe(table)
        if found is None and not self._target.create:
            missing = PermanentError if self._target.table_name.constant is None else TableChanged
            raise missing(f"there is no table {table}: make it, or set `create: true`")
        known = {session.folded(name): column for name, column in (found or {}).items()}
        new = [session.new_column(name, values) for name, values in self._new(part, known)]
        for column in new:
            session.check_name(column.name, f"table {table}: the column")
        if new and not self._target.create:
            raise PermanentError(f"table {table} has no column {new[0].name!r}: add it, or set `create: true`")
        if found is None and new:
            session.create(table, new, [name for name in key if any(name == column.name for column in new)])
        for column in new if found is not None else ():
            session.add(table, column)
        if key and self._target.create and table not in self._unique and not session.is_unique(table, key):
            session.make_unique(table, key)
        self._unique.add(table)
        found = session.describe(table) if new else found
        return {session.folded(name): column for name, column in (found or {}).items()}


def _entries(positions: Mapping[str, Position]) -> list[tuple[str, str]]:
    return [(key, msgspec.json.encode(position).decode()) for key, position in positions.items()]


def _reject(reasons: Mapping[int, str], batches: int) -> None:
    rejected = RowsRejected(reasons)
    if batches > 1:
        raise PermanentError(f"in one of {batches} batches: {rejected}")
    raise rejected


def _merged(parts: Iterator[Part], *, keep: bool) -> list[Part]:
    """Bring the parts in the order of their tables, in which all writers take them, and join what is alike."""
    ordered = sorted(parts, key=lambda part: str(part.table))
    if keep:
        return ordered
    runs: list[list[Part]] = []
    for part in ordered:
        if runs and runs[-1][0].table == part.table and runs[-1][0].batch.schema.equals(part.batch.schema):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [run[0] if len(run) == 1 else _joined(run) for run in runs]


def _joined(run: Sequence[Part]) -> Part:
    batch = pa.concat_batches([part.batch for part in run])
    return Part(run[0].table, batch, np.arange(batch.num_rows))


def _last_of_each(batch: Batch, key: Sequence[int]) -> np.ndarray[Any, Any] | None:
    """Return the rows that are the last of their key; None if they all are."""
    names = [f"k{index}" for index in key]
    table = pa.table([*(batch.column(index) for index in key), pa.array(np.arange(batch.num_rows))], [*names, "row"])
    last = table.group_by(names).aggregate([("row", "max")]).column("row_max")
    if len(last) == batch.num_rows:
        return None
    return np.sort(last.to_numpy())
