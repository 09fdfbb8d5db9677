"""Keep the rows for which a condition is true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pydantic import model_validator

from ..component import Processor
from ..delivery import Batch
from ..errors import ConfigError
from ..metadata import PREFIX
from ..sql.query import PreparedQuery
from ..sql.statement import check_expression


class Filter(Processor, type="filter"):
    """Keep the rows for which a condition is true; all columns stay, ``__meta_*`` columns too.

    The condition is a SQL expression over the columns of one row. Rows for which it is false or null are filtered
    on purpose: they count as done.

    Example::

        type: filter
        condition: temperature > 20 AND sensor <> 'test'
    """

    condition: str
    """The SQL expression, for example `level = 'error'`."""

    @model_validator(mode="after")
    def _check(self) -> Filter:
        check_expression(self.condition)
        try:
            _ = self._prepared
        except ConfigError as error:
            reason = error.message.partition(", in the query")[0]
            raise ValueError(f"not a condition: {reason}, in {self.condition!r}") from error
        return self

    @cached_property
    def _prepared(self) -> PreparedQuery:
        return PreparedQuery(f"SELECT * FROM flow WHERE (\n{self.condition}\n)")  # noqa: S608

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the rows that stay."""
        return self._prepared.run(batch) if batch.num_rows else []

    def row_wise(self) -> bool:
        """Tell whether each row is judged by itself: always, unless the condition has a subquery."""
        return self._prepared.row_wise()

    def reads_metadata(self) -> bool:
        """Tell whether the condition names a ``__meta_*`` column."""
        return PREFIX in self.condition.lower()
