"""Conditions of which each row meets some: which of them, for all rows of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from .query import PreparedQuery
from .statement import check_expression

MAX_CONDITIONS = 60
"""How many conditions there may be: each is a bit of a whole number."""


def check_condition(condition: str) -> None:
    """Raise ValueError unless the text is a condition that one row meets or does not."""
    check_expression(condition)
    try:
        query = PreparedQuery(f"SELECT * FROM flow WHERE (\n{condition}\n)")  # noqa: S608
    except ConfigError as error:
        reason = error.message.partition(", in the query")[0]
        raise ValueError(f"not a condition: {reason}, in {condition!r}") from error
    if not query.row_wise():
        raise ValueError(f"expected a condition on one row, without a query or a window in it: {condition!r}")


class FirstOf:
    """Which of several conditions each row meets first."""

    def __init__(self, conditions: Sequence[str]) -> None:
        cases = " ".join(f"WHEN (\n{condition}\n) THEN {at}" for at, condition in enumerate(conditions))
        self._query = PreparedQuery(f"SELECT CASE {cases} ELSE {len(conditions)} END AS chosen FROM flow")  # noqa: S608

    def __call__(self, batch: Batch) -> pa.Int64Array:
        """Return for each row the index of the condition, or their number if it meets none."""
        return _only_column(self._query, batch)


class AllOf:
    """Which of several conditions each row meets, as the bits of a number."""

    def __init__(self, conditions: Sequence[str]) -> None:
        bits = " | ".join(f"CASE WHEN (\n{sql}\n) THEN {1 << at} ELSE 0 END" for at, sql in enumerate(conditions))
        self._query = PreparedQuery(f"SELECT CAST({bits} AS BIGINT) AS chosen FROM flow")  # noqa: S608

    def __call__(self, batch: Batch) -> pa.Int64Array:
        """Return for each row a number whose bit ``n`` is set where it meets condition ``n``."""
        return _only_column(self._query, batch)


def _only_column(query: PreparedQuery, batch: Batch) -> pa.Int64Array:
    chunks = [part.column(0) for part in query.run(batch)]
    found = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.nulls(0, pa.int64())
    if len(found) != batch.num_rows:
        raise PermanentError(f"the conditions have {len(found)} results for {batch.num_rows} rows; expected one each")
    return found
