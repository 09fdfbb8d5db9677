"""The suites pass for components that keep the contract and fail for those that break it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock.checkpoint import Checkpoint
from penstock.component import Buffer, Codec, Input, Output, Process, Processor, Queue, Reader, Writer
from penstock.context import Context
from penstock.delivery import Batch, Delivery, Position
from penstock.errors import EndOfInput, PenstockError, PermanentError, RowsRejected
from penstock.metadata import Origin, without_metadata
from penstock.testing.batches import sample
from penstock.testing.suites import BufferSuite, CodecSuite, InputSuite, OutputSuite, ProcessorSuite


class Numbers(Input, type="suite_numbers"):
    """Count to a number."""

    until: int = 6

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        yield NumberReader(self.until, await context.checkpoint())


class NumberReader:
    source = "suite_numbers"

    def __init__(self, until: int, checkpoint: Checkpoint) -> None:
        self.until, self.checkpoint, self.taken = until, checkpoint, checkpoint.position or 0

    async def read(self) -> Delivery:
        if self.taken >= self.until:
            raise EndOfInput
        batch = sample(self.taken * 2, 2)
        delivery = await self.checkpoint.deliver(batch, self.taken + 1, Origin(self.source))
        self.taken += 1
        return delivery


class TestNumbers(InputSuite):
    @pytest.fixture
    def component(self) -> Input:
        return Numbers()


class Connection:
    """One connection to a broker, which keeps the positions of its groups."""

    committed: ClassVar[dict[str, int]] = {}

    def __init__(self, group: str) -> None:
        self.group, self.is_open = group, True

    async def commit(self, position: Position) -> None:
        if not self.is_open:
            raise RuntimeError("the connection is closed")
        self.committed[self.group] = max(position, self.committed.get(self.group, 0))


class Brokered(Input, type="suite_brokered"):
    """Count to a number, the position being kept by a broker."""

    group: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        connection = Connection(self.group)
        yield await self.reader(connection, context)
        connection.is_open = False

    async def reader(self, connection: Connection, context: Context) -> NumberReader:
        return self.reader_from(await context.checkpoint("0", commit=connection.commit))

    def reader_from(self, checkpoint: Checkpoint) -> NumberReader:
        reader = NumberReader(6, checkpoint)
        reader.source = "suite_brokered"
        reader.taken = Connection.committed.get(self.group, 0)
        return reader


class TestBrokered(InputSuite):
    checkpointed = False
    committing = True

    @pytest.fixture
    def component(self, tmp_path) -> Input:
        return Brokered(group=str(tmp_path))

    def rows(self, component: Input, delivery: Delivery) -> list[Any]:
        return delivery.batch["id"].to_pylist()


class Stale(Brokered, type="suite_stale"):
    """Count, committing to the first connection for ever."""

    _first: dict[int, Connection] = PrivateAttr(default_factory=dict)

    async def reader(self, connection: Connection, context: Context) -> NumberReader:
        return await super().reader(self._first.setdefault(id(context), connection), context)


class Forgetful(Brokered, type="suite_forgetful"):
    """Count, swallowing that a commit went to a connection that is closed."""

    _first: dict[int, Connection] = PrivateAttr(default_factory=dict)

    async def reader(self, connection: Connection, context: Context) -> NumberReader:
        first = self._first.setdefault(id(context), connection)

        async def commit(position: Position) -> None:
            if first.is_open:
                await first.commit(position)

        return self.reader_from(await context.checkpoint("0", commit=commit))


class Automatic(Brokered, type="suite_automatic"):
    """Count, committing what was read before it is acked."""

    async def reader(self, connection: Connection, context: Context) -> NumberReader:
        reader = await super().reader(connection, context)
        read = reader.read

        async def read_and_commit() -> Delivery:
            delivery = await read()
            await connection.commit(reader.taken)
            return delivery

        reader.read = read_and_commit
        return reader


@pytest.mark.parametrize("kind", [Stale, Forgetful])
async def test_an_input_that_commits_to_a_closed_connection_is_found(tmp_path, kind):
    component = kind(group=str(tmp_path))
    with pytest.raises(BaseException, match=r"the connection that is open|DID NOT RAISE"):
        await TestBrokered().test_commits_go_to_the_connection_that_is_open(component, tmp_path)


async def test_an_input_that_commits_before_the_ack_is_found(tmp_path):
    suite, component = TestBrokered(), Automatic(group=str(tmp_path))
    suite.expected = lambda component: sample(0, 12)["id"].to_pylist()
    with pytest.raises(AssertionError, match="did not come again"):
        await suite.test_what_was_in_flight_when_its_partition_was_released_comes_again(component, tmp_path)


async def test_an_input_that_commits_without_saying_so_is_found(tmp_path):
    with pytest.raises(AssertionError, match="committing = True"):
        await TestNumbers().test_reads_everything_in_order(Brokered(group=str(tmp_path)), tmp_path)


class HastyReader(NumberReader):
    """Moves on before it has lent what it took."""

    async def read(self) -> Delivery:
        if self.taken >= self.until:
            raise EndOfInput
        self.taken += 1
        return await self.checkpoint.deliver(sample(self.taken * 2 - 2, 2), self.taken, Origin("suite_hasty"))


class Hasty(Input, type="suite_hasty"):
    """Count, losing what a cancelled read took."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        yield HastyReader(6, await context.checkpoint())


async def test_an_input_that_loses_a_cancelled_read_is_found(tmp_path):
    with pytest.raises(AssertionError):
        await TestNumbers().test_stops_reading_at_the_limit(Hasty(), tmp_path)


class Skipping(Input, type="suite_skipping"):
    """Count, saving the position of whatever was acked last."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        yield SkippingReader(context, ((await context.store.load(context.name)) or {}).get("position", 0))


class SkippingReader:
    def __init__(self, context: Context, taken: int) -> None:
        self.context, self.taken = context, taken

    async def read(self) -> Delivery:
        if self.taken >= 6:
            raise EndOfInput
        self.taken += 1
        position = self.taken

        async def settle(error: Exception | None) -> None:
            if error is None:
                self.context.ledger.move(self.context.name, {"position": position})

        return Delivery.settled_by(sample(position * 2 - 2, 2), settle)


async def test_an_input_that_skips_what_was_not_acked_is_found(tmp_path):
    suite = TestNumbers()
    await suite.test_resumes_exactly_after_the_last_ack(Numbers(), tmp_path)
    with pytest.raises(AssertionError):
        await suite.test_out_of_order_acks_never_skip(Skipping(), tmp_path)
    with pytest.raises(AssertionError, match="no origin"):
        await suite.test_tells_where_rows_came_from(Skipping(), tmp_path)


class Rows(Output, type="suite_rows"):
    """Keep rows in a list of the class."""

    kept: ClassVar[dict[str, list[Any]]] = {}
    saved: ClassVar[dict[str, Position]] = {}
    where: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield RowWriter(self.kept.setdefault(self.where, []), self.saved)


class RowWriter:
    def __init__(self, rows: list[Any], saved: dict[str, Position]) -> None:
        self.rows, self.saved = rows, saved

    async def write(self, batches: Sequence[Batch]) -> None:
        found = [row for batch in batches for row in without_metadata(batch).to_pylist()]
        bad = {i: "negative" for i, row in enumerate(found) if row["id"] != row["id"] or str(row["id"]).startswith("-")}
        if bad:
            raise RowsRejected(bad)
        if any(isinstance(row["id"], str) for row in found):
            raise PermanentError("id: expected a number")
        for row in found:
            self.rows[:] = [kept for kept in self.rows if kept["id"] != row["id"]]
            self.rows.append(row)

    async def load(self, key: str) -> Position | None:
        return self.saved.get(key)

    async def save(self, positions: dict[str, Position]) -> None:
        self.saved.update(positions)

    async def write_and_save(self, batches: Sequence[Batch], positions: dict[str, Position]) -> None:
        await self.write(batches)
        await self.save(positions)


class TestRows(OutputSuite):
    keyed = transactional = rejects_rows = True

    @pytest.fixture
    def component(self, tmp_path) -> Output:
        Rows.saved.clear()
        Rows.kept.clear()
        return Rows(where=str(tmp_path))

    async def read_back(self, component: Rows) -> Sequence[dict[str, Any]]:
        return Rows.kept.get(component.where, [])

    def with_bad_row(self) -> tuple[Batch, set[int]]:
        return sample(-1, 3), {0}


class Plain(Buffer, type="suite_plain"):
    """Hold a few deliveries."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        yield PlainQueue()

    def most_held(self) -> int:
        return 4


class PlainQueue:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue(4)
        self.ended = asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        await self.queue.put(delivery)

    async def get(self) -> Delivery:
        while self.queue.empty():
            if self.ended.is_set():
                raise EndOfInput
            await asyncio.sleep(0.001)
        return self.queue.get_nowait()

    def end(self) -> None:
        self.ended.set()


class TestPlain(BufferSuite):
    @pytest.fixture
    def component(self) -> Buffer:
        return Plain()


class Greedy(Plain, type="suite_greedy"):
    """Acks what it takes at once."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        queue = PlainQueue()
        put = queue.put

        async def ack_and_put(delivery: Delivery) -> None:
            await delivery.ack()
            await put(Delivery(delivery.batch))

        queue.put = ack_and_put
        yield queue


async def test_a_buffer_that_acks_too_early_is_found(tmp_path):
    with pytest.raises(AssertionError):
        await TestPlain().test_nothing_is_acked_before_it_is_acked_downstream(Greedy(), tmp_path)


class Double(Processor, type="suite_double"):
    """Double the value."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        at = batch.schema.get_field_index("value")
        return [batch.set_column(at, "value", pa.compute.multiply(batch.column(at), 2.0))]

    def row_wise(self) -> bool:
        return True


class TestDouble(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Double()


class Deduplicate(Processor, type="suite_deduplicate"):
    """Drop rows whose id came before."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        seen: set[int] = set()

        def process(batch: Batch) -> Sequence[Batch]:
            ids = batch.column("id").to_pylist()
            new = [at for at, id in enumerate(ids) if id not in seen]
            seen.update(ids)
            return [batch.take(pa.array(new, pa.int64()))] if new else []

        yield process


class TestDeduplicate(ProcessorSuite):
    deterministic = False

    @pytest.fixture
    def component(self) -> Processor:
        return Deduplicate()


class Buffered(Double, type="suite_buffered"):
    """Hand out one list for all results."""

    _results: list[Batch] = PrivateAttr(default_factory=list)

    def process(self, batch: Batch) -> Sequence[Batch]:
        self._results[:] = [batch]
        return self._results


async def test_a_processor_that_reuses_its_results_is_found(tmp_path):
    with pytest.raises(AssertionError):
        await TestDouble().test_a_retry_behind_it_loses_nothing(Buffered(), tmp_path)


async def test_a_processor_that_says_too_few_columns_is_found(tmp_path):
    class Narrow(Totals):
        def columns_read(self):
            return frozenset({"id"})

    with pytest.raises((AssertionError, KeyError)):
        await TestDouble().test_the_columns_it_says_it_reads_are_enough(Narrow(), tmp_path)


class Totals(Double, type="suite_totals"):
    """Sum the values up, and call that row by row."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        return [pa.record_batch({"sum": [pa.compute.sum(batch.column("value")).as_py() or 0.0]})]


async def test_a_processor_that_is_not_row_wise_is_found(tmp_path):
    with pytest.raises(AssertionError):
        await TestDouble().test_row_wise_means_row_by_row(Totals(), tmp_path)


class Lines(Codec, type="suite_lines"):
    """JSON by the standard library."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        try:
            rows = [json.loads(payload) for payload in payloads.to_pylist()]
        except ValueError as error:
            raise PermanentError(str(error)) from error
        return pa.RecordBatch.from_pylist(rows) if rows else pa.record_batch({})

    def encode(self, batch: Batch) -> pa.BinaryArray:
        return pa.array([json.dumps(row).encode() for row in batch.to_pylist()], pa.binary())


class TestLines(CodecSuite):
    garbage = (b"{", b"\xff")

    @pytest.fixture
    def component(self) -> Codec:
        return Lines()


class Lenient(Lines, type="suite_lenient"):
    """Reads garbage as nothing."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        return super().decode(payloads.filter(pa.compute.ends_with(payloads, b"}")))


def test_a_codec_that_swallows_garbage_is_found():
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        TestLines().test_garbage_is_refused(Lenient())


def test_a_test_for_a_missing_capability_does_not_exist():
    class Endless(InputSuite):
        bounded = False

    class Ending(Endless):
        bounded = True

    assert Endless.test_end_of_input_is_said_each_time is None
    assert Ending.test_end_of_input_is_said_each_time is not None
    assert InputSuite.test_end_of_input_is_said_each_time is not None


def test_what_a_component_lacks_is_a_strict_expected_failure():
    class Unfinished(InputSuite):
        lacks = {"test_progress_only_grows": "progress is not counted yet"}

    (mark,) = Unfinished.test_progress_only_grows.pytestmark
    assert (mark.name, mark.kwargs) == ("xfail", {"strict": True, "reason": "progress is not counted yet"})
    assert not hasattr(InputSuite.test_progress_only_grows, "pytestmark")


def test_lacking_an_unknown_test_is_an_error():
    with pytest.raises(TypeError, match="test_no_such"):
        type("Wrong", (InputSuite,), {"lacks": {"test_no_such": "reason"}})


async def test_what_never_happens_is_an_assertion_error():
    suite = TestNumbers()
    suite.patience = 0.01
    with pytest.raises(AssertionError, match="nothing happened"):
        await suite.soon(asyncio.sleep(1))
    with pytest.raises(PenstockError):
        await suite.soon(_fail())


async def _fail() -> None:
    raise PenstockError("no")
