"""Functions of times give the exact result, or refuse the row: they do not wrap around, and null is not made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PermanentError
from penstock.sql.query import PreparedQuery

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LENGTHS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
EDGES = [-(2**63), -(2**63) + 1, 2**63 - 1, 0, -1, 1, 10_413_792_000_000_000, -12_000_000_000_000_000]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def computed(expression: str, values: list[int | None], kind: pa.DataType) -> pa.Array:
    batch = pa.record_batch({"at": pa.array(values, pa.int64()).cast(kind)})
    (found,) = PreparedQuery(f"SELECT {expression} AS found FROM flow").run(batch)
    return found.column(0)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(list(UNITS)),
    st.sampled_from(list(LENGTHS)),
)
def test_a_time_is_truncated_exactly_or_refused(value: int, unit: str, length: str) -> None:
    ticks = UNITS[unit] * LENGTHS[length]
    exact = value // ticks * ticks
    try:
        found = computed(f"date_trunc('{length}', at)", [value], pa.timestamp(unit))
    except PermanentError:
        assert exact < -(2**63), "what can be expressed is not refused"
    else:
        assert found[0].value == exact


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1), st.sampled_from(list(UNITS)), st.integers(1, 10**6))
def test_a_time_is_put_into_its_bin_exactly_or_refused(value: int, unit: str, seconds: int) -> None:
    ticks = UNITS[unit] * seconds
    try:
        found = computed(f"date_bin(INTERVAL '{seconds} seconds', at)", [value], pa.timestamp(unit))
    except PermanentError as error:
        if "out of range" not in str(error):
            raise
    else:
        assert found[0].value == value // ticks * ticks


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1), st.sampled_from(["s", "ms", "us"]))
@pytest.mark.parametrize("expression", ["date_part('year', at)", "extract(year FROM at)"])
def test_a_part_of_a_time_is_exact_or_refused(expression: str, value: int, unit: str) -> None:
    try:
        found = computed(expression, [value], pa.timestamp(unit))
    except PermanentError as error:
        if "out of range" not in str(error):
            raise
        return
    assert found[0].is_valid
    try:
        exact = (EPOCH + timedelta(microseconds=value * 10**6 // UNITS[unit])).year
    except OverflowError:
        return  # beyond what Python knows
    assert found[0].as_py() == exact


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EDGES), st.sampled_from(EDGES), st.sampled_from(list(UNITS)))
@pytest.mark.parametrize("expression", ["at - other", "at + (at - other)", "at + INTERVAL '1 day'"])
def test_times_are_added_exactly_or_refused(expression: str, value: int, other: int, unit: str) -> None:
    columns = {
        name: pa.array([one], pa.int64()).cast(pa.timestamp(unit)) for name, one in (("at", value), ("other", other))
    }
    try:
        (found,) = PreparedQuery(f"SELECT {expression} AS found FROM flow").run(pa.record_batch(columns))
    except PermanentError:
        return
    exact = {"at - other": value - other, "at + (at - other)": 2 * value - other}
    assert found.column(0)[0].value == exact.get(expression, value + 86400 * UNITS[unit])


@pytest.mark.parametrize(
    "expression",
    [
        "CAST(at AS TIMESTAMP)",
        "arrow_cast(at, 'Timestamp(Nanosecond, None)')",
        "CAST(at AS DATE)",
        "at::date",
        "to_char(at, '%Y')",
    ],
)
@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_a_time_that_does_not_fit_is_not_cast(expression: str, value: int) -> None:
    with pytest.raises(PermanentError):
        computed(expression, [value], pa.timestamp("us"))


def test_null_stays_null_and_other_rows_stay() -> None:
    found = computed("date_bin(INTERVAL '1 day', at)", [None, 86_400_000_001], pa.timestamp("us"))
    assert [one.value for one in found] == [None, 86_400_000_000]


def test_names_types_and_groups_are_those_of_the_query_as_it_is_written() -> None:
    times = pa.array([0, 1, 86_400_000_000], pa.int64()).cast(pa.timestamp("us", "UTC"))
    query = PreparedQuery(
        "SELECT date_trunc('day', at), count(*) AS n FROM flow GROUP BY date_trunc('day', at) ORDER BY n"
    )
    (found,) = query.run(pa.record_batch({"at": times}))
    assert found.column_names[1] == "n"
    assert "date_trunc" in found.column_names[0]
    assert "overflow" not in found.column_names[0]
    assert found.column(0).type == times.type
    assert found.column(1).to_pylist() == [1, 2]


@pytest.mark.parametrize(
    "expression",
    [
        "date_trunc('day', date_bin(INTERVAL '1 hour', at))",
        "date_bin(INTERVAL '1 hour', CASE WHEN true THEN at ELSE NULL END, TIMESTAMP '1970-01-01')",
        "extract(DAY from date_trunc('day', at + INTERVAL '1 day'))",
        "DATE_PART('year', at) * 2 + extract(year from at)",
    ],
)
def test_functions_of_times_are_found_however_they_are_written(expression: str) -> None:
    plain = computed(expression, [0], pa.timestamp("us"))
    assert plain[0].is_valid
    with pytest.raises(PermanentError):
        computed(expression, [2**63 - 1], pa.timestamp("us"))
