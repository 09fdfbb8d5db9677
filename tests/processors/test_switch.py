"""The switch processor: each row is processed by the case whose condition it meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.absence import shapes_of
from penstock.api import run_sync
from penstock.component import Input, Output, Processor
from penstock.delivery import Batch
from penstock.errors import RowsRejected
from penstock.outputs import memory
from penstock.processors.switch import Switch, _Step, _Switching
from penstock.stream import Stream
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite


class TestTwoCases(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse(
            {
                "type": "switch",
                "cases": [
                    {"when": "id % 3 = 0", "processors": [{"type": "map", "columns": {"value": "value * 2"}}]},
                    {"when": "id % 3 = 1", "processors": [{"type": "map", "columns": {"more": "id"}}]},
                ],
            }
        )


class TestFiltered(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        filtering = {"type": "filter", "condition": "id % 4 = 0"}
        return Switch(cases=[{"when": "id % 2 = 0", "processors": [filtering]}, {"processors": []}])


class TestWithState(ProcessorSuite):
    keeps_state = True
    deterministic = False

    @pytest.fixture
    def component(self) -> Processor:
        return Switch(
            cases=[
                {"when": "id % 2 = 0", "processors": [{"type": "dedupe", "key": "id"}]},
                {"processors": [{"type": "dedupe", "key": "name"}]},
            ]
        )


class TestAwaited(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        limit = {"type": "rate_limit", "rows": 1_000_000}
        shout = {"type": "map", "columns": {"name": "upper(name)"}}
        return Switch(cases=[{"when": "id % 2 = 0", "processors": [shout, limit]}])


class TestWithinAnother(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        inner = {
            "type": "switch",
            "cases": [{"when": "id % 4 = 0", "processors": [{"type": "map", "columns": {"name": "'four'"}}]}],
        }
        return Switch(cases=[{"when": "id % 2 = 0", "processors": [inner]}])


async def process(tmp_path: Path, component: Switch, batch: Batch) -> list[dict[str, Any]]:
    async with lend_context(tmp_path) as context, component.open(context) as call:
        run: Any = call
        return [row for found in run(batch) for row in found.to_pylist()]


def numbers(count: int) -> Batch:
    return pa.record_batch({"n": pa.array(range(count), pa.int64())})


def case(when: str | None, **columns: str) -> dict[str, Any]:
    return {"when": when, "processors": [{"type": "map", "columns": columns}]}


async def test_the_first_case_takes_the_row_and_others_pass(tmp_path: Path) -> None:
    component = Switch(cases=[case("n < 2", x="'a'"), case("n < 4", x="'b'")])
    assert [row["x"] for row in await process(tmp_path, component, numbers(6))] == ["a", "a", "b", "b", None, None]


async def test_null_is_not_true(tmp_path: Path) -> None:
    component = Switch(cases=[case("n > 0", x="'a'"), case(None, x="'rest'")])
    rows = await process(tmp_path, component, pa.record_batch({"n": pa.array([1, None], pa.int64())}))
    assert [row["x"] for row in rows] == ["a", "rest"]


async def test_rows_stay_in_order_though_their_columns_differ_in_type(tmp_path: Path) -> None:
    component = Switch(cases=[case("n % 2 = 0", x="n"), case(None, x="'text'")])
    rows = await process(tmp_path, component, numbers(6))
    assert [(row["n"], row["x"]) for row in rows] == [(0, 0), (1, "text"), (2, 2), (3, "text"), (4, 4), (5, "text")]


async def test_what_only_one_case_makes_is_absent_from_the_others(tmp_path: Path) -> None:
    component = Switch(cases=[case("n = 1", x="n")])
    async with lend_context(tmp_path) as context, component.open(context) as call:
        run: Any = call
        (found,) = run(numbers(3))
    shapes = shapes_of(found)
    assert shapes is not None
    lacking = shapes.lacking("x")
    assert lacking is not None
    assert lacking.tolist() == [True, False, True]


async def test_rows_that_multiply_stay_beside_their_neighbours(tmp_path: Path) -> None:
    lists = pa.record_batch({"n": [0, 1, 2], "list": [[1, 2], [3], [4, 5]]})
    component = Switch(cases=[{"when": "n <> 1", "processors": [{"type": "unnest", "rows": "list"}]}])
    rows = await process(tmp_path, component, lists)
    assert [(row["n"], row["list"]) for row in rows] == [(0, 1), (0, 2), (1, [3]), (2, 4), (2, 5)]


async def test_an_aggregate_sees_the_rows_of_its_case_alone(tmp_path: Path) -> None:
    query = {"type": "sql", "query": "SELECT sum(n) AS n FROM flow"}
    component = Switch(cases=[{"when": "n < 3", "processors": [query]}])
    assert not component.row_wise()
    assert sorted(row["n"] for row in await process(tmp_path, component, numbers(5))) == [3, 3, 4]


async def test_each_refused_row_is_named_with_its_step(tmp_path: Path) -> None:
    divide = [{"type": "filter", "condition": "n <> 4"}, {"type": "map", "columns": {"x": "10 / (n - 2)"}}]
    component = Switch(cases=[{"when": "n % 2 = 0", "processors": divide}, case(None, x="10 / (n - 3)")])
    with pytest.raises(RowsRejected) as refusal:
        await process(tmp_path, component, numbers(6))
    assert set(refusal.value.reasons) == {2, 3}
    assert refusal.value.reasons[2].startswith("0.1.map: ")
    assert refusal.value.reasons[3].startswith("1.0.map: ")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=30))
def test_any_rows_come_out_in_order(values: list[int | None]) -> None:
    component = Switch(
        cases=[
            case("n = 0", x="n"),
            {"when": "n = 1", "processors": [{"type": "filter", "condition": "false"}]},
            case("n = 2", y="'two'"),
        ]
    )
    batch = pa.record_batch({"at": pa.array(range(len(values))), "n": pa.array(values, pa.int64())})
    made: list[dict[str, Any]] = []
    steps = [[_Step("s", p.process, p.row_wise()) for p in one.processors] for one in component.cases]
    for found in _Switching(component._choose, steps).in_thread(batch):
        made += found.to_pylist()
    assert [row["at"] for row in made] == [at for at, n in enumerate(values) if n != 1]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "at least 1 item"),
        ([case(None, x="1"), case("n = 1", x="2")], "has to be the last one"),
        ([case("n =", x="1")], "not a condition"),
        ([case("count(*) > 1", x="1")], "needs many rows"),
        ([case("n IN (SELECT n FROM flow)", x="1")], "a condition on one row"),
        ([{"when": "n = 1", "processors": [{"type": "batch", "count": 2, "timeout_ms": 10}]}], "regroups deliveries"),
    ],
)
def test_cases_that_make_no_sense_are_refused(cases: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Switch(cases=cases)


def test_a_duplicate_in_one_case_does_not_count_in_another(tmp_path: Path) -> None:
    """Two processors that keep state within one switch do not share it."""
    memory.clear("switched")
    rows = pa.record_batch({"kind": ["a", "b", "a", "b"], "key": [1, 1, 1, 1]})
    run_sync(
        Stream(
            input=Input.parse({"type": "memory", "messages": [rows]}),
            pipeline=[
                Switch(
                    cases=[
                        {"when": "kind = 'a'", "processors": [{"type": "dedupe", "key": "key"}]},
                        {"when": "kind = 'b'", "processors": [{"type": "dedupe", "key": "key"}]},
                    ]
                )
            ],
            output=Output.parse({"type": "memory", "key": "switched"}),
        ),
        data=tmp_path,
    )
    assert [row["kind"] for row in memory.rows("switched")] == ["a", "b"]
