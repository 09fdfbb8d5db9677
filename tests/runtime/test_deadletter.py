"""Dead letters: bounded, readable, and as they were read."""

from __future__ import annotations

import pyarrow as pa

from penstock.delivery import Delivery
from penstock.metadata import VALUE
from penstock.runtime.deadletter import MAX_REASON_LENGTH, Refusal, dead_letters


def test_the_reason_is_bounded() -> None:
    rows = pa.record_batch({VALUE: pa.array([b"x"], pa.binary())})
    letters = dead_letters("stream", Delivery(rows), [Refusal(rows, "decode", "no" * MAX_REASON_LENGTH, 0)])
    assert letters.column("reason").to_pylist() == ["no" * (MAX_REASON_LENGTH // 2)]


def test_a_payload_that_is_no_text_is_base64() -> None:
    rows = pa.record_batch({VALUE: pa.array([b"\xff", b"text\n"], pa.binary())})
    letters = dead_letters("stream", Delivery(rows), [Refusal(rows, "decode", "bad", 0)])
    assert letters.column("payload").to_pylist() == ["/w==", "text"]
    assert letters.column("encoding").to_pylist() == ["base64", "utf-8"]
