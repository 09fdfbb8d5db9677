"""What a row lacks, and rows that do not fit: from the bytes of a sender to the tables, with the real decoder."""

import decimal
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import psycopg.rows
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.codecs.json import Json
from penstock.component import Writer
from penstock.delivery import Batch, Decoder
from penstock.errors import RowsRejected
from penstock.metadata import VALUE, Origin, attach
from penstock.outputs.sql import Sql
from penstock.runtime.decoding import decode
from penstock.sql.expression import Expr
from penstock.testing.contexts import lend_context

Row = dict[str, Any]
Post = tuple[str, Row]
"""A table, and a row for it."""


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    return f"{request.param}:///{tmp_path}/rows.db"


def run(url: str, *statements: str) -> list[Row]:
    """Run statements beside the writer; returns the rows of the last."""
    scheme, _, rest = url.partition("://")
    if scheme == "postgresql":
        with psycopg.connect(url, row_factory=psycopg.rows.dict_row, autocommit=True) as server:
            for statement in statements:
                cursor = server.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    if scheme == "duckdb":
        with duckdb.connect(rest[1:]) as file:
            for statement in statements:
                found = file.sql(statement)
            return found.to_arrow_table().to_pylist() if found is not None else []
    lite = sqlite3.connect(rest[1:], isolation_level=None)
    lite.row_factory = sqlite3.Row
    try:
        for statement in statements:
            rows = lite.execute(statement).fetchall()
        return [dict(row) for row in rows]
    finally:
        lite.close()


def raw(posts: Sequence[Post]) -> Batch:
    payloads = [json.dumps(row, ensure_ascii=False).encode() for _, row in posts]
    batch = pa.record_batch({VALUE: pa.array(payloads, pa.binary())})
    return attach(batch, Origin("suite", ext=[{"table": table} for table, _ in posts]))


class Sender:
    """Posts rows as a stream would: decoded, written, and without those that are refused."""

    def __init__(self, writer: Writer, decoder: Decoder) -> None:
        self.writer, self._decoder = writer, decoder

    async def post(self, posts: Sequence[Post]) -> dict[int, str]:
        """Write the rows; returns why some were refused, by their index."""
        left = dict(enumerate(batch.slice(at, 1) for batch in self.decoded(posts) for at in range(batch.num_rows)))
        batches = self.decoded(posts)
        refused: dict[int, str] = {}
        while left:
            try:
                await self.writer.write(batches)
                break
            except RowsRejected as rejected:
                found = dict(zip(range(len(left)), left, strict=True))
                refused |= {found[row]: reason for row, reason in rejected.reasons.items()}
            left = {row: batch for row, batch in left.items() if row not in refused}
            batches = list(left.values())
        return refused

    def decoded(self, posts: Sequence[Post]) -> list[Batch]:
        """The rows as they reach the output."""
        return decode(raw(posts), self._decoder)


@asynccontextmanager
async def sender(url: str, directory: Path, **options: Any) -> AsyncIterator[Sender]:
    output = Sql(url=url, **{"table_name": Expr(sql="__meta_ext['table']"), **options})
    async with lend_context(directory) as context, output.open(context) as writer:
        yield Sender(writer, Json().decoder())


async def post(url: str, directory: Path, *calls: Sequence[Post], **options: Any) -> list[dict[int, str]]:
    async with sender(url, directory, **options) as sending:
        return [await sending.post(call) for call in calls]


KINDS: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "a": {"v": st.integers(-5, 5), "w": st.text("xy", max_size=2), "x": st.booleans()},
    "b": {"v": st.text("xy", max_size=2), "x": st.integers(-5, 5), "only b": st.integers(0, 9)},
    "c": {"w": st.floats(0.25, 0.75), "v": st.booleans()},
}
"""The columns of each table besides its key: the same names, other types."""


def rows_of(table: str) -> st.SearchStrategy[Post]:
    fields = {name: st.none() | values for name, values in KINDS[table].items()}
    return st.tuples(st.just(table), st.fixed_dictionaries({"k": st.integers(0, 3)}, optional=fields))


POSTS = st.lists(st.sampled_from(sorted(KINDS)).flatmap(rows_of), min_size=1, max_size=12)
RUNS = st.lists(st.lists(POSTS, min_size=1, max_size=3), min_size=1, max_size=3)
"""Runs of calls of posts: the process is restarted between runs."""
CREATED = {
    "a": "CREATE TABLE a (k integer PRIMARY KEY, v integer DEFAULT 7, w varchar NOT NULL DEFAULT 'new', x boolean)",
    "b": "CREATE TABLE b (k integer PRIMARY KEY, v varchar, x integer NOT NULL DEFAULT 3)",
}
DEFAULTS: Mapping[str, Row] = {"a": {"v": 7, "w": "new"}, "b": {"x": 3}}


def expected(posts: Sequence[Post], defaults: Mapping[str, Row], *, keyed: bool) -> dict[str, list[Row]]:
    """What is to be in the tables: an absent field takes the default of a new row and leaves that of another."""
    found: dict[str, list[Row]] = {}
    for table, row in posts:
        if any(
            defaults.get(table, {}).get(name) is not None
            and name in ("w", "x")
            and value is None
            and (table, name) in (("a", "w"), ("b", "x"))
            for name, value in row.items()
        ):
            continue  # an explicit null where the table has NOT NULL: refused
        rows = found.setdefault(table, [])
        same = next((one for one in rows if keyed and one["k"] == row["k"]), None)
        if same is None:
            rows.append({**defaults.get(table, {}), **row})
        else:
            same.update(row)
    return found


def ordered(rows: Sequence[Row]) -> list[str]:
    return sorted(json.dumps({n: v for n, v in row.items() if v is not None}, sort_keys=True) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("made", [False, True])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS)
async def test_what_a_row_lacks_takes_the_default_or_stays_as_it_is(
    url: str, tmp_path: Path, keyed: bool, made: bool, runs: list[list[list[Post]]]
) -> None:
    drop = [f"DROP TABLE IF EXISTS {table}" for table in KINDS]
    keys = [statement if keyed else statement.replace(" PRIMARY KEY", "") for statement in CREATED.values()]
    run(url, *drop, *(keys if made else ()))
    options = {"key": ["k"]} if keyed else {}
    for calls in runs:
        await post(url, tmp_path, *calls, **options)
    posts = [row for calls in runs for call in calls for row in call]
    wanted = expected(posts, DEFAULTS if made else {}, keyed=keyed)
    for table, rows in wanted.items():
        assert ordered(run(url, f"SELECT * FROM {table}")) == ordered([_as_kept(url, table, row) for row in rows])
        names = _names(url, table)
        assert {name for row in rows for name, value in row.items() if value is not None} <= names
        assert names <= {"k", *KINDS[table]}, "a column of another table"


def _names(url: str, table: str) -> set[str]:
    if url.startswith("sqlite"):
        return {row["name"] for row in run(url, f"PRAGMA table_info({table})")}
    return {
        row["column_name"]
        for row in run(url, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'")
    }


def _as_kept(url: str, table: str, row: Row) -> Row:
    return {name: int(v) if isinstance(v, bool) and url.startswith("sqlite") else v for name, v in row.items()}


async def test_columns_and_types_of_one_table_are_not_those_of_another(url: str, tmp_path: Path) -> None:
    posts = [
        ("doors", {"open": True, "secret": "x"}),
        ("shops", {"name": "bakery"}),
        ("shops", {"name": "cafe", "open": "08:00"}),
        ("alarms", {"open": 1}),
    ]
    refused = await post(url, tmp_path, posts, *[[one] for one in posts])
    assert not any(refused)
    assert _names(url, "shops") == {"name", "open"}
    assert _names(url, "alarms") == {"open"}
    assert {row["open"] for row in run(url, "SELECT * FROM shops")} == {None, "08:00"}


UNFIT: Mapping[str, tuple[Row, str]] = {
    "empty": ({"": 1}, "'' is an empty name"),
    "control": ({"a\nb": 1}, "cannot be printed"),
    "long": ({"k" * 300: 1}, "is longer than"),
}


@pytest.mark.parametrize("unfit", UNFIT)
async def test_an_unfit_name_refuses_its_row_alone(url: str, tmp_path: Path, unfit: str) -> None:
    bad, reason = UNFIT[unfit]
    good = [("good", {"a": number}) for number in range(3)]
    before, mixed, after = await post(
        url, tmp_path, good, [*good, ("evil", bad), ("good", bad | {"a": 9}), *good], good
    )
    assert (list(before), list(mixed), list(after)) == ([], [3, 4], [])
    assert all(reason in why for why in mixed.values())
    assert len(run(url, "SELECT a FROM good")) == 12
    assert _names(url, "good") == {"a"}


async def test_an_unfit_name_of_a_null_loses_nothing(url: str, tmp_path: Path) -> None:
    assert await post(url, tmp_path, [("t", {"a": 1, "": None}), ("t", {"a": 2})]) == [{}]
    assert ordered(run(url, "SELECT * FROM t")) == ordered([{"a": 1}, {"a": 2}])


async def test_names_that_differ_by_case_are_one_column_except_in_postgres(url: str, tmp_path: Path) -> None:
    posts = [("t", {"Id": 1}), ("t", {"id": 2}), ("t", {"Id": 3, "id": 4}), ("t", {"ID": 5})]
    (refused,) = await post(url, tmp_path, posts)
    if url.startswith("postgres"):
        assert refused == {}
        assert _names(url, "t") == {"Id", "id", "ID"}
        return
    assert list(refused) == [2]
    assert "'Id' and 'id'" in refused[2]
    assert sorted(row["Id"] for row in run(url, 'SELECT "Id" FROM t')) == [1, 2, 5]


async def test_system_columns_of_postgres_are_no_names(postgres_database: str, tmp_path: Path) -> None:
    names = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid", "rowid"]
    posts = [("boxes", {"label": name, name: 1}) for name in names]
    (refused,) = await post(postgres_database, tmp_path, [*posts, ("boxes", {"label": "dog"})])
    assert sorted(refused) == [0, 1, 2, 3, 4, 5]
    assert "'xmin' is the name of a system column" in refused[1]
    assert {row["label"] for row in run(postgres_database, "SELECT * FROM boxes")} == {"oid", "rowid", "dog"}


@pytest.mark.parametrize("key", [[], ["k"]])
async def test_a_value_for_a_generated_column_refuses_its_row_alone(url: str, tmp_path: Path, key: list[str]) -> None:
    stored = " STORED" if url.startswith("postgresql") else ""
    run(url, f"CREATE TABLE t (k integer PRIMARY KEY, b integer GENERATED ALWAYS AS (k * 2){stored})")
    posts = [("t", {"k": 1}), ("t", {"k": 2, "b": 9}), ("t", {"k": 3})]
    (refused,) = await post(url, tmp_path, posts, key=key)
    assert sorted(refused) == [1]
    assert sorted((row["k"], row["b"]) for row in run(url, "SELECT k, b FROM t")) == [(1, 2), (3, 6)]


VIEWS = {
    "sqlite": "modify v because it is a view",
    "duckdb": "v",
    "postgresql": "view",
}


async def test_rows_for_a_view_are_refused_with_the_reason(url: str, tmp_path: Path) -> None:
    run(url, "CREATE TABLE t (k integer)", "CREATE VIEW v AS SELECT k FROM t")
    (refused,) = await post(url, tmp_path, [("v", {"k": 1}), ("other", {"k": 2})])
    assert sorted(refused) == [0]
    assert VIEWS[url.partition(":")[0]] in refused[0]
    assert run(url, "SELECT k FROM other") == [{"k": 2}]


async def test_a_trigger_refuses_its_row_alone_however_it_raises(tmp_path: Path) -> None:
    url, raising = f"sqlite:///{tmp_path}/rows.db", ["ABORT", "FAIL", "ROLLBACK"]
    run(
        url,
        "CREATE TABLE t (k integer)",
        *(
            f"CREATE TRIGGER t{at} BEFORE INSERT ON t WHEN NEW.k = {at} BEGIN SELECT RAISE({how}, 'refused'); END"
            for at, how in enumerate(raising)
        ),
    )
    (refused,) = await post(url, tmp_path, [("t", {"k": at}) for at in range(6)])
    assert sorted(refused) == [0, 1, 2]
    assert [row["k"] for row in run(url, "SELECT k FROM t ORDER BY k")] == [3, 4, 5]


async def test_names_of_the_row_number_are_columns_like_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    posts = [("t", {"rowid": 7, "oid": "x", "_rowid_": 0.5}), ("t", {"rowid": 7})]
    assert await post(url, tmp_path, posts) == [{}]
    assert [row["rowid"] for row in run(url, 'SELECT "rowid" FROM t')] == [7, 7]


@pytest.mark.parametrize("unfit", [{"Case": 1, "case": 2}, {"": 1}, {"n": "text"}])
async def test_unfit_rows_among_many_cost_no_call_each(tmp_path: Path, unfit: Row) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    posts = [("t", {"n": row} if row % 2 else unfit) for row in range(1000)]
    async with sender(url, tmp_path) as sending:
        await sending.post([("t", {"n": 1})])
        batches = (
            sending.decoded(posts) if "n" not in unfit else [batch for one in posts for batch in sending.decoded([one])]
        )
        with pytest.raises(RowsRejected) as rejected:
            await sending.writer.write(batches)
    assert sorted(rejected.value.reasons) == list(range(0, 1000, 2))


async def test_rows_that_the_database_refuses_are_found_in_one_call(url: str, tmp_path: Path) -> None:
    run(url, "CREATE TABLE t (n integer CHECK (n <> 3), s varchar)")
    posts = [("t", {"n": number % 5}) for number in range(40)]
    async with sender(url, tmp_path) as sending:
        with pytest.raises(RowsRejected) as rejected:
            await sending.writer.write(sending.decoded(posts))
    assert sorted(rejected.value.reasons) == list(range(3, 40, 5))


@pytest.mark.slow
async def test_a_row_wider_than_a_table_can_be_is_refused_alone(url: str, tmp_path: Path) -> None:
    wide = {f"c{number}": number for number in range(11_000 if url.startswith("duckdb") else 2100)}
    posts = [("t", {"c1": 5}), ("t", wide), ("t", {"c2": 6})]
    refused = await post(url, tmp_path, posts, [("t", wide)], [("t", {"c3": 7})])
    assert [list(one) for one in refused] == [[1], [0], []]
    assert "wider than" in refused[0][1]
    assert _names(url, "t") == {"c1", "c2", "c3"}


async def test_a_row_that_exceeds_a_page_of_postgres_is_refused_alone(postgres_database: str, tmp_path: Path) -> None:
    wide = {f"c{number}": number for number in range(1500)}
    rows = [("t", {"c1": number}) for number in range(20)]
    (refused,) = await post(postgres_database, tmp_path, [*rows, ("t", wide), *rows])
    assert list(refused) == [20]
    assert "row is too big" in refused[20]
    assert _names(postgres_database, "t") == {"c1"}


async def test_many_columns_come_in_few_statements(url: str, tmp_path: Path) -> None:
    wide = {f"c{number}": number % 2 == 0 for number in range(800)}
    assert await post(url, tmp_path, [("t", {"c1": True})], [("t", wide)]) == [{}, {}]
    assert len(_names(url, "t")) == 800


async def test_a_partial_row_updates_where_a_new_one_could_not_be(url: str, tmp_path: Path) -> None:
    run(url, "CREATE TABLE t (k integer PRIMARY KEY, name varchar NOT NULL, v integer)")
    posts = [("t", {"k": 1, "name": "one"}), ("t", {"k": 1, "v": 5}), ("t", {"k": 2, "v": 6}), ("t", {"k": 1})]
    assert await post(url, tmp_path, posts[:1], posts[1:2], posts[3:], key=["k"]) == [{}, {}, {}]
    (refused,) = await post(url, tmp_path, posts[2:3], key=["k"])
    assert list(refused) == [0]
    assert run(url, "SELECT * FROM t") == [{"k": 1, "name": "one", "v": 5}]


async def test_a_row_that_lacks_all_columns_takes_their_defaults(url: str, tmp_path: Path) -> None:
    run(url, "CREATE TABLE t (s varchar DEFAULT 'new', n integer DEFAULT 3)")
    assert await post(url, tmp_path, [("t", {}), ("t", {"s": None}), ("t", {"n": 4})], [("t", {})]) == [{}, {}]
    assert ordered(run(url, "SELECT * FROM t")) == ordered(
        [{"s": "new", "n": 3}, {"n": 3}, {"s": "new", "n": 4}, {"s": "new", "n": 3}]
    )


async def test_a_key_column_is_not_widened_for_one_fraction(url: str, tmp_path: Path) -> None:
    large = 2**60 + 1
    found = await post(url, tmp_path, [("t", {"k": 1})], [("t", {"k": 1.5})], [("t", {"k": large})], key=["k"])
    if not url.startswith("sqlite"):  # It keeps each value as it is.
        assert [list(one) for one in found] == [[], [0], []]
    assert large in [row["k"] for row in run(url, "SELECT k FROM t")]


@pytest.mark.parametrize("numbers", [[2**53 + 1, 0.5], [0.5, 2**53 + 1], [2**63 - 1, 2**64 - 1], [1, 2**63, -(2**65)]])
@pytest.mark.parametrize("together", [True, False])
async def test_a_number_is_exact_or_its_row_is_refused(
    url: str, tmp_path: Path, numbers: list[float], together: bool
) -> None:
    posts = [("t", {"id": index, "n": number}) for index, number in enumerate(numbers)]
    calls = [posts] if together else [[one] for one in posts]
    async with sender(url, tmp_path) as sending:
        refused: set[int] = set()
        for call in calls:
            batches = [batch for one in call for batch in sending.decoded([one])]
            try:
                await sending.writer.write(batches)
            except RowsRejected as rejected:
                refused |= {call[row][1]["id"] for row in rejected.reasons}
                rest = [batch for at, batch in enumerate(batches) if at not in rejected.reasons]
                if rest:
                    await sending.writer.write(rest)
    kept = {row["id"]: decimal.Decimal(str(row["n"])) for row in run(url, "SELECT * FROM t")}
    assert kept == {i: decimal.Decimal(str(n)) for i, n in enumerate(numbers) if i not in refused}
    assert refused < {0, 1, 2}


async def test_a_number_written_out_is_not_rounded(url: str, tmp_path: Path) -> None:
    run(url, "CREATE TABLE t (f double precision, i integer)")
    texts = ["0.1", "1.5", "9007199254740993", "1.00000000000000000001", "12345678901234567890.5"]
    (refused,) = await post(url, tmp_path, [("t", {"f": text}) for text in texts])
    assert sorted(refused) == [2, 3, 4]
    assert sorted(row["f"] for row in run(url, "SELECT f FROM t")) == [0.1, 1.5]


FAR = [2**62, -(2**62), 0, None, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("s"), pa.timestamp("ms")])
async def test_a_time_is_exact_or_its_row_is_refused(url: str, tmp_path: Path, kind: pa.DataType) -> None:
    batch = pa.record_batch({"id": range(6), "t": pa.array(FAR, kind)})
    async with sender(url, tmp_path, table_name="t") as sending:
        with pytest.raises(RowsRejected) as rejected:
            await sending.writer.write([batch])
        refused = sorted(rejected.value.reasons)
        assert {4, 5} <= set(refused) <= {0, 1, 4, 5}
        await sending.writer.write([batch.take([row for row in range(6) if row not in refused])])
    if url.startswith("duckdb"):
        kept = run(url, "SELECT id, epoch_us(t::TIMESTAMP) AS t FROM t ORDER BY id")
        assert [row["t"] for row in kept] == [FAR[row["id"]] for row in kept]
    else:
        assert refused == [0, 1, 4, 5]
        assert all("of the years 1 to 9999" in reason for reason in rejected.value.reasons.values())


@pytest.mark.parametrize("days", [2932897, -719163, 2**31 - 1])
async def test_a_date_is_exact_or_its_row_is_refused(tmp_path: Path, days: int) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    batch = pa.record_batch({"d": pa.array([days, 0, 2932896, -719162], pa.date32())})
    async with sender(url, tmp_path, table_name="t") as sending:
        with pytest.raises(RowsRejected) as rejected:
            await sending.writer.write([batch])
        assert list(rejected.value.reasons) == [0]
        await sending.writer.write([batch.slice(1)])
    assert [row["d"] for row in run(url, "SELECT d FROM t")] == ["1970-01-01", "9999-12-31", "0001-01-01"]


async def test_a_duration_as_text_is_read_by_postgres(postgres_database: str, tmp_path: Path) -> None:
    run(postgres_database, "CREATE TABLE t (d interval)")
    (refused,) = await post(postgres_database, tmp_path, [("t", {"d": text}) for text in ("PT1H", "1 hour", "no time")])
    assert list(refused) == [2]
    assert [str(row["d"]) for row in run(postgres_database, "SELECT d FROM t")] == ["1:00:00"] * 2


async def test_durations_are_written_into_an_interval_however_they_come(postgres_database: str, tmp_path: Path) -> None:
    run(postgres_database, "CREATE TABLE t (id integer, d interval)")
    minute = pa.record_batch({"id": [3], "d": pa.array([60_000], pa.duration("ms"))})
    parts = pa.array([(1, 2, 3_000_000_000)], pa.month_day_nano_interval())
    async with sender(postgres_database, tmp_path, table_name="t") as sending:
        await sending.writer.write([pa.record_batch({"id": [1], "d": ["PT-1.5S"]})])
        await sending.writer.write([pa.record_batch({"id": [2], "d": parts})])
        await sending.writer.write([minute])
        with pytest.raises(RowsRejected, match="expected a duration, got 3600"):
            await sending.writer.write([pa.record_batch({"id": [4], "d": [3600]})])
    found = run(postgres_database, "SELECT d::text FROM t ORDER BY id")
    assert [row["d"] for row in found] == ["-00:00:01.5", "1 mon 2 days 00:00:03", "00:01:00"]


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
async def test_times_of_day_keep_their_nanoseconds(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{tmp_path}/rows.db"
    ticks = [0, 1, 43_200 * 10**9, 86_400 * 10**9 - 1]
    async with sender(url, tmp_path, table_name="t") as sending:
        await sending.writer.write([pa.record_batch({"at": pa.array(ticks, pa.time64("ns"))})])
        await sending.writer.write([pa.record_batch({"at": pa.array([5], pa.time32("s"))})])
        await sending.writer.write([pa.record_batch({"at": ["12:00:00.123456789"]})])
    text = 'SELECT CAST("at" AS TEXT) AS "at" FROM t ORDER BY 1'
    assert [row["at"][:8] + row["at"][8:].rstrip("0").rstrip(".") for row in run(url, text)] == [
        "00:00:00",
        "00:00:00.000000001",
        "00:00:05",
        "12:00:00",
        "12:00:00.123456789",
        "23:59:59.999999999",
    ]


ARRAYS: dict[str, list[Any]] = {
    "text[]": [["x", 'a "b" \\ {c}, ', None, "NULL", ""], [], None, ["\n", "ä"]],
    "integer[]": [[1, None, -2], [[1, 2], [3, 4]]],
    "numeric[]": [[decimal.Decimal("9007199254740993"), decimal.Decimal("0.5")]],
    "double precision[]": [[0.1, 5e-324, float("inf"), None]],
    "boolean[]": [[True, False, None]],
    "jsonb[]": [["x", 1, None], [{"a": [1, "x"]}, [1]]],
}


@pytest.mark.parametrize("kind", list(ARRAYS))
async def test_lists_are_written_into_arrays_of_postgres(kind: str, postgres_database: str, tmp_path: Path) -> None:
    run(postgres_database, f"CREATE TABLE t (id integer, a {kind})")
    async with sender(postgres_database, tmp_path, table_name="t") as sending:
        for number, row in enumerate(ARRAYS[kind]):
            # Elements of several kinds come as the JSON of a list.
            values = pa.array([json.dumps(row) if kind == "jsonb[]" else row])
            await sending.writer.write([pa.record_batch({"id": [number], "a": values})])
    assert [row["a"] for row in run(postgres_database, "SELECT a FROM t ORDER BY id")] == ARRAYS[kind]


async def test_what_is_no_array_is_refused_alone(postgres_database: str, tmp_path: Path) -> None:
    run(postgres_database, "CREATE TABLE t (a text[], n integer[])")
    rows: list[Row] = [{"a": ["x", "y"]}, {"n": ["z"]}, {"n": [1]}, {"a": '["x"]'}, {"a": "{p,q}"}, {"a": "no array"}]
    refused = [await post(postgres_database, tmp_path, [("t", row)]) for row in rows]
    assert [list(each) for (each,) in refused] == [[], [0], [], [], [], [0]]
    kept = run(postgres_database, "SELECT a, n FROM t")
    assert [row["a"] or row["n"] for row in kept] == [["x", "y"], [1], ["x"], ["p", "q"]]


async def test_the_keys_of_tables_with_long_names_have_names_of_their_own(
    postgres_database: str, tmp_path: Path
) -> None:
    tables = ["t" * 62 + end for end in "ab"]
    run(postgres_database, *[f"CREATE TABLE {table} (k integer)" for table in tables])
    calls = [[(table, {"k": 1}), (table, {"k": 1})] for table in tables]
    assert await post(postgres_database, tmp_path, *calls, key=["k"]) == [{}, {}]
    assert [len(run(postgres_database, f"SELECT * FROM {table}")) for table in tables] == [1, 1]


async def test_many_tables_are_as_narrow_as_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    posts = [(f"t{table}", {f"c{table}_{at}": at for at in range(5)}) for table in range(200)]
    assert await post(url, tmp_path, posts, posts) == [{}, {}]
    assert all(_names(url, f"t{table}") == {f"c{table}_{at}" for at in range(5)} for table in range(200))
