"""Queries over single batches: a plan that is used again gives what a new one gives."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext

from penstock.errors import ConfigError, PermanentError
from penstock.sql.query import PreparedQuery

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("sensor", pa.string()),
        ("temp", pa.float64()),
        ("level", pa.dictionary(pa.int32(), pa.string())),
        ("place", pa.struct([("room", pa.string()), ("floor", pa.int32())])),
        ("tags", pa.list_(pa.string())),
        ("view", pa.string_view()),
        ("large", pa.large_string()),
        ("at", pa.timestamp("ns")),
    ]
)


def make(rows: int, seed: int, *, warm: bool = True) -> pa.RecordBatch:
    """Rows with nulls in every column, different for each seed; without ``warm`` no temperature is above 20."""
    random = np.random.default_rng(seed)

    def column(values: list[Any], kind: pa.DataType) -> pa.Array:
        holes = random.random(rows) < 0.1
        return pa.array([None if hole else value for hole, value in zip(holes, values, strict=True)], kind)

    top = 40.0 if warm else 19.0
    names = [f"s{n}" for n in random.integers(0, 30, rows)]
    return pa.record_batch(
        [
            pa.array(random.permutation(rows) + seed * 3, pa.int64()),
            column(names, pa.string()),
            column([round(float(t), 3) for t in random.uniform(0, top, rows)], pa.float64()),
            column(
                [("info", "warn", "error")[n] for n in random.integers(0, 3, rows)], pa.string()
            ).dictionary_encode(),
            column([{"room": name, "floor": n % 4} for n, name in enumerate(names)], SCHEMA.field("place").type),
            column([["a", name] if n % 3 else [] for n, name in enumerate(names)], SCHEMA.field("tags").type),
            column([f"a longer text than twelve {name}" for name in names], pa.string_view()),
            column(names, pa.large_string()),
            column([1_700_000_000_000_000_000 + n * 10**9 for n in range(rows)], pa.timestamp("ns")),
        ],
        schema=SCHEMA,
    )


BATCHES = [
    make(5, 1),
    make(0, 2),
    make(1, 3),
    make(20_000, 4),
    make(700, 5, warm=False),
    make(9_001, 6),
    make(64, 7),
]

SHAPES = {
    "star": "SELECT * FROM flow",
    "filter": "SELECT * FROM flow WHERE temp > 20",
    "filter of nothing": "SELECT id FROM flow WHERE temp > 1000",
    "project": "SELECT sensor, temp * 1.8 + 32 AS f, id + 1 AS n FROM flow",
    "case": "SELECT CASE WHEN temp > 20 THEN 'warm' WHEN temp IS NULL THEN 'none' ELSE 'cold' END AS c FROM flow",
    "strings": "SELECT upper(sensor) u, concat(view, '-', large) c, substr(view, 3) s, CAST(id AS VARCHAR) t FROM flow",
    "view filter": "SELECT view, large FROM flow WHERE view LIKE '%1' OR large = 's2'",
    "dictionary": "SELECT level, id FROM flow WHERE level = 'error'",
    "dictionary group": "SELECT level, count(*) AS n FROM flow GROUP BY level",
    "struct": "SELECT place['room'] AS room, place FROM flow WHERE place['floor'] = 2",
    "list": "SELECT id, tags[2] AS t, array_length(tags) AS n FROM flow",
    "unnest": "SELECT id, unnest(tags) AS tag FROM flow",
    "group": "SELECT sensor, avg(temp) AS a, count(*) AS n FROM flow GROUP BY sensor",
    "group having": "SELECT sensor, max(temp) AS m FROM flow GROUP BY sensor HAVING count(*) > 3",
    "group by time": "SELECT date_bin(INTERVAL '10 seconds', at) AS w, count(*) AS n FROM flow GROUP BY 1",
    "count": "SELECT count(*) AS n FROM flow",
    "totals": "SELECT min(temp) AS lo, max(temp) AS hi, count(DISTINCT sensor) AS n, min(view) AS v FROM flow",
    "array_agg": "SELECT sensor, array_agg(id ORDER BY id) AS ids FROM flow GROUP BY sensor",
    "grouping sets": "SELECT sensor, level, count(*) AS n FROM flow GROUP BY ROLLUP (sensor, level)",
    "distinct": "SELECT DISTINCT sensor, level FROM flow",
    "distinct on": "SELECT DISTINCT ON (sensor) sensor, id FROM flow ORDER BY sensor, id DESC",
    "sort": "SELECT id, temp FROM flow ORDER BY temp DESC NULLS LAST, id",
    "top": "SELECT id, temp FROM flow ORDER BY temp DESC NULLS LAST, id LIMIT 7",
    "top groups": "SELECT sensor, max(id) AS m FROM flow GROUP BY sensor ORDER BY m DESC LIMIT 3",
    "limit": "SELECT id FROM flow LIMIT 4",
    "offset": "SELECT id FROM flow ORDER BY id LIMIT 4 OFFSET 2",
    "row number": "SELECT id, row_number() OVER (PARTITION BY sensor ORDER BY id) AS n FROM flow",
    "newest of each": "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY sensor ORDER BY id DESC) AS n "
    "FROM flow) WHERE n = 1",
    "running": "SELECT id, sum(temp) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM flow",
    "lag": "SELECT id, id - lag(id) OVER (ORDER BY id) AS d FROM flow",
    "union all": "SELECT id FROM flow WHERE temp > 30 UNION ALL SELECT -id FROM flow WHERE temp < 5",
    "union": "SELECT sensor FROM flow UNION SELECT large FROM flow",
    "intersect": "SELECT id FROM flow INTERSECT SELECT id + 1 FROM flow",
    "except": "SELECT id FROM flow EXCEPT SELECT id FROM flow WHERE temp > 20",
    "group of union": "SELECT s, count(*) AS n FROM "
    "(SELECT sensor AS s FROM flow UNION ALL SELECT large FROM flow) GROUP BY s",
    "with": "WITH warm AS (SELECT * FROM flow WHERE temp > 20) SELECT sensor, count(*) AS n FROM warm GROUP BY sensor",
    "scalar subquery": "SELECT id FROM flow WHERE temp > (SELECT avg(temp) FROM flow)",
    "in subquery": "SELECT id FROM flow WHERE id IN (SELECT id * 2 FROM flow)",
    "not exists": "SELECT id FROM flow a WHERE NOT EXISTS (SELECT 1 FROM flow b WHERE b.id = a.id + 1)",
    "join": "SELECT a.id, b.temp FROM flow a JOIN flow b ON a.id = b.id + 1",
    "left join": "SELECT a.id, b.id AS other FROM flow a LEFT JOIN flow b ON a.id = b.id * 2",
    "comma join": "SELECT a.id, b.id AS o FROM flow a, flow b WHERE a.id = b.id AND a.temp > 30",
    "unequal join": "SELECT a.id, b.id AS o FROM "
    "(SELECT id FROM flow LIMIT 20) a JOIN (SELECT id FROM flow LIMIT 20) b ON a.id < b.id",
    "values": "SELECT f.id, v.n FROM flow f JOIN (VALUES ('info', 1), ('warn', 2)) v(l, n) ON f.level = v.l",
    "recursive": "WITH RECURSIVE n AS "
    "(SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT count(*) FROM flow) AND i < 5) SELECT i FROM n",
    "constant": "SELECT 1 AS one",
}


def fresh(sql: str, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """The same query in a session that has never seen another batch."""
    config = (
        SessionConfig().with_target_partitions(1).set("datafusion.sql_parser.map_string_types_to_utf8view", "false")
    )
    session = SessionContext(config)
    session.register_record_batches("flow", [[batch]])
    return [part for part in session.sql(sql).collect() if part.num_rows]


def rows_of(batches: list[pa.RecordBatch], *, ordered: bool) -> Any:
    rows = [repr(row) for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
    return rows if ordered else Counter(rows)


EXPECTED: dict[str, list[list[pa.RecordBatch]]] = {}


def expected(shape: str) -> list[list[pa.RecordBatch]]:
    if shape not in EXPECTED:
        EXPECTED[shape] = [fresh(SHAPES[shape], batch) for batch in BATCHES]
    return EXPECTED[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_used_again_gives_what_a_new_plan_gives(shape: str) -> None:
    query = PreparedQuery(SHAPES[shape])
    ordered = "ORDER BY" in SHAPES[shape] and "OVER" not in SHAPES[shape] and "array_agg" not in SHAPES[shape]
    for at in [0, 1, 2, 3, 4, 5, 6, 3, 0, 6, 1, 5]:
        found = query.run(BATCHES[at])
        wanted = expected(shape)[at]
        assert all(part.num_rows for part in found)
        assert rows_of(found, ordered=ordered) == rows_of(wanted, ordered=ordered), f"batch {at}"
        if wanted:
            assert found[0].schema.equals(wanted[0].schema)


@pytest.mark.parametrize("shape", ["filter", "group", "running", "union all", "join", "in subquery", "top"])
def test_several_threads_share_a_query(shape: str) -> None:
    query = PreparedQuery(SHAPES[shape])
    wanted = [rows_of(found, ordered=False) for found in expected(shape)]
    order = [at for round in range(6) for at in (0, 6, 4, 2, 1, 5, round % 7)]
    with ThreadPoolExecutor(4) as pool:
        for at, found in zip(order, pool.map(lambda at: query.run(BATCHES[at]), order), strict=True):
            assert rows_of(found, ordered=False) == wanted[at]


ROW_WISE = {"star", "filter", "filter of nothing", "project", "case", "strings", "view filter", "dictionary", "struct"}
ROW_WISE |= {"list"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_wise_query_gives_the_same_for_two_halves(shape: str) -> None:
    query = PreparedQuery(SHAPES[shape])
    assert query.row_wise() == (shape in ROW_WISE)
    if query.row_wise():
        batch = BATCHES[6]
        halves = query.run(batch.slice(0, 20)) + query.run(batch.slice(20))
        assert rows_of(halves, ordered=True) == rows_of(query.run(batch), ordered=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_columns_read_are_enough(shape: str) -> None:
    query = PreparedQuery(SHAPES[shape])
    read = query.columns_read()
    if read is None:
        assert "*" in SHAPES[shape]
        return
    batch = BATCHES[6]
    fewer = batch.select([name for name in batch.schema.names if name.lower() in read])
    assert rows_of(query.run(fewer), ordered=False) == rows_of(query.run(batch), ordered=False)


def test_threads_with_different_schemas_share_a_query() -> None:
    query = PreparedQuery("SELECT sum(a) AS s FROM flow")
    kinds = [pa.int32(), pa.int64(), pa.float64(), pa.uint8()]

    def total(n: int) -> Any:
        return query.run(pa.record_batch({"a": pa.array([n % 200, 1], kinds[n % 4])}))[0].column(0)[0].as_py()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(total, range(400))) == [n % 200 + 1 for n in range(400)]


def test_only_plans_that_keep_nothing_are_used_again() -> None:
    def kept(shape: str) -> bool:
        query = PreparedQuery(SHAPES[shape])
        query.run(BATCHES[0])
        return query._known[0].idle[0][0]._physical is not None

    assert all(kept(shape) for shape in ("star", "filter", "project", "group", "sort", "row number", "unnest", "limit"))
    again = ("top", "top groups", "join", "left join", "unequal join", "in subquery", "scalar subquery", "intersect")
    assert not any(kept(shape) for shape in again)


def test_r8_a_plan_is_never_used_for_another_schema() -> None:
    query = PreparedQuery("SELECT b FROM flow")
    for _ in range(2):
        assert query.run(pa.record_batch({"a": [1], "b": [2]}))[0].to_pydict() == {"b": [2]}
        assert query.run(pa.record_batch({"b": ["x"], "a": [3]}))[0].to_pydict() == {"b": ["x"]}


def test_many_schemas_are_forgotten_again() -> None:
    query = PreparedQuery("SELECT a FROM flow")
    for n in range(40):
        assert query.run(pa.record_batch({"a": [n], f"b{n}": [n]}))[0].to_pydict() == {"a": [n]}
    assert len(query._known) == 16


def test_the_metadata_of_a_schema_does_not_plan_again() -> None:
    query = PreparedQuery("SELECT a FROM flow")
    for n in range(20):
        batch = pa.record_batch({"a": [n]}).replace_schema_metadata({"n": str(n)})
        assert query.run(batch)[0].to_pydict() == {"a": [n]}
    assert len(query._known) == 1


@pytest.mark.parametrize("function", ["now()", "current_timestamp", "current_time", "CURRENT_TIMESTAMP()"])
def test_time_does_not_stand_still(function: str) -> None:
    query = PreparedQuery(f"SELECT {function} AS t FROM flow")
    seen = set()
    for _ in range(3):
        seen.add(str(query.run(pa.record_batch({"a": [1]}))[0].column("t").cast(pa.string())[0]))
        time.sleep(0.002)
    assert len(seen) == 3


@pytest.mark.parametrize("function", ["random()", "uuid()"])
def test_chance_differs_for_each_row_and_run(function: str) -> None:
    query = PreparedQuery(f"SELECT {function} AS t FROM flow")
    seen = [query.run(pa.record_batch({"a": [1, 2]}))[0].column("t").to_pylist() for _ in range(3)]
    assert len({value for run in seen for value in run}) == 6


def test_every_unstable_function_is_known() -> None:
    from penstock.sql.statement import Statement

    session = SessionContext(SessionConfig().with_information_schema(True))
    found = session.sql(
        "SELECT DISTINCT routine_name FROM information_schema.routines "
        "WHERE function_type = 'SCALAR' AND NOT is_deterministic"
    ).to_pydict()["routine_name"]
    assert found
    assert all(Statement(f"SELECT {name}()").is_unstable() for name in found)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC a FROM flow", "expected a query"),
        ("", "expected a query"),
        ("SELECT a FROM flow WHERE (b", "Expected: \\), found: EOF"),
        ("SELECT a FROM flow WHERE b = 'x", "Unterminated string"),
        ("SELECT a FROM flwo", "flwo' not found"),
        ("SELECT a, b, nonsense(a, c) FROM flow", "Invalid function 'nonsense'"),
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("DROP TABLE flow", "expected a query"),
        ("SET a = 1", "expected a query"),
        ("EXPLAIN SELECT 1", "expected a query"),
        ("COPY flow TO '/tmp/x.csv'", "expected a query"),
        ("CREATE TABLE x AS SELECT 1", "expected a query"),
        ("SELECT 1; DROP TABLE flow", "single SQL statement"),
        ("WITH x AS (SELECT 1) INSERT INTO flow SELECT 1", "INSERT"),
        ("SELECT 1 INTO x", "DDL not supported"),
        ("SELECT json_get() FROM flow", "up to 4 keys"),
        ("SELECT json_get_str(a, 1, 2, 3, 4, 5) FROM flow", "not 6 arguments"),
    ],
)
def test_what_no_schema_can_mend_is_refused_before_any_data(sql: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PreparedQuery(sql)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_accepted_without_a_schema(shape: str) -> None:
    PreparedQuery(SHAPES[shape])


def test_a_missing_column_is_named_with_those_there_are() -> None:
    batch = pa.record_batch({"a": [1], "Temp": [2.0]})
    with pytest.raises(PermanentError, match="column 'nope', which is not among a, Temp"):
        PreparedQuery("SELECT flow.nope FROM flow").run(batch)
    with pytest.raises(PermanentError, match='did you mean "Temp"'):
        PreparedQuery("SELECT Temp FROM flow").run(batch)


def test_r3_failing_batches_leave_the_query_usable() -> None:
    query = PreparedQuery("SELECT CAST(a AS BIGINT) AS a FROM flow")
    for n in range(300):
        with pytest.raises(PermanentError, match="Cannot cast string 'x'"):
            query.run(pa.record_batch({"a": ["x"]}))
        if n % 50 == 0:
            assert query.run(pa.record_batch({"a": ["1"]}))[0].to_pydict() == {"a": [1]}


def test_a_query_for_another_table_name() -> None:
    query = PreparedQuery("SELECT a FROM readings", table="readings")
    assert query.run(pa.record_batch({"a": [1]}))[0].to_pydict() == {"a": [1]}
    with pytest.raises(ConfigError, match="flow' not found"):
        PreparedQuery("SELECT a FROM flow", table="readings")


def test_metadata_columns_follow_the_rules_of_sql() -> None:
    batch = pa.record_batch({"a": [1], "__meta_source": ["kafka"]})
    assert PreparedQuery("SELECT * FROM flow").run(batch)[0].schema.names == ["a", "__meta_source"]
    assert PreparedQuery("SELECT a FROM flow").run(batch)[0].schema.names == ["a"]


@pytest.mark.slow
def test_memory_does_not_grow_with_runs() -> None:
    query = PreparedQuery("SELECT sensor, avg(temp) AS a, count(*) AS n FROM flow GROUP BY sensor")
    batch = BATCHES[6]

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    for _ in range(2100):
        query.run(batch)
    before = resident()
    for _ in range(6000):
        query.run(batch)
    assert resident() - before < 10_000_000  # without new plans it would be 20 MB


def test_a_plan_lets_go_of_its_batch() -> None:
    query = PreparedQuery("SELECT count(*) AS n FROM flow")
    query.run(BATCHES[0])
    assert query._known[0].idle[0][0]._source.current is None


def test_no_more_plans_are_kept_than_can_be_used() -> None:
    query = PreparedQuery("SELECT a FROM flow")
    start = threading.Barrier(12)

    def run(n: int) -> None:
        start.wait()
        for _ in range(5):
            query.run(pa.record_batch({"a": [n]}))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(run, range(12)))
    assert 1 <= len(query._known[0].idle[0]) <= 8


DOCUMENTS = [
    '{"a":{"b":[1,2,{"c":"x"}]},"s":"hé\\n","i":5,"f":1.50,"t":true,"n":null,"big":12345678901234567890123}',
    None,
    "not json",
    "[1,2]",
    '"text"',
    '{"a":3, "s": 7}',
    "",
]


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("json_get(d, 's')", ["hé\n", None, None, None, None, "7", None]),
        ("json_get(d, 'f')", ["1.50", *[None] * 6]),
        ("json_get(d, 'big')", ["12345678901234567890123", *[None] * 6]),
        ("json_get(d, 'a', 'b')", ['[1,2,{"c":"x"}]', *[None] * 6]),
        ("json_get(d, 'n')", [None] * 7),
        ("json_get_json(d, 'n')", ["null", *[None] * 6]),
        ("json_get_json(d, 's')", ['"hé\\n"', None, None, None, None, "7", None]),
        ("json_get_str(d, 's')", ["hé\n", *[None] * 6]),
        ("json_get_str(d, 'a', 'b', 2, 'c')", ["x", *[None] * 6]),
        ("JSON_GET_INT(d, 'i')", [5, *[None] * 6]),
        ("json_get_int(d, 'big')", [None] * 7),
        ("json_get_int(d, 1)", [None, None, None, 2, None, None, None]),
        ("json_get_int(d, k)", [5, None, None, None, None, 3, None]),
        ("json_get_float(d, 'f')", [1.5, *[None] * 6]),
        ("json_get_float(d, 'i')", [5.0, *[None] * 6]),
        ("json_get_bool(d, 't')", [True, *[None] * 6]),
        ("json_contains(d, 'n')", [True, *[False] * 6]),
        ("json_contains(d, 'a')", [True, False, False, False, False, True, False]),
        ("json_length(d)", [7, None, None, 2, None, 2, None]),
        ("json_length(d, 'a', 'b')", [3, *[None] * 6]),
        ("coalesce(json_get_int(d, 'i'), json_get_int(d, 'a'), 0)", [5, 0, 0, 0, 0, 3, 0]),
        ("json_get_int(json_get_json(d, 'a'), 'b', 0)", [1, *[None] * 6]),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_json_functions(call: str, wanted: list[Any], kind: pa.DataType) -> None:
    keys = pa.array(["i", "i", "i", "i", "i", "a", None])
    batch = pa.record_batch({"d": pa.array(DOCUMENTS, pa.string()).cast(kind), "k": keys})
    query = PreparedQuery(f"SELECT {call} AS v FROM flow")
    for _ in range(2):
        assert query.run(batch)[0].column("v").to_pylist() == wanted


def test_json_of_a_constant_may_be_null() -> None:
    query = PreparedQuery("""SELECT json_get_int('{"x": 1}', 'y') AS v, json_get_int('{"x": 1}', 'x') AS w FROM flow""")
    assert query.run(pa.record_batch({"a": [1]}))[0].to_pydict() == {"v": [None], "w": [1]}


def test_json_functions_name_their_columns_as_written() -> None:
    found = PreparedQuery("SELECT json_get_str(d, 'a') FROM flow WHERE json_contains(d, 'a')").run(
        pa.record_batch({"d": ['{"a": "b"}']})
    )
    assert found[0].to_pydict() == {'json_get_str(flow.d,Utf8("a"))': ["b"]}
