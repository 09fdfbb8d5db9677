from pathlib import Path

import pyarrow as pa
import pytest

from penstock.absence import without
from penstock.component import Processor
from penstock.errors import PermanentError
from penstock.metadata import ABSENT, SCHEMA, VALUE, Origin, attach
from penstock.processors.json_to_arrow import JsonToArrow
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite


def batch_of(*payloads: bytes | None, name: str = VALUE) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(payloads, pa.binary()), "n": list(range(len(payloads)))})


class TestSuite(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return JsonToArrow()

    def sample(self, start: int, rows: int) -> pa.RecordBatch:
        payloads = [b'{"id": %d, "name": "x"}' % number for number in range(start, start + rows)]
        return pa.record_batch({VALUE: pa.array(payloads, pa.binary())})


def test_r7_metadata_and_other_columns_are_kept() -> None:
    batch = attach(batch_of(b'{"a": 1}', b'{"a": 0.5, "b": "x"}'), Origin("kafka", partition=3, offset=7))
    (result,) = JsonToArrow().process(batch)
    assert without(result).schema.names == ["a", "b", "n", *SCHEMA.names]
    assert result.column("__meta_offset").to_pylist() == [7, 8]
    assert result.select(["a", "b", "n"]).to_pylist() == [{"a": 1.0, "b": None, "n": 0}, {"a": 0.5, "b": "x", "n": 1}]


@pytest.mark.parametrize(
    ("payloads", "origins"),
    [
        ([b'[{"a": 1}, {"a": 2}]', b"[]", b'{"a": 3}'], [0, 0, 2]),
        ([b"\n", b'{"a": 1}\n{"a": 2}'], [1, 1]),
        ([b' {"a": 1}', b'\xef\xbb\xbf{"a": 2}'], [0, 1]),
        ([b"\n", b'{"a": 1}', b"[]"], [1]),
    ],
)
def test_other_columns_are_repeated_where_a_payload_holds_several_rows(
    payloads: list[bytes], origins: list[int]
) -> None:
    (result,) = JsonToArrow().process(batch_of(*payloads))
    assert result.column("n").to_pylist() == origins
    assert result.column("a").to_pylist() == sorted(result.column("a").to_pylist())


def test_only_the_fields_included_are_read() -> None:
    (result,) = JsonToArrow(fields_to_include=["b", "Z"]).process(batch_of(b'{"a": 1, "b": 2, "B": 3}'))
    assert result.to_pylist() == [{"b": 2, "Z": None, "n": 0}]


def test_text_is_read_too_and_replaces_a_column_of_its_name() -> None:
    batch = pa.record_batch({"text": ['{"n": "x"}'], "n": [1], "__meta_source": ["file"]})
    (result,) = JsonToArrow(value_field="text").process(batch)
    assert result.to_pylist() == [{"n": "x", "__meta_source": "file"}]


def test_payloads_do_not_forge_metadata() -> None:
    batch = attach(batch_of(b'{"a": 1, "__meta_source": "forged"}'), Origin("kafka"))
    (result,) = JsonToArrow().process(batch)
    assert result.column("__meta_source").to_pylist() == ["kafka"]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (pa.record_batch({"a": [1], "b": [2]}), "no column `__value__` to read as JSON: the batch has `a`, `b`"),
        (pa.record_batch({VALUE: [1.5]}), "`__value__` is double: expected Binary or text"),
        (batch_of(b"{}", None), "null in 1 rows"),
        (batch_of(b"{}", b""), "payload is empty"),
        (batch_of(b"{}", b"nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_read_is_refused(batch: pa.RecordBatch, reason: str) -> None:
    assert JsonToArrow().row_wise()
    with pytest.raises(PermanentError, match=reason):
        JsonToArrow().process(batch)


async def test_the_schema_stays_while_it_is_open(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, JsonToArrow().open(context) as process:
        process(batch_of(b'{"a": 1, "b": 0.5}'))
        (result,) = process(batch_of(b'{"b": 2}'))  # type: ignore[misc]
    assert result.schema.field("b").type == pa.float64()
    assert result.to_pylist() == [{"a": None, "b": 2.0, "n": 0, ABSENT: '["a"]'}]
