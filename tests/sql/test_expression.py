"""Expressions in options: constants, SQL for each row, and how they are written."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.errors import PermanentError
from penstock.options import Options
from penstock.sql.expression import Expr
from penstock.sql.query import PreparedQuery


class Publish(Options):
    topic: Expr
    key: Expr | None = None


BATCH = pa.record_batch(
    {
        "sensor": ["a", None, "c"],
        "n": pa.array([1, 2, None]),
        "x": [1.5, None, 3.0],
        "on": [True, False, None],
        "raw": pa.array([b"k", None, b"l"]),
    }
)


@pytest.mark.parametrize(
    ("written", "constant"),
    [
        ("readings", "readings"),
        (7, "7"),
        (1.5, "1.5"),
        ("", ""),
        ({"type": "value", "value": "x"}, "x"),
        ({"type": "value", "value": 3}, "3"),
    ],
)
def test_a_constant_is_the_same_for_each_row(written: Any, constant: str) -> None:
    expr = Publish.model_validate({"topic": written}).topic
    assert expr.constant == constant
    assert expr.evaluate(BATCH).to_pylist() == [constant] * 3
    assert expr.evaluate(BATCH.slice(0, 0)).to_pylist() == []
    assert expr.columns_read() == frozenset()


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("sensor", ["a", None, "c"]),
        ("concat('to/', sensor)", ["to/a", "to/", "to/c"]),
        ("'to/' || sensor", ["to/a", None, "to/c"]),
        ("n", ["1", "2", None]),
        ("x", ["1.5", None, "3.0"]),
        ('"on"', ["true", "false", None]),
        ("raw", ["k", None, "l"]),
        ("arrow_cast(sensor, 'Utf8View')", ["a", None, "c"]),
        ("sensor -- the key", ["a", None, "c"]),
        ("'always'", ["always"] * 3),
        ("CASE WHEN n > 1 THEN 'many' END", [None, "many", None]),
    ],
)
@pytest.mark.parametrize("key", ["expr", "value"])
def test_r8_an_expression_gives_one_text_for_each_row_and_nulls_keep_theirs(
    sql: str, wanted: list[str | None], key: str
) -> None:
    expr = Publish.model_validate({"topic": {"type": "expr", key: sql}}).topic
    assert expr.constant is None
    texts = expr.evaluate(BATCH)
    assert texts.type == pa.string()
    assert texts.to_pylist() == wanted
    assert expr.evaluate(BATCH.slice(0, 0)).to_pylist() == []
    assert expr.evaluate(BATCH.slice(1, 1)).to_pylist() == wanted[1:2]


def test_r8_the_same_expression_works_for_several_schemas() -> None:
    expr = Expr(sql="topic")
    for _ in range(2):
        assert expr.evaluate(pa.record_batch({"topic": ["t"], "other": ["o"]})).to_pylist() == ["t"]
        assert expr.evaluate(pa.record_batch({"other": ["o"], "topic": [5]})).to_pylist() == ["5"]


def test_order_is_kept_over_large_batches() -> None:
    batch = pa.record_batch({"n": pa.array(range(50_000))})
    assert Expr(sql="n + 1").evaluate(batch).to_pylist() == [str(n + 1) for n in range(50_000)]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (True, "expected a text"),
        (None, "expected a text"),
        (["a"], "expected a text"),
        ({"type": "expression", "value": "a"}, "expected a text"),
        ({"type": "expr"}, "expected a text"),
        ({"type": "expr", "expr": "a", "value": "a"}, "expected a text"),
        ({"type": "expr", "expr": 5}, "expected a text"),
        ({"type": "expr", "expr": "concat('a', "}, "not an SQL expression"),
        ({"type": "expr", "expr": "nonsense(a)"}, "Invalid function 'nonsense'"),
        ({"type": "expr", "expr": "count(*)"}, "needs many rows"),
        ({"type": "expr", "expr": "a, b"}, "expected one SQL expression"),
        ({"type": "expr", "expr": "a) FROM flow; --"}, "never opened"),
    ],
)
def test_bad_expressions_are_found_when_the_stream_is_built(written: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Publish.model_validate({"topic": written})


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(PermanentError, match="column 'nope', which is not among sensor, n"):
        Expr(sql="nope").evaluate(BATCH)
    with pytest.raises(PermanentError, match="Cannot cast string 'a'"):
        Expr(sql="CAST(sensor AS INT)").evaluate(BATCH)
    with pytest.raises(PermanentError, match="6 results for 3 rows"):
        Expr(sql="unnest([1, 2])").evaluate(BATCH)


def test_it_is_written_back_and_described() -> None:
    schema = Publish.model_json_schema()
    for topic in ("readings", 5, {"type": "expr", "expr": "lower(sensor)"}, {"type": "expr", "value": "sensor"}):
        options = Publish.model_validate({"topic": topic})
        written = options.model_dump(mode="json", exclude_none=True)
        assert Publish.model_validate(written) == options
        jsonschema.validate({"topic": topic}, schema)
        jsonschema.validate(written, schema)
    for topic in (True, {"type": "expr"}, {"type": "value", "expr": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"topic": topic}, schema)


def test_it_is_a_value() -> None:
    expr = Expr(sql="lower(sensor)")
    assert expr == Expr(sql="lower(sensor)") != Expr("lower(sensor)")
    assert len({expr, Expr(sql="lower(sensor)"), Expr("a")}) == 2
    assert copy.deepcopy(expr) == expr == pickle.loads(pickle.dumps(expr))
    assert Publish(topic=Expr("a")).model_copy(deep=True) == Publish(topic=Expr("a"))
    with pytest.raises(AttributeError):
        expr.sql = "upper(sensor)"
    with pytest.raises(ValueError, match="either a constant or"):
        Expr("a", sql="b")
    assert repr(expr) == "Expr(sql='lower(sensor)')"
    assert repr(Expr("a")) == "Expr('a')"


def test_columns_read() -> None:
    assert Expr(sql='concat(sensor, "Room")').columns_read() >= {"sensor", "Room", "room"}


KEYS = st.sampled_from(["table", "a b", "", "Table", "x"])


@given(rows=st.lists(st.none() | st.lists(st.tuples(KEYS, st.none() | st.text(max_size=3)), max_size=4)), key=KEYS)
@settings(max_examples=50)
def test_an_entry_of_the_metadata_is_looked_up_as_the_query_engine_would(
    rows: list[list[tuple[str, str | None]] | None], key: str
) -> None:
    sql = f"__meta_ext [ '{key}' ]"
    batch = pa.record_batch([pa.array(rows, pa.map_(pa.string(), pa.string()))], ["__meta_ext"])
    planned = [value for part in PreparedQuery(f"SELECT {sql} FROM flow").run(batch) for value in part[0].to_pylist()]
    assert Expr(sql=sql).evaluate(batch).to_pylist() == planned
    assert Expr(sql=sql).columns_read() == {"__meta_ext"}


def test_an_entry_of_the_metadata_without_metadata_is_refused() -> None:
    with pytest.raises(PermanentError, match="column '__meta_ext', which is not among sensor, n"):
        Expr(sql="__meta_ext['table']").evaluate(BATCH)
    other = pa.record_batch({"__meta_ext": [{"table": "a"}, {"table": None}]})
    assert Expr(sql="__meta_ext['table']").evaluate(other).to_pylist() == ["a", None]
