"""Compute, cast, rename and drop columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, model_validator

from ..absence import mark, shapes_of, without
from ..component import Processor
from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from ..metadata import PREFIX
from ..sql.query import PreparedQuery, shorten_error
from ..sql.statement import check_expression

_TYPE = re.compile(r"[A-Za-z_][\w ]*(?:\([\d, ]*\))?[\w ]*(?:\[\d*\])*")


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Expression = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int | float | bool)]


class Map(Processor, type="map"):
    """Compute, cast, rename and drop columns; the other columns stay as they are.

    Each expression is SQL over the columns of one row as they came in, whatever else is done to them here: the order
    of the options does not matter, and two columns can trade their values. A computed column takes the place of one
    of the same name, else it is added behind the others. Arithmetic and casts are exact, as in the `sql` processor: a
    value that does not fit refuses its row.

    A column that is read, cast or renamed must be there; one that is dropped may be missing. A column that a row
    lacks stays apart from null where it is only renamed. ``__meta_*`` columns stay; an expression may read them.

    Example::

        type: map
        columns:
          fahrenheit: temperature * 1.8 + 32
          sensor: upper(sensor)
        cast: {id: bigint}
        rename: {ts: time}
        drop: [debug]
    """

    columns: dict[str, _Expression] = {}
    """The columns to compute: the SQL expression of each, by its name."""
    cast: dict[str, str] = {}
    """The SQL type that each of these columns is cast to, such as `bigint`, `double` or `decimal(10,2)`."""
    rename: dict[str, str] = {}
    """The new name of each of these columns."""
    drop: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = []
    """The columns to leave out."""
    others: Literal["keep", "drop"] = "keep"
    """What becomes of the columns that are not named in the other options."""

    @model_validator(mode="after")
    def _check(self) -> Map:
        if not (self.columns or self.cast or self.rename or self.drop):
            raise ValueError("expected `columns`, `cast`, `rename` or `drop`")
        for name, sql in self.columns.items():
            check_expression(sql)
            if name in self.cast:
                raise ValueError(f"column {name!r} is both computed and cast: write the cast into its expression")
        for name, kind in self.cast.items():
            _check_type(name, kind)
        for name in self.drop:
            if name in self.columns or name in self.cast or name in self.rename:
                raise ValueError(f"column {name!r} is dropped, but named in another option too")
        for name in [*self.columns, *self.rename, *self.rename.values(), *self.drop]:
            if name.startswith(PREFIX):
                raise ValueError(f"column {name!r} is metadata, which stays as it is: compute a column from it")
        targets = [*self.rename.values(), *(name for name in self.columns if name not in self.rename)]
        twice = next((name for name in targets if targets.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two columns are to be called {twice!r}")
        clash = next((name for name in self.rename if name in self.columns), None)
        if clash is not None:
            raise ValueError(f"column {clash!r} is both computed and renamed: give the computed one its final name")
        try:
            _ = self._prepared
        except ConfigError:
            self._blame()
            raise
        return self

    def _blame(self) -> None:
        """Raise ValueError that names the column whose expression is wrong."""
        for name, sql in self._expressions.items():
            try:
                PreparedQuery(f"SELECT ({sql}\n) AS value FROM flow")  # noqa: S608
            except ConfigError as error:
                reason = error.message.partition(", in the query")[0]
                raise ValueError(f"column {name!r}: not an SQL expression: {reason}, in {sql!r}") from error

    @cached_property
    def _expressions(self) -> dict[str, str]:
        """What is computed, by the name that the column has before it is renamed."""
        return {**self.columns, **{name: f"CAST({_quoted(name)} AS {kind})" for name, kind in self.cast.items()}}

    @cached_property
    def _prepared(self) -> PreparedQuery | None:
        if not self._expressions:
            return None
        selected = ", ".join(f'({sql}\n) AS "c{at}"' for at, sql in enumerate(self._expressions.values()))
        return PreparedQuery(f"SELECT {selected} FROM flow")  # noqa: S608

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with its columns changed."""
        if not batch.num_rows:
            return []
        missing = [name for name in self.rename if name not in batch.schema.names]
        if missing:
            raise PermanentError(f"there is no column {missing[0]!r} to rename, among {', '.join(batch.schema.names)}")
        computed = dict(self._compute(batch))
        kept = [name for name in batch.schema.names if name in computed or self._is_kept(name)]
        names = [self.rename.get(name, name) for name in kept] + [name for name in computed if name not in kept]
        twice = next((name for name in names if names.count(name) > 1), None) if self.rename else None
        if twice is not None:
            raise PermanentError(f"a column cannot be renamed to {twice!r}, which there is already: drop that one")
        arrays = [computed[name] if name in computed else batch.column(name) for name in kept]
        fields = [batch.schema.field(name).with_name(new) for name, new in zip(kept, names, strict=False)]
        fields = [field.with_type(array.type) for field, array in zip(fields, arrays, strict=True)]
        arrays += [array for name, array in computed.items() if name not in kept]
        fields += [pa.field(name, array.type) for name, array in computed.items() if name not in kept]
        made = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        return [self._mark(batch, {name: self.rename.get(name, name) for name in kept if name not in computed}, made)]

    def _is_kept(self, name: str) -> bool:
        is_named = name.startswith(PREFIX) or name in self.rename
        return name not in self.drop and (is_named or self.others == "keep")

    def _compute(self, batch: Batch) -> Iterator[tuple[str, pa.Array]]:
        if self._prepared is None:
            return
        parts = self._prepared.run(batch)
        rows = sum(part.num_rows for part in parts)
        if rows != batch.num_rows:
            raise PermanentError(f"the expressions have {rows} results for {batch.num_rows} rows; expected one each")
        for at, name in enumerate(self._expressions):
            chunks = [part.column(at) for part in parts]
            yield name, chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)

    def _mark(self, batch: Batch, untouched: Mapping[str, str], made: Batch) -> Batch:
        """Note what rows lack by the names that the columns have now; a column that was computed is there."""
        shapes = shapes_of(batch)
        if shapes is None:
            return made
        lacking = ((untouched[name], shapes.lacking(name)) for name in sorted(shapes.names) if name in untouched)
        return mark(without(made), {name: mask for name, mask in lacking if mask is not None})

    def row_wise(self) -> bool:
        """Tell whether each row is computed by itself: always, unless an expression has a window or a subquery."""
        return self._prepared is None or self._prepared.row_wise()

    def columns_read(self) -> frozenset[str] | None:
        """Return the columns that are named, unless all others are kept."""
        if self.others == "keep":
            return None
        computed = frozenset[str]() if self._prepared is None else self._prepared.columns_read()
        return None if computed is None else computed | self.rename.keys() | self.cast.keys()

    def reads_metadata(self) -> bool:
        """Tell whether an expression names a ``__meta_*`` column."""
        return any(PREFIX in sql.lower() for sql in self._expressions.values())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@lru_cache(maxsize=256)
def _check_type(name: str, kind: str) -> None:
    from datafusion import SessionContext

    if not _TYPE.fullmatch(kind.strip()):
        raise ValueError(f"column {name!r}: expected an SQL type such as bigint or decimal(10,2), not {kind!r}")
    try:
        SessionContext().sql(f"SELECT CAST(NULL AS {kind})")
    except Exception as error:
        raise ValueError(f"column {name!r}: {kind!r} is not an SQL type: {shorten_error(error)}") from error
