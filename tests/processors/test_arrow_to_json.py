import pyarrow as pa
import pytest

from penstock.absence import without
from penstock.component import Processor
from penstock.errors import PermanentError
from penstock.metadata import VALUE, Origin, attach
from penstock.processors.arrow_to_json import ArrowToJson
from penstock.processors.json_to_arrow import JsonToArrow
from penstock.testing.suites.processors import ProcessorSuite


class TestSuite(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return ArrowToJson()


def test_each_row_is_written_beside_its_columns() -> None:
    batch = attach(pa.record_batch({"a": [1, None], "b": ["x", "y"]}), Origin("kafka"))
    (result,) = ArrowToJson().process(batch)
    assert result.schema.names == [*batch.schema.names, VALUE]
    assert result.schema.field(VALUE).type == pa.binary()
    assert result.column(VALUE).to_pylist() == [b'{"a":1,"b":"x"}', b'{"b":"y"}']


def test_an_existing_column_of_that_name_is_replaced() -> None:
    batch = pa.record_batch({VALUE: [b"old"], "a": [1]})
    (result,) = ArrowToJson().process(batch)
    assert result.to_pylist() == [{"a": 1, VALUE: b'{"a":1}'}]


def test_only_the_fields_included_are_written() -> None:
    batch = attach(pa.record_batch({"a": [1], "b": [2], "c": [3]}), Origin("kafka"))
    (result,) = ArrowToJson(value_field="out", fields_to_include=["c", "__meta_source"]).process(batch)
    assert result.column("out").to_pylist() == [b'{"c":3,"__meta_source":"kafka"}']
    with pytest.raises(PermanentError, match="no column `d` to write as JSON: the batch has `a`, `b`, `c`"):
        ArrowToJson(fields_to_include=["d"]).process(batch)


def test_what_json_cannot_express_is_refused() -> None:
    assert ArrowToJson().row_wise()
    with pytest.raises(PermanentError, match="`a`"):
        ArrowToJson().process(
            pa.record_batch({"a": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})
        )


def test_reading_undoes_writing() -> None:
    batch = pa.record_batch({"a": [1, 2], "b": [[{"c": "x"}], None]})
    (written,) = ArrowToJson().process(batch)
    (read,) = JsonToArrow().process(written.select([VALUE]))
    assert without(read) == batch
