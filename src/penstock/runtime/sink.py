"""The end of a stream: write in read order, retry, refuse bad rows, settle."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

import pyarrow as pa

from ..backoff import Stopped
from ..component import TransactionalWriter, Writer
from ..delivery import Batch, Delivery, Position, merge
from ..errors import ConfigError, PenstockError, PermanentError, RowsRejected, TransientError
from ..observe import tracing
from ..observe.metrics import StreamMetrics
from ..statelog import StateLog, Unsaved
from .deadletter import Refusal, dead_letters
from .transform import Piece, Transformed, describe, halves, pieces_without, refuse_rows
from .writer import ReconnectingWriter


class Sink:
    """Writes what a stream's deliveries became, and settles them."""

    def __init__(
        self,
        name: str,
        output: ReconnectingWriter,
        errors: ReconnectingWriter | None,
        metrics: StreamMetrics,
        *,
        saves: bool,
        is_told: Callable[[Delivery], bool] = lambda delivery: False,
        states: StateLog | None = None,
    ) -> None:
        """``saves``: positions are kept with the rows. ``is_told``: a nack tells whoever sent the rows why.

        ``states`` has the keyed state of the stream, if it keeps any.
        """
        self._states = states
        self._unsaved: Unsaved | None = None
        """The changes of state that are to be durable before the positions that are written now."""
        self._name, self._output, self._errors, self._metrics = name, output, errors, metrics
        self._saves, self._is_told = saves, is_told
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Open both outputs, trying again until that succeeds."""
        for output in (self._output, self._errors):
            if output is not None:
                await output.ready()

    async def settle(self, group: Sequence[Transformed]) -> None:
        """Write a group of deliveries, in order, and ack them; nack what could be neither written nor refused.

        Raises why that was, unless it was a stop or a sender was told.
        """
        if len(group) > 1 and any(done.refusals or done.error for done in group):
            for done in group:
                await self.settle([done])
            return
        error = self._failure or group[0].error
        began = time.perf_counter()
        if error is None:
            try:
                await self._write(group)
            except ConfigError:
                raise
            except Exception as failure:
                if len(group) > 1 and isinstance(failure, PermanentError):
                    for done in group:
                        await self.settle([done])
                    return
                error = failure
        if tracing.active is not None:
            for done in group:
                tracing.active.span("write", self._name, began, done.delivery.trace, error, rows=done.rows)
        await self._release(group, error)

    async def _release(self, group: Sequence[Transformed], error: Exception | None) -> None:
        for done in group:
            if error is None:
                await done.delivery.ack()
                self._metrics.written(len(done.pieces), done.rows, done.read_at)
            else:
                self._metrics.nack()
                is_told = isinstance(error, PermanentError) and self._is_told(done.delivery)
                await done.delivery.nack(error)
                if is_told:
                    self._metrics.refuse("output", done.delivery.batch.num_rows, describe(error))
                else:
                    self._failure = error
        # What came later must not be written before what was refused.
        if self._failure is not None and not isinstance(self._failure, Stopped):
            raise self._failure

    async def _write(self, group: Sequence[Transformed]) -> None:
        pieces = [piece for done in group for piece in done.pieces]
        if len(group) == 1:
            await self._refuse(group[0], group[0].refusals)
        if not self._saves:
            if pieces:
                await self._write_pieces(group, pieces, {})
            return
        loans = merge(group[0].delivery.batch, [done.delivery for done in group])
        if self._states is None:
            await self._write_pieces(group, pieces, loans.positions())
            return
        self._unsaved = self._states.prepare(loans)
        await self._write_pieces(group, pieces, self._unsaved.positions)
        self._states.note_written(self._unsaved)

    async def _write_pieces(
        self, group: Sequence[Transformed], pieces: Sequence[Piece], positions: dict[str, Position]
    ) -> None:
        """Write the pieces as one unit; of a single delivery's, find and refuse the rows that cannot be written."""
        try:
            await self._call([piece.batch for piece in pieces], positions)
        except PermanentError as error:
            if len(group) > 1:
                raise
            if self._saves:
                await self._write_rest(group[0], pieces, positions, error)
            else:
                await self._narrow(group[0], pieces, error)

    async def _narrow(self, done: Transformed, pieces: Sequence[Piece], error: PermanentError) -> None:
        """Write the pieces without the rows that are rejected; where none are named, fewer and fewer rows at once."""
        waiting: list[tuple[list[Piece], PermanentError | None]] = [(list(pieces), error)]
        while waiting:
            some, failure = waiting.pop()
            named = len(some) == 1 or (isinstance(failure, RowsRejected) and failure.across)
            if failure is None:
                joined = _joined(some)
                named = joined is not None
                try:
                    await self._call([piece.batch for piece in some] if joined is None else [joined], {})
                    continue
                except PermanentError as again:
                    failure = again
            if isinstance(failure, RowsRejected) and (named or failure.across):
                refusals, rest = _parted(some, failure)
                await self._refuse(done, refusals)
                waiting += [(rest, None)] if rest else []
            elif len(some) > 1:
                middle = len(some) // 2
                waiting += [(some[middle:], None), (some[:middle], None)]
            elif some[0].batch.num_rows > 1:
                waiting += [([half], None) for half in reversed(halves(some[0]))]
            else:
                await self._refuse(done, [Refusal(some[0].batch, "output", describe(failure), some[0].first)])

    async def _write_rest(
        self,
        done: Transformed,
        pieces: Sequence[Piece],
        positions: dict[str, Position],
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
                    await self._call([piece.batch for piece in rest] if joined is None else [joined], positions)
                    return
                except PermanentError as again:
                    failure = error = again
            if not isinstance(failure, RowsRejected) or (joined is None and not failure.across):
                break
            refusals, rest = _parted(rest, failure)
            await self._refuse(done, refusals)
            failure = None
        await self._refuse(done, [Refusal(p.batch, "output", describe(error), p.first) for p in rest])
        await self._call([], positions)

    async def _call(self, batches: Sequence[Batch], positions: dict[str, Position]) -> None:
        async def action(writer: Writer) -> None:
            try:
                if self._saves:
                    if self._unsaved is not None:
                        await self._unsaved.keep()
                    assert isinstance(writer, TransactionalWriter)
                    await writer.write_and_save(batches, positions)
                else:
                    await writer.write(batches)
            except (PenstockError, ConnectionError, TimeoutError):
                raise
            except (OSError, MemoryError) as error:  # of the machine, not of the rows
                raise TransientError(describe(error)) from error
            except Exception as error:
                raise PermanentError(describe(error)) from error

        await self._output.call(action)

    async def _refuse(self, done: Transformed, refusals: Sequence[Refusal]) -> None:
        refusals = [refusal for refusal in refusals if refusal.rows.num_rows]
        if not refusals:
            return
        if self._errors is None:
            first = refusals[0]
            raise PermanentError(f"{first.stage}: {first.reason}")
        letters = dead_letters(self._name, done.delivery, refusals)
        await self._errors.call(lambda writer: writer.write([letters]))
        for refusal in refusals:
            self._metrics.refuse(refusal.stage, refusal.rows.num_rows, refusal.reason)


def _joined(pieces: Sequence[Piece]) -> Batch | None:
    """The pieces as one batch, of which an output can name rows; None if their columns differ."""
    batches = [piece.batch for piece in pieces]
    if any(batch.schema != batches[0].schema for batch in batches):
        return None
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches() if len(batches) > 1 else batches
    return whole[0] if len(whole) == 1 else None


def _parted(pieces: Sequence[Piece], rejected: RowsRejected) -> tuple[list[Refusal], list[Piece]]:
    """The refusals of the rows that were rejected of the joined pieces, and the pieces without them."""
    refusals: list[Refusal] = []
    kept: list[Piece] = []
    rows = sorted(rejected.reasons)
    start = at = 0
    for piece in pieces:
        end = start + piece.batch.num_rows
        first, at = at, bisect_left(rows, end, at)
        own = {row - start: rejected.reasons[row] for row in rows[first:at]}
        refusals += refuse_rows("output", piece, RowsRejected(own)) if own else []
        kept += pieces_without(piece, own)
        start = end
    return refusals, kept
