"""The processor, by the suite that all processors pass."""

import pyarrow as pa
import pytest

from penstock.component import Processor
from penstock.testing.suites import ProcessorSuite


class TestRedact(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "redact", "columns": ["name"]})


def test_values_are_replaced_and_nulls_stay():
    redact = Processor.parse({"type": "redact", "columns": ["name", "email"], "text": "-"})
    (batch,) = redact.process(pa.record_batch({"id": [1, 2], "name": ["Ada", None]}))
    assert batch.to_pylist() == [{"id": 1, "name": "-"}, {"id": 2, "name": None}]
