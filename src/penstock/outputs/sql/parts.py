"""Which rows go to which table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ...absence import Mask, Shapes, shapes_of
from ...delivery import Batch
from ...metadata import ABSENT, VALUE, without_metadata
from ...sql.expression import Expr
from .columns import plain
from .session import Session, Table

_RESERVED = ("_penstock", "sqlite_", "pg_")
"""How no table begins whose name comes from the rows."""

Indexes = np.ndarray[Any, np.dtype[np.int64]]


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


@dataclass(frozen=True)
class Part:
    """Rows for one table."""

    table: Table
    batch: Batch
    """Their columns, with the one that tells what is absent."""
    rows: Indexes
    """The index of each row, counted through all batches of the call."""

    @cached_property
    def shapes(self) -> Shapes | None:
        """What the rows lack."""
        return shapes_of(self.batch)

    @cached_property
    def names(self) -> list[str]:
        """The columns that any of the rows has."""
        names = [name for name in self.batch.schema.names if name != ABSENT]
        if self.shapes is None:
            return names
        nowhere = frozenset.intersection(*map(frozenset, self.shapes.absent))
        return [name for name in names if name not in nowhere]

    def values(self, name: str) -> pa.Array:
        """Return the values of a column, null where it is absent."""
        return plain(self.batch.column(name))

    def there(self, name: str) -> Mask | None:
        """Return which rows have the column; None if all have."""
        lacking = None if self.shapes is None else self.shapes.lacking(name)
        return None if lacking is None else ~lacking

    def filled(self, name: str) -> Mask:
        """Return which rows have a value in the column that is not null."""
        valid: Mask = self.values(name).is_valid().to_numpy(zero_copy_only=False)
        return valid

    def take(self, at: Indexes) -> Part:
        """Return some of the rows, by where they are in this part."""
        return Part(self.table, self.batch.take(pa.array(at)), self.rows[at])

    def without(self, refused: Mapping[int, str]) -> Part:
        """Return the rows that are not refused."""
        if not refused:
            return self
        kept = np.flatnonzero(~np.isin(self.rows, np.fromiter(refused, np.int64)))
        return self if len(kept) == len(self.rows) else self.take(kept)


def route(
    batches: Sequence[Batch], target: Target, session: Session, refused: dict[int, str]
) -> Mapping[Table, list[Part]]:
    """Return the rows by table, in the order in which all writers take the tables; enters why others have none."""
    found: dict[Table, list[Part]] = {}
    start = 0
    for batch in batches:
        if batch.num_rows:
            for part in _parts(batch, target, session, refused, start):
                found.setdefault(part.table, []).append(part)
        start += batch.num_rows
    return {table: _joined(found[table]) for table in sorted(found, key=str)}


def _parts(batch: Batch, target: Target, session: Session, refused: dict[int, str], start: int) -> Iterator[Part]:
    content = _content(batch, target)
    rows = np.arange(start, start + batch.num_rows)
    if target.table_name.constant is not None:
        yield Part(_constant(target.table_name.constant, session), content, rows)
        return
    names = target.table_name.evaluate(batch)
    found = names.dictionary_encode()
    codes = found.indices.fill_null(len(found.dictionary)).to_numpy()
    refused |= {start + int(row): "the table's name is null" for row in np.flatnonzero(names.is_null())}
    shapes = shapes_of(content)
    for code, name in enumerate(found.dictionary.to_pylist()):
        at = np.flatnonzero(codes == code)
        if (reason := _why_no_table(name, target, session)) is not None:
            refused |= {start + int(row): f"the table {name[:80]!r} {reason}" for row in at}
        else:
            yield Part(Table(name), _narrow(content, shapes, at).take(pa.array(at)), rows[at])


def _content(batch: Batch, target: Target) -> Batch:
    if target.payloads is not None:
        return pa.record_batch({VALUE: target.payloads(batch)})
    content = without_metadata(batch)
    if ABSENT in batch.schema.names:
        content = content.append_column(batch.schema.field(ABSENT), batch.column(ABSENT))
    return content


def _narrow(content: Batch, shapes: Shapes | None, at: Indexes) -> Batch:
    """The columns that these rows have, so that many tables in one batch cost no more than their own columns."""
    if shapes is None:
        return content
    used = np.unique(shapes.codes[at])
    nowhere = frozenset.intersection(*(frozenset(shapes.absent[code]) for code in used))
    return content.select([name for name in content.schema.names if name not in nowhere]) if nowhere else content


def _constant(name: str, session: Session) -> Table:
    schema, dot, bare = name.partition(".")
    table = Table(bare, schema) if dot else Table(name)
    for part in filter(None, (table.schema, table.name)) if dot and schema and bare else (name,):
        session.check_name(part, "the table")
    return table


def _why_no_table(name: str, target: Target, session: Session) -> str | None:
    """Names that come from rows reach no other schema and no table of the system."""
    if reason := session.why_no_name(name):
        return reason
    if "." in name:
        return "has a dot"
    if name.lower().startswith(_RESERVED):
        return "is a name for the database itself"
    if any(fnmatchcase(name.casefold(), one) for one in target.reserved):
        return "belongs to Penstock or to an application: choose another name"
    return None


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Join neighbours that are alike."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and runs[-1][0].batch.schema.equals(part.batch.schema):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [
        run[0]
        if len(run) == 1
        else replace(
            run[0], batch=pa.concat_batches([one.batch for one in run]), rows=np.concatenate([one.rows for one in run])
        )
        for run in runs
    ]
