"""Dead letters: bounded, readable, and as they were read."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from penstock.delivery import Delivery
from penstock.metadata import VALUE
from penstock.runtime.deadletter import MAX_REASON_LENGTH, Refusal, dead_letters


def test_the_reason_is_bounded() -> None:
    rows = pa.record_batch({VALUE: pa.array([b"x"], pa.binary())})
    letters = dead_letters("stream", Delivery(rows), [Refusal(rows, "decode", "no" * MAX_REASON_LENGTH, 0)])
    assert letters.column("reason").to_pylist() == ["no" * (MAX_REASON_LENGTH // 2)]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([2**62], pa.timestamp("us")), "+148108-07-06T14:00:27.387904"),
        (pa.array([2**62], pa.time64("us")), "4611686018427387904"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "P1M2D"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([17])]), "17"),
        (pa.array([float("nan")]), ""),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_row_that_json_cannot_express_is_written_all_the_same(column: pa.Array, shown: str) -> None:
    row = pa.record_batch({"id": [7], "value": column, "other": ["x"]})
    letters = dead_letters("s", Delivery(row), [Refusal(row, "output", "no \ud83d")])
    payload = json.loads(letters.column("payload")[0].as_py())
    assert (payload["id"], payload["other"]) == (7, "x")
    assert shown in str(payload.get("value", ""))
    assert letters.column("reason").to_pylist() == ["no \\ud83d"]


def test_a_payload_that_is_no_text_is_base64() -> None:
    rows = pa.record_batch({VALUE: pa.array([b"\xff", b"text\n"], pa.binary())})
    letters = dead_letters("stream", Delivery(rows), [Refusal(rows, "decode", "bad", 0)])
    assert letters.column("payload").to_pylist() == ["/w==", "text"]
    assert letters.column("encoding").to_pylist() == ["base64", "utf-8"]
