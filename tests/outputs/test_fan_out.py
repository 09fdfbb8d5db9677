"""The fan_out output: every row to each of several outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.component import Output
from penstock.outputs import memory
from penstock.outputs.fan_out import FanOut
from penstock.testing.batches import rows_of
from penstock.testing.suites import OutputSuite

KEYS = ("fan-a", "fan-b")


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    for key in KEYS:
        memory.clear(key)
    yield
    for key in KEYS:
        memory.clear(key)


class TestFanOut(OutputSuite):
    refuses = False

    @pytest.fixture
    def component(self) -> Output:
        return Output.parse({"type": "fan_out", "outputs": [{"type": "memory", "key": key} for key in KEYS]})

    async def read_back(self, component: Output) -> Sequence[dict[str, Any]]:
        first, second = ([row for batch in memory.kept.get(key, []) for row in rows_of(batch)] for key in KEYS)
        assert first == second
        return first


def test_it_reads_metadata_where_an_output_does() -> None:
    assert FanOut(outputs=[{"type": "memory", "metadata": True}, "drop"]).reads_metadata()
    assert not FanOut(outputs=["drop"]).reads_metadata()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": []}, "at least 1 item"),
        ({"outputs": ["drop"], "codec": "json"}, "belongs to each of the outputs"),
        ({"outputs": [{"type": "drop", "name": "a"}, {"type": "memory", "name": "a"}]}, "two outputs are called 'a'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FanOut(**options)
