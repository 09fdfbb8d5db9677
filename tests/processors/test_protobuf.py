"""Messages of Protobuf within a batch, in both directions."""

from __future__ import annotations

import pyarrow as pa
import pytest

from penstock.component import Processor
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.processors.arrow_to_protobuf import ArrowToProtobuf
from penstock.processors.protobuf_to_arrow import ProtobufToArrow
from penstock.testing import batches
from penstock.testing.suites import ProcessorSuite

PROTO = """
syntax = "proto3";
message Row { optional int64 id = 1; optional string name = 2; optional double value = 3; }
"""
WRITING = ArrowToProtobuf(proto=PROTO, message_type="Row")
READING = ProtobufToArrow(proto=PROTO, message_type="Row")


class TestProtobufToArrow(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return READING

    def sample(self, start: int, rows: int) -> Batch:
        (batch,) = WRITING.process(batches.sample(start, rows))
        return batch.select(["__value__"]).append_column("kept", pa.array(range(start, start + rows)))


class TestArrowToProtobuf(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return WRITING


def test_a_batch_is_written_and_read_again() -> None:
    batch = batches.sample(0, 3)
    (written,) = WRITING.process(batch)
    assert written.schema.names == ["id", "name", "value", "__value__"]
    (found,) = READING.process(written.select(["__value__"]))
    assert found.to_pylist() == batch.to_pylist()


def test_other_columns_stay_and_those_that_are_read_take_their_place() -> None:
    (written,) = WRITING.process(batches.sample(0, 1))
    payload = written["__value__"]
    mixed = pa.record_batch({"body": payload, "__meta_source": ["x"], "name": ["old"], "other": [1]})
    (found,) = ProtobufToArrow(proto=PROTO, message_type="Row", value_field="body").process(mixed)
    assert found.to_pylist() == [{"id": 0, "name": "name 0", "value": 0.0, "__meta_source": "x", "other": 1}]


def test_the_older_form_is_taken_and_only_what_is_named_is_written() -> None:
    processor = Processor.parse(
        {"type": "arrow_to_protobuf", "c": {"proto": PROTO, "message_type": "Row"}, "fields_to_include": ["id"]}
    )
    (written,) = processor.process(batches.sample(5, 1))
    (found,) = READING.process(written.select(["__value__"]))
    assert found.to_pylist() == [{"id": 5, "name": None, "value": None}]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (pa.record_batch({"a": [1]}), "no column `__value__`"),
        (pa.record_batch({"__value__": [1]}), "expected Binary or text"),
        (pa.record_batch({"__value__": [b"", None]}), "null in 1 rows"),
        (pa.record_batch({"__value__": [b"\xff"]}), "this is no Row"),
    ],
)
def test_what_is_no_message_is_refused(batch: Batch, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        READING.process(batch)


def test_a_column_that_is_missing_or_does_not_fit_refuses_the_rows() -> None:
    with pytest.raises(PermanentError, match="no column `value` to write as Row"):
        ArrowToProtobuf(proto=PROTO, message_type="Row", fields_to_include=["value"]).process(
            pa.record_batch({"id": [1]})
        )
    with pytest.raises(PermanentError, match="column `id`"):
        WRITING.process(pa.record_batch({"id": ["x"]}))
