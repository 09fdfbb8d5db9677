"""Values that a column could take only as others: refused with the row, in every database, nested ones too."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RowsRejected
from penstock.outputs.sql import Sql
from penstock.outputs.sql.columns import PRINTABLE_YEARS, Column
from penstock.outputs.sql.conversions import convert
from penstock.outputs.sql.nested import is_same_json
from penstock.testing.contexts import lend_context


class Database:
    """One of the databases, written by the output and looked at beside it."""

    def __init__(self, kind: str, where: str) -> None:
        self.kind, self.url = kind, where if kind == "postgres" else f"{kind}:///{where}"
        connect: dict[str, Callable[..., Any]] = {
            "sqlite": sqlite3.connect,
            "duckdb": duckdb.connect,
            "postgres": psycopg.connect,
        }
        self._connect = lambda: connect[kind](where)

    def __call__(self, *statements: str) -> list[Any]:
        with contextlib.closing(self._connect()) as connection:
            for statement in statements:
                done = connection.execute(statement)
            rows = done.fetchall() if done.description else []
            connection.commit()
            return list(rows)

    async def write(self, folder: Path, rows: Sequence[dict[str, Any]] | pa.RecordBatch, **options: Any) -> None:
        batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(list(rows))
        output = Sql.model_validate({"url": self.url, "table_name": "t", **options})
        async with lend_context(folder) as context, output.open(context) as writer:
            await writer.write([batch])

    async def refused(self, folder: Path, rows: Any, **options: Any) -> set[int]:
        """Write rows, then those that were not refused; return which were."""
        bad: set[int] = set()
        left = list(range(len(rows)))
        while left:
            try:
                await self.write(folder, [rows[row] for row in left], **options)
            except RowsRejected as rejected:
                bad |= {left[row] for row in rejected.reasons}
                left = [row for index, row in enumerate(left) if index not in rejected.reasons]
            else:
                break
        return bad


@pytest.fixture(params=["sqlite", "duckdb", pytest.param("postgres", marks=pytest.mark.server)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    kind = str(request.param)
    where = request.getfixturevalue("postgres_database") if kind == "postgres" else str(tmp_path / "file")
    return Database(kind, where)


@pytest.fixture
def of_duckdb(tmp_path: Path) -> Database:
    return Database("duckdb", str(tmp_path / "file"))


@pytest.fixture
def of_postgres(postgres_database: str) -> Database:
    return Database("postgres", postgres_database)


DOUBLE = pa.float64()


@given(
    st.one_of(
        st.sampled_from(["1e400", "-1e309", "1e-400", "2e-324", "inf", "nan", "-0.0", "0e999", "1e22", "1e23"]),
        st.floats().map(repr),
        st.integers(-(2**70), 2**70).map(str),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
    ),
    st.sampled_from([pa.float64(), pa.float32()]),
)
def test_a_text_becomes_the_fraction_that_it_says_or_is_refused(text: str, kind: pa.DataType) -> None:
    found, bad = convert(pa.array([text]), Column("n", kind), PRINTABLE_YEARS)
    written = Decimal(text)
    if bad or not written.is_finite():
        return
    number = found[0].as_py()
    assert math.isfinite(number)
    assert (number == 0) == (written == 0)
    shortest = repr(number) if kind == DOUBLE else str(np.float32(number))
    if len(text) > 15:
        assert written == Decimal(shortest)


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_whole_number_becomes_a_fraction_only_if_it_is_printed_as_one(value: int) -> None:
    kind = pa.int64() if value < 2**63 else pa.uint64()
    found, bad = convert(pa.array([value], kind), Column("n", DOUBLE), PRINTABLE_YEARS)
    assert bool(bad) == (abs(value) > 2**53)
    assert bad or int(found[0].as_py()) == value


def test_a_number_that_vanishes_in_32_bits_is_refused() -> None:
    found, bad = convert(pa.array([0.1, 0.0, 1e-50, 1e39, 16777217.0]), Column("n", pa.float32()), PRINTABLE_YEARS)
    assert bad.keys() == {2, 3, 4}
    assert "32 bits" in bad[4]
    assert found.slice(0, 2).to_pylist() == [pytest.approx(0.1), 0.0]


async def test_infinity_and_zero_are_written_only_where_they_are_meant(database: Database, tmp_path: Path) -> None:
    database("CREATE TABLE t (id int, n double precision)")
    texts = ["1e400", "1e-400", "0.1", "-0", "9007199254740993", "9007199254740992"]
    refused = await database.refused(tmp_path, [{"id": row, "n": text} for row, text in enumerate(texts)])
    assert refused == {0, 1, 4}
    assert database("SELECT n FROM t ORDER BY id") == [(0.1,), (0.0,), (9007199254740992.0,)]


FOLDED = [("ß", "ss"), ("K", "\u212a"), ("É", "é"), ("İ", "i\u0307"), ("Σ", "ς")]


@pytest.mark.parametrize(("one", "other"), FOLDED)
async def test_names_are_one_only_if_they_are_to_the_database(
    one: str, other: str, database: Database, tmp_path: Path
) -> None:
    await database.write(tmp_path, [{one: 1, other: 2}])
    await database.write(tmp_path, [{other: 3}])
    assert database("SELECT * FROM t") == [(1, 2), (None, 3)]


async def test_zeros_of_both_signs_are_one_key(database: Database, tmp_path: Path) -> None:
    await database.write(tmp_path, [{"k": 0.0, "v": 1}, {"k": -0.0, "v": 2}, {"k": 1.5, "v": 3}], key=["k"])
    assert database("SELECT k, v FROM t ORDER BY k") == [(0.0, 2), (1.5, 3)]


async def test_a_text_keeps_its_nanoseconds_in_sqlite(tmp_path: Path) -> None:
    database = Database("sqlite", str(tmp_path / "file"))
    database("CREATE TABLE t (id int, at timestamp)")
    times = ["2024-01-01T00:00:00.123456789", "2024-01-01 00:00:00"]
    assert await database.refused(tmp_path, [{"id": row, "at": time} for row, time in enumerate(times)]) == set()
    assert database("SELECT at FROM t ORDER BY id")[0] == ("2024-01-01 00:00:00.123456789",)


NESTED: list[tuple[str, Any, Any]] = [
    # type in DuckDB, value, what is in the table; ... if it is refused
    ("VARCHAR[]", ["a\nb", 'x"y', "a,b", "NULL", None, "", " c ", "\\n", "ü", "\x01"], "same"),
    ("VARCHAR[]", ["1"], "same"),
    ("INT[]", [1, None, -5], "same"),
    ("INT[]", [1.5], ...),
    ("INT[]", [2**40], ...),
    ("DOUBLE[]", [2**53 + 1], ...),
    ("DOUBLE[]", [0.1, 2.0**60], "same"),
    ("FLOAT[]", [16777217], ...),
    ("FLOAT[]", [0.1], [pytest.approx(0.1)]),
    ("DECIMAL(5,2)[]", [1.01], [Decimal("1.01")]),
    ("DECIMAL(5,2)[]", [1.005], ...),
    ("BOOLEAN[]", [True, False], "same"),
    ("DATE[]", ["2024-13-01"], ...),
    ("INT[2]", [1, 2], (1, 2)),
    ("INT[2]", [1, 2, 3], ...),
    ("STRUCT(a INT, b VARCHAR)", {"a": 1, "b": "x\ny"}, "same"),
    ("STRUCT(a INT, b VARCHAR)", {"a": 1}, {"a": 1, "b": None}),
    ("STRUCT(a INT)", {"a": 1, "z": 2}, ...),
    ("STRUCT(a INT)", {"a": "x"}, ...),
    ('STRUCT("a b" INT[])[]', [{"a b": [1, 2]}, {"a b": []}], "same"),
    ("MAP(VARCHAR, VARCHAR)", {"k": "v\n", "é": "NULL"}, "same"),
    ("MAP(VARCHAR, INT)", {"k": 1.5}, ...),
    ("INT[]", "text", ...),
    ("INT[]", "[1, 2]", [1, 2]),
]


@pytest.mark.parametrize(("kind", "value", "expected"), NESTED)
async def test_nested_values_are_the_same_in_duckdb_or_refused(
    kind: str, value: Any, expected: Any, of_duckdb: Database, tmp_path: Path
) -> None:
    of_duckdb(f"CREATE TABLE t (id int, n {kind})")
    rows = pa.record_batch({"id": [1, 2], "n": pa.array([None, value])})
    if expected is ...:
        with pytest.raises(RowsRejected) as refused:
            await of_duckdb.write(tmp_path, rows)
        assert refused.value.reasons.keys() == {1}
        return
    await of_duckdb.write(tmp_path, rows)
    assert of_duckdb("SELECT n FROM t ORDER BY id") == [(None,), (value if expected == "same" else expected,)]


def test_json_is_compared_by_what_it_says() -> None:
    assert is_same_json('{"a":[1,2.0,"x",null,true]}', '{"b":null,"a":[1.0,2,"x",null,true]}')
    for written, read in [("[1]", "[2]"), ("[1,2]", "[1]"), ('{"a":1}', "{}"), ("[true]", "[1]"), ("[1]", "[null]")]:
        assert not is_same_json(written, read)
    assert not is_same_json("[1]", None)


ARRAYS: list[tuple[str, Any, bool]] = [
    ("numeric(5,2)[]", [1.01], True),
    ("numeric(5,2)[]", [1.005], False),
    ("real[]", [0.1], True),
    ("real[]", [16777217.0], False),
    ("double precision[]", [2**53 + 1], False),
    ("double precision[]", [2**53, None], True),
    ("int[]", [1.5], False),
    ("int[]", [[1, 2], [3, 4]], True),
    ("bigint[]", [2**63 - 1], True),
]


@pytest.mark.server
@pytest.mark.parametrize(("kind", "value", "is_taken"), ARRAYS)
async def test_numbers_in_arrays_of_postgres_are_the_same_or_refused(
    kind: str, value: Any, is_taken: bool, of_postgres: Database, tmp_path: Path
) -> None:
    of_postgres(f"CREATE TABLE t (id int, n {kind})")
    rows = pa.record_batch({"id": [1, 2], "n": pa.array([None, value])})
    if not is_taken:
        with pytest.raises(RowsRejected) as refused:
            await of_postgres.write(tmp_path, rows)
        assert refused.value.reasons.keys() == {1}
        return
    await of_postgres.write(tmp_path, rows)
    assert of_postgres("SELECT to_json(n) FROM t WHERE id = 2") == [(value,)]


async def test_a_value_for_a_generated_column_refuses_its_row_alone(database: Database, tmp_path: Path) -> None:
    stored = "VIRTUAL" if database.kind == "duckdb" else "STORED"
    database(f"CREATE TABLE t (a int, two int GENERATED ALWAYS AS (a * 2) {stored})")
    with pytest.raises(RowsRejected) as refused:
        await database.write(tmp_path, [{"a": 1, "two": 5}])
    assert "generated column" in refused.value.reasons[0]
    await database.write(tmp_path, [{"a": 3}])
    assert database("SELECT a, two FROM t") == [(3, 6)]
