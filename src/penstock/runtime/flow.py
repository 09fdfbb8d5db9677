"""Make a stream flow: read, keep, regroup, process in parallel, write in read order, settle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise

from ..backoff import Stopped
from ..branch import branches
from ..checkpoint import Checkpoint, CheckpointStore, Ledger
from ..component import Progress, TransactionalWriter
from ..context import Context
from ..delivery import Delivery
from ..errors import ConfigError, PenstockError
from ..observe.metrics import StreamMetrics
from ..statelog import StateLog
from ..stream import MAX_HELD, Stream, regroups
from .branches import find_leaves
from .deadline import end_in_time
from .durable import DurableInput
from .intake import Intake
from .layout import Layout
from .logfolder import own_log
from .lookup import OpenLookup
from .round import Round
from .section import Section
from .sink import Sink
from .threads import Threads
from .transform import Transformation
from .wal import Wal, open_wal
from .writer import KeptPositions, ReconnectingWriter


class Flow:
    """One run of a stream, from opening to the last ack."""

    def __init__(self, stream: Stream, context: Context, stop: asyncio.Event, metrics: StreamMetrics) -> None:
        self._stream, self._context, self._stop, self._metrics = stream, context, stop, metrics
        self._sections: list[Section] = []
        self._reads_metadata = stream.reads_metadata()
        self._wal: Wal | None = None
        self._ledgers: list[Ledger] = []
        self._durable: DurableInput | None = None
        self._round = Round(stream, stop)
        self._followed: Context | None = None
        self.intakes: list[Intake] = []
        self.when_open: Callable[[], None] = lambda: None

    def positions(self) -> dict[str, Checkpoint]:
        """Return how far each partition is, by its key."""
        return dict(self._followed.checkpoints) if self._followed is not None else {}

    def replays(self) -> dict[str, Checkpoint]:
        """Return the partitions that can be read again from another position, by their keys."""
        if self._followed is None:
            return {}
        kept = self._followed.kept_by
        return {
            key: one
            for key, one in self._followed.checkpoints.items()
            if not key.endswith("/wal") and not (key in kept and kept[key].commits) and one.position is not None
        }

    @property
    def keeps_state(self) -> bool:
        """Whether any component remembers something by key."""
        return self._followed is not None and self._followed.states.log.is_used

    @property
    def progress(self) -> Progress | None:
        """How far the inputs say they are, if all of them tell it in one unit."""
        told = [one.progress for one in self.intakes]
        known = [one for one in told if one is not None]
        if not known or len(known) < len(told) or len({one.unit for one in known}) > 1:
            return None
        totals = [one.total for one in known if one.total is not None]
        total = sum(totals) if len(totals) == len(known) else None
        left = {name: rows for one in known for name, rows in one.partitions.items()}
        return Progress(sum(one.done for one in known), total, known[0].unit, left)

    async def run(self) -> None:
        """Flow until the input ends or ``stop`` is set, and all is settled; raises what could not be settled."""
        watching = asyncio.ensure_future(self._watch())
        self._metrics.count_unsettled = self._count_unsettled
        try:
            async with end_in_time(self._stop, self._stream.shutdown_timeout, self._context.clock):
                await self._run()
        finally:
            watching.cancel()
            self._metrics.count_unsettled = int

    async def _watch(self) -> None:
        """Look now and then at what nobody tells of: how long a step takes, and how much is left to do."""
        interval = min(1.0, self._stream.stall_timeout / 4)
        while True:
            await self._context.clock.sleep(interval)
            self._metrics.condition.look()
            self._metrics.sample()
            if self._wal is not None:
                self._metrics.lag(self._wal.unwritten)
            for intake in self.intakes if self._wal is None else ():
                intake.measure()
            self._metrics.condition.notice = getattr(self._context.store, "notice", None)
            failures = [ledger.failure for ledger in (self._context.ledger, *self._ledgers) if ledger.failure]
            if failures:
                self._metrics.condition.report("positions", f"positions cannot be saved: {failures[0]}")
            else:
                self._metrics.condition.clear("positions")

    async def _run(self) -> None:
        stream = self._stream
        async with AsyncExitStack() as stack:
            threads = Threads(stream.pipeline.thread_num, stream.id)
            stack.callback(threads.shutdown)
            outputs = await self._open_outputs(stack)
            output = outputs[-1][1]
            errors = await self._open_errors(stack)
            context = self._lend(output)
            store = self._input_store(context)
            context = await self._round.begin(context, store)
            context = self._followed = await self._lend_state(context)
            log_context = context
            self._ledgers = context.ledgers
            if stream.durability and stream.durability.enabled:
                log_context = await asyncio.to_thread(own_log, stream.durability, replace(context, run=""))
                self._wal = await stack.enter_async_context(
                    open_wal(
                        stream.durability,
                        log_context,
                        self._metrics,
                        self._stop,
                        follows=not self._asks_later,
                    )
                )
            context = await self._open_lookups(stack, context)
            await self._open_sections(stack, context, threads)
            sink = Sink(
                stream.id,
                outputs,
                errors,
                self._metrics,
                saves=stream.checkpoint == "output",
                is_told=self._is_told,
                states=context.states.log if context.states.log.is_used else None,
            )
            self._metrics.up()
            try:
                await self._flow(context, log_context, output, sink)
            finally:
                for intake in self.intakes:
                    await intake.give_up(PenstockError("the stream has stopped"))
                for ledger in {id(ledger): ledger for ledger in [context.ledger, *context.ledgers]}.values():
                    await ledger.flush()
            await self._round.end(context, store)

    def _input_store(self, context: Context) -> CheckpointStore:
        """Where the input's positions are: what is in the log is behind them."""
        durability = self._stream.durability
        return self._context.store if durability is not None and durability.enabled else context.store

    async def _open_outputs(self, stack: AsyncExitStack) -> list[tuple[str, ReconnectingWriter]]:
        """Open all that rows go to; the last of them keeps positions where an output does."""
        stream = self._stream
        outputs = []
        for leaf in find_leaves(stream.output):
            lent = replace(self._context, name=f"{stream.id}/{leaf.name}", seen={})
            output = ReconnectingWriter(leaf.output, lent, stream.retry, self._stop, self._metrics)
            stack.push_async_callback(output.close)
            outputs.append((leaf.name, output))
        if not self._accepts_first:
            for _, output in outputs:
                await output.ready()
            await self._check_output(outputs[-1][1])
        return outputs

    async def _check_output(self, output: ReconnectingWriter) -> None:
        if self._stream.checkpoint == "output" and not isinstance(await output.open(), TransactionalWriter):
            keeper = find_leaves(self._stream.output)[-1].output
            raise ConfigError(
                f"output {keeper.type_name!r} cannot keep positions beside its rows; use `checkpoint: state`",
                path="checkpoint",
            )

    async def _open_errors(self, stack: AsyncExitStack) -> ReconnectingWriter | None:
        stream = self._stream
        if stream.error_output is None:
            return None
        lent = replace(self._context, name=f"{stream.id}/error_output")
        errors = ReconnectingWriter(stream.error_output, lent, stream.retry, self._stop, self._metrics)
        stack.push_async_callback(errors.close)
        if not self._accepts_first:
            await errors.ready()
        return errors

    @property
    def _accepts_first(self) -> bool:
        """Whether the stream begins to read though its output is down: what is read is durable all the same."""
        durability = self._stream.durability
        if durability is None or not durability.enabled:
            return False
        return self._stream.checkpoint == "state" or not self._regroups()

    @property
    def _asks_later(self) -> bool:
        """Whether the position of the log is not known before the output is there."""
        return self._accepts_first and self._stream.checkpoint == "output"

    @property
    def _wal_is_off(self) -> bool:
        durability = self._stream.durability
        return durability is None or not durability.enabled

    def _regroups(self) -> bool:
        """Whether anything between the log and the output may keep a position of its own."""
        buffers = [self._stream.buffer, *(regroups(one) for one in self._stream.pipeline.processors)]
        return any(buffer is not None for buffer in buffers)

    def _lend(self, output: ReconnectingWriter) -> Context:
        """What the input and the buffers are lent: checkpoints kept where the stream wants them."""
        stream = self._stream
        holds = self._regroups()
        context = replace(
            self._context,
            name=stream.id,
            identity=stream.identity,
            columns=stream.columns_read(),
            limit=MAX_HELD if holds else max(1024, stream.max_in_flight * 4),
            checkpoints={},
            kept_by={},
            ledgers=[],
            is_stopping=self._stop.is_set,
            note_gap=self._metrics.gap,
        )
        if self._wal_is_off:
            context = replace(context, sources=[one.lend(context).kept_as for one in branches(stream.input) if one.key])
        if stream.checkpoint == "state":
            return context

        async def already_saved(_: object) -> None:
            """Save nothing: the writer saves positions with the rows."""

        ledger = Ledger(already_saved, clock=context.clock)
        return replace(context, store=KeptPositions(output), ledger=ledger, positions_with_rows=True)

    async def _lend_state(self, context: Context) -> Context:
        """Have keyed state saved with the positions, where those are kept; its changes are in the state of the engine.

        What an earlier run could not save any more is dropped: it is read again.
        """
        states = StateLog(
            context.kept_as,
            context.store,
            self._context.store,
            run=context.run,
            clock=context.clock,
            move=context.ledger.move,
        )
        if self._stream.checkpoint == "state":
            await context.ledger.restart(states.save)
        return replace(context, states=states.component(""))

    async def _open_lookups(self, stack: AsyncExitStack, context: Context) -> Context:
        """Open the temporary tables of the stream."""
        lookups = {}
        for temporary in self._stream.temporary:
            lookup = OpenLookup(temporary, replace(context, name=f"{self._stream.id}/temporary.{temporary.name}"))
            stack.push_async_callback(lookup.close)
            await lookup.start()
            lookups[temporary.name] = lookup
        return replace(context, lookups=lookups)

    async def _open_sections(self, stack: AsyncExitStack, context: Context, threads: Threads) -> None:
        stream = self._stream
        self._sections = await Layout(stream, context, threads, self._stop, self._metrics, stack).open()
        if self._wal is not None:
            metadata = self._reads_metadata or stream.error_output is not None
            decoding = Transformation([], threads, decoder=None, metadata=metadata)
            section = Section(stream, None, decoding, self._stop, self._metrics, context.clock)
            self._durable = DurableInput(
                self._wal, section, self._sections[0], self._sections[-1], stream.max_in_flight
            )

    async def _flow(self, context: Context, log_context: Context, output: ReconnectingWriter, sink: Sink) -> None:
        durable = self._durable
        try:
            async with asyncio.TaskGroup() as group:
                taken_over = group.create_task(context.ledger.taken_over())
                try:
                    group.create_task(self._pump(group, context))
                    for section, following in pairwise(self._sections):
                        if following.queue is None:
                            group.create_task(section.hand_over(group, following))
                        else:
                            group.create_task(section.feed(following, self._sections[-1]))
                            group.create_task(following.regroup(group))
                    if durable is not None and not self._asks_later:
                        group.create_task(durable.forward(group))
                    if self._accepts_first:
                        await sink.open()
                    if durable is not None and self._asks_later:
                        await self._check_output(output)
                        durable.wal.follow(await log_context.checkpoint("wal"))
                        group.create_task(durable.forward(group))
                    await self._sections[-1].drain(sink.settle)
                finally:
                    taken_over.cancel()
        except BaseExceptionGroup as failures:
            failure = _first(failures)
            raise (failure.__cause__ if isinstance(failure.__cause__, Stopped) else failure) from None

    async def _pump(self, group: asyncio.TaskGroup, context: Context) -> None:
        """Read until the end or the stop, then let what was read run out."""
        durable, section = self._durable, self._sections[0]

        async def accept(delivery: Delivery) -> None:
            self._round.say_where(context, has_rows=True)
            if durable is None:
                await section.forward(group, delivery)
            else:
                await durable.keep(group, delivery)

        turns = asyncio.Lock()  # it is fair, so that an input which always has more leaves room to the others

        async def accept_in_turn(delivery: Delivery) -> None:
            async with turns:
                await accept(delivery)

        waits = durable is not None or all(section.queue is None for section in self._sections)
        read = branches(self._stream.input, context.columns)
        left = len(read)

        async def end_with_the_last() -> None:
            nonlocal left
            left -= 1
            if not left:
                await (section.end() if durable is None else durable.end())

        self.intakes = [
            Intake(
                self._stream,
                branch,
                self._stop,
                self._metrics,
                accept if len(read) == 1 else accept_in_turn,
                waits=waits,
                when_open=self.when_open,
                when_ended=end_with_the_last,
                when_measured=self._note_lag,
            )
            for branch in read
        ]
        if durable is not None:  # the output keeps the position of the log; what is in the log is behind the input's
            own = self._context
            context = replace(context, store=own.store, ledger=own.ledger, positions_with_rows=False)
        async with asyncio.TaskGroup() as reading:
            for intake in self.intakes:
                reading.create_task(intake.run(intake.branch.lend(context)))
        self._round.say_where(context, has_rows=False)

    def _count_unsettled(self) -> int:
        return sum(len(intake.unsettled) for intake in self.intakes)

    def _note_lag(self) -> None:
        progress = self.progress
        if progress is not None and progress.total is not None:
            self._metrics.lag(progress.total - progress.done, progress.partitions)

    def _is_told(self, delivery: Delivery) -> bool:
        """Tell whether all who sent these rows are told why they are refused, so that the stream may go on."""
        if self._wal is not None or not any(intake.branch.input.tells_sender() for intake in self.intakes):
            return False
        silent = [intake.unsettled for intake in self.intakes if not intake.branch.input.tells_sender()]
        return not any(loan in unsettled for unsettled in silent for loan in delivery.loans)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure of a group of tasks, of which the others are consequences."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
