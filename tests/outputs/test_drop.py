from pathlib import Path

import pyarrow as pa
import pytest

from penstock.component import Output
from penstock.testing.contexts import lend_context
from penstock.testing.suites import OutputSuite


async def test_everything_is_taken(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Output.parse("drop").open(context) as writer:
        await writer.write([pa.record_batch({"n": [1, 2]}), pa.record_batch({"m": ["x"]})])
        await writer.write([])


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown key"):
        Output.parse({"type": "drop", "speed": 1})


class TestDrop(OutputSuite):
    readable = False

    @pytest.fixture
    def component(self) -> Output:
        return Output.parse("drop")
