"""Read several inputs as one stream, each by itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property

from pydantic import Field, model_validator

from ..branch import Branch, branches
from ..component import Input, Reader
from ..context import Context
from ..delivery import Delivery
from ..errors import EndOfInput


class MultipleInputs(Input, type="multiple_inputs"):
    """Read several inputs into one stream; none of them waits for, ends or reopens another one.

    Each input is opened, read, opened again after an outage, and ended by itself; the stream ends when all have. Rows
    of one input stay in their order, those of different inputs come as they arrive. An input waits while as many
    deliveries are in flight as the stream allows (`max_in_flight`), and they take turns, so that a busy one does not
    starve the others. An outage of one is shown as `input <name>` on the health page.

    `__meta_source` of each row is the `name` of its input; without a name, its type. Names are unique. Positions are
    kept under the name, so that inputs can be added, removed and put in another order; without a name they are kept
    under type and options, and an input whose options are changed is read anew.

    What each input promises holds for its rows: a file is read again where it was left, what was posted over HTTP is
    answered once it is written. A refused row stops the stream unless its sender is told, or there is an
    `error_output`. With `durability` the rows of all are in one log.

    Each input has its own `codec`; `codec` here is for those that have none. For a `join`, give each a `name`: the
    name of its table.

    Example::

        type: multiple_inputs
        inputs:
          - name: orders
            type: memory
            messages: [{id: 1, item: tea}]
            codec: json
          - name: ticks
            type: generate
            context: {id: 1}
            interval: 1s
            codec: json
    """

    inputs: list[Input] = Field(min_length=1)
    """The inputs, each with its own options, and with a `name` of its own where two are of one type."""

    @model_validator(mode="after")
    def _fits_together(self) -> MultipleInputs:
        names = [child.name for child in self.inputs if child.name is not None]
        if "" in names:
            raise ValueError("an input has an empty `name`: give it another one, or none")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two inputs are called {twice!r}: a `name` belongs to one")
        if any(child.children() for child in self.inputs):
            raise ValueError("an input stands for several others: list those here instead")
        served = [place for child in self.inputs for place in child.served()]
        if taken := next((place for place in served if served.count(place) > 1), None):
            raise ValueError(f"two inputs listen at {taken[0]}{taken[1]}: give one another `path` or `address`")
        return self

    @cached_property
    def _children(self) -> Mapping[str, Input]:
        found: dict[str, Input] = {}
        for child in self.inputs:
            key = child.name or f"{child.type_name}-{_digest(child)}"
            same = sum(known == key or known.startswith(f"{key} ") for known in found)
            found[f"{key} {same + 1}" if same and child.name is None else key] = child
        return found

    def children(self) -> Mapping[str, Input]:
        """Return the inputs by name, or by type and options where they have none."""
        return self._children

    def served(self) -> Sequence[tuple[str, str]]:
        """Return what any of them serves."""
        return [place for child in self.inputs for place in child.served()]

    def tells_sender(self) -> bool:
        """Tell whether all of them tell a sender; of those that do, a refused row does not stop the stream."""
        return all(child.tells_sender() for child in self.inputs)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Open all of them as one, for whoever does not read each by itself, as a stream does."""
        async with AsyncExitStack() as stack:
            readers = []
            for branch in branches(self, context.columns):
                reader = await stack.enter_async_context(branch.input.open(branch.lend(context)))
                readers.append((branch, reader))
            yield await stack.enter_async_context(_Merged(readers))


class _Merged:
    """Reads several readers at once, and hands out what comes in the order in which it comes."""

    def __init__(self, readers: Sequence[tuple[Branch, Reader]]) -> None:
        self._idle = list(readers)
        self._reading: dict[asyncio.Task[Delivery], tuple[Branch, Reader]] = {}
        self._ready: deque[Delivery] = deque()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> _Merged:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_reading()

    async def read(self) -> Delivery:
        """Wait for the next delivery of any; raises EndOfInput when all have ended, ConnectionLost if one is lost."""
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            for branch, reader in self._idle:
                self._reading[asyncio.ensure_future(reader.read())] = branch, reader
            self._idle.clear()
            if not self._reading:
                raise EndOfInput
            await asyncio.wait(self._reading, return_when=asyncio.FIRST_COMPLETED)
            self._collect()
            if self._failure is not None:  # what the others have read is handed out before
                await self._stop_reading()
        return self._ready.popleft()

    def _collect(self) -> None:
        for task in [task for task in self._reading if task.done()]:
            branch, reader = self._reading.pop(task)
            if task.cancelled() or isinstance(task.exception(), EndOfInput):
                continue
            if (failure := task.exception()) is not None:
                self._failure = self._failure or failure
                continue
            delivery = task.result()
            branch.mark(delivery)
            self._ready.append(delivery)
            self._idle.append((branch, reader))

    async def _stop_reading(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        self._collect()


def _digest(child: Input) -> str:
    return hashlib.sha256(child.model_dump_json(fallback=str).encode()).hexdigest()[:8]
