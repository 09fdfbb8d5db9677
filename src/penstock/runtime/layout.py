"""Lay out a pipeline as sections: a new one begins at each buffer and at each stage that keeps state."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

from ..component import Buffer, Component, Processor, Queue
from ..context import Context
from ..observe.metrics import StreamMetrics
from ..stream import Stream, regroups
from .branches import routing
from .section import Section, Stateful
from .threads import Threads
from .transform import Stage, Transformation


class Layout:
    """Opens the buffers and processors of a stream; what it opens is closed with ``stack``."""

    def __init__(
        self,
        stream: Stream,
        context: Context,
        threads: Threads,
        stop: asyncio.Event,
        metrics: StreamMetrics,
        stack: AsyncExitStack,
    ) -> None:
        self._stream, self._context, self._threads = stream, context, threads
        self._stop, self._metrics, self._stack = stop, metrics, stack
        self._names: Counter[str] = Counter()
        self._sections: list[Section] = []
        self._stages: list[Stage] = []
        self._begins_with: Buffer | Stateful | None = None
        """What the section begins with that is being laid out."""

    async def open(self) -> list[Section]:
        """Return the sections in the order in which rows go through them."""
        stream = self._stream
        if stream.buffer is not None:
            await self._begin_section(stream.buffer)
        for index, processor in enumerate(stream.pipeline.processors):
            buffer = regroups(processor)
            if buffer is not None:
                await self._begin_section(buffer)
            else:
                await self._open_stage(index, processor)
        if (route := routing(stream.output)) is not None:
            self._stages.append(Stage("output", route, row_wise=True))
        await self._begin_section(None)
        return self._sections

    async def _open_stage(self, index: int, processor: Processor) -> None:
        following = self._stream.pipeline.processors[index + 1 : index + 2]
        lent = replace(self._lend(processor), columns=following[0].columns_read() if following else None)
        process = await self._stack.enter_async_context(processor.open(lent))
        name = f"{index}.{processor.name or processor.type_name}"
        stage = Stage(name, process, processor.row_wise(), processor.multiplies())
        if lent.states.opened:
            await self._begin_section(Stateful(stage, lent.states, self._threads))
        else:
            self._stages.append(stage)

    async def _begin_section(self, following: Buffer | Stateful | None) -> None:
        """End the section that is being laid out, and begin one with ``following``."""
        is_first = not self._sections
        codec = self._stream.input.payload_codec() if is_first else None
        transformation = Transformation(
            self._stages,
            self._threads,
            decoder=codec.decoder(self._context.columns) if codec is not None else None,
            metadata=is_first and self._stream.reads_metadata(),
        )
        queue = await self._open_queue(self._begins_with) if isinstance(self._begins_with, Buffer) else None
        stateful = self._begins_with if isinstance(self._begins_with, Stateful) else None
        self._sections.append(
            Section(self._stream, queue, transformation, self._stop, self._metrics, self._context.clock, stateful)
        )
        self._stages, self._begins_with = [], following

    async def _open_queue(self, buffer: Buffer) -> Queue:
        is_first = all(section.queue is None for section in self._sections)
        name = self._stream.id if is_first else f"{self._stream.id}/buffer"
        return await self._stack.enter_async_context(buffer.open(replace(self._lend(buffer), name=name)))

    def _lend(self, component: Component) -> Context:
        """Return the context with a state that belongs to this component, also among several of one name."""
        name = component.name or component.type_name
        self._names[name] += 1
        name = name if self._names[name] == 1 else f"{name}-{self._names[name]}"
        return replace(self._context, states=self._context.states.log.component(name))
