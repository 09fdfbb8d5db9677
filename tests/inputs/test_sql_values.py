"""Values for which Arrow has no type: they come as text or fail by name, and never as something else."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from penstock.errors import EndOfInput, PermanentError
from penstock.inputs.sql import Sql
from penstock.testing.contexts import lend_context


async def rows(url: str, query: str, folder: Path) -> list[dict[str, Any]]:
    source = Sql.model_validate({"url": url, "select_sql": query})
    batches = []
    async with lend_context(folder) as context, source.open(context) as reader:
        while True:
            try:
                delivery = await reader.read()
            except EndOfInput:
                break
            batches.append(delivery.batch)
            await delivery.ack()
    return pa.Table.from_batches(batches).to_pylist()


@pytest.fixture
def url(tmp_path: Path) -> str:
    with duckdb.connect(tmp_path / "in.duckdb") as connection:
        connection.execute("CREATE TABLE t (id int)")
    return f"duckdb:///{tmp_path / 'in.duckdb'}"


AS_TEXT = [
    ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"),
    ("'12:00:00+14:00'::TIMETZ", "12:00:00+14"),
    ("'101'::BIT", "101"),
    ("123456789012345678901234567890123456789012345::BIGNUM", "123456789012345678901234567890123456789012345"),
    ("99999999999999999999999999999999999999::HUGEINT", Decimal("9" * 38)),
    ("NULL::TIMESTAMP", None),
    ("DATE '2024-02-29'", datetime.date(2024, 2, 29)),
]
FAILING = [
    ("170141183460469231731687303715884105727::HUGEINT", "more than 38 digits"),
    ("'infinity'::TIMESTAMP", "an infinite time"),
    ("'-infinity'::DATE", "an infinite time"),
    ("'infinity'::TIMESTAMPTZ", "an infinite time"),
]


@pytest.mark.parametrize(("value", "expected"), AS_TEXT)
async def test_what_arrow_has_no_type_for_comes_from_duckdb_as_text(
    value: str, expected: Any, url: str, tmp_path: Path
) -> None:
    assert await rows(url, f"SELECT {value} AS v", tmp_path) == [{"v": expected}]


@pytest.mark.parametrize(("value", "reason"), FAILING)
async def test_what_arrow_cannot_hold_fails_by_the_name_of_its_column(
    value: str, reason: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(PermanentError, match=f"column v holds {reason}: cast it to VARCHAR"):
        await rows(url, f"SELECT 1 AS id, {value} AS v", tmp_path)


# A value in DuckDB's nested types, and what is read of it where it is read at all.
NESTED: list[tuple[str, Callable[[Any], Any]]] = [
    ("[{}, NULL]", lambda value: [value, None]),
    ("[[{}]]", lambda value: [[value]]),
    ("array_value({0}, {0})", lambda value: [value, value]),
    ("{{'a \"b': {}, 'bit': 1}}", lambda value: {'a "b': value, "bit": 1}),
    ("{{'a': [{{'b': {}}}]}}", lambda value: {"a": [{"b": value}]}),
    ("MAP{{'k': {}}}", lambda value: [("k", value)]),
    ("MAP{{1: [{{'x': {}}}]}}", lambda value: [(1, [{"x": value}])]),
]


@pytest.mark.parametrize(("around", "read"), NESTED)
async def test_what_arrow_has_no_type_for_comes_as_text_at_any_depth(
    around: str, read: Callable[[Any], Any], url: str, tmp_path: Path
) -> None:
    known = [pair for pair in AS_TEXT if pair[1] is not None]
    values = ", ".join(f"{around.format(value)} AS v{at}" for at, (value, _) in enumerate(known))
    expected = {f"v{at}": read(value) for at, (_, value) in enumerate(known)}
    assert await rows(url, f"SELECT {values}", tmp_path) == [expected]
    nothing = ", ".join(
        f"CASE WHEN false THEN {around.format(value)} END AS v{at}" for at, (value, _) in enumerate(known)
    )
    assert await rows(url, f"SELECT {nothing}", tmp_path) == [dict.fromkeys(expected)]


@pytest.mark.parametrize(("around", "read"), NESTED)
async def test_what_arrow_cannot_hold_fails_at_any_depth(
    around: str, read: Callable[[Any], Any], url: str, tmp_path: Path
) -> None:
    for value, reason in FAILING:
        with pytest.raises(PermanentError, match=f"column v holds {reason}: cast it to VARCHAR"):
            await rows(url, f"SELECT 1 AS id, {around.format(value)} AS v", tmp_path)


async def test_a_key_of_a_map_that_arrow_cannot_hold_is_text_or_fails(url: str, tmp_path: Path) -> None:
    assert await rows(url, "SELECT MAP{'12:00:00+02'::TIMETZ: 1} AS v", tmp_path) == [{"v": [("12:00:00+02", 1)]}]
    with pytest.raises(PermanentError, match="column v holds an infinite time"):
        await rows(url, "SELECT MAP{'infinity'::DATE: 1} AS v", tmp_path)


@pytest.mark.server
async def test_times_of_day_of_postgres_are_read_beside_what_arrow_cannot_hold(
    postgres_database: str, tmp_path: Path
) -> None:
    query = "SELECT '12:30:01.5'::time AS t, '24:00'::time AS until, 'infinity'::date AS never, true AS b"
    assert await rows(postgres_database, query, tmp_path) == [
        {"t": datetime.time(12, 30, 1, 500_000), "until": "24:00:00", "never": "infinity", "b": True}
    ]
