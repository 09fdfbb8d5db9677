from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from penstock.apps.health import acceptance
from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.export import division
from penstock.apps.health.export import parts as module
from penstock.apps.health.export.parts import HealthParts
from penstock.apps.health.export.slices import Part, elements, unpack
from penstock.apps.health.raw import Raw
from penstock.component import Buffer, Queue
from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput, PermanentError, TransientError
from penstock.identifiers import new_id
from penstock.platform.turns import LANES
from penstock.testing.contexts import lend_context
from penstock.testing.suites.buffers import BufferSuite

from .exports import accepted, divided
from .parsing import ALL_SHAPES

BODY = json.dumps({"data": ALL_SHAPES}).encode()


def points(count: int) -> bytes:
    point = b'{"qty":12.5,"date":"2026-02-03 07:15:00 +0100"}'
    return b'{"data":{"metrics":[{"name":"step_count","units":"count","data":[' + b",".join([point] * count) + b"]}]}}"


class TestHealthParts(BufferSuite):
    keeps_rows = False

    @pytest.fixture
    def component(self, tmp_path: Path) -> Buffer:
        return HealthParts(path=tmp_path)

    def sample(self, start: int, rows: int) -> Batch:
        said = [acceptance.batch(accepted(raw=f"2026/02/{start + row}")) for row in range(rows)]
        schema = acceptance.SCHEMA
        columns = [value for batch in said for value in batch.column("accepted").to_pylist()]
        return Batch.from_pydict({"accepted": columns}, schema=schema)


Body = bytes | Exception | Callable[[], BinaryIO]


class Bodies:
    """A buffer over raw bodies that are in memory."""

    def __init__(self, queue: Queue, bodies: dict[str, Body]) -> None:
        self.queue, self.bodies = queue, bodies
        self.settled: list[Exception | None] = []

    async def put(self, *names: str, **values: Any) -> None:
        async def settle(error: Exception | None) -> None:
            self.settled.append(error)

        rows = [accepted(raw=name, **values) for name in names]
        columns = [value for row in rows for value in acceptance.batch(row).column("accepted").to_pylist()]
        batch = Batch.from_pydict({"accepted": columns}, schema=acceptance.SCHEMA)
        await self.queue.put(Delivery.settled_by(batch, settle))

    async def drain(self) -> list[Delivery]:
        self.queue.end()
        found = []
        while True:
            try:
                found.append(await self.queue.get())
            except EndOfInput:
                return found


@asynccontextmanager
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **bodies: bytes | Exception) -> AsyncIterator[Bodies]:
    def open(self: Raw, location: str) -> BinaryIO:
        body = bodies.get(location, PermanentError(f"the raw body {location} is not there"))
        if isinstance(body, Exception):
            raise body
        return io.BytesIO(body) if isinstance(body, bytes) else body()

    monkeypatch.setattr(Raw, "open", open)
    async with lend_context(tmp_path) as context, HealthParts(path=tmp_path).open(context) as queue:
        yield Bodies(queue, bodies)


def parts(found: list[Delivery]) -> list[Part]:
    return [unpack(delivery.batch) for delivery in found]


async def test_the_parts_of_a_delivery_share_its_loan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch, large=points(7_500), small=BODY) as bodies:
        await bodies.put("large", "small")
        found = await bodies.drain()
        assert [(part.accepted.raw, part.number, part.last) for part in parts(found)] == [
            *[("large", 0, False), ("large", 1, False), ("large", 2, True), ("small", 0, True)]
        ]
        for delivery in found[:-1]:
            await delivery.ack()
            assert bodies.settled == []
        await found[-1].ack()
        assert bodies.settled == [None]


async def test_a_part_that_cannot_be_written_nacks_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch, large=points(7_500)) as bodies:
        await bodies.put("large")
        first, second, third = await bodies.drain()
        await first.ack()
        await second.nack(error := TransientError("the database is away"))
        await third.ack()
        assert bodies.settled == [error]


async def test_the_parts_are_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch, a=points(7_500)) as bodies:
        await bodies.put("a")
        await bodies.put("a")
        found = parts(await bodies.drain())
        assert found[:3] == found[3:] == divided(points(7_500), raw="a", bytes=0)


async def test_a_body_is_cut_no_further_than_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    whole = division._groups

    def counted(slices: Any) -> Any:
        for group in whole(slices):
            made.append(len(group))
            yield group

    monkeypatch.setattr(division, "_groups", counted)
    async with opened(tmp_path, monkeypatch, a=points(100_000)) as bodies:
        await bodies.put("a")
        await bodies.queue.get()
        assert len(made) == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body ends at byte 0; expected a JSON object"),
        (BODY[:-100], "the body ends at byte"),
        (PermanentError("the raw body was removed"), "the raw body was removed"),
        (gzip.compress(BODY)[:-10], "the compressed body ends before its end"),
    ],
)
async def test_l15_a_body_that_cannot_be_read_is_one_part_that_says_why(
    body: bytes | Exception, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch, a=body, b=BODY) as bodies:
        await bodies.put("a")
        await bodies.put("b")
        first, second = parts(await bodies.drain())
        assert (first.number, first.last, first.slices) == (0, True, [])
        assert first.error is not None
        assert error in first.error
        assert second.error is None


async def test_what_cannot_be_read_now_is_read_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch, a=TransientError("the store is away")) as bodies:
        await bodies.put("a")
        for _ in range(2):
            with pytest.raises(TransientError, match="the store is away"):
                await bodies.queue.get()
        assert bodies.settled == []
        bodies.bodies["a"] = BODY
        [part] = parts(await bodies.drain())
        assert part.error is None


async def test_a_defect_of_the_cutter_does_not_stop_what_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module.divide

    def broken(accepted: Accepted, open: Callable[[], BinaryIO], limit: int) -> Any:
        if accepted.raw == "a":
            raise RuntimeError("a defect")
        return whole(accepted, open, limit)

    monkeypatch.setattr(module, "divide", broken)
    async with opened(tmp_path, monkeypatch, b=BODY) as bodies:
        await bodies.put("a", "b")
        first, second = parts(await bodies.drain())
        assert (first.number, first.last, first.error) == (0, True, "could not be cut: RuntimeError: a defect")
        assert second.error is None


async def test_a_body_that_changes_while_it_is_read_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shrinking(io.BytesIO):
        seeks = 0

        def __init__(self) -> None:
            super().__init__(points(20_000))

        def seek(self, position: int, whence: int = 0, /) -> int:
            Shrinking.seeks += 1
            if Shrinking.seeks == 3:
                self.truncate(500_000)
            return super().seek(position, whence)

    async with opened(tmp_path, monkeypatch, a=Shrinking) as bodies:
        await bodies.put("a")
        found = parts(await bodies.drain())
        assert [part.last for part in found] == [False] * (len(found) - 1) + [True]
        assert found[-1].error == "the body changed while it was read: the body ends at byte 500000"


async def test_a_body_does_not_wait_for_all_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.divide

    def endless(accepted: Accepted, open: Callable[[], BinaryIO], limit: int) -> Any:
        if accepted.raw != "endless":
            return whole(accepted, open, limit)
        return (Part(accepted=accepted, number=number, last=False) for number in itertools.count())

    monkeypatch.setattr(module, "divide", endless)
    async with opened(tmp_path, monkeypatch, small=BODY) as bodies:
        await bodies.put("endless", bytes=50_000_000)
        await bodies.queue.get()
        for user in (7, 8):  # of the same user, and of another
            await bodies.put("small", user=user, bytes=len(BODY))
            while True:
                [part] = parts([await bodies.queue.get()])
                if part.accepted.raw == "small":
                    break
            assert part.accepted.user == user


async def test_looking_at_a_body_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, whole = threading.Event(), module.divide

    def slow(accepted: Accepted, open: Callable[[], BinaryIO], limit: int) -> Any:
        if accepted.raw == "slow":
            looked.wait(30)
        yield from whole(accepted, open, limit)

    monkeypatch.setattr(module, "divide", slow)
    async with opened(tmp_path, monkeypatch, slow=BODY, small=BODY) as bodies:
        await bodies.put("slow", bytes=50_000_000)
        await bodies.put("small", bytes=len(BODY))
        [part] = parts([await bodies.queue.get()])
        assert part.accepted.raw == "small"
        looked.set()
        assert [part.accepted.raw for part in parts(await bodies.drain())] == ["slow"]


async def test_a_body_that_is_larger_than_it_says_is_cut_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves on to where the large ones are, is closed, and opened again behind what was handed out."""
    body = points(200_000)
    assert len(body) > LANES[1][0]
    async with opened(tmp_path, monkeypatch, a=body, b=body, c=body) as bodies:
        for user, name in enumerate("abc"):
            await bodies.put(name, user=user, bytes=1000)
        found = parts(await bodies.drain())
    for user, name in enumerate("abc"):
        own = [part for part in found if part.accepted.raw == name]
        assert own == divided(body, raw=name, user=user, bytes=1000)


async def test_a_cancelled_get_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()
    whole = module.divide

    def slow(accepted: Accepted, open: Callable[[], BinaryIO], limit: int) -> Any:
        for part in whole(accepted, open, limit):
            ready.wait(10)
            yield part

    monkeypatch.setattr(module, "divide", slow)
    async with opened(tmp_path, monkeypatch, a=points(7_500)) as bodies:
        await bodies.put("a")
        for _ in range(3):
            getting = asyncio.ensure_future(bodies.queue.get())
            await asyncio.sleep(0.01)
            getting.cancel()
            await asyncio.wait({getting})
            assert getting.cancelled()
        ready.set()
        found = await bodies.drain()
        assert [part.number for part in parts(found)] == [0, 1, 2]
        for delivery in found:
            await delivery.ack()
        assert bodies.settled == [None]


async def test_what_was_not_handed_out_is_not_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch, a=points(7_500)) as bodies:
        await bodies.put("a")
        await (await bodies.queue.get()).ack()
    assert bodies.settled == []


async def test_a_row_that_is_no_acceptance_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, monkeypatch) as bodies:
        await bodies.queue.put(Delivery(Batch.from_pydict({"accepted": [b"{}"]})))
        await bodies.queue.put(Delivery(Batch.from_pydict({"other": [b"{}"]})))
        found = await bodies.drain()
        assert [type(delivery.error) for delivery in found] == [PermanentError] * 2


async def test_bodies_are_found_in_the_raw_store(tmp_path: Path) -> None:
    raw, ingest = Raw(tmp_path), new_id()
    body = gzip.compress(BODY)
    async with raw.receive(ingest) as writing:
        await writing.write(body)
        known = accepted(id=ingest, bytes=len(body), content_encoding="gzip")
        stored = await writing.keep(known)
    async with lend_context(tmp_path) as context, HealthParts(path=tmp_path).open(context) as queue:
        await queue.put(Delivery(acceptance.batch(stored)))
        [slices] = [unpack((await queue.get()).batch).slices]
    assert slices == divided(BODY)[0].slices


CSV = 'Date,"Step\nCount",Note\r\n2026-02-03 07:15:00 +0100,1,"a\nb"\r\n2026-02-03 07:16:00 +0100,2,é\n'


def test_a_csv_is_cut_between_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    header = b'Date,"Step\nCount",Note\n'
    [part] = divided(CSV.encode(), form="csv")
    [one] = part.slices
    assert (one.section, one.count, one.path, part.format) == ("csv", 2, "row", "csv")
    assert one.payload == header + CSV.split("Note\r\n")[1].encode()
    monkeypatch.setattr(division.Boundaries.__init__, "__defaults__", (1, None))
    monkeypatch.setattr(division, "_BLOCK", 5)
    found = [one for part in divided(CSV.encode("utf-16"), form="csv") for one in part.slices]
    assert [(one.first, one.payload) for one in found] == [
        (0, header + b'2026-02-03 07:15:00 +0100,1,"a\nb"\n'),
        (1, header + "2026-02-03 07:16:00 +0100,2,é\n".encode()),
    ]


@pytest.mark.parametrize(("body", "count"), [(b"Date,Steps", 0), (b"Date,Steps\n", 0), (b"Date,Steps\nx,1", 1)])
def test_a_csv_may_end_anywhere(body: bytes, count: int) -> None:
    [part] = divided(body, form="csv")
    assert part.error is None
    assert sum(one.count or 0 for one in part.slices) == count


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body ends at byte 0; expected a first line of names"),
        (b'Date\n"a,1\n', 'the body ends at byte 10 within quotes; expected "'),
        (b"Date\n\xff\n", "at byte 5: expected UTF-8, got byte 0xff"),
        (b"Date\n\xc3", "at byte 5: expected UTF-8, got byte 0xc3"),
        (b"x" * 70_000 + b"\n", "expected a first line of names, got one of more than 65536 bytes"),
    ],
)
def test_l15_a_broken_csv_is_one_part_that_says_why(body: bytes, error: str) -> None:
    [part] = divided(body, form="csv")
    assert part.error == error


MULTIPART = b"".join(
    [
        b'--B\r\nContent-Disposition: form-data; name="a"; filename="steps.csv"\r\nContent-Type: text/csv\r\n\r\n',
        *[CSV.encode(), b'\r\n--B\r\nContent-Disposition: form-data; name="b"\r\n\r\n', BODY, b"\r\n--B--\r\n"],
    ]
)


@pytest.mark.parametrize(
    "values",
    [
        {"headers": {"boundary": "B"}},
        {"content_type": 'multipart/form-data; charset=utf-8; boundary="B"'},
        {"headers": {"boundary": "B"}, "content_encoding": "gzip"},
    ],
)
def test_all_files_of_a_multipart_body_are_read(values: dict[str, Any]) -> None:
    body = gzip.compress(MULTIPART) if values.get("content_encoding") else MULTIPART
    [part] = divided(body, form="multipart", **values)
    assert part.error is None
    first, *others = part.slices
    assert (first.section, first.name, first.path, first.count) == ("csv", "steps.csv", "steps.csv:row", 2)
    assert others[0].path == "b:data.metrics[0].data"
    assert [elements(one.payload) for one in others] == [elements(one.payload) for one in divided(BODY)[0].slices]


@pytest.mark.parametrize("body", [MULTIPART[:-20], MULTIPART[:100], b"", b"garbage", MULTIPART.replace(b'{"', b"{", 1)])
def test_l15_of_a_broken_multipart_body_nothing_is_handed_out(body: bytes) -> None:
    [part] = divided(body, form="multipart", headers={"boundary": "B"})
    assert part.error is not None
    assert part.slices == []


def test_a_multipart_body_needs_its_boundary() -> None:
    [part] = divided(MULTIPART, form="multipart")
    assert part.error == "expected a boundary in Content-Type multipart/form-data, got none"


def test_the_lists_of_a_domain_are_read() -> None:
    body = b'{"respiratory_metrics": [{"a": 1}, {"a": 2}], "data": [{"b": 1}], "one": {"c": 1}, "user": 5}'
    [part] = divided(body, form="domain:respiratory")
    assert part.format == "domain"
    assert [(one.section, one.name, one.path, elements(one.payload)) for one in part.slices] == [
        ("domain", "respiratory_metrics", "respiratory_metrics", [{"a": 1}, {"a": 2}]),
        ("domain", "data", "data", [{"b": 1}]),
        ("domain", "one", "one", [{"c": 1}]),
    ]
    for body, expected in [(b'[{"a": 1}]', [{"a": 1}]), (b' {"a": 1} ', [{"a": 1}])]:
        [part] = divided(body, form="domain:respiratory")
        assert [elements(one.payload) for one in part.slices] == [expected]
    assert divided(b"{}", form="domain:respiratory")[0].slices == []
