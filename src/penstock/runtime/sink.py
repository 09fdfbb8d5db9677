"""The end of a stream: write in read order to all outputs, refuse bad rows, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ..backoff import Stopped
from ..delivery import Delivery, merge
from ..errors import ConfigError, PermanentError
from ..observe import tracing
from ..observe.metrics import StreamMetrics
from ..statelog import StateLog
from .deadletter import Refusal, dead_letters
from .outlet import Outlet, Saving
from .transform import Transformed, describe
from .writer import ReconnectingWriter


class Sink:
    """Writes what a stream's deliveries became, and settles them."""

    def __init__(
        self,
        name: str,
        outputs: Sequence[tuple[str, ReconnectingWriter]],
        errors: ReconnectingWriter | None,
        metrics: StreamMetrics,
        *,
        saves: bool,
        is_told: Callable[[Delivery], bool] = lambda delivery: False,
        states: StateLog | None = None,
    ) -> None:
        """``outputs`` are the names and writers of all that rows go to.

        ``saves``: the last of them keeps positions with the rows.
        ``is_told``: a nack tells whoever sent the rows why.
        ``states`` has the keyed state of the stream, if it keeps any.
        """
        self._states = states
        self._name, self._errors, self._metrics = name, errors, metrics
        several = len(outputs) > 1 or outputs[0][0] != "output"
        self._outlets = [
            Outlet(writer, self._refuse, stage=stage, leaf=at if several else None)
            for at, (stage, writer) in enumerate(outputs)
        ]
        self._saves, self._is_told = saves, is_told
        self._failure: Exception | None = None

    async def open(self) -> None:
        """Open all outputs, trying again until that succeeds."""
        writers = [outlet.writer for outlet in self._outlets]
        for output in [*writers, self._errors] if self._errors is not None else writers:
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
                self._metrics.written(len(done.pieces), done.rows - done.refused, done.read_at)
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
        if len(group) == 1:
            await self._refuse(group[0], group[0].refusals)
        *others, last = self._outlets
        if not self._saves:
            await self._write_to([*others, last] if any(done.pieces for done in group) else [], group)
            return
        await self._write_to(others, group)
        loans = merge(group[0].delivery.batch, [done.delivery for done in group])
        if self._states is None:
            await last.write(group, Saving(loans.positions(), None))
            return
        unsaved = self._states.prepare(loans)
        await last.write(group, Saving(unsaved.positions, unsaved.keep))
        self._states.note_written(unsaved)

    async def _write_to(self, outlets: Sequence[Outlet], group: Sequence[Transformed]) -> None:
        """Write to several outputs at once; raises what one of them raised once the others are done."""
        if len(outlets) == 1:
            await outlets[0].write(group, None)
            return
        results = await asyncio.gather(*(outlet.write(group, None) for outlet in outlets), return_exceptions=True)
        failures = [result for result in results if result is not None]
        # A stop says nothing about the rows; what does goes first.
        for failure in sorted(failures, key=lambda failure: isinstance(failure, Stopped)):
            raise failure

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
