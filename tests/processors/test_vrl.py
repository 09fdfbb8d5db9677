"""VRL: what a program makes of rows, what it leaves alone, and what is refused before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.absence import shapes_of
from penstock.component import Processor
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.metadata import without_metadata
from penstock.processors.vrl import Vrl
from penstock.processors.vrl.program import fields
from penstock.testing.suites import ProcessorSuite

EXACT = pa.record_batch(
    {
        "id": pa.array([1, 2], pa.int32()),
        "amount": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
        "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "raw": [b"\xff", b""],
        "big": pa.array([2**64 - 1, 0], pa.uint64()),
        "far": [float("inf"), 1e300],
        "tags": [["a", "b"], []],
        "inner": [{"x": 1, "y": None}, None],
        "__meta_source": ["s", "t"],
    }
)


def remap(batch: Batch, statement: str, **options: Any) -> Sequence[Batch]:
    return Vrl(statement=statement, **options).process(batch)


def rows(batch: Batch, statement: str, **options: Any) -> list[dict[str, Any]]:
    return [row for made in remap(batch, statement, **options) for row in without_metadata(made).to_pylist()]


class TestVrl(ProcessorSuite):
    @pytest.fixture(
        params=[".name = upcase!(.name)\n.new = .id", '. = merge(., {"x": 1})', "del(.value)", ". = [., .]"]
    )
    def component(self, request: pytest.FixtureRequest) -> Processor:
        return Vrl(statement=request.param)


def test_columns_that_the_program_leaves_alone_keep_type_and_every_digit() -> None:
    (found,) = remap(EXACT, ".new = .id")
    assert found.select(EXACT.schema.names).equals(EXACT)
    assert found["new"].to_pylist() == [1, 2]
    (read,) = remap(EXACT.drop_columns(["big"]), ".y = .tags[0]\n.z = .inner.x\n.w = .amount\nx = .at")
    assert read.select(EXACT.drop_columns(["big"]).schema.names).equals(EXACT.drop_columns(["big"]))
    assert read["z"].to_pylist() == [1, None]


def test_a_column_that_is_changed_keeps_its_type_where_that_holds_the_values() -> None:
    (found,) = remap(EXACT, '.id = to_int!(.id) + 1\n.at = t"2024-05-01T00:00:00Z"'.replace('"', "'"))
    assert found.schema.field("id").type == pa.int32()
    assert found["id"].to_pylist() == [2, 3]
    assert found.schema.field("at").type == pa.timestamp("us", "UTC")
    assert found["at"].to_pylist() == [datetime(2024, 5, 1, tzinfo=UTC)] * 2
    (text,) = remap(EXACT, '.id = "x"')
    assert text["id"].to_pylist() == ["x", "x"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (".p = parse_json!(.s)", [{"a": 1, "s": '{"x":1}', "p": {"x": 1}}]),
        ("del(.s)", [{"a": 1}]),
        (". = {}", [{}]),
        (". = []", []),
        ('. = [{"x": 1}, {"x": 2, "y": true}]', [{"x": 1, "y": None}, {"x": 2, "y": True}]),
        (".b, err = to_int(.s)", [{"a": 1, "s": '{"x":1}', "b": 0}]),
        (".d = .missing", [{"a": 1, "s": '{"x":1}', "d": None}]),
        ('."odd name" = .a', [{"a": 1, "s": '{"x":1}', "odd name": 1}]),
        ("abort", []),
        ("if .a == 1 { abort }", []),
        ("if .a == 2 { abort }", [{"a": 1, "s": '{"x":1}'}]),
    ],
)
def test_what_a_program_makes_of_a_row(statement: str, expected: list[Any]) -> None:
    assert rows(pa.record_batch({"a": [1], "s": ['{"x":1}']}), statement) == expected


def test_a_deleted_field_is_absent_and_a_null_stays_null() -> None:
    batch = pa.record_batch({"a": [1, 2, 3], "b": ["x", None, "z"]})
    (found,) = remap(batch, "if .a == 1 { del(.b) }")
    shapes = shapes_of(found)
    assert shapes is not None
    lacking = shapes.lacking("b")
    assert lacking is not None
    assert lacking.tolist() == [True, False, False]
    (again,) = remap(found, ".seen = exists(.b)")
    assert again["seen"].to_pylist() == [False, True, True]


def test_rows_that_come_of_one_row_carry_its_metadata() -> None:
    (found,) = remap(EXACT.drop_columns(["big", "far"]), "if .id == 1 { . = [., .] }")
    assert found["__meta_source"].to_pylist() == ["s", "s", "t"]


@pytest.mark.parametrize(
    ("statement", "batch", "reason"),
    [
        (".b = to_int!(.s)\n", {"s": ["x"]}, 'function call error for "to_int".* \\(line 1, column 6\\)'),
        ("\n.b = to_int!(.s)", {"s": ["x"]}, "line 2"),
        ('. = "text"', {"s": ["x"]}, "made a string of the row"),
        (". = [1]", {"s": ["x"]}, "made an integer of the row"),
        (".b = .n", {"n": pa.array([2**63], pa.uint64())}, "more than the 64 bits"),
        (".b = to_float!(.n)", {"n": ["1e400"]}, "column `b`: expected a finite number, the program made inf"),
        (".b = parse_float!(.n)", {"n": ["-inf"]}, "expected a finite number, the program made -inf"),
        ('.b = [{"c": to_float!(.n) * 10.0}]', {"n": [1e308]}, "column `b`: expected a finite number"),
    ],
)
def test_what_a_program_fails_at_refuses_the_row(statement: str, batch: dict[str, Any], reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        remap(pa.record_batch(batch), statement)


def test_abort_may_refuse_the_row_with_its_message() -> None:
    with pytest.raises(PermanentError, match="aborted: not today"):
        remap(pa.record_batch({"a": [1]}), 'abort "not today"', drop_on_abort=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"statement": ".b = parse_json(.s)"}, "unhandled fallible assignment"),
        ({"statement": ".a = 1\n.b = = 2"}, ":2:6"),
        ({"statement": ".b = nothing(.s)"}, "call to undefined function"),
        ({"statement": '.b = get_env_var!("PATH")'}, "line 1: get_env_var asks this machine"),
        ({"statement": '.a = 1\n.b = http_request!("http://127.0.0.1")'}, "line 2: http_request asks"),
        ({"statement": ".x = " + " + ".join(["1"] * 20_000)}, "nested too deeply"),
        ({"statement": ".x = " + "!" * 20_000 + "true"}, "nested too deeply"),
        ({"statement": "." + "a" * 300_000}, "at most"),
        ({"statement": ".a = 1", "timezone": "Nowhere"}, "no zone is called 'Nowhere'"),
    ],
)
def test_what_is_wrong_with_a_program_is_told_when_it_is_built(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Vrl.model_validate(options)
    assert expected in str(caught.value)


def test_functions_that_ask_the_machine_are_run_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_WORD", "hello")
    statement = '.b = get_env_var!("PENSTOCK_TEST_WORD")\n.c = "get_env_var(x)"\n.get_env_var = 1'
    (row,) = rows(pa.record_batch({"a": [1]}), statement, allow_host=True)
    assert row["b"] == "hello"
    Vrl(statement='.c = "get_env_var(x)" # get_env_var(x)\n.get_env_var = 1')


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (".a = .b.c + 1.5", {"a", "b"}),
        ('."x y" = parse_json!(.s).inner', {"x y", "s"}),
        ("x = .a; y = x.b; .c = y[0].d", {"a", "c"}),
        ('.a = ".hidden" # .comment', {"a"}),
        (".@timestamp = now()", {"@timestamp"}),
        (". = {}", None),
        (".a = encode_json(.)", None),
        (".(a | b) = 1", None),
        (".[0] = 1", None),
    ],
)
def test_the_fields_that_a_program_may_look_at(statement: str, named: set[str] | None) -> None:
    assert fields(statement) == (None if named is None else frozenset(named))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    "bool": st.booleans(),
    "list": st.lists(st.integers(-5, 5), max_size=3),
}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_values_go_through_a_program_as_they_are(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    types = {
        "int": pa.int64(),
        "float": pa.float64(),
        "text": pa.string(),
        "bool": pa.bool_(),
        "list": pa.list_(pa.int64()),
    }
    batch = pa.record_batch(
        {
            name: pa.array(data.draw(st.lists(st.none() | values, min_size=count, max_size=count)), types[name])
            for name, values in VALUES.items()
        }
    )
    for statement in (". = .", "\n".join(f".copy_{name} = .{name}" for name in VALUES)):
        (found,) = remap(batch, statement)
        assert found.select(batch.schema.names).equals(batch)
        for name in VALUES:
            if f"copy_{name}" in found.schema.names:
                copied = found[f"copy_{name}"].to_pylist()
                for value, sent in zip(copied, batch[name].to_pylist(), strict=True):
                    assert value == (pytest.approx(sent, rel=4e-16, abs=0) if isinstance(sent, float) else sent)


@pytest.mark.parametrize(
    ("statement", "multiplies"),
    [
        (".a = 1", False),
        (". = [., .]", True),
        (".a = 1\n.=[.]", True),
        ("., err = parse_json(.text)", True),
        ("if .a == 1 { .b = . }", False),
        ('. |= {"a": 1}', False),
        (".c = .a.b == 1", False),
    ],
)
def test_only_a_program_that_assigns_the_event_may_make_several_rows_of_one(statement: str, multiplies: bool) -> None:
    assert Vrl(statement=statement).multiplies() is multiplies
