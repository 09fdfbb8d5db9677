"""The map processor: columns computed, cast, renamed and dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.absence import mark, shapes_of
from penstock.component import Processor
from penstock.errors import PermanentError
from penstock.processors.map import Map
from penstock.testing.suites.processors import ProcessorSuite


class TestComputed(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "map", "columns": {"twice": "value * 2", "name": "upper(name)"}})


class TestOnlySome(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Map(cast={"id": "varchar"}, rename={"name": "title"}, columns={"half": "value / 2"}, others="drop")


class TestWithoutSql(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Map(rename={"name": "title"}, drop=["value"])


BATCH = pa.record_batch({"a": [1, 2], "b": ["3", "4"], "c": [[1], []], "__meta_source": ["x", "y"]})


def process(**options: Any) -> dict[str, list[Any]]:
    (found,) = Map(**options).process(BATCH)
    return found.to_pydict()


def test_expressions_see_the_row_as_it_came_so_that_columns_can_trade_their_values() -> None:
    found = process(columns={"a": "b", "b": "a"})
    assert found == {"a": ["3", "4"], "b": [1, 2], "c": [[1], []], "__meta_source": ["x", "y"]}


def test_a_computed_column_keeps_its_place_and_a_new_one_comes_last() -> None:
    assert list(process(columns={"z": "a + 1", "a": 1})) == ["a", "b", "c", "__meta_source", "z"]


def test_a_cast_column_can_be_renamed() -> None:
    assert process(cast={"b": "bigint"}, rename={"b": "number"}, others="drop") == {
        "number": [3, 4],
        "__meta_source": ["x", "y"],
    }


def test_a_renamed_column_makes_room_for_a_computed_one() -> None:
    assert process(rename={"a": "old"}, columns={"n": "a * 10"}, drop="c")["old"] == [1, 2]
    assert process(rename={"a": "b"}, drop=["b"])["b"] == [1, 2]
    assert process(rename={"a": "b", "b": "a"})["a"] == ["3", "4"]


def test_an_expression_reads_metadata() -> None:
    assert process(columns={"origin": "__meta_source"})["origin"] == ["x", "y"]
    assert Map(columns={"origin": "__meta_source"}).reads_metadata()
    assert not Map(columns={"origin": "a"}).reads_metadata()


def test_a_column_that_a_row_lacks_is_absent_under_its_new_name() -> None:
    batch = pa.record_batch({"a": [1, 3, None], "b": pa.array([2, None, None], pa.int64())})
    batch = mark(batch, {"b": np.array([False, True, False])})
    (found,) = Map(rename={"b": "c"}, columns={"d": "a"}).process(batch)
    shapes = shapes_of(found)
    assert shapes is not None
    assert shapes.names == {"c"}
    lacking = shapes.lacking("c")
    assert lacking is not None
    assert lacking.tolist() == [False, True, False]


def test_types_that_sql_does_not_touch_stay_as_they_are() -> None:
    batch = pa.record_batch({"k": pa.array(["x", "y"]).dictionary_encode(), "n": pa.array([1, 2], pa.int16())})
    (found,) = Map(columns={"m": "n + 1"}).process(batch)
    assert found.schema.field("k").type == batch.schema.field("k").type
    assert found.schema.field("n").type == pa.int16()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected `columns`, `cast`, `rename` or `drop`"),
        ({"columns": {"x": "a +"}}, "column 'x': not an SQL expression"),
        ({"columns": {"x": "nonsense(a)"}}, "Invalid function"),
        ({"columns": {"x": "count(*)"}}, "needs many rows"),
        ({"columns": {"x": "1"}, "cast": {"x": "bigint"}}, "both computed and cast"),
        ({"columns": {"x": "1"}, "rename": {"a": "x"}}, "two columns are to be called 'x'"),
        ({"rename": {"a": "x", "b": "x"}}, "two columns are to be called 'x'"),
        ({"rename": {"a": "b"}, "drop": ["a"]}, "is dropped, but named in another option"),
        ({"cast": {"a": "nonsense"}}, "not an SQL type"),
        ({"cast": {"a": "bigint) FROM flow --"}}, "expected an SQL type"),
        ({"drop": ["__meta_source"]}, "is metadata"),
    ],
)
def test_what_contradicts_itself_is_refused_when_it_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        Map(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"nothing": "x"}}, "no column 'nothing' to rename"),
        ({"rename": {"a": "b"}}, "cannot be renamed to 'b'"),
        ({"cast": {"nothing": "bigint"}}, "nothing"),
        ({"columns": {"x": "9223372036854775807 + a"}}, "."),
        ({"cast": {"a": "tinyint"}, "columns": {"x": "CAST(b || '000' AS tinyint)"}}, "."),
    ],
)
def test_what_cannot_be_done_refuses_the_rows(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        Map(**options).process(BATCH)


def test_a_dropped_column_may_be_missing() -> None:
    assert process(drop=["nothing", "c"])["a"] == [1, 2]


def test_only_what_is_named_is_read_where_the_others_are_dropped() -> None:
    narrow = Map(columns={"x": "a + b"}, rename={"c": "d"}, others="drop").columns_read()
    assert narrow is not None
    assert {"a", "b", "c"} <= narrow
    assert Map(columns={"x": "a"}).columns_read() is None


def test_a_window_makes_it_depend_on_other_rows() -> None:
    assert not Map(columns={"n": "row_number() OVER ()"}).row_wise()
