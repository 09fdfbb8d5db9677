"""The beginning of a stream: read each input for as long as it lasts, opening it again whenever it is lost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from ..backoff import Stopped, unless_stopped
from ..branch import Branch
from ..component import MeasuredReader, Progress, Reader
from ..context import Context
from ..delivery import Delivery, Loan, Settle
from ..errors import ConnectionLost, EndOfInput, PenstockError, TransientError
from ..observe import tracing
from ..observe.metrics import StreamMetrics
from ..stream import Stream

COMMIT_TIMEOUT = 10.0
"""Seconds that a broker has for the last commit."""


async def _do_nothing() -> None: ...


def _ignore() -> None: ...


class Intake:
    """Hands every delivery of an input to ``accept``, and knows which are not settled."""

    def __init__(
        self,
        stream: Stream,
        branch: Branch,
        stop: asyncio.Event,
        metrics: StreamMetrics,
        accept: Callable[[Delivery], Awaitable[None]],
        *,
        waits: bool,
        when_open: Callable[[], None] = lambda: None,
        when_ended: Callable[[], Awaitable[None]] = _do_nothing,
        when_measured: Callable[[], None] = lambda: None,
    ) -> None:
        """``when_ended`` is awaited once nothing more is read, so that what was read runs out.

        ``when_measured`` is called when ``progress`` is new.
        """
        self.branch, self._when_ended = branch, when_ended
        self._when_measured = when_measured
        self._reader: MeasuredReader | None = None
        self._is_ended = False
        self._failure: Exception | None = None
        self._interrupt: Callable[[], None] = _ignore
        self._stream, self._stop, self._metrics, self._accept = stream, stop, metrics, accept
        self._waits, self._when_open = waits, when_open
        self.unsettled: set[Loan] = set()
        self._losses = 0  # in a row
        self._settled = asyncio.Event()
        self.progress: Progress | None = None
        """How far the input says it is."""

    async def run(self, context: Context) -> None:
        """Read until the input ends or the stream stops; raises why a delivery was refused that must not be skipped.

        An input that commits positions to its source stays open until all that it delivered is settled and committed.
        """
        condition = self._metrics.condition
        while not self._stop.is_set():
            try:
                async with AsyncExitStack() as stack:
                    condition.begin(self.branch.part)
                    try:
                        async with unless_stopped(self._stop, context.clock):
                            reader = await stack.enter_async_context(self.branch.input.open(context))
                    finally:
                        condition.end(self.branch.part)
                    self._when_open()
                    await self._read_and_commit(reader, context)
                break
            except Stopped:
                break
            except (ConnectionLost, TransientError) as error:
                if self._stream.retry.exhausted(self._losses):
                    raise
                delay = self._stream.retry.delay(self._losses)
                self._losses += 1
                self._metrics.reconnecting(self.branch.part, str(error))
                context.log.warning(
                    "%s: %s lost, opening it again in %.2f s: %s", self._stream.id, self.branch.part, delay, error
                )
                await self._settle_first()
                await context.clock.wait(self._stop, delay)
        await self._end()

    async def give_up(self, error: PenstockError) -> None:
        """Tell the input that what is not settled never will be."""
        for loan in list(self.unsettled):
            await loan.settle(error)

    async def _end(self) -> None:
        """Let what was read run out, once."""
        if not self._is_ended:
            self._is_ended = True
            await self._when_ended()

    async def _read_and_commit(self, reader: Reader, context: Context) -> None:
        try:
            await self._read(reader)
            if context.committing():
                await self._end()
                while self.unsettled:
                    self._settled.clear()
                    await self._settled.wait()
        finally:
            if not isinstance(sys.exception(), ConnectionLost | TransientError):
                await _commit(context)

    async def _settle_first(self) -> None:
        """Wait until all is settled, so that a source which delivers again does not deliver what is on its way.

        Windows hold rows for as long as they last, so that is not waited for behind one; inputs that replay go on
        behind what they have delivered.
        """
        while self._waits and self.unsettled and not self._stop.is_set():
            self._settled.clear()
            stopped = asyncio.ensure_future(self._stop.wait())
            settled = asyncio.ensure_future(self._settled.wait())
            await asyncio.wait({stopped, settled}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            settled.cancel()

    async def _read(self, reader: Reader) -> None:
        task = asyncio.current_task()
        assert task is not None
        reading = is_interrupted = False

        def interrupt() -> None:
            nonlocal is_interrupted
            if reading:
                is_interrupted = True
                task.cancel()

        async def watch() -> None:
            await self._stop.wait()
            interrupt()

        self._interrupt = interrupt
        watching = asyncio.ensure_future(watch())
        self._reader = reader if isinstance(reader, MeasuredReader) else None
        try:
            while not self._stop.is_set():
                self._raise_failure()
                reading, began = True, time.perf_counter()
                try:
                    delivery = await reader.read()
                finally:
                    reading = False
                if self._losses:  # an input that opens and is lost at once has not recovered
                    self._losses = 0
                    self._metrics.recovered(self.branch.part)
                self.branch.mark(delivery)
                self._enter(delivery)
                self.measure()
                if tracing.active is not None:
                    delivery.trace = tracing.active.read(self._stream.id, began, delivery.batch.num_rows)
                await self._accept(delivery)
        except EndOfInput:
            return
        except asyncio.CancelledError:
            if not is_interrupted or task.uncancel() > 0:
                raise
            self._raise_failure()
        finally:
            watching.cancel()
            self._interrupt, self._reader = _ignore, None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise PenstockError(f"a batch was refused: {self._failure}") from self._failure

    def measure(self) -> None:
        """Ask the input how far it is, where it knows."""
        progress = self._reader.progress() if self._reader is not None else None
        if progress is None:
            return
        if progress.trouble is not None:
            self._metrics.condition.report(self.branch.part, progress.trouble)
        elif self.progress is not None and self.progress.trouble is not None:
            self._metrics.recovered(self.branch.part)
        self.progress = progress
        self._when_measured()

    def _enter(self, delivery: Delivery) -> None:
        self._metrics.read(delivery.batch.num_rows)
        for loan in delivery.loans:
            self.unsettled.add(loan)
            loan.settle = self._noted(loan, loan.settle)

    def _noted(self, loan: Loan, settle: Settle) -> Settle:
        async def settle_and_note(error: Exception | None) -> None:
            self.unsettled.discard(loan)
            self._settled.set()
            await settle(error)
            if error is not None and loan.tracker is not None and not self._stop.is_set():
                self._failure = self._failure or error
                self._interrupt()

        return settle_and_note


async def _commit(context: Context) -> None:
    """Commit what is acked while the input is still open; what a broker does not take now it delivers again."""
    for key, ledger in context.committing():
        try:
            async with context.clock.timeout(COMMIT_TIMEOUT):
                await ledger.flush()
        except Exception as error:
            context.log.warning("%s: the last position could not be committed: %s", key, error or type(error).__name__)
            await ledger.forget(key)  # or else the end of the stream would try it again, over a closed connection
