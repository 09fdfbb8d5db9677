"""What happens to a delivery between input and output: decode, process, and let bad rows fail alone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..delivery import Batch, Decoder, Delivery
from ..errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from ..metadata import VALUE, attach, keep_metadata
from .deadletter import Refusal
from .threads import Threads


@dataclass(slots=True)
class Transformed:
    """What became of a delivery: batches to write, rows refused, or an error that is neither."""

    delivery: Delivery
    pieces: list[Piece] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    error: Exception | None = None
    read_at: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows are to be written."""
        return sum(piece.batch.num_rows for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch on its way, and which rows of the delivery it holds if that can still be told."""

    batch: Batch
    first: int | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: its name for dead letters, what to call, and whether a failing batch may be halved."""

    name: str
    call: Callable[[Batch], Any]
    row_wise: bool

    @property
    def on_loop(self) -> bool:
        """Whether it is a coroutine function."""
        return inspect.iscoroutinefunction(self.call) or inspect.iscoroutinefunction(
            getattr(self.call, "__call__", None)  # noqa: B004 - an object with an async __call__
        )


class Transformation:
    """Runs the stages of one stream: runs of plain functions in a thread, coroutine functions on the loop."""

    def __init__(self, stages: Sequence[Stage], threads: Threads, *, decoder: Decoder | None, metadata: bool) -> None:
        self._threads, self._decoder, self._metadata = threads, decoder, metadata
        self.adds_metadata = metadata
        self._runs: list[tuple[bool, list[Stage]]] = []
        for stage in stages:
            if self._runs and not stage.on_loop and not self._runs[-1][0]:
                self._runs[-1][1].append(stage)
            else:
                self._runs.append((stage.on_loop, [stage]))
        self.in_thread = not any(on_loop for on_loop, _ in self._runs)
        """Whether nothing of it is for the event loop, so that ``submit`` does all of it."""

    def is_empty(self, delivery: Delivery) -> bool:
        """Whether there is nothing to do for this delivery."""
        return not (self._runs or self._metadata or self._decodes(delivery) or delivery.error)

    def _decodes(self, delivery: Delivery) -> bool:
        return (delivery.decoder or self._decoder) is not None and VALUE in delivery.batch.schema.names

    async def __call__(self, delivery: Delivery, read_at: float = 0.0) -> Transformed:
        """Run all stages; never raises but for cancellation."""
        done = Transformed(delivery, read_at=read_at)
        if delivery.error is not None:
            done.refusals.append(Refusal(delivery.batch, "buffer", str(delivery.error), 0))
            return done
        if self.in_thread:
            return await self.submit(delivery, read_at)
        try:
            begins = True
            for on_loop, stages in self._runs:
                if not on_loop:
                    await self._threads.run(self._run_stages, done, stages, begins)
                else:
                    if begins:
                        await self._threads.run(self._begin, done)
                    for stage in stages:
                        done.pieces = [
                            result
                            for piece in done.pieces
                            for result in await _apply_on_loop(stage, piece, done.refusals)
                        ]
                begins = False
        except Exception as error:
            done.error = error
        return done

    def submit(self, delivery: Delivery, read_at: float = 0.0) -> asyncio.Future[Transformed]:
        """Have all stages run in a thread; the future never has an error. Only where ``in_thread``."""
        return self._threads.run(self._run_all, Transformed(delivery, read_at=read_at))

    def _run_all(self, done: Transformed) -> Transformed:
        try:
            self._run_stages(done, self._runs[0][1] if self._runs else (), begins=True)
        except Exception as error:
            done.error = error
        return done

    def _run_stages(self, done: Transformed, stages: Sequence[Stage], begins: bool) -> None:
        if begins:
            self._begin(done)
        for stage in stages:
            pieces: list[Piece] = []
            for piece in done.pieces:
                pieces += _apply(stage, piece, done.refusals)
            done.pieces = pieces

    def _begin(self, done: Transformed) -> None:
        """Decode the payloads and add the metadata, where either is wanted."""
        delivery = done.delivery
        batch = attach(delivery.batch, delivery.origin) if self._metadata else delivery.batch
        decoder = delivery.decoder or self._decoder
        if decoder is None or VALUE not in batch.schema.names:
            done.pieces = [Piece(batch, 0)]
            return
        stage = Stage("decode", lambda raw: [decode(raw, decoder)], row_wise=True)
        done.pieces = _apply(stage, Piece(batch, 0), done.refusals)


def decode(raw: Batch, decoder: Decoder) -> Batch:
    """Decode the payloads of ``raw``; what else it holds is kept beside the rows that came of each payload."""
    payloads = raw.column(VALUE)
    if raw.num_columns == 1:
        return decoder(payloads)
    decoded = decoder(payloads)
    if decoded.num_rows == raw.num_rows:
        return keep_metadata(raw, decoded)
    counts = [decoder(payloads.slice(index, 1)).num_rows for index in range(raw.num_rows)]
    owners = pa.array([index for index, count in enumerate(counts) for _ in range(count)], pa.int64())
    return keep_metadata(raw.take(owners), decoded)


def _apply(stage: Stage, piece: Piece, refusals: list[Refusal]) -> list[Piece]:
    """Call a stage; what it refuses is found by halving and appended to ``refusals``."""
    results: list[Piece] = []
    waiting = [piece]
    while waiting:
        now = waiting.pop()
        try:
            results += _pieces(stage, now, stage.call(now.batch))
        except BaseException as error:
            waiting += reversed(_after_failure(stage, now, _answerable(error), refusals))
    return results


async def _apply_on_loop(stage: Stage, piece: Piece, refusals: list[Refusal]) -> list[Piece]:
    results: list[Piece] = []
    waiting = [piece]
    while waiting:
        now = waiting.pop()
        try:
            results += _pieces(stage, now, await stage.call(now.batch))
        except BaseException as error:
            waiting += reversed(_after_failure(stage, now, _answerable(error), refusals))
    return results


def _answerable(error: BaseException) -> Exception:
    """An error that concerns the rows; raises what does not.

    A script may call ``sys.exit``, and compiled extensions panic with an error that is no Exception: neither may end
    the process.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit) or type(error).__name__ == "PanicException":
        return PermanentError(f"{type(error).__name__}: {error}")
    raise error


def _after_failure(stage: Stage, piece: Piece, error: Exception, refusals: list[Refusal]) -> list[Piece]:
    """What of a failed piece is to be tried again; the rest is refused. Raises what is nobody's fault."""
    if isinstance(error, TransientError | ConnectionLost):
        raise error
    if isinstance(error, RowsRejected):
        refusals += refuse_rows(stage.name, piece, error)
        return pieces_without(piece, error.reasons)
    if stage.row_wise and piece.batch.num_rows > 1:
        return halves(piece)
    refusals.append(Refusal(piece.batch, stage.name, describe(error), piece.first))
    return []


def _pieces(stage: Stage, source: Piece, batches: Sequence[Batch]) -> list[Piece]:
    if not isinstance(batches, list | tuple) or not all(isinstance(batch, pa.RecordBatch) for batch in batches):
        raise PermanentError(f"{stage.name} returned {_kind(batches)}; expected a list of RecordBatches")
    if len(batches) == 1 and stage.row_wise and batches[0].num_rows == source.batch.num_rows:
        return [Piece(batches[0], source.first)]
    return [Piece(batch, None) for batch in batches if batch.num_rows]


def _kind(found: object) -> str:
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {', '.join(sorted({type(item).__name__ for item in found}))}"
    return type(found).__name__


def halves(piece: Piece) -> list[Piece]:
    """The two halves of a piece, in order."""
    middle = piece.batch.num_rows // 2
    second = None if piece.first is None else piece.first + middle
    return [Piece(piece.batch.slice(0, middle), piece.first), Piece(piece.batch.slice(middle), second)]


def refuse_rows(stage: str, piece: Piece, rejected: RowsRejected) -> list[Refusal]:
    """One refusal for each rejected row of a piece."""
    return [
        Refusal(piece.batch.slice(row, 1), stage, reason, None if piece.first is None else piece.first + row)
        for row, reason in sorted(rejected.reasons.items())
    ]


def pieces_without(piece: Piece, rows: Sequence[int] | dict[int, str]) -> list[Piece]:
    """The runs of a piece between the given rows, in order."""
    runs: list[Piece] = []
    start = 0
    for row in [*sorted(rows), piece.batch.num_rows]:
        if row > start:
            first = None if piece.first is None else piece.first + start
            runs.append(Piece(piece.batch.slice(start, row - start), first))
        start = row + 1
    return runs


def describe(error: Exception) -> str:
    """What a person is told of an error: its message, with its type where that says more."""
    text = str(error)
    return text if type(error).__module__.startswith("penstock.") and text else f"{type(error).__name__}: {text}"
