"""The dedupe processor: what is the same, how long it is remembered, and that a crash changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Processor
from penstock.delivery import Batch
from penstock.errors import PermanentError, RowsRejected
from penstock.keyedstate import Entry, KeyedState
from penstock.processors.dedupe import Dedupe
from penstock.state.memory import MemoryStore
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite


class TestOneColumn(ProcessorSuite):
    deterministic = False
    keeps_state = True

    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "dedupe", "key": "id"})


class TestManyColumnsInAWindow(ProcessorSuite):
    deterministic = False
    keeps_state = True

    @pytest.fixture
    def component(self) -> Processor:
        return Dedupe(key=["name", "id"], window="1h", max_keys=1000)


class Opened:
    """A processor that is open, and is called as a stream would."""

    def __init__(self, component: Dedupe, folder: Path) -> None:
        self._component, self._folder = component, folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Opened:
        context = await self._stack.enter_async_context(lend_context(self._folder))
        self.states = context.states
        self._process = await self._stack.enter_async_context(self._component.open(context))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def __call__(self, batch: Batch, *, at: float = 0.0) -> list[dict[str, Any]]:
        for state in self.states.opened:
            state.begin(at)
        results: Sequence[Batch] = self._process(batch)  # type: ignore[assignment]
        return [row for each in results for row in each.to_pylist()]


def ids(*values: Any) -> Batch:
    return pa.record_batch({"id": values, "n": range(len(values))})


async def test_the_first_row_of_each_key_stays_in_order(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id"), tmp_path) as process:
        assert process(ids("b", "a", "b", "c", "a")) == [{"id": "b", "n": 0}, {"id": "a", "n": 1}, {"id": "c", "n": 3}]
        assert process(ids("c", "d", "d")) == [{"id": "d", "n": 1}]
        assert process(ids("a", "b")) == []
        assert process(ids()) == []


async def test_columns_together_are_the_key_whatever_they_contain(tmp_path: Path) -> None:
    pairs = [("a", "b"), ("a|b", ""), ("", "a|b"), ("a\\", "b"), ("a", "\\b"), ("a\\|", "b"), ("a", "|b"), ("a|", "b")]
    batch = pa.record_batch({"x": [x for x, _ in pairs * 2], "y": [y for _, y in pairs * 2]})
    async with Opened(Dedupe(key=["x", "y"]), tmp_path) as process:
        assert [(row["x"], row["y"]) for row in process(batch)] == pairs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1.5, 2.5),
        (True, False),
        (b"\x00\xff", b"\x00\xfe"),
        (Decimal("1.10"), Decimal("1.11")),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        ("x" * 5000, "x" * 4999 + "y"),
        ("nul\0", "nul"),
        ("", " "),
    ],
)
async def test_every_plain_type_is_a_key(one: Any, other: Any, tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id"), tmp_path) as process:
        assert len(process(ids(one, other, one))) == 2
        assert process(ids(other, one)) == []


async def test_what_arrives_as_another_type_is_the_same(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id"), tmp_path) as process:
        assert len(process(ids(1, 2))) == 2
        assert process(ids("1", "2")) == []
        words = pa.record_batch({"id": pa.array(["2", "3"]).dictionary_encode()})
        assert process(words) == [{"id": "3"}]


async def test_rows_without_a_key_are_refused_alone_and_nothing_is_remembered_of_the_call(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id"), tmp_path) as process:
        with pytest.raises(RowsRejected, match=r"lacks a value of the key \(id\)") as refused:
            process(ids("a", None, "b", None))
        assert set(refused.value.reasons) == {1, 3}
        with pytest.raises(RowsRejected):
            process(pa.record_batch({"n": [1]}))
        assert len(process(ids("a", "b"))) == 2


async def test_rows_without_a_key_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id", missing="keep"), tmp_path) as process:
        assert [row["n"] for row in process(ids("a", None, "a", None))] == [0, 1, 3]
        assert process(pa.record_batch({"n": [1, 2]})) == [{"n": 1}, {"n": 2}]


async def test_lists_are_not_keys(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id"), tmp_path) as process:
        with pytest.raises(PermanentError, match="column 'id' is of type list"):
            process(ids([1], [2]))


async def test_a_key_is_forgotten_when_its_window_is_over(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id", window="10s"), tmp_path) as process:
        assert len(process(ids("a"), at=100)) == 1
        assert len(process(ids("a", "b"), at=109)) == 1
        assert [row["id"] for row in process(ids("b", "a"), at=110)] == ["a"], "the window begins with the first row"
        assert len(process(ids("a", "b"), at=121)) == 2


async def test_no_more_keys_are_held_than_allowed(tmp_path: Path) -> None:
    async with Opened(Dedupe(key="id", max_keys=3), tmp_path) as process:
        assert len(process(ids("a", "b", "c", "d", "e"))) == 5
        assert len(process.states.opened[0]) == 3
        assert [row["id"] for row in process(ids("c", "a", "e"))] == ["a"]


def test_a_key_is_one_name_or_several() -> None:
    assert Dedupe.model_validate({"key": "id"}) == Dedupe(key=["id"])
    with pytest.raises(ValidationError):
        Dedupe(key=[])


class PutClock(FakeClock):
    """A clock that is put forward or back."""

    put_by = 0.0

    def time(self) -> float:
        return super().time() + self.put_by


@jumping
async def test_a_clock_that_is_put_back_lengthens_no_window(tmp_path: Path) -> None:
    """Else a key of a clock that was ahead for a moment would drop new rows for as long as it was ahead."""
    clock, store = PutClock(), MemoryStore()

    async def seen_by(process: Any, states: Any, *values: str) -> list[str]:
        states.begin()
        found = [row["id"] for each in process(ids(*values)) for row in each.to_pylist()]
        states.keep()
        return found

    component = Dedupe(key="id", window="10s")
    async with lend_context(tmp_path, clock=clock, store=store) as context, component.open(context) as process:
        assert await seen_by(process, context.states, "a") == ["a"]
        clock.put_by = -3600
        await asyncio.sleep(9)
        assert await seen_by(process, context.states, "a", "b") == ["b"]
        await asyncio.sleep(2)
        assert await seen_by(process, context.states, "a", "b") == ["a"], (
            "ten seconds are over, whatever the clock says"
        )
        clock.put_by = 3600
        assert await seen_by(process, context.states, "a") == ["a"], "time has passed, as far as anyone can tell"


def test_what_a_clock_remembered_that_was_ahead_is_remembered_no_longer_than_the_window() -> None:
    ahead = {"a": Entry(b"null", 1e12), "b": Entry(b"null", 1005.0)}
    state = KeyedState("s", ahead, ttl=10, now=1000)
    state.begin(1009)
    assert list(state) == ["a"]
    state.begin(1010)
    assert list(state) == []
