"""Write nowhere: to try a pipeline out, to measure it, and to drain a source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch


class Drop(Output, type="drop"):
    """Drop every row and call it written.

    Example::

        type: drop
    """

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect to nothing."""
        yield _Nowhere()


class _Nowhere:
    async def write(self, batches: Sequence[Batch]) -> None:
        """Discard the batches."""
