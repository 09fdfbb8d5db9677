"""What happens to a delivery between input and output: decode, process, and let bad rows fail alone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import pyarrow as pa

from ..delivery import Batch, Decoder, Delivery
from ..errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from ..metadata import VALUE, attach
from ..statelog import ComponentState
from .deadletter import Refusal
from .decoding import decode
from .threads import Threads


@dataclass(slots=True)
class Transformed:
    """A delivery on its way through the stages: how far it is, the batches to write, and the rows refused.

    When a stage fails for a while, ``stage`` and ``waiting`` say where to go on: nothing that succeeded runs again.
    """

    delivery: Delivery
    pieces: list[Piece] = field(default_factory=list)
    """What the stage in progress has made so far; at the end, what is to be written."""
    refusals: list[Refusal] = field(default_factory=list)
    error: Exception | None = None
    read_at: float = 0.0
    stage: int = 0
    """The stage in progress; 0 decodes."""
    waiting: list[Piece] | None = None
    """What the stage in progress has still to process, the next piece last; None before it has begun."""
    written: int = 0
    """Which outputs have written it, a bit for each."""
    refused: int = 0
    """How many of the rows to be written the only output has refused; one of several may have written such a row."""

    @property
    def rows(self) -> int:
        """How many rows are to be written."""
        if len(self.pieces) == 1:
            rows: int = self.pieces[0].batch.num_rows
            return rows
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
    multiplies: bool = False
    """Whether a row may become several, so that as many rows as came in need not be the same ones."""

    @property
    def on_loop(self) -> bool:
        """Whether it is a coroutine function."""
        return inspect.iscoroutinefunction(self.call) or inspect.iscoroutinefunction(
            getattr(self.call, "__call__", None)  # noqa: B004 - an object with an async __call__
        )


class Transformation:
    """Runs the stages of one section: plain functions in a thread, coroutine functions on the event loop."""

    def __init__(self, stages: Sequence[Stage], threads: Threads, *, decoder: Decoder | None, metadata: bool) -> None:
        self._stages, self._threads, self._decoder = stages, threads, decoder
        self._on_loop = [False, *(stage.on_loop for stage in stages)]  # the first of all decodes
        self.adds_metadata = metadata
        self.in_thread = not any(self._on_loop)
        """Whether every stage runs in a thread, so that ``submit`` runs all of them."""

    def is_empty(self, delivery: Delivery) -> bool:
        """Tell whether there is nothing to do for this delivery."""
        return not (self._stages or self.adds_metadata or self._decodes(delivery) or delivery.error)

    @property
    def has_stages(self) -> bool:
        """Whether anything is done but decoding."""
        return bool(self._stages)

    def _decodes(self, delivery: Delivery) -> bool:
        return (delivery.decoder or self._decoder) is not None and VALUE in delivery.batch.schema.names

    async def __call__(self, done: Transformed) -> Transformed:
        """Run the stages that are left; an error is kept in the result, and a further call goes on where it arose."""
        done.error = None
        if done.delivery.error is not None:
            done.refusals.append(Refusal(done.delivery.batch, "buffer", str(done.delivery.error), 0))
            return done
        while done.stage < len(self._on_loop) and done.error is None:
            if not self._on_loop[done.stage]:
                await self.submit(done)
                continue
            try:
                await self._run_stage_on_loop(done)
            except Exception as error:
                done.error = error
        return done

    def submit(self, done: Transformed) -> asyncio.Future[Transformed]:
        """Run the stages up to the next one on the event loop in a thread; the future never has an error."""
        return self._threads.run(self._run_in_thread, done)

    def _run_in_thread(self, done: Transformed) -> Transformed:
        try:
            while done.stage < len(self._on_loop) and not self._on_loop[done.stage]:
                self._run_stage(done)
        except Exception as error:
            done.error = error
        return done

    def _run_stage(self, done: Transformed) -> None:
        stage = self._stages[done.stage - 1] if done.stage else self._decoding(done.delivery)
        waiting = self._take_up(done)
        while waiting:
            piece = waiting[-1]
            try:
                results = _pieces(stage, piece, stage.call(piece.batch))
            except BaseException as error:
                waiting[-1:] = reversed(_after_failure(stage, piece, _answerable(error), done.refusals))
            else:
                done.pieces += results
                waiting.pop()
        done.stage, done.waiting = done.stage + 1, None

    async def _run_stage_on_loop(self, done: Transformed) -> None:
        stage = self._stages[done.stage - 1]
        waiting = self._take_up(done)
        while waiting:
            piece = waiting[-1]
            try:
                results = _pieces(stage, piece, await stage.call(piece.batch))
            except BaseException as error:
                waiting[-1:] = reversed(_after_failure(stage, piece, _answerable(error), done.refusals))
            else:
                done.pieces += results
                waiting.pop()
        done.stage, done.waiting = done.stage + 1, None

    def _take_up(self, done: Transformed) -> list[Piece]:
        """Return what the stage in progress has still to process, the next piece last."""
        if done.waiting is None:
            delivery = done.delivery
            if done.stage == 0:
                done.pieces = [
                    Piece(attach(delivery.batch, delivery.origin) if self.adds_metadata else delivery.batch, 0)
                ]
            done.waiting, done.pieces = done.pieces[::-1], []
        return done.waiting

    def _decoding(self, delivery: Delivery) -> Stage:
        decoder = delivery.decoder or self._decoder
        if decoder is None or VALUE not in delivery.batch.schema.names:
            return _NO_DECODING
        return Stage("decode", lambda raw: decode(raw, decoder), row_wise=True)


def keep_state(stage: Stage, states: ComponentState) -> Stage:
    """Return a stage whose calls change the state of its component only if they succeed."""

    @contextmanager
    def kept_or_rolled_back() -> Iterator[None]:
        try:
            yield
        except BaseException:
            states.roll_back()
            raise
        states.keep()

    def call(batch: Batch) -> Any:
        with kept_or_rolled_back():
            return stage.call(batch)

    async def call_on_loop(batch: Batch) -> Any:
        with kept_or_rolled_back():
            return await stage.call(batch)

    return replace(stage, call=call_on_loop if stage.on_loop else call)


_NO_DECODING = Stage("decode", lambda batch: [batch], row_wise=True)


def _answerable(error: BaseException) -> Exception:
    """Return an error that concerns the rows; raise what does not.

    A script may call ``sys.exit``, and compiled extensions panic with an error that is not an Exception: neither may
    end the process.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit) or type(error).__name__ == "PanicException":
        return PermanentError(f"{type(error).__name__}: {error}")
    raise error


def _after_failure(stage: Stage, piece: Piece, error: Exception, refusals: list[Refusal]) -> list[Piece]:
    """Return what of a failed piece is to be processed again, and refuse the rest; raises what may pass by itself."""
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
    is_known = source.first is not None and stage.row_wise and not stage.multiplies
    if is_known and sum(batch.num_rows for batch in batches) == source.batch.num_rows:
        firsts = accumulate((batch.num_rows for batch in batches), initial=source.first or 0)
        return [Piece(batch, first) for batch, first in zip(batches, firsts, strict=False) if batch.num_rows]
    return [Piece(batch, None) for batch in batches if batch.num_rows]


def _kind(found: object) -> str:
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__} of {', '.join(sorted({type(item).__name__ for item in found}))}"
    return type(found).__name__


def halves(piece: Piece) -> list[Piece]:
    """Split a piece into two halves, in order."""
    middle = piece.batch.num_rows // 2
    second = None if piece.first is None else piece.first + middle
    return [Piece(piece.batch.slice(0, middle), piece.first), Piece(piece.batch.slice(middle), second)]


def refuse_rows(stage: str, piece: Piece, rejected: RowsRejected) -> list[Refusal]:
    """Return one refusal for each rejected row of a piece."""
    return [
        Refusal(piece.batch.slice(row, 1), stage, reason, None if piece.first is None else piece.first + row)
        for row, reason in sorted(rejected.reasons.items())
    ]


def pieces_without(piece: Piece, rows: Sequence[int] | dict[int, str]) -> list[Piece]:
    """Return the runs of a piece between the given rows, in order."""
    runs: list[Piece] = []
    start = 0
    for row in [*sorted(rows), piece.batch.num_rows]:
        if row > start:
            first = None if piece.first is None else piece.first + start
            runs.append(Piece(piece.batch.slice(start, row - start), first))
        start = row + 1
    return runs


def describe(error: Exception) -> str:
    """Describe an error for people: its message, with its type where that says more."""
    text = str(error)
    return text if type(error).__module__.startswith("penstock.") and text else f"{type(error).__name__}: {text}"
