"""A query over a batch and further tables, whose columns may be others each time."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..delivery import Batch
from ..errors import PermanentError
from .query import PreparedQuery

_CACHE_SIZE = 16
_MAX_MADE_UP = 64
_MISSING = re.compile(r"No field named (?:\"?(\w+)\"?\.)?\"?([^\s\".]+)\"?")


class JoinedQuery:
    """A query prepared anew for each set of columns that the further tables have.

    A table of which no row was ever found has no columns: those that the query names are null.
    """

    def __init__(self, sql: str, table: str, others: Sequence[str]) -> None:
        self._sql, self._table, self._others = sql, table, tuple(others)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[pa.Schema, ...], PreparedQuery] = OrderedDict()
        self.unjoined = PreparedQuery(sql, table, dict.fromkeys(others, pa.schema([])))

    def run(self, batch: Batch, others: Mapping[str, Batch]) -> list[Batch]:
        """Return the rows of the result; raises PermanentError."""
        tables = {name: others[name].replace_schema_metadata(None) for name in self._others}
        for _ in range(_MAX_MADE_UP):
            query = self._prepared(tables)
            try:
                return query.run(batch, tables)
            except PermanentError as error:
                added = self._with_missing(tables, error, batch.schema)
                if added is None:
                    raise
                tables = added
        raise PermanentError(f"the query reads more than {_MAX_MADE_UP} columns that no table has")

    def __deepcopy__(self, memo: object) -> JoinedQuery:
        return self

    def _prepared(self, tables: Mapping[str, Batch]) -> PreparedQuery:
        schemas = tuple(tables[name].schema for name in self._others)
        with self._lock:
            query = self._known.get(schemas)
            if query is None:
                query = PreparedQuery(self._sql, self._table, dict(zip(self._others, schemas, strict=True)))
                self._known[schemas] = query
                if len(self._known) > _CACHE_SIZE:
                    self._known.popitem(last=False)
            return query

    def _with_missing(
        self, tables: Mapping[str, Batch], error: PermanentError, schema: pa.Schema
    ) -> dict[str, Batch] | None:
        """Return the tables with the column that the query misses, null, in one that has no rows; None if it cannot."""
        found = _MISSING.search(str(error.__cause__ or ""))
        if found is None:
            return None
        qualifier, column = found[1], found[2]
        empty = [name for name in self._others if not tables[name].num_rows and column not in tables[name].schema.names]
        owner = qualifier if qualifier in empty else empty[0] if qualifier is None and len(empty) == 1 else None
        if owner is None or (column in schema.names and qualifier is None):
            return None
        return {**tables, owner: tables[owner].append_column(column, pa.nulls(0))}
