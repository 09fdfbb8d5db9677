"""Values for which Arrow has no type: they come as text or fail by name, and never as something else."""

from __future__ import annotations

import datetime
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


@pytest.mark.server
async def test_times_of_day_of_postgres_are_read_beside_what_arrow_cannot_hold(
    postgres_database: str, tmp_path: Path
) -> None:
    query = "SELECT '12:30:01.5'::time AS t, '24:00'::time AS until, 'infinity'::date AS never, true AS b"
    assert await rows(postgres_database, query, tmp_path) == [
        {"t": datetime.time(12, 30, 1, 500_000), "until": "24:00:00", "never": "infinity", "b": True}
    ]
