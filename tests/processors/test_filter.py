"""The filter processor: which rows stay."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Processor
from penstock.errors import PermanentError
from penstock.processors.filter import Filter
from penstock.testing.suites.processors import ProcessorSuite


class TestSome(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Processor.parse({"type": "filter", "condition": "id % 2 = 0"})


class TestAll(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return Filter(condition="true")


BATCH = pa.record_batch({"a": [1, None, 3], "__meta_source": ["x", "y", "z"]})


def test_rows_for_which_it_is_true_stay_with_their_metadata() -> None:
    (found,) = Filter(condition="a > 1 -- not null").process(BATCH)
    assert found.to_pydict() == {"a": [3], "__meta_source": ["z"]}


def test_nothing_left_is_filtered() -> None:
    assert Filter(condition="a > 5 OR false").process(BATCH) == []


def test_or_does_not_leave_the_brackets() -> None:
    (found,) = Filter(condition="a = 1 OR __meta_source = 'y'").process(BATCH)
    assert found.column("__meta_source").to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("a >", "not a condition"),
        ("count(*) > 1", "needs many rows"),
        ("true) OR (true", ""),
        ("a > 1; DROP TABLE flow", "found ';'"),
        ("nonsense(a)", "Invalid function"),
        ("", "empty"),
    ],
)
def test_a_wrong_condition_is_found_when_the_stream_is_built(condition: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message or "never opened"):
        Filter(condition=condition)


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(PermanentError, match="'b', which is not among a, __meta_source"):
        Filter(condition="b > 1").process(BATCH)
    with pytest.raises(PermanentError, match="boolean"):
        Filter(condition="a + 1").process(BATCH)


def test_what_it_reads() -> None:
    assert Filter(condition="__meta_partition = 1").reads_metadata()
    assert not Filter(condition="a = 1").reads_metadata()
    assert Filter(condition="a = 1").row_wise()
    assert not Filter(condition="a = (SELECT max(a) FROM flow)").row_wise()
    assert Filter(condition="a = 1").columns_read() is None
