"""A table of DataFusion that is planned once, and holds another batch in each run of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from ..delivery import Batch


class Source(ds.Dataset):  # type: ignore[misc]
    """A table whose rows are those of whatever batch is current when the query runs."""

    current: Batch | None

    def __new__(cls, schema: pa.Schema) -> Source:
        source: Source = ds.Dataset.__new__(cls)
        return source

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = schema
        self._projected: dict[tuple[str, ...], pa.Schema] = {}
        self.current = None

    @property
    def schema(self) -> pa.Schema:
        return self._columns

    def projected(self, columns: Sequence[str] | None) -> pa.Schema:
        """Return the schema of these columns, the same object each time."""
        if columns is None:
            return self._columns
        names = tuple(columns)
        found = self._projected.get(names)
        if found is None:
            self._projected[names] = found = pa.schema([self._columns.field(name) for name in names])
        return found

    def get_fragments(self, filter: Any = None) -> Iterator[_Fragment]:
        return iter([_Fragment(self)])

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> _Scanner:
        return _Scanner(self, columns, filter)


class _Fragment:
    def __init__(self, source: Source) -> None:
        self._source = source

    def scanner(self, schema: Any = None, columns: Any = None, filter: Any = None, **_: Any) -> _Scanner:
        return _Scanner(self._source, columns, filter)


class _Scanner:
    def __init__(self, source: Source, columns: Sequence[str] | None, filter: Any) -> None:
        self._source, self._columns, self._filter = source, columns, filter
        self.projected_schema = source.projected(columns)

    def to_batches(self) -> Iterator[Batch]:
        batch = self._source.current
        if batch is None:
            return
        if self._filter is not None:
            batch = batch.filter(self._filter)
        yield batch if self._columns is None else batch.select(self._columns)
