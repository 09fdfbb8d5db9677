"""A writer for an output that stands for several, for use outside of a stream: it writes to each in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pyarrow.compute as pc

from ..component import Branch, Output, Writer
from ..context import Context
from ..delivery import Batch
from ..errors import PermanentError
from ..selection import keep
from ..sql.choice import AllOf


@asynccontextmanager
async def open_all(branches: Sequence[Branch], context: Context) -> AsyncIterator[Writer]:
    """Open all outputs; what is yielded writes to each in turn, and again to all if it is called again."""
    async with AsyncExitStack() as stack:
        writers = []
        for at, branch in enumerate(branches):
            lent = replace(context, name=f"{context.name}.{at}")
            writers.append(None if branch.output is None else await stack.enter_async_context(branch.output.open(lent)))
        yield _InTurn(branches, writers)


def check_names(outputs: Sequence[Output]) -> None:
    """Raise ValueError if two outputs have the same name of their own."""
    counts = Counter(output.name for output in outputs if output.name is not None)
    twice = next((name for name, times in counts.items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"two outputs are called {twice!r}: give each a `name` of its own")


class _InTurn:
    def __init__(self, branches: Sequence[Branch], writers: Sequence[Writer | None]) -> None:
        self._branches, self._writers = branches, writers
        conditions = [branch.when or "true" for branch in branches]
        self._choose = AllOf(conditions) if any(branch.when for branch in branches) else None

    async def write(self, batches: Sequence[Batch]) -> None:
        batches = [batch for batch in batches if batch.num_rows]
        chosen = [None if self._choose is None else self._choose(batch) for batch in batches]
        for at, writer in enumerate(self._writers):
            parts = [
                batch if bits is None else keep(batch, pc.not_equal(pc.bit_wise_and(bits, 1 << at), 0))
                for batch, bits in zip(batches, chosen, strict=True)
            ]
            parts = [part for part in parts if part.num_rows]
            if writer is None and parts:
                raise PermanentError("no case of the output takes the row")
            if writer is not None and parts:
                await writer.write(parts)
