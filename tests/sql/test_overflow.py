"""Arithmetic is exact or refused: no result wraps around, whatever the type, the operator and the way it is written."""

from __future__ import annotations

import operator
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import ConfigError, PermanentError
from penstock.processors.sql import Sql
from penstock.sql.expression import Expr
from penstock.sql.query import PreparedQuery

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def limits(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_signed_integer(kind):
        return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1
    return 0, 2**kind.bit_width - 1


def values(kind: pa.DataType) -> st.SearchStrategy[int]:
    low, high = limits(kind)
    return st.one_of(st.integers(low, high), st.sampled_from([low, low + 1, high, high - 1, 0, 1, high // 2]))


@lru_cache(maxsize=64)
def prepared(sql: str) -> PreparedQuery:
    return PreparedQuery(f"SELECT {sql} AS value FROM flow")


def computed(sql: str, **columns: pa.Array) -> list[Any]:
    parts = prepared(sql).run(pa.record_batch(columns))
    return [value for part in parts for value in part.column(0).to_pylist()]


def computed_or_refused(sql: str, **columns: pa.Array) -> list[Any] | None:
    """The result, or None if it is refused because it would overflow; any other refusal is an error."""
    try:
        return computed(sql, **columns)
    except PermanentError as error:
        if "out of range" in str(error) or "verflow" in str(error):
            return None
        raise


@pytest.mark.parametrize("sign", ["+", "-", "*"])
@pytest.mark.parametrize("kind", INTEGERS, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_two_integers_of_a_type_give_the_exact_result_or_are_refused(
    kind: pa.DataType, sign: str, data: st.DataObject
) -> None:
    left, right = data.draw(values(kind)), data.draw(values(kind))
    exact = OPERATORS[sign](left, right)
    columns = {"a": pa.array([left], kind), "b": pa.array([right], kind)}
    low, high = limits(kind)
    if low <= exact <= high:
        assert computed(f"a {sign} b", **columns) == [exact]
    else:
        with pytest.raises(PermanentError, match="out of range"):
            computed(f"a {sign} b", **columns)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_integers_of_two_types_give_the_exact_result_or_are_refused(data: st.DataObject) -> None:
    one, other = data.draw(st.sampled_from(INTEGERS)), data.draw(st.sampled_from(INTEGERS))
    left, right = data.draw(values(one)), data.draw(values(other))
    sign = data.draw(st.sampled_from(sorted(OPERATORS)))
    found = computed_or_refused(f"a {sign} b", a=pa.array([left], one), b=pa.array([right], other))
    assert found in (None, [OPERATORS[sign](left, right)])


def expressions() -> st.SearchStrategy[tuple[str, int]]:
    """Texts of arithmetic with as few brackets as it needs, or more, and how tightly their outermost operator binds."""
    leaf = st.one_of(
        st.sampled_from(["a", "b", 'flow."a"', "CAST(a AS BIGINT)", "b::bigint", "coalesce(a, b)", "c"]),
        st.integers(0, 2**62).map(str),
    ).map(lambda text: (text, 9))

    def grow(children: st.SearchStrategy[tuple[str, int]]) -> st.SearchStrategy[tuple[str, int]]:
        def joined(sign: str, left: tuple[str, int], right: tuple[str, int], space: str) -> tuple[str, int]:
            binds = 2 if sign == "*" else 1
            one = left[0] if left[1] >= binds else f"({left[0]})"
            other = right[0] if right[1] > binds else f"({right[0]})"
            return f"{one}{space}{sign}{space or ' '}{other}", binds

        def negated(inner: tuple[str, int]) -> tuple[str, int]:
            return (f"- {inner[0]}" if inner[1] > 2 else f"- ({inner[0]})"), 3

        chosen = st.tuples(children, children).map(
            lambda pair: (f"CASE WHEN a > 0 THEN {pair[0][0]} ELSE {pair[1][0]} END", 9)
        )
        return st.one_of(
            st.builds(joined, st.sampled_from("+-*"), children, children, st.sampled_from(["", " ", " /* - */ "])),
            children.map(negated),
            children.map(lambda inner: (f"({inner[0]})", 9)),
            chosen,
        )

    return st.recursive(leaf, grow, max_leaves=6)


def exact_value(sql: str, a: int, b: int) -> int:
    """The value that Python, whose integers have no bounds, gives to the expression."""
    text = re.sub(r"/\*.*?\*/", " ", sql).replace('flow."a"', "a").replace("CAST(a AS BIGINT)", "a")
    text = text.replace("b::bigint", "b").replace("coalesce(a, b)", "a").replace("c", "3")
    while "CASE" in text:
        text = re.sub(
            r"CASE WHEN a > 0 THEN ((?:(?!CASE|END).)*?) ELSE ((?:(?!CASE|END).)*?) END",
            r"((\1) if a > 0 else (\2))",
            text,
        )
    found: int = eval(text, {"a": a, "b": b})
    return found


@settings(max_examples=150, deadline=None)
@given(expressions(), st.integers(-(2**63), 2**63 - 1), st.integers(-5, 5))
def test_a_written_expression_gives_the_exact_result_or_is_refused(expression: tuple[str, int], a: int, b: int) -> None:
    columns = {"a": pa.array([a], pa.int64()), "b": pa.array([b], pa.int32()), "c": pa.array([3], pa.int16())}
    assert computed_or_refused(expression[0], **columns) in (None, [exact_value(expression[0], a, b)])


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_the_sign_of_the_least_integer_cannot_be_changed(kind: pa.DataType) -> None:
    low, high = limits(kind)
    if low == 0:
        return
    assert computed("-a", a=pa.array([high, None], kind)) == [-high, None]
    with pytest.raises(PermanentError, match="out of range"):
        computed("-a", a=pa.array([low], kind))


@pytest.mark.parametrize(
    ("sql", "column"),
    [
        ("sum(a)", pa.array([2**63 - 1, 1])),
        ("sum(a)", pa.array([-(2**63), -1])),
        ("sum(a)", pa.array([2**64 - 1, 1], pa.uint64())),
        ("sum(DISTINCT a)", pa.array([2**63 - 1, 1])),
        ("sum(a) FILTER (WHERE a > 0)", pa.array([2**63 - 1, 1])),
        ("sum(a) OVER (ORDER BY a)", pa.array([2**63 - 1, 1])),
        ("sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)", pa.array([2**63 - 1, 1])),
        ("sum(a)", pa.array([Decimal(10**38 - 1)] * 5, pa.decimal128(38, 0))),
        ("sum(a)", pa.array([2**63 - 1, 1], pa.duration("us"))),
        ("a + 1", pa.array([Decimal(10**38 - 1)], pa.decimal128(38, 0))),
        ("a * 10", pa.array([Decimal(10**75)], pa.decimal256(76, 0))),
        ("a << 1", pa.array([2**62])),
        ("a << 64", pa.array([1])),
        ("1 << a", pa.array([-1])),
        ("a >> 64", pa.array([1])),
        ("abs(-a)", pa.array([-(2**63)])),
        ("abs(a)", pa.array([-(2**63)])),
        ("a / -1", pa.array([-(2**63)])),
        ("CAST(a AS INT)", pa.array([2**31])),
        ("CAST(a AS TIMESTAMP)", pa.array([2**62])),
        ("a + INTERVAL '1 day'", pa.array([2**31 - 1], pa.date32())),
        ("a + INTERVAL '1 day'", pa.array([2**63 - 1], pa.timestamp("us"))),
        ("a - TIMESTAMP '2200-01-01'", pa.array([-(2**63)], pa.timestamp("ns"))),
        ("a + a", pa.array([2**62], pa.duration("s"))),
        ("a + a", pa.array([2**62]).dictionary_encode()),
        ("lag(a) OVER () + a", pa.array([2**62, 2**62])),
        ("array_agg(a)[1] * 4", pa.array([2**62])),
        ("(SELECT max(a + a) FROM flow)", pa.array([2**62])),
        ("9223372036854775807 + 1", pa.array([1])),
        ("CAST(300 AS SMALLINT) * CAST(300 AS SMALLINT)", pa.array([1])),
    ],
)
def test_what_does_not_fit_is_refused(sql: str, column: pa.Array) -> None:
    with pytest.raises(PermanentError, match=r"out of range|verflow|too large|an't cast|annot cast"):
        computed(sql, a=column)


def test_sums_are_exact_up_to_the_limits() -> None:
    assert computed("sum(a)", a=pa.array([2**63 - 1, -1, 1])) == [2**63 - 1]
    assert computed("sum(a)", a=pa.array([2**64 - 2, 1], pa.uint64())) == [2**64 - 1]
    assert computed("sum(a)", a=pa.array([2**31 - 1] * 3, pa.int32())) == [3 * (2**31 - 1)]
    assert computed("sum(a)", a=pa.array([None], pa.int64())) == [None]
    digits = Decimal("0.01") * (10**30)
    assert computed("sum(a)", a=pa.array([digits, digits], pa.decimal128(38, 2))) == [2 * digits]


def test_types_and_names_are_those_of_the_query_as_it_is_written() -> None:
    batch = pa.record_batch({"a": pa.array([1], pa.int16()), "b": pa.array([2], pa.uint64())})
    [found] = PreparedQuery("SELECT a + a, -a, sum(a) OVER (), sum(b) OVER () AS t, b + 1 FROM flow").run(batch)
    assert [str(kind) for kind in found.schema.types[:4]] == ["int16", "int16", "int64", "uint64"]
    assert found.schema.names[0] == "flow.a + flow.a"
    assert found.schema.names[3] == "t"


def test_integers_beyond_64_bits_are_read_exactly() -> None:
    beyond = 10**20 + 1
    column = pa.array([Decimal(beyond), Decimal(beyond - 1)], pa.decimal128(38, 0))
    assert computed(f"a = {beyond}", a=column) == [True, False]
    assert computed("-9223372036854775809", a=column) == [Decimal(-(2**63) - 1)] * 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT *, a - 1 AS z FROM flow",
        "SELECT flow.*, a - 1 AS z FROM flow",
        "SELECT * EXCEPT (a), a - 1 AS z FROM flow",
        "SELECT a*2 AS x, a - 3 y, 5 FROM flow",
        "SELECT DISTINCT a - 1 FROM flow",
        "SELECT a-1 AS a, a - 1 AS c FROM (SELECT CAST(a AS DOUBLE) * 2 AS a FROM flow WHERE a - 1 > 0) ORDER BY a - 1",
        "SELECT a -- - 1\n + 1 FROM flow",
        "SELECT a - 1, count(*) - 1 FROM flow GROUP BY a - 1 HAVING sum(a) > -1 ORDER BY a - 1 LIMIT 5",
        "SELECT 'a - b' || 'c', a || 'x' || (a+1), left('abc', 1 + 1), substring('abc' FROM 1+1 FOR 1) FROM flow",
        "SELECT DATE '2020-01-01' + INTERVAL '1' MONTH - INTERVAL '1 day', f * 1e-5 + .5 FROM flow",
        "SELECT a IN (1 + 1, a*2), a BETWEEN a - 1 AND a + 1, NOT a + 1 > 3, a IS NOT NULL AND a - 1 > 0 FROM flow",
        "SELECT extract(year FROM t - INTERVAL '1' day) + 1, t AT TIME ZONE 'UTC' - INTERVAL '1 day' FROM flow",
        "SELECT a::decimal(10, 2) * 2, -a::smallint, a::double precision - 1, array[1, a+1][1] + 1 FROM flow",
        "SELECT {'k': a - 1}, struct(a - 1), nullif(a, 1) - 1 x, first_value(a) OVER (ORDER BY a) - 1 FROM flow",
        "WITH w AS (SELECT a * 2 AS d FROM flow) SELECT x.d - y.d FROM w x JOIN w y ON x.d + 1 = y.d + 1",
        "SELECT a & 3 + 1, a | 1 << 2, a ^ 2 * 3, 6 / 2 * 3, a % 2 - 1, - - a, + a + 1, a - -1 FROM flow",
        "SELECT a - 1 FROM flow UNION ALL SELECT a + 1 FROM flow",
        "SELECT sum(a + 1) FILTER (WHERE a - 1 > 0) * 2 s, sum(sum(a)) OVER () FROM flow GROUP BY f",
        "SELECT sum(a) OVER w - 1 FROM flow WINDOW w AS (PARTITION BY f ORDER BY a - 1 ROWS 1 PRECEDING)",
        "SELECT CASE a - 1 WHEN 1 + 1 THEN -a ELSE CASE WHEN a > 5 THEN a + 1 END END - 1 FROM flow",
    ],
)
def test_the_arithmetic_of_a_query_is_found_however_it_is_written(sql: str) -> None:
    batch = pa.record_batch({"a": [1, 2, 3], "f": [0.5, 1.5, 2.5], "t": pa.array([0, 1, 2], pa.timestamp("ns"))})
    PreparedQuery(sql).run(batch)


def test_a_row_whose_arithmetic_overflows_is_refused_alone() -> None:
    processor = Sql(query="SELECT id + 1 AS n FROM flow")
    batch = pa.record_batch({"id": [1, 2**63 - 1, 3]})
    assert processor.row_wise()
    with pytest.raises(PermanentError, match=r"overflow: 9223372036854775807 \+ 1 is out of range of int64"):
        processor.process(batch.slice(1, 1))
    assert processor.process(batch.slice(2, 1))[0].to_pydict() == {"n": [4]}


def test_expressions_of_options_are_exact_too() -> None:
    batch = pa.record_batch({"id": [2**63 - 1]})
    with pytest.raises(PermanentError, match="out of range"):
        Expr(sql="id + 1").evaluate(batch)


FITTING = {
    "a + 1": 4,
    "-(a * 2) - b": -10,
    '"a" * b + (a - 1)': 14,
    "sum(a)": 3,
    "sum(a * 2) * 3": 18,
    "sum(a) FILTER (WHERE b > 0) + 1": 4,
}


@pytest.mark.parametrize("sql", FITTING)
def test_only_a_batch_whose_values_may_not_fit_is_checked(sql: str) -> None:
    query = PreparedQuery(f"SELECT {sql} AS value FROM flow WHERE a > 0")
    few, large = ({"a": [value], "b": [4]} for value in (3, 2**63 - 1))
    for columns in (few, few, few):
        batch = pa.record_batch(columns)
        (part,) = query.run(batch)
        assert part.to_pydict() == {"value": [FITTING[sql]]}
        assert [len(plans) for plans in query._known[0].idle] == [1, 0]
        assert query._known[0].idle[0][0].is_bounded
    twice = pa.record_batch({name: values * 2 for name, values in large.items()})
    with pytest.raises(PermanentError, match="out of range"):
        query.run(twice)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a * a * a * a * a * a AS b, b + 1 AS a FROM flow ORDER BY b * 2",
        "WITH w AS (SELECT a * 1000 AS a FROM flow) SELECT a * 1000 AS value FROM w",
        "SELECT a + b AS value FROM (SELECT a * 1000 AS b, a FROM flow) x",
        "SELECT abs(a) * 1000 AS value FROM flow",
        "SELECT (SELECT max(5) FROM flow) + a AS value FROM flow",
        "SELECT a << 62 AS value FROM flow",
        "SELECT sum(d) AS value FROM flow",
    ],
)
def test_what_the_text_does_not_tell_is_always_checked(sql: str) -> None:
    query, batch = PreparedQuery(sql), pa.record_batch({"a": [1], "b": [1], "d": [Decimal("1.5")]})
    for _ in range(2):
        query.run(batch)
    assert not any(plan.is_bounded for known in query._known for plans in known.idle for plan in plans)


def test_values_beyond_the_bounds_are_computed_and_seldom_tried_in_vain() -> None:
    query = PreparedQuery("SELECT a + a AS value FROM flow")
    batch = pa.record_batch({"a": [2**62 - 1, None, -(2**62)]})
    for _ in range(20):
        (part,) = query.run(batch)
        assert part.to_pydict() == {"value": [2**63 - 2, None, -(2**63)]}
    assert query._known[0]._failures <= 5


def test_narrow_types_need_neither_check_nor_bounds() -> None:
    query = PreparedQuery("SELECT sum(a) AS total, sum(b) AS small FROM flow")
    batch = pa.record_batch({"a": pa.array([127, -128], pa.int8()), "b": pa.array([2**32 - 1] * 2, pa.uint32())})
    (part,) = query.run(batch)
    assert part.to_pydict() == {"total": [-1], "small": [2**33 - 2]}
    assert "CASE" not in query._known[0].idle[0][0].query.sql


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(values(pa.int64()), values(pa.int64())), min_size=1, max_size=4))
def test_small_and_large_values_of_one_query_are_exact_or_refused(rows: list[tuple[int, int]]) -> None:
    for a, b in [(1, 2), *rows, (3, 4)]:
        expected = -(a + b) * a
        fits = all(-(2**63) <= value < 2**63 for value in (a + b, -(a + b), expected))
        found = computed_or_refused("-(a + b) * a", a=pa.array([a]), b=pa.array([b]))
        assert found == ([expected] if fits else None)


LOST = ["1e400", "-1e309", "1.8e308", "1e-400", "2e-324", "-0.0001e-323", "9" * 400]
KEPT = ["inf", "-Infinity", "nan", "0", "-0.0", "0e-999", "5e-324", "1.7976931348623157e308", " 1.5 ", "0.1"]
CASTS = [
    "CAST(t AS DOUBLE)",
    "t::double precision",
    "arrow_cast(t, 'Float64')",
    "(t)::float8",
]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_text_that_no_fraction_is_near_to_is_refused_when_it_is_cast(cast: str, kind: pa.DataType) -> None:
    for text in LOST:
        with pytest.raises(PermanentError, match=f"overflow: {text} is out of range of double"):
            computed(cast, t=pa.array(["1.5", None, text], kind))
    found = computed(cast, t=pa.array([*KEPT, None], kind))
    expected = [float(text) for text in KEPT]
    assert [str(value) for value in found] == [*map(str, expected), "None"]


def test_what_a_shorter_fraction_cannot_hold_is_refused_when_it_is_cast() -> None:
    for value in (1e300, -1e39, 1e-60, 5e-324):
        with pytest.raises(PermanentError, match="out of range of float"):
            computed("CAST(n AS REAL)", n=pa.array([1.5, value]))


def test_what_is_only_tried_to_be_cast_is_null() -> None:
    assert computed("TRY_CAST(t AS DOUBLE)", t=pa.array(["1e400", "x", "1e-400", "2"])) == [None, None, None, 2.0]


@pytest.mark.parametrize("number", ["1e400", "2.5E+309", "1e-400", "0.001e-322"])
def test_a_number_in_a_query_that_no_fraction_is_near_to_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        PreparedQuery(f"SELECT {number} AS n FROM flow")
    assert computed("1.5e-3 + 0e-400", n=pa.array([1])) == [1.5e-3]
