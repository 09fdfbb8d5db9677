"""A section of a stream: a buffer, where there is one, and the stages up to the next buffer or the output."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from ..clock import Clock
from ..component import Queue
from ..delivery import Delivery
from ..errors import ConnectionLost, EndOfInput, TransientError
from ..observe import tracing
from ..observe.metrics import StreamMetrics
from ..statelog import ComponentState
from ..stream import Stream
from .threads import Threads
from .transform import Piece, Stage, Transformation, Transformed, keep_state

_GROUP_ROWS = 65536
_GROUP_DELIVERIES = 64

_Waiting: TypeAlias = "asyncio.Future[Transformed] | Transformed"


class Stateful:
    """A stage that keeps state: it gets one delivery at a time, in the order of reading."""

    def __init__(self, stage: Stage, states: ComponentState, threads: Threads) -> None:
        self.transformation = Transformation([keep_state(stage, states)], threads, decoder=None, metadata=False)
        self.states = states


class Section:
    """Transforms several deliveries at once, and hands them on in the order in which they came."""

    def __init__(
        self,
        stream: Stream,
        queue: Queue | None,
        transformation: Transformation,
        stop: asyncio.Event,
        metrics: StreamMetrics,
        clock: Clock,
        stateful: Stateful | None = None,
    ) -> None:
        """``stateful`` is the first stage if that keeps state, and stands in place of a ``queue``."""
        self._stream, self._stop, self._metrics, self._clock = stream, stop, metrics, clock
        self._stateful = stateful
        self.queue, self.transformation = queue, transformation
        self._in_flight: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(stream.max_in_flight)

    async def put(self, waiting: _Waiting | None) -> None:
        """Take in what needs no transforming here; waits while too many are in flight."""
        await self._room.acquire()
        self._in_flight.put_nowait(waiting)

    async def end(self) -> None:
        """Note that nothing more comes in."""
        await self.put(None)

    async def _next(self) -> _Waiting | None:
        """Return what has been in flight longest, and make room for another; None at the end."""
        waiting = await self._in_flight.get()
        self._room.release()
        return waiting

    async def forward(self, group: asyncio.TaskGroup, delivery: Delivery) -> None:
        """Begin to transform a delivery; waits while too many are in flight."""
        done = Transformed(delivery, read_at=time.perf_counter())
        if self.transformation.is_empty(delivery):
            done.pieces = [Piece(delivery.batch, 0)]
            await self.put(done)
        elif self.transformation.in_thread and delivery.error is None:
            submitted = self.transformation.submit(done)
            if tracing.active is not None:
                submitted.add_done_callback(self._trace_submitted)
            await self.put(submitted)
        else:
            await self.put(group.create_task(self.transform(done)))

    async def regroup(self, group: asyncio.TaskGroup) -> None:
        """Forward what the buffer hands out, until that ends.

        It is asked once there is room, since what is handed out can be overtaken no more.
        """
        assert self.queue is not None
        try:
            while True:
                async with self._room:
                    pass
                delivery = await self.queue.get()
                if delivery.batch.num_rows or delivery.error is not None:
                    await self.forward(group, delivery)
                else:  # it only settles what the buffer has put into its state
                    await self.put(Transformed(delivery, read_at=time.perf_counter()))
        except EndOfInput:
            await self.end()

    async def transform(self, done: Transformed) -> Transformed:
        """Run the stages, again where one fails for a while."""
        done = await self._retry(await self.transformation(done), self.transformation)
        self._trace(done)
        return done

    async def _retry(self, done: Transformed, transformation: Transformation) -> Transformed:
        """Go on where a stage failed for a while, as often as ``retry`` says."""
        attempt = 0
        while _may_succeed(done) and not self._stop.is_set() and not self._stream.retry.exhausted(attempt):
            self._metrics.retrying("pipeline", str(done.error))
            await self._clock.wait(self._stop, self._stream.retry.delay(attempt))
            attempt += 1
            done = await transformation(done)
        if attempt and done.error is None:
            self._metrics.recovered("pipeline")
        return done

    async def _finish(self, waiting: _Waiting) -> Transformed:
        """Wait for what is being transformed; what was handed to the threads is retried here."""
        if isinstance(waiting, Transformed):
            return waiting
        if waiting.done():
            done = waiting.result()
        else:
            self._metrics.condition.begin("pipeline")
            try:
                done = await waiting
            finally:
                self._metrics.condition.end("pipeline")
        if isinstance(waiting, asyncio.Task) or not _may_succeed(done):
            return done
        done = await self._retry(done, self.transformation)
        self._trace(done)
        return done

    def _trace_submitted(self, submitted: asyncio.Future[Transformed]) -> None:
        """Record what came out of the threads; what is retried is recorded once that has ended."""
        if not submitted.cancelled() and submitted.exception() is None and not _may_succeed(submitted.result()):
            self._trace(submitted.result())

    def _trace(self, done: Transformed) -> None:
        if tracing.active is not None:
            counts = {"rows": done.rows, "refused": sum(refusal.rows.num_rows for refusal in done.refusals)}
            tracing.active.span("process", self._stream.id, done.read_at, done.delivery.trace, done.error, **counts)

    async def feed(self, following: Section, last: Section) -> None:
        """Put what was made here into the buffer of the next section, in order; refusals go straight to the last."""
        assert following.queue is not None
        while (waiting := await self._next()) is not None:
            done = await self._finish(waiting)
            if done.error is not None:
                await last.put(done)
                continue
            batches = [piece.batch for piece in done.pieces]
            shares = [*batches, *([done.delivery.batch] if done.refusals else [])]
            if not shares:
                await done.delivery.ack()
                continue
            parts = done.delivery.split(shares)
            for part in parts[: len(batches)]:
                part.decoder = None
                await following.queue.put(part)
            if done.refusals:
                await last.put(Transformed(parts[-1], [], done.refusals, read_at=done.read_at))
        following.queue.end()

    async def hand_over(self, group: asyncio.TaskGroup, following: Section) -> None:
        """Hand what was made here to a section that begins with a stateful stage, in order."""
        while (waiting := await self._next()) is not None:
            await following.take_over(group, await self._finish(waiting))
        await following.end()

    async def take_over(self, group: asyncio.TaskGroup, done: Transformed) -> None:
        """Run the stateful stage, and begin to run the others; waits while too many are in flight."""
        assert self._stateful is not None
        if done.error is None and done.pieces:
            self._stateful.states.begin()
            done.stage = 1
            done = await self._retry(await self._stateful.transformation(done), self._stateful.transformation)
            if done.error is None:
                self._stateful.states.enter(done.delivery)
        if done.error is not None or not done.pieces or not self.transformation.has_stages:
            await self.put(done)
            return
        done.stage = 1
        if self.transformation.in_thread:
            await self.put(self.transformation.submit(done))
        else:
            await self.put(group.create_task(self.transform(done)))

    async def drain(self, settle: Callable[[Sequence[Transformed]], Awaitable[None]]) -> None:
        """Settle what is done, in order; what is ready at the same time is settled together."""
        waiting = await self._next()
        while waiting is not None:
            group = [await self._finish(waiting)]
            rows = group[0].rows
            pending: _Waiting | None = None
            has_pending = False
            while not has_pending and self._has_room(len(group), rows):
                pending = self._in_flight.get_nowait()
                self._room.release()
                if (ready := _ready(pending)) is None:
                    has_pending = True
                else:
                    group.append(ready)
                    rows += ready.rows
            await settle(group)
            waiting = pending if has_pending else await self._next()

    def _has_room(self, deliveries: int, rows: int) -> bool:
        """Whether a group of this size may grow, and there is something it may grow by."""
        return rows < _GROUP_ROWS and deliveries < _GROUP_DELIVERIES and not self._in_flight.empty()


def _may_succeed(done: Transformed) -> bool:
    """Whether a stage has failed that may succeed when it is called again."""
    return isinstance(done.error, ConnectionLost | TransientError)


def _ready(waiting: _Waiting | None) -> Transformed | None:
    """Return what need not be waited for; None where it is still being transformed, has failed, or is the end."""
    if waiting is None or isinstance(waiting, Transformed):
        return waiting
    return waiting.result() if waiting.done() and waiting.result().error is None else None
