"""Make a table fit its rows and the rows fit their table; a row that does not is refused, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...absence import Mask, told_apart
from ...clients.database import TableChanged
from ...errors import PermanentError
from .columns import Column
from .conversions import convert
from .parts import Indexes, Part, Target
from .session import Session, Table

Known = dict[str, Column]
"""The columns of a table by the name by which they are told apart."""


@dataclass(frozen=True)
class Rows:
    """Rows as their table takes them."""

    table: Table
    columns: list[Column]
    values: list[pa.Array]
    there: list[Mask | None]
    """Which rows have each column; None if all have."""
    rows: Indexes
    """The index of each row, counted through all batches of the call."""
    merged: frozenset[int] = frozenset()
    """Of these rows others of the same key are part, so that not they alone may be at fault."""


@dataclass
class Fitting:
    """The tables as they are known, and what they are made to be."""

    session: Session
    target: Target
    tables: dict[Table, Known] = field(default_factory=dict)
    unique: set[Table] = field(default_factory=set)
    careful: bool = False
    """Whether columns are made in savepoints, so that the database itself says which of them it refuses."""

    def forget(self) -> None:
        """Forget what is known, as it may have been undone."""
        self.tables.clear()
        self.unique.clear()

    def fit(self, table: Table, parts: Sequence[Part], refused: dict[int, str]) -> list[Rows]:
        """Return the rows as the table takes them; enters why others are refused."""
        for part in parts:
            self._refuse_ambiguous(part, refused)
            self._refuse_keyless(part, refused)
        parts = _left(parts, refused)
        if not parts:
            return []
        known = self.tables.get(table)
        if known is None or any(self._new(part, known) for part in parts):
            self.session.begin()
            known = self.tables[table] = self._evolved(table, parts, refused)
            parts = _left(parts, refused)
        pending: dict[str, list[pa.Array]] = {}
        columns = [self._widened(table, part, known, pending) for part in parts]
        return [self._converted(part, own, refused) for part, own in zip(parts, columns, strict=True)]

    def _refuse_ambiguous(self, part: Part, refused: dict[int, str]) -> None:
        """Names of one row that are one column to the database."""
        folded = [self.session.folded(name) for name in part.names]
        if len(set(folded)) == len(folded):
            return
        for one, times in Counter(folded).items():
            if times == 1:
                continue
            names = [name for name, each in zip(part.names, folded, strict=True) if each == one]
            seen = np.zeros(len(part.rows), int)
            for name in names:
                there = part.there(name)
                seen += 1 if there is None else there
            listed = " and ".join(repr(name[:80]) for name in names)
            reason = f"table {part.table}: two columns are called {listed}, which are one to the database"
            refused |= {int(row): reason for row in part.rows[seen > 1] if int(row) not in refused}

    def _refuse_keyless(self, part: Part, refused: dict[int, str]) -> None:
        folded = {self.session.folded(name): name for name in part.names}
        for key in self.target.key:
            name = folded.get(self.session.folded(key))
            if name is None:
                bad, reason = part.rows, f"table {part.table}: the rows have no key column {key!r}"
            elif part.values(name).null_count:
                bad, reason = part.rows[~part.filled(name)], f"key column {key} is null"
            else:
                continue
            refused |= {int(row): reason for row in bad if int(row) not in refused}

    def _new(self, part: Part, known: Mapping[str, Column]) -> list[str]:
        """The names of columns with a type that the table does not have."""
        return [
            name
            for name in part.names
            if self.session.folded(name) not in known and not is_.is_null(part.values(name).type)
        ]

    def _evolved(self, table: Table, parts: Sequence[Part], refused: dict[int, str]) -> Known:
        session, target = self.session, self.target
        found = session.describe(table)
        if found is None and not target.create:
            missing = PermanentError if target.table_name.constant is None else TableChanged
            raise missing(f"there is no table {table}: make it, or set `create: true`")
        known = {session.folded(name): column for name, column in (found or {}).items()}
        new = self._admitted(table, parts, known, refused)
        if new:
            known = self._made(table, parts, known if found is not None else None, new, refused)
        key = target.key
        if known and key and target.create and table not in self.unique and not session.is_unique(table, key):
            session.make_unique(table, key)
        self.unique.add(table)
        return known

    def _admitted(
        self, table: Table, parts: Sequence[Part], known: Mapping[str, Column], refused: dict[int, str]
    ) -> Known:
        """The columns to be made; rows with a value in a column that cannot be are refused."""
        session, new, reasons = self.session, Known(), dict[str, str]()
        for part in parts:
            for name in self._new(part, known):
                if (reason := session.why_no_column(name)) is not None:
                    reasons[name] = f"table {table}: the column {name[:80]!r} {reason}"
                elif not self.target.create:
                    reasons[name] = f"table {table} has no column {name!r}: add it, or set `create: true`"
                elif session.folded(name) not in new:
                    new[session.folded(name)] = session.new_column(name, part.values(name))
        self._refuse(parts, reasons, refused)
        if len(known) + len(new) > session.most_columns:
            return self._fewer(table, parts, len(known), new, refused)
        return new

    def _refuse(self, parts: Sequence[Part], reasons: Mapping[str, str], refused: dict[int, str]) -> None:
        for part in parts:
            for name in part.names if reasons else ():
                if name in reasons:
                    bad = part.rows[part.filled(name)]
                    refused |= {int(row): reasons[name] for row in bad if int(row) not in refused}

    def _fewer(self, table: Table, parts: Sequence[Part], known: int, new: Known, refused: dict[int, str]) -> Known:
        """More columns than a table can have: rows that bring too many are refused, the first ones last."""
        made: Known = {}
        for part in parts:
            names = [name for name in part.names if self.session.folded(name) in new]
            shapes = told_apart({name: part.filled(name) for name in names}, len(part.rows))
            if shapes is None:
                continue
            too_many = []
            for code in dict.fromkeys(shapes.codes.tolist()):
                wanted = {self.session.folded(name) for name in shapes.absent[code]} - made.keys()
                if known + len(made) + len(wanted) <= self.session.most_columns:
                    made |= {name: new[name] for name in wanted}
                elif wanted:
                    too_many.append(code)
            reason = f"table {table}: the row would make it wider than {self.session.most_columns} columns"
            bad = part.rows[np.isin(shapes.codes, too_many)]
            refused |= {int(row): reason for row in bad if int(row) not in refused}
        return {name: column for name, column in new.items() if name in made}

    def _made(
        self, table: Table, parts: Sequence[Part], known: Known | None, new: Known, refused: dict[int, str]
    ) -> Known:
        session = self.session
        keys = [new[one] for one in map(session.folded, self.target.key) if one in new]
        others = [column for column in new.values() if column not in keys]
        if not self.careful:
            if known is None:
                session.create(table, [*keys, *others], [column.name for column in keys])
            else:
                session.add(table, [*keys, *others])
        else:
            if known is None and keys:
                session.create(table, keys, [column.name for column in keys])
                known = {}
            reasons: dict[str, str] = {}
            self._tried(table, others, exists=known is not None, reasons=reasons)
            spelled = {session.folded(name): reason for name, reason in reasons.items()}
            names = {name for part in parts for name in part.names if session.folded(name) in spelled}
            self._refuse(parts, {name: spelled[session.folded(name)] for name in names}, refused)
        found = session.describe(table)
        return {session.folded(name): column for name, column in (found or {}).items()}

    def _tried(self, table: Table, columns: Sequence[Column], *, exists: bool, reasons: dict[str, str]) -> bool:
        """Make the columns, and where the database refuses that, fewer of them; returns whether there is a table."""
        if not columns:
            return exists
        session = self.session
        try:
            with session.nested():
                if exists:
                    session.add(table, columns)
                else:
                    session.create(table, columns, ())
        except Exception as error:
            failure = session.classify_error(error)
            if not isinstance(failure, PermanentError):
                raise failure from error
            if len(columns) == 1:
                reasons[columns[0].name] = f"table {table}: the column {columns[0].name!r} is refused: {failure}"
                return exists
            half = len(columns) // 2
            exists = self._tried(table, columns[:half], exists=exists, reasons=reasons)
            return self._tried(table, columns[half:], exists=exists, reasons=reasons)
        return True

    def _widened(self, table: Table, part: Part, known: Known, pending: dict[str, list[pa.Array]]) -> Known:
        """Return what each column of the part is converted to, after widening columns of the table for it."""
        session, own = self.session, Known()
        key = {session.folded(name) for name in self.target.key}
        for name in part.names:
            folded, values = session.folded(name), part.values(name)
            if folded not in known:
                continue  # It has no type yet: all of its values are null.
            change = self.target.create and folded not in key
            wider = session.widen(table, known[folded], values, change=change, pending=pending.get(folded, ()))
            if wider.takes == known[folded].takes == "":
                known[folded] = wider
            pending.setdefault(folded, []).append(values)
            own[name] = wider
        return own

    def _converted(self, part: Part, own: Known, refused: dict[int, str]) -> Rows:
        session = self.session
        columns: dict[str, Column] = {}
        arrays: dict[str, pa.Array] = {}
        there: dict[str, Mask | None] = {}
        for name, column in own.items():
            folded = session.folded(name)
            array, reasons = convert(part.values(name), column, session.years)
            refused |= {int(part.rows[at]): why for at, why in reasons.items() if int(part.rows[at]) not in refused}
            mine = part.there(name)
            if folded in columns and mine is not None:  # Another spelling: no row has both.
                array, other = pc.if_else(pa.array(mine), array, arrays[folded]), there[folded]
                mine = None if other is None else mine | other
            columns[folded], arrays[folded], there[folded] = column, array, mine
        if not columns and not self.tables[part.table]:
            reason = f"table {part.table}: no column of the row has a type yet, all values are null"
            refused |= {int(row): reason for row in part.rows if int(row) not in refused}
        return Rows(part.table, list(columns.values()), list(arrays.values()), list(there.values()), part.rows)


def _left(parts: Sequence[Part], refused: Mapping[int, str]) -> list[Part]:
    return [left for part in parts if len((left := part.without(refused)).rows)]
