"""One output of a stream: writes what goes there, finds the rows that it refuses, and never writes twice in a run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from ..component import TransactionalWriter, Writer
from ..delivery import Batch, Position
from ..errors import PenstockError, PermanentError, RowsRejected, TransientError
from .branches import select_rows
from .deadletter import Refusal
from .transform import Piece, Transformed, describe, halves, pieces_without, refuse_rows
from .writer import ReconnectingWriter


class Saving:
    """The positions that an output saves with the rows, and what is to be durable before."""

    def __init__(self, positions: Mapping[str, Position], prepare: Callable[[], Awaitable[None]] | None) -> None:
        self.positions, self.prepare = positions, prepare


class Outlet:
    """An output of a stream, among the others that it may have."""

    def __init__(
        self,
        writer: ReconnectingWriter,
        refuse: Callable[[Transformed, Sequence[Refusal]], Awaitable[None]],
        *,
        stage: str = "output",
        leaf: int | None = None,
    ) -> None:
        """``leaf`` is its place among several outputs; None if it is the only one."""
        self.writer, self._refuse, self._stage, self._leaf = writer, refuse, stage, leaf

    async def write(self, group: Sequence[Transformed], saving: Saving | None) -> None:
        """Write what a group of deliveries became, as one unit; of a single one, find and refuse the bad rows.

        What it has written before of any of them it leaves out. Raises PermanentError if a row is refused that cannot
        go to the error output, or if any is refused of several deliveries, of which nothing is written then.
        """
        bit = 1 << (self._leaf or 0)
        group = [done for done in group if not done.written & bit]
        if not group:
            return
        pieces, origins = self._select(group)
        if pieces or saving is not None:
            await self._write_pieces(group, pieces, origins, saving)
        for done in group:
            done.written |= bit

    def _select(self, group: Sequence[Transformed]) -> tuple[list[Piece], list[int | None] | None]:
        """Return the pieces that go here; where rows were left out, also which row each of them is of the delivery.

        The pieces then count their rows by the place in that list.
        """
        pieces = [piece for done in group for piece in done.pieces]
        if self._leaf is None:
            return pieces, None
        selected: list[Piece] = []
        origins: list[int | None] = []
        for piece in pieces:
            batch, rows = select_rows(piece.batch, self._leaf)
            if not batch.num_rows:
                continue
            selected.append(Piece(batch, len(origins)))
            kept = range(batch.num_rows) if rows is None else rows.to_pylist()
            origins += [None if piece.first is None else piece.first + row for row in kept]
        return selected, origins

    async def _write_pieces(
        self,
        group: Sequence[Transformed],
        pieces: Sequence[Piece],
        origins: list[int | None] | None,
        saving: Saving | None,
    ) -> None:
        try:
            await self._call([piece.batch for piece in pieces], saving)
        except PermanentError as error:
            if len(group) > 1:
                raise

            async def refuse(refusals: Sequence[Refusal]) -> None:
                await self._refuse(group[0], list(_as_read(refusals, origins)))
                if self._leaf is None:
                    group[0].refused += sum(refusal.rows.num_rows for refusal in refusals)

            if saving is not None:
                await self._write_rest(refuse, pieces, saving, error)
            else:
                await self._narrow(refuse, pieces, error)

    async def _narrow(
        self, refuse: Callable[[Sequence[Refusal]], Awaitable[None]], pieces: Sequence[Piece], error: PermanentError
    ) -> None:
        """Write the pieces without the rows that are rejected; where none are named, fewer and fewer rows at once."""
        waiting: list[tuple[list[Piece], PermanentError | None]] = [(list(pieces), error)]
        while waiting:
            some, failure = waiting.pop()
            named = len(some) == 1 or (isinstance(failure, RowsRejected) and failure.across)
            if failure is None:
                joined = _joined(some)
                named = joined is not None
                try:
                    await self._call([piece.batch for piece in some] if joined is None else [joined], None)
                    continue
                except PermanentError as again:
                    failure = again
            if isinstance(failure, RowsRejected) and (named or failure.across):
                refusals, rest = self._parted(some, failure)
                await refuse(refusals)
                waiting += [(rest, None)] if rest else []
            elif len(some) > 1:
                middle = len(some) // 2
                waiting += [(some[middle:], None), (some[:middle], None)]
            elif some[0].batch.num_rows > 1:
                waiting += [([half], None) for half in reversed(halves(some[0]))]
            else:
                await refuse([Refusal(some[0].batch, self._stage, describe(failure), some[0].first)])

    async def _write_rest(
        self,
        refuse: Callable[[Sequence[Refusal]], Awaitable[None]],
        pieces: Sequence[Piece],
        saving: Saving,
        error: PermanentError,
    ) -> None:
        """Write rows and positions together, without the rows that are rejected.

        Nothing may be written on trial here, since it would be written again after a crash: where the output
        cannot name the rows, all of the delivery is refused.
        """
        across = isinstance(error, RowsRejected) and error.across
        rest, failure = list(pieces), error if len(pieces) == 1 or across else None
        while rest:
            joined = _joined(rest)
            if failure is None:
                try:
                    await self._call([piece.batch for piece in rest] if joined is None else [joined], saving)
                    return
                except PermanentError as again:
                    failure = error = again
            if not isinstance(failure, RowsRejected) or (joined is None and not failure.across):
                break
            refusals, rest = self._parted(rest, failure)
            await refuse(refusals)
            failure = None
        await refuse([Refusal(p.batch, self._stage, describe(error), p.first) for p in rest])
        await self._call([], saving)

    async def _call(self, batches: Sequence[Batch], saving: Saving | None) -> None:
        async def action(writer: Writer) -> None:
            try:
                if saving is not None:
                    if saving.prepare is not None:
                        await saving.prepare()
                    assert isinstance(writer, TransactionalWriter)
                    await writer.write_and_save(batches, saving.positions)
                else:
                    await writer.write(batches)
            except (PenstockError, ConnectionError, TimeoutError):
                raise
            except (OSError, MemoryError) as error:  # of the machine, not of the rows
                raise TransientError(describe(error)) from error
            except Exception as error:
                raise PermanentError(describe(error)) from error

        await self.writer.call(action)

    def _parted(self, pieces: Sequence[Piece], rejected: RowsRejected) -> tuple[list[Refusal], list[Piece]]:
        """The refusals of the rows that were rejected of the joined pieces, and the pieces without them."""
        refusals: list[Refusal] = []
        kept: list[Piece] = []
        rows = sorted(rejected.reasons)
        start = at = 0
        for piece in pieces:
            end = start + piece.batch.num_rows
            first, at = at, bisect_left(rows, end, at)
            own = {row - start: rejected.reasons[row] for row in rows[first:at]}
            refusals += refuse_rows(self._stage, piece, RowsRejected(own)) if own else []
            kept += pieces_without(piece, own)
            start = end
        return refusals, kept


def _as_read(refusals: Sequence[Refusal], origins: list[int | None] | None) -> Iterator[Refusal]:
    """Yield refusals that count their rows as the delivery has them, where rows were left out of it."""
    for refusal in refusals:
        if origins is None or refusal.first is None:
            yield refusal
            continue
        for row in range(refusal.rows.num_rows):
            yield replace(refusal, rows=refusal.rows.slice(row, 1), first=origins[refusal.first + row])


def _joined(pieces: Sequence[Piece]) -> Batch | None:
    """The pieces as one batch, of which an output can name rows; None if their columns differ."""
    batches = [piece.batch for piece in pieces]
    if any(batch.schema != batches[0].schema for batch in batches):
        return None
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches() if len(batches) > 1 else batches
    return whole[0] if len(whole) == 1 else None
