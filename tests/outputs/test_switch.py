"""The switch output: each row to the output whose condition it meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Output
from penstock.errors import PermanentError
from penstock.outputs import memory
from penstock.outputs.switch import Switch
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.suites import OutputSuite

KEYS = ("even", "odd")


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    for key in KEYS:
        memory.clear(key)
    yield
    for key in KEYS:
        memory.clear(key)


class TestSwitch(OutputSuite):
    refuses = False
    ordered = False

    @pytest.fixture
    def component(self) -> Output:
        return Switch(
            cases=[
                {"when": "CAST(id AS bigint) % 2 = 0", "output": {"type": "memory", "key": "even"}},
                {"output": {"type": "memory", "key": "odd"}},
            ]
        )

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        return [row for key in KEYS for batch in memory.kept.get(key, []) for row in rows_of(batch)]


async def test_a_row_that_no_case_takes_is_refused(tmp_path: Path) -> None:
    output = Switch(cases=[{"when": "n = 1", "output": {"type": "memory", "key": "odd"}}])
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write([pa.record_batch({"n": [1]})])
        with pytest.raises(PermanentError, match="no case of the output takes the row"):
            await writer.write([pa.record_batch({"n": [2]})])


async def test_all_cases_that_match_may_take_a_row(tmp_path: Path) -> None:
    output = Switch(
        match="all",
        cases=[
            {"when": "n > 1", "output": {"type": "memory", "key": "even"}},
            {"when": "n > 2", "output": {"type": "memory", "key": "odd"}},
            {"output": "drop"},
        ],
    )
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write([pa.record_batch({"n": [1, 2, 3]})])
    assert [row["n"] for row in memory.rows("even")] == [2, 3]
    assert [row["n"] for row in memory.rows("odd")] == [3]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "at least 1 item"),
        ([{"output": "drop"}, {"when": "n = 1", "output": "drop"}], "has to be the last one"),
        ([{"when": "n = ", "output": "drop"}], "not a condition"),
        ([{"when": "sum(n) > 1", "output": "drop"}], "needs many rows"),
        ([{"output": {"type": "nowhere"}}], "no output is called 'nowhere'"),
    ],
)
def test_cases_that_make_no_sense_are_refused(cases: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Switch(cases=cases)
