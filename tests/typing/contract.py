"""What type checkers see of the contract: read by mypy, not run."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import assert_type

import pyarrow as pa

from penstock import (
    Batch,
    Codec,
    Configuration,
    Context,
    Delivery,
    EndOfInput,
    Input,
    Output,
    PenstockError,
    Processor,
    Reader,
    RowsRejected,
    Stream,
    TransactionalWriter,
    Writer,
    load,
    loads,
    merge,
    run_sync,
)
from penstock.checkpoint import Checkpoint, CheckpointStore
from penstock.component import Queue
from penstock.delivery import Position
from penstock.duration import Duration
from penstock.metadata import Origin
from penstock.state.memory import MemoryStore


class Ticks(Input, type="typing_ticks"):
    """Tick."""

    every: Duration = 1.0


def finding_and_parsing_keep_the_kind() -> None:
    assert_type(Input.parse({"type": "typing_ticks"}), Input)
    assert_type(Output.parse("drop"), Output)
    assert_type(Codec.find("json"), type[Codec])
    assert_type(Ticks.parse("typing_ticks"), Ticks)
    assert_type(Ticks().every, float)
    assert_type(Ticks().codec, Codec | None)
    assert_type(Processor.names(), list[str])


def streams_are_values() -> None:
    stream = Stream(input=Ticks(), output=Output.parse("drop"))
    assert_type(stream.input, Input)
    assert_type(stream.error_output, Output | None)
    assert_type(stream.pipeline.processors, list[Processor])
    assert_type(load("streams.yaml"), Configuration)
    assert_type(loads("streams: []").streams, list[Stream])
    run_sync(stream, state="memory")


async def reading_and_settling(context: Context) -> None:
    assert_type(await context.checkpoint("partition"), Checkpoint)
    async with Ticks().open(context) as reader:
        assert_type(reader, Reader)
        delivery = await reader.read()
    assert_type(delivery, Delivery)
    assert_type(delivery.split([delivery.batch]), list[Delivery])
    assert_type(merge(delivery.batch, [delivery]), Delivery)
    assert_type(delivery.origin, Origin | None)
    await delivery.nack(EndOfInput())


class ListWriter:
    """A writer by its shape alone: nothing has to be inherited."""

    async def write(self, batches: Sequence[Batch]) -> None:
        raise RowsRejected({0: "no"})


class PairQueue:
    """A queue by its shape alone."""

    async def put(self, delivery: Delivery) -> None: ...

    async def get(self) -> Delivery:
        raise EndOfInput

    def end(self) -> None: ...


def shapes() -> None:
    writer: Writer = ListWriter()
    queue: Queue = PairQueue()
    store: CheckpointStore = MemoryStore()
    both: TransactionalWriter = ListWriter()  # type: ignore[assignment]
    print(writer, queue, store, both)


def opening(output: Output, context: Context) -> AbstractAsyncContextManager[Writer]:
    return output.open(context)


def mistakes(delivery: Delivery, position: Position) -> None:
    Delivery.settled_by(pa.record_batch({}), settle=None)  # type: ignore[arg-type]
    delivery.ack("why")  # type: ignore[call-arg, unused-coroutine]
    Ticks(evry="1s")  # type: ignore[call-arg]
    Ticks().every = 2.0  # type: ignore[misc]
    PenstockError(position)
