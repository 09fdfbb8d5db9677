"""Merge batches into larger ones before they are processed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field, model_validator

from ..component import Processor
from ..delivery import Batch as Rows
from ..duration import Duration

_MAX_ROWS_BY_TIME = 1 << 16
"""How many batches are merged at most when only time limits them."""


class Batch(Processor, type="batch"):
    """Merge batches into larger ones before they are processed.

    A stream puts a ``memory`` buffer in the place of this processor, so that what is held is neither acked before
    it is written nor lost at the end; the processor itself passes batches on as they are. In a new configuration,
    write the ``buffer`` of the stream instead: it can count rows and bytes, too.

    Example::

        type: batch
        count: 10
        timeout: 500ms
    """

    count: int | None = Field(None, gt=0)
    """How many batches are merged."""
    timeout: Duration | None = Field(None, gt=0)
    """How long the first batch of a group waits for the others; by default one second."""
    timeout_ms: int | None = Field(None, gt=0)
    """The same in milliseconds."""

    @model_validator(mode="after")
    def _check(self) -> Batch:
        if self.timeout is not None and self.timeout_ms is not None:
            raise ValueError("expected either `timeout` or `timeout_ms`")
        if self.count is None and self.timeout is None and self.timeout_ms is None:
            raise ValueError("expected `count` (batches), `timeout` or both: what makes a group")
        return self

    def regroups(self) -> dict[str, Any]:
        """Return the buffer that does what this processor is for."""
        seconds = self.timeout if self.timeout_ms is None else self.timeout_ms / 1000
        waits = {} if seconds is None else {"timeout": timedelta(seconds=seconds)}
        return {"type": "memory", "batches": self.count or _MAX_ROWS_BY_TIME, **waits}

    def process(self, batch: Rows) -> Sequence[Rows]:
        """Pass the batch on."""
        return [batch]

    def row_wise(self) -> bool:
        """Tell that a batch may be halved: nothing is done to any row."""
        return True
