"""The `join` of windows: each input is a table, and a side that is missing loses no row silently."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import Engine, Stream
from penstock.buffers._join import JoinOptions
from penstock.component import Buffer
from penstock.delivery import Batch, Delivery
from penstock.outputs import memory
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

from .queues import take_all

INNER = "SELECT a.k AS k, a.x AS x, b.y AS y FROM a JOIN b ON a.k = b.k"
LEFT = INNER.replace("JOIN", "LEFT JOIN")
FULL = "SELECT coalesce(a.k, b.k) AS k, a.x AS x, b.y AS y FROM a FULL JOIN b ON a.k = b.k"


class TestJoiningTumblingWindow(BufferSuite):
    keeps_rows = False
    ordered = False
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "tumbling_window", "interval": "20ms", "join": {"query": LEFT}})

    def sample(self, start: int, rows: int) -> Batch:
        return pa.record_batch(
            {
                "k": pa.array(range(start, start + rows), pa.int64()),
                "x": pa.array(range(rows), pa.int64()),
                "__meta_source": pa.array(["a"] * rows, pa.string()),
            }
        )


def side(name: str, rows: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "type": "memory", "messages": list(rows)}


async def joined(
    folder: Path, a: Sequence[Any], b: Sequence[Any], query: str, **options: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Join two inputs in one window, and return what was written and what was refused."""
    for key in ("joined", "refused"):
        memory.clear(key)
    join = {"query": query, "codec": "json", **options}
    one = Stream.model_validate(
        {
            "input": {"type": "multiple_inputs", "inputs": [side("a", a), side("b", b)]},
            "buffer": {"type": "session_window", "gap": "1h", "join": join},
            "output": {"type": "memory", "key": "joined"},
            "error_output": {"type": "memory", "key": "refused"},
            "restart": {"attempts": 0},
        }
    )
    await Engine([one], state="memory", data=folder).run()
    return memory.rows("joined"), memory.rows("refused")


async def test_a_missing_side_is_an_outer_result(tmp_path: Path) -> None:
    written, refused = await joined(tmp_path, [{"k": 1, "x": 5}], [], INNER)
    assert (written, refused) == ([{"k": 1, "x": 5, "y": None}], [])
    written, refused = await joined(tmp_path, [], [{"k": 1, "y": 5}], FULL)
    assert (written, refused) == ([{"k": 1, "x": None, "y": 5}], [])
    written, refused = await joined(tmp_path, [{"k": 1, "x": 5}], [], LEFT)
    assert (written, refused) == ([{"k": 1, "x": 5, "y": None}], [])


async def test_rows_of_a_window_with_a_missing_side_can_be_routed(tmp_path: Path) -> None:
    written, refused = await joined(tmp_path, [{"k": 1, "x": 5}], [], INNER, missing="route")
    assert written == []
    assert ["join: no rows of b are in this window" in str(letter) for letter in refused] == [True]


async def test_a_payload_that_cannot_be_read_is_refused_by_itself(tmp_path: Path) -> None:
    written, refused = await joined(tmp_path, [{"k": 1, "x": 5}, "{"], [{"k": 1, "y": 6}], INNER)
    assert written == [{"k": 1, "x": 5, "y": 6}]
    assert len(refused) == 1


@pytest.mark.parametrize("logged", [False, True], ids=["replayed", "logged"])
async def test_inputs_with_codecs_of_their_own_are_joined_too(tmp_path: Path, logged: bool) -> None:
    memory.clear("joined")
    inputs = [{**side("a", [{"k": 1, "x": 5}]), "codec": "json"}, {**side("b", ["k,y\n1,7\n"]), "codec": "csv"}]
    one = Stream.model_validate(
        {
            "input": {"type": "multiple_inputs", "inputs": inputs},
            "buffer": {"type": "session_window", "gap": "1h", "join": {"query": INNER}},
            "output": {"type": "memory", "key": "joined"},
            **({"durability": {"path": str(tmp_path / "wal")}} if logged else {}),
        }
    )
    await Engine([one], data=tmp_path).run()
    assert memory.rows("joined") == [{"k": 1, "x": 5, "y": 7}]


rows_of_a_side = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
@given(a=rows_of_a_side, b=rows_of_a_side)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_the_result_is_that_of_duckdb(
    kind: str, a: list[tuple[int, int]], b: list[tuple[int, int]], tmp_path: Path
) -> None:
    query = INNER.replace("JOIN", kind)
    left, right = [{"k": k, "x": x} for k, x in a], [{"k": k, "y": y} for k, y in b]
    written, refused = asyncio.run(joined(tmp_path, left, right, query))
    connection = duckdb.connect()
    for name, rows, column in (("a", left, "x"), ("b", right, "y")):
        schema = pa.schema([("k", pa.int64()), (column, pa.int64())])
        connection.register(name, pa.Table.from_pylist(rows, schema))
    expected = connection.execute(query).fetchall()
    if kind == "JOIN" and not (a and b):
        expected = connection.execute(INNER.replace("JOIN", "FULL JOIN")).fetchall()
    found = [(row["k"], row["x"], row["y"]) for row in written]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert refused == []


@jumping
async def test_event_time_windows_join_what_belongs_together(tmp_path: Path) -> None:
    buffer = Buffer.parse(
        {
            "type": "tumbling_window",
            "size": "10s",
            "time": "event",
            "timestamp_field": "at",
            "out_of_orderness": "5s",
            "join": {"query": INNER},
        }
    )
    chance = random.Random(3)
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        checkpoint = await context.checkpoint("in")

        async def fill() -> None:
            for n in range(20):
                columns = {"k": [n // 2], "at": [n * 3000 + chance.randrange(3000)], "x" if n % 2 == 0 else "y": [n]}
                batch = pa.record_batch({**columns, "__meta_source": ["ab"[n % 2]]})
                await queue.put(await checkpoint.deliver(batch, n + 1))
            queue.end()

        filling = asyncio.ensure_future(fill())
        found: list[Delivery] = await take_all(queue)
        await filling
    rows = [row for delivery in found for row in delivery.batch.to_pylist()]
    assert all(row["window_end"].timestamp() - row["window_start"].timestamp() == 10 for row in rows)
    both = [row for row in rows if row["x"] is not None and row["y"] is not None]
    assert both
    assert all(row["y"] == row["x"] + 1 for row in both)


def test_tables_are_the_names_behind_from_and_join() -> None:
    for query, tables in (
        (INNER, ("a", "b")),
        ('SELECT * FROM "Left one" AS l, b WHERE l.k = b.k', ("Left one", "b")),
        ("WITH c AS (SELECT k FROM a) SELECT c.k FROM c JOIN b USING (k)", ("a", "b")),
    ):
        assert JoinOptions(query=query).tables == tables


@pytest.mark.parametrize(
    ("inputs", "query", "message"),
    [
        ([side("a", []), side("c", [])], INNER, "reads the table 'b'"),
        ([side("a", []), side("b", []), side("c", [])], INNER, "does not read the input 'c'"),
        ([side("a", []), {"type": "memory", "messages": []}], INNER, "`name` for each input"),
        (None, INNER, "`multiple_inputs`"),
        ([side("a", []), side("b", [])], "SELECT 1", "reads no table"),
        ([side("a", []), side("b", [])], "SELECT FROM a JOIN", "query"),
    ],
)
def test_a_join_that_cannot_be_is_refused_when_it_is_loaded(inputs: Any, query: str, message: str) -> None:
    source = {"type": "multiple_inputs", "inputs": inputs} if inputs is not None else {"type": "memory"}
    with pytest.raises(ValidationError, match=message):
        Stream.model_validate(
            {
                "input": source,
                "buffer": {"type": "tumbling_window", "interval": "1s", "join": {"query": query}},
                "output": "drop",
            }
        )
