"""The kinds of component. A component is a value; opening it gives the live thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa
from pydantic import Field

from .checkpoint import CheckpointStore
from .context import Context
from .delivery import Batch, Decoder, Delivery, Position
from .duration import Duration
from .metadata import VALUE, without_metadata
from .registry import Component as Component  # whoever writes a component of a new kind finds it here


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reader is: bytes, rows or whatever ``unit`` says; ``total`` is None when it has no end."""

    done: int
    total: int | None
    unit: str = "bytes"
    partitions: Mapping[str, int] = field(default_factory=dict)
    """What is left in each partition, where the source has them."""
    trouble: str | None = None
    """What stands in the way of a reader that connects again by itself; None if nothing does."""


class Reader(Protocol):
    """A live input."""

    async def read(self) -> Delivery:
        """Wait for the next delivery.

        One call at a time. Cancelling it loses nothing: what was taken is returned by the next call. Raises
        EndOfInput when there is no more (and again on each later call), ConnectionLost to be opened again.
        """
        ...


@runtime_checkable
class MeasuredReader(Reader, Protocol):
    """A reader that knows how far it is."""

    def progress(self) -> Progress:
        """Return how far it is; called often, so it looks nothing up."""
        ...


class Writer(Protocol):
    """A live output."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write all the batches, as one unit, and return once they are durable.

        Called in read order, one call at a time. Raises TransientError (the same call comes again),
        ConnectionLost (it is opened again, then the same call comes), RowsRejected or PermanentError.
        """
        ...


@runtime_checkable
class TransactionalWriter(Writer, CheckpointStore, Protocol):
    """A writer that keeps positions beside the rows, so that both move or neither."""

    async def write_and_save(self, batches: Sequence[Batch], positions: Mapping[str, Position]) -> None:
        """Write the batches and save the positions in one transaction."""
        ...


class Queue(Protocol):
    """A live buffer."""

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits when full. One call at a time."""
        ...

    async def get(self) -> Delivery:
        """Return the next delivery; raises EndOfInput once ended and empty. Cancelling it loses nothing."""
        ...

    def end(self) -> None:
        """Hand out what is held, partial groups included, since nothing more will be put. Idempotent."""
        ...


Process: TypeAlias = Callable[[Batch], Sequence[Batch]] | Callable[[Batch], Awaitable[Sequence[Batch]]]
"""A live processor: one batch in; none (filtered), one or several out. Raises PermanentError for rows it refuses.

A plain function runs in a thread, several at once; a coroutine function runs on the event loop.

Within one run of a stream a batch comes again only if the call with it failed: the same batch after TransientError or
ConnectionLost, its halves after any other error of a row-wise processor. A call that returned is never repeated,
whatever fails behind it. In the next run, after a stop, a restart or a crash, rows come again that were not acked.
"""


class Codec(Component, package="codecs"):
    """How payloads become rows and rows become payloads. Pure and synchronous."""

    tells_absent: ClassVar[bool] = False
    """Whether `encode` looks at `__meta_absent`, and leaves out the fields that a row lacks."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads, in order; raises PermanentError if any of them cannot be read.

        The runner finds the bad payload by halving, so that it fails alone. Null payloads do not occur.
        """
        raise NotImplementedError

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one payload for each row; raises PermanentError for what the format cannot hold."""
        raise NotImplementedError

    def encode_lines(self, batch: Batch) -> pa.Buffer | None:
        """Return all rows as lines, each ended by a newline, where that is faster than one by one; None where not."""
        return None

    def check_lines(self) -> None:
        """Raise ValueError if its payloads cannot be told apart by newlines, so that `framing: lines` is refused."""

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder that may learn the schema as it goes; ``columns`` are the only ones anyone reads."""
        return self.decode


class Input(Component, package="inputs"):
    """Where batches come from."""

    codec: Codec | None = None
    """How a payload becomes rows; without one a payload is one row of the Binary column `__value__`."""

    def open(self, context: Context) -> AbstractAsyncContextManager[Reader]:
        """Connect, and resume after what was last acked; raises ConnectionLost if that fails."""
        raise NotImplementedError

    def children(self) -> Mapping[str, Input]:
        """Return the inputs that the stream reads in place of this one, by the names their positions are kept under."""
        return {}

    def served(self) -> Sequence[tuple[str, str]]:
        """Return the addresses and paths that it serves while it is open."""
        return ()

    def tells_sender(self) -> bool:
        """Tell whether a sender waits for each delivery and is told why it is refused, so that the stream goes on."""
        return False

    def payload_codec(self) -> Codec | None:
        """Return the codec with which the runner decodes `__value__` of each delivery, in parallel."""
        return self.codec


class Branch(NamedTuple):
    """One of the outputs that an output stands for."""

    output: Output | None
    """The output; None where such a row is refused."""
    when: str | None = None
    """The SQL condition on which a row goes there; None for all rows."""
    label: str = ""
    """The condition as people read it."""


class Output(Component, package="outputs"):
    """Where batches go. Outputs leave out `__meta_*` columns; a query may select one under another name."""

    codec: Codec | None = None
    """How a row becomes a payload; without one `__value__` is sent as it is, and other rows as JSON."""

    def open(self, context: Context) -> AbstractAsyncContextManager[Writer]:
        """Connect; raises ConnectionLost if that fails."""
        raise NotImplementedError

    def branches(self) -> Sequence[Branch]:
        """Return the outputs that it stands for, which the runner opens in its place; none if it writes itself."""
        return ()

    def spaces(self) -> Sequence[str]:
        """Return the schemas and files that it writes, as ``clients.database.space`` names them."""
        return ()

    def payloads(self, batch: Batch) -> pa.BinaryArray:
        """Return the payloads of a batch: encoded by the codec, else the cells of `__value__`, else as JSON."""
        if self.codec is None and VALUE in batch.schema.names:
            return batch.column(VALUE).cast(pa.binary()).drop_null()
        codec = self.codec or Codec.find("json")()
        return codec.encode(without_metadata(batch, keep_absent=codec.tells_absent))


class Processor(Component, package="processors"):
    """What happens to each batch. Define ``process``, or ``open`` when something is to be opened first.

    One that remembers rows across restarts asks for its state in ``open`` (``Context.state``). It is then called with
    one batch at a time, in the order of reading.
    """

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Yield what is called with each batch."""
        yield self.process

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return what becomes of a batch; an empty sequence filters it. Must not change its argument."""
        raise NotImplementedError

    def regroups(self) -> Mapping[str, Any] | None:
        """Return the options of the buffer that it stands for, where it only regroups batches."""
        return None

    def row_wise(self) -> bool:
        """Tell whether each row is processed by itself, so that a failing batch may be halved to find the bad row."""
        return False

    def looks_up(self) -> Sequence[str]:
        """Return the names of the temporary tables that it looks rows up in."""
        return ()

    def multiplies(self) -> bool:
        """Tell whether a row may become several, so that as many rows as came in need not be the same ones."""
        return False

    def columns_read(self) -> frozenset[str] | None:
        """Return the only columns the result depends on, or None when all may matter."""
        return None


class Buffer(Component, package="buffers"):
    """What holds or regroups batches before the pipeline."""

    def open(self, context: Context) -> AbstractAsyncContextManager[Queue]:
        """Yield an empty queue."""
        raise NotImplementedError

    def most_held(self) -> int | None:
        """Return how many deliveries it may hold at once; None for as many as come."""
        return None

    def columns_read(self) -> frozenset[str]:
        """Return the columns it reads itself."""
        return frozenset()

    def columns_added(self) -> frozenset[str]:
        """Return the columns it adds to all that it releases, in place of others of the same name."""
        return frozenset()

    def tables_read(self) -> frozenset[str] | None:
        """Return the names of the inputs that it joins; None if it does not."""
        return None

    def columns_needed(self, behind: frozenset[str] | None) -> frozenset[str] | None:
        """Return the only columns of what is put that matter, given those that matter of what it releases.

        None stands for all. One that releases other rows than it takes overrides this.
        """
        return None if behind is None else (behind - self.columns_added()) | self.columns_read()


class Found(NamedTuple):
    """Rows that were looked up."""

    rows: Batch
    """The rows; their columns are known though there are none."""
    keys: pa.Int64Array
    """For each row the index of its key among those that were asked for."""


class Lookup(Protocol):
    """A live temporary table."""

    async def find(self, keys: pa.StringArray) -> Found:
        """Return the rows of these keys, as texts, each of which is there once and is not null.

        A key of which there is none has no rows. One call at a time. Raises ConnectionLost (it is opened again) or
        TransientError (the same call comes again).
        """
        ...


class Temporary(Component, package="temporary"):
    """A table beside a stream: its queries see the rows of the keys that a batch has."""

    name: str = Field(min_length=1)
    """The name by which `temporary_list` of a `sql` processor means it."""
    codec: Codec | None = None
    """How a payload becomes rows, where payloads are looked up."""
    cache_ttl: Duration | None = Field(None, gt=0)
    """How long what was found for a key is remembered, and that nothing was; without it every batch asks anew."""
    cache_size: int = Field(100_000, ge=1)
    """How many keys are remembered at most."""

    def open(self, context: Context) -> AbstractAsyncContextManager[Lookup]:
        """Connect; raises ConnectionLost if that fails."""
        raise NotImplementedError
