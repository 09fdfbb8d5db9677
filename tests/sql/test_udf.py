"""Functions of one's own in SQL: scalar, aggregate and window functions, by decorator and from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock import ConfigError, Engine, loads, udf
from penstock.errors import PermanentError
from penstock.outputs import memory
from penstock.processors.filter import Filter
from penstock.processors.map import Map
from penstock.processors.sql import Sql
from penstock.sql.expression import Expr
from penstock.sql.query import PreparedQuery


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = set(udf.functions())
    yield
    for name in set(udf.functions()) - before:
        udf.forget(name)


BATCH = pa.record_batch({"t": ["a", None, "b"], "n": [1, 2, None], "x": [1.0, 5.0, 7.0]})


def query(sql: str, batch: pa.RecordBatch = BATCH) -> list[dict[str, Any]]:
    return [row for found in PreparedQuery(sql).run(batch) for row in found.to_pylist()]


def test_a_scalar_function_is_called_for_each_row_without_a_null() -> None:
    called = []

    @udf.scalar
    def shout(text: str) -> str:
        called.append(text)
        return text.upper()

    assert query("SELECT shout(t) AS t FROM flow") == [{"t": "A"}, {"t": None}, {"t": "B"}]
    assert called == ["a", "b"]
    assert PreparedQuery("SELECT shout(t) AS t FROM flow").row_wise()


def test_a_function_that_expects_none_is_called_for_nulls() -> None:
    @udf.scalar
    def or_zero(number: int | None) -> int:
        return number or 0

    assert [row["n"] for row in query("SELECT or_zero(n) AS n FROM flow")] == [1, 2, 0]


def test_a_function_may_work_by_column() -> None:
    @udf.scalar(takes=[pa.int64()], returns=pa.int64(), by_column=True)
    def twice(values: pa.Array) -> pa.Array:
        return pc.multiply(values, 2)

    assert [row["n"] for row in query("SELECT twice(n) AS n FROM flow WHERE n > 1 OR n IS NULL")] == [4, None]


def test_an_aggregate_is_made_anew_for_each_group() -> None:
    @udf.aggregate
    class Spread:
        def __init__(self) -> None:
            self.values: list[float] = []

        def add(self, value: float) -> None:
            self.values.append(value)

        def result(self) -> float | None:
            return max(self.values) - min(self.values) if self.values else None

    batch = pa.record_batch({"k": ["a", "a", "b", "c"], "x": [1.0, 4.0, 2.0, None]})
    rows = query("SELECT k, spread(x) AS s FROM flow GROUP BY k ORDER BY k", batch)
    assert rows == [{"k": "a", "s": 3.0}, {"k": "b", "s": 0.0}, {"k": "c", "s": None}]
    assert query("SELECT spread(x) AS s FROM flow", batch) == [{"s": 3.0}]
    assert not PreparedQuery("SELECT spread(x) AS s FROM flow").row_wise()
    with pytest.raises(ValueError, match="needs many rows"):
        Filter(condition="spread(x) > 1")


def test_a_window_function_sees_its_partition_in_order() -> None:
    @udf.window
    def change(values: list[float]) -> list[float]:
        return [0.0, *(later - earlier for earlier, later in pairwise(values))]

    batch = pa.record_batch({"k": ["a", "b", "a", "b"], "x": [5.0, 1.0, 2.0, 9.0]})
    sql = "SELECT k, x, change(x) OVER (PARTITION BY k ORDER BY x) AS c FROM flow ORDER BY k, x"
    assert [row["c"] for row in query(sql, batch)] == [0.0, 3.0, 0.0, 8.0]


def test_what_a_function_raises_is_the_error_of_its_row() -> None:
    @udf.scalar
    def positive(number: int) -> int:
        if number < 0:
            raise ValueError(f"it's {number}")
        return number

    with pytest.raises(PermanentError, match=r"^positive\(\) raised ValueError: it's -1$"):
        query("SELECT positive(n) AS n FROM flow", pa.record_batch({"n": [-1]}))


@pytest.mark.parametrize(
    ("returned", "message"),
    [("'x'", "returned what is not int64"), ("2 ** 70", "returned what is not int64"), ("exit(3)", "SystemExit")],
)
def test_a_function_that_returns_what_it_should_not_refuses_the_row(returned: str, message: str) -> None:
    @udf.scalar
    def wrong(number: int) -> int:
        return eval(returned)  # type: ignore[no-any-return]

    with pytest.raises(PermanentError, match=message):
        query("SELECT wrong(n) AS n FROM flow")


def test_a_volatile_function_is_called_anew_each_time() -> None:
    numbers = count()

    @udf.scalar(volatile=True)
    def ticket(any_of: int) -> int:
        return next(numbers)

    prepared = PreparedQuery("SELECT ticket(1) AS n FROM flow")
    first, second = ([row["n"] for part in prepared.run(BATCH) for row in part.to_pylist()] for _ in range(2))
    assert max(first) < min(second)


def test_functions_may_be_called_wherever_there_is_sql() -> None:
    @udf.scalar
    def plus_one(number: int) -> int:
        return number + 1

    batch = pa.record_batch({"n": [1, 2]})
    assert Map(columns={"n": "plus_one(n)"}).process(batch)[0].to_pydict() == {"n": [2, 3]}
    assert Filter(condition="plus_one(n) = 3").process(batch)[0].to_pydict() == {"n": [2]}
    assert Expr(sql="plus_one(n)").evaluate(batch).to_pylist() == ["2", "3"]

    @udf.scalar(name="plus_one")
    def plus_ten(number: int) -> int:
        return number + 10

    assert Expr(sql="plus_one(n)").evaluate(batch).to_pylist() == ["11", "12"], "a function may be replaced"


def test_a_name_of_sql_is_not_taken() -> None:
    @udf.scalar(name="upper")
    def other(text: str) -> str:
        return text

    with pytest.raises(ConfigError, match=r"upper\(\) is a function of SQL already"):
        PreparedQuery("SELECT upper(t) FROM flow")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@udf.scalar\ndef f(a) -> int: ...", "annotate argument a"),
        ("@udf.scalar\ndef f(a: int): ...", "annotate the result"),
        ("@udf.scalar\ndef f(a: dict) -> int: ...", "annotate argument a"),
        ("@udf.scalar\ndef f() -> int: ...", "takes no argument"),
        ("@udf.scalar(name='A b')\ndef f(a: int) -> int: ...", "not a name for SQL"),
        ("@udf.scalar(by_column=True)\ndef f(a: int) -> int: ...", "give the Arrow types"),
        ("@udf.window\ndef f(a: int) -> int: ...", "a list of one of"),
        ("@udf.aggregate\nclass F: ...", "expected a class with add"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_it_is_decorated(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exec(source, {"udf": udf})


CONFIGURATION = """
functions:
  - script: |
      from penstock import udf

      @udf.scalar
      def checked(number: int) -> int:
          if number == 13:
              raise ValueError("unlucky")
          return number * 2
streams:
  - input: {type: memory, codec: json, messages: ['{"n": 1}', '{"n": 13}', '{"n": 3}']}
    pipeline:
      processors:
        - {type: sql, query: SELECT checked(n) AS n FROM flow}
    output: {type: memory, key: udf}
    error_output: {type: memory, key: udf-errors}
state: memory
health_check: {enabled: false}
"""


async def test_one_row_on_which_a_function_raises_is_a_dead_letter(tmp_path: Path) -> None:
    memory.clear("udf")
    memory.clear("udf-errors")
    configuration = loads(CONFIGURATION)
    await Engine(configuration.all_streams(), state="memory", data=tmp_path).run()
    assert [row["n"] for row in memory.rows("udf")] == [2, 6]
    (letter,) = memory.rows("udf-errors")
    assert letter["payload"] == '{"n": 13}'
    assert "checked() raised ValueError: unlucky" in letter["reason"]


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ("{}", "either a `script` or a `module`"),
        ("{module: no_such_module_here}", "No module named 'no_such_module_here'"),
        ("{script: 'def ('}", "at line 1"),
        ("{script: '1 / 0'}", "division by zero at line 1"),
    ],
)
def test_functions_that_cannot_be_loaded_are_told_with_their_place(functions: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        loads(CONFIGURATION.split("streams:")[0].split("  - script")[0] + f"  - {functions}\nstreams: []\n")
    assert "functions.0" in str(refusal.value)


def test_volatile_functions_of_sql_are_right_in_each_batch() -> None:
    prepared = PreparedQuery("SELECT CAST(now() AS BIGINT) AS t, random() AS r, uuid() AS u FROM flow")
    batches = [part for _ in range(3) for part in prepared.run(BATCH)]
    times = [set(batch.column("t").to_pylist()) for batch in batches]
    assert all(len(one) == 1 for one in times), "the time is the same for all rows of a batch"
    assert times[0] != times[1] != times[2], "and another one in the next"
    for name in ("r", "u"):
        values = [value for batch in batches for value in batch.column(name).to_pylist()]
        assert len(set(values)) == 9


def test_statements_run_one_after_the_other() -> None:
    sql = "SELECT n * 2 AS m FROM flow; SELECT m + 1 AS k FROM flow -- a; comment\n; SELECT sum(k) AS ';' FROM flow;"
    assert Sql(query=sql).process(pa.record_batch({"n": [1, 2]}))[0].to_pylist() == [{";": 8}]
    assert not Sql(query=sql).row_wise()
    assert Sql(query="SELECT n FROM flow; SELECT n FROM flow WHERE n > 1").row_wise()
    assert Sql(query="SELECT n FROM flow WHERE n > 9; SELECT count(*) FROM flow").process(BATCH) == []


def test_a_chain_keeps_metadata_while_it_is_row_wise() -> None:
    batch = pa.record_batch({"n": [1, 2], "__meta_source": ["a", "b"]})
    (found,) = Sql(query="SELECT n AS m FROM flow; SELECT m FROM flow WHERE m = 2").process(batch)
    assert found.to_pydict() == {"m": [2], "__meta_source": ["b"]}


def test_a_wrong_statement_of_a_chain_is_found_when_it_is_loaded() -> None:
    with pytest.raises(ValueError, match="expected a query"):
        Sql(query="SELECT 1 FROM flow; DROP TABLE flow")
