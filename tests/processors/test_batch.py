"""The batch processor: it stands for a buffer."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.buffers.memory import Memory
from penstock.component import Buffer, Processor
from penstock.processors.batch import Batch
from penstock.testing.suites.processors import ProcessorSuite


class TestBatch(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "batch", "count": 10, "timeout_ms": 500})


@pytest.mark.parametrize(
    ("options", "batches", "timeout"),
    [
        ({"count": 10, "timeout_ms": 500}, 10, 0.5),
        ({"count": 10, "timeout": "2s"}, 10, 2.0),
        ({"count": 3}, 3, 1.0),
        ({"timeout": "100ms"}, 1 << 16, 0.1),
    ],
)
def test_r4_it_stands_for_a_buffer_so_that_nothing_held_is_acked(
    options: dict[str, Any], batches: int, timeout: float
) -> None:
    buffer = Buffer.parse(Batch.model_validate(options).regroups())
    assert isinstance(buffer, Memory)
    assert (buffer.batches, buffer.timeout) == (batches, timeout)


def test_it_passes_batches_on() -> None:
    batch = pa.record_batch({"a": [1]})
    assert Batch(count=2).process(batch) == [batch]


@pytest.mark.parametrize("options", [{}, {"count": 0}, {"timeout": "1s", "timeout_ms": 5}, {"timeout_ms": 0}])
def test_what_makes_no_group_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Batch.model_validate(options)
