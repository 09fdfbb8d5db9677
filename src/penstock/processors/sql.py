"""Run a SQL query over each batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pydantic import Field, model_validator

from ..component import Processor
from ..delivery import Batch
from ..errors import ConfigError
from ..metadata import ABSENT, PREFIX
from ..sql.query import PreparedQuery


class Sql(Processor, type="sql"):
    """Run a SQL query over each batch, which the query sees as the table ``flow``.

    The query is planned once for each schema that comes, by DataFusion, whose SQL it speaks. It sees one batch at a
    time: to aggregate over more rows, regroup them first with a buffer. A batch without rows is not queried, and
    a result without rows is filtered.

    ``__meta_*`` columns are columns like any other. A query that only projects and filters keeps them beside what it
    selects; one that makes rows out of several keeps what it selects. What a row lacks stays apart from null only in
    ``SELECT *``: a column that is named is null, and is written as such.

    Besides the functions of DataFusion there are ``json_get``, ``json_get_str``, ``json_get_int``,
    ``json_get_float``, ``json_get_bool``, ``json_get_json``, ``json_get_array``, ``json_as_text``, ``json_contains``,
    ``json_length`` and ``json_object_keys``, which take a JSON text and up to four keys or indexes; where there is
    nothing of that kind they return null. ``payload->'user'->>'name'`` is read as in PostgreSQL: ``->`` gives JSON,
    ``->>`` text, and a cast of either needs brackets, as in ``(payload->>'age')::int``.

    Unquoted names are taken in lower case: write ``"deviceId"`` in double quotes. Only queries are accepted;
    syntax, tables and functions are checked when the stream is built. A value that cannot be computed, or a column
    that a batch lacks, refuses the rows. If the query only projects and filters, each row is refused by itself.

    Arithmetic on integers, decimals, dates, times and durations is exact: a result that its type cannot hold is an
    error, never another number. This is so for ``+``, ``-``, ``*``, ``/``, ``%``, signs, shifts, ``abs``, casts and
    ``sum``, in aggregates and windows too, and for whole numbers of any length that the query names. What has a
    fraction (``double``, ``avg``, ``median``, ``power``) is computed in 64-bit floating point, as SQL does it.

    Example::

        type: sql
        query: SELECT sensor, avg(temperature) AS mean FROM flow GROUP BY sensor
    """

    query: str
    """The query, for example `SELECT * FROM flow WHERE level = 'error'`."""
    table_name: str = Field("flow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name by which the query calls the batch."""

    @model_validator(mode="after")
    def _check(self) -> Sql:
        try:
            _ = self._prepared
        except ConfigError as error:
            raise ValueError(error.message) from error
        return self

    @cached_property
    def _prepared(self) -> PreparedQuery:
        return PreparedQuery(self.query, self.table_name)

    @cached_property
    def _selecting(self) -> dict[tuple[str, ...], PreparedQuery]:
        return {}

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the rows of the result."""
        if not batch.num_rows:
            return []
        metadata = tuple(name for name in batch.schema.names if name.startswith(PREFIX) and name != ABSENT)
        if not metadata or not self.row_wise():
            return self._prepared.run(batch)
        if metadata not in self._selecting:
            self._selecting[metadata] = self._prepared.selecting(metadata)
        return self._selecting[metadata].run(batch)

    def row_wise(self) -> bool:
        """Tell whether the query only projects and filters."""
        return self._prepared.row_wise()

    def columns_read(self) -> frozenset[str] | None:
        """Return the names the query mentions, unless it selects all columns."""
        return self._prepared.columns_read()

    def reads_metadata(self) -> bool:
        """Tell whether the query names a ``__meta_*`` column."""
        return PREFIX in self.query.lower()
