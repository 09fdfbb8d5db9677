"""The cbor codec: values in are values out, and what cannot be a row is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import cbor2
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.absence import without
from penstock.codecs.cbor import Cbor
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.batches import ARROW_TYPES
from penstock.testing.suites.codecs import CodecSuite

KEPT = ("bool", "int64", "float64", "string", "binary", "date32", "timestamp_utc", "list", "struct")


class TestCbor(CodecSuite):
    garbage = (b"", b"\xff", b"\x01", b"\x83\x01", b"\xa1\x61a", b"\xa1\x61a\x01\x02", b"\x81" * 5000, b"\xbb\xff")
    types = tuple(ARROW_TYPES[name] for name in KEPT)
    finite = False

    @pytest.fixture
    def component(self) -> Codec:
        return Codec.parse("cbor")


def read(payload: bytes) -> pa.RecordBatch:
    return without(Cbor().decode(pa.array([payload], pa.binary())))


@given(st.integers(-(10**76) + 1, 10**76 - 1))
def test_whole_numbers_of_any_size_are_exact(number: int) -> None:
    (row,) = read(cbor2.dumps({"n": number})).to_pylist()
    assert int(row["n"]) == number
    (again,) = Cbor().decode(Cbor().encode(read(cbor2.dumps({"n": number})))).to_pylist()
    assert int(again["n"]) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20))
def test_decimals_are_exact(number: Decimal) -> None:
    (row,) = read(cbor2.dumps({"n": number})).to_pylist()
    assert row["n"] == number


def test_times_keep_their_nanoseconds_and_their_zone_is_utc() -> None:
    moment = cbor2.CBORTag(0, "2024-02-29T12:30:15.123456789+02:00")
    batch = read(cbor2.dumps({"t": moment, "e": cbor2.CBORTag(1, 1.5)}))
    assert batch.schema.field("t").type == pa.timestamp("ns", "UTC")
    assert batch.column("t").cast(pa.int64()).to_pylist() == [1_709_202_615_123_456_789]
    assert batch.column("e").cast(pa.int64()).to_pylist() == [1_500_000]
    assert Cbor().decode(Cbor().encode(batch)).equals(batch)


def test_not_a_number_stays_one() -> None:
    (row,) = read(cbor2.dumps({"n": math.nan, "i": math.inf})).to_pylist()
    assert math.isnan(row["n"])
    assert row["i"] == math.inf


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xa2\x61a\x01\x61a\x02", "Duplicate map key"),
        (cbor2.dumps({1: 2}), "cbor|CBOR"),
        (cbor2.dumps({"a": cbor2.CBORTag(35, "a+")}), "which no column can"),
        (cbor2.dumps({"a": cbor2.undefined}), "which no column can"),
        (b"\xa1\x61a\xd8\x1c\x81\xd8\x1d\x00", "stands in several places"),
        (cbor2.dumps({"a": cbor2.CBORTag(0, "yesterday")}), "RFC 3339"),
        (cbor2.dumps({"a": cbor2.CBORTag(1, math.inf)}), "seconds since 1970"),
        (cbor2.dumps({"a": 10**80}), "more than 76 digits"),
        (cbor2.dumps({"a": Decimal("1E+1000000")}), "more than 76 digits"),
        (cbor2.dumps([1]), "expected a map, found lists"),
    ],
)
def test_what_cannot_be_a_row_is_refused_with_its_reason(payload: bytes, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        read(payload)


def test_a_payload_cut_off_anywhere_is_refused() -> None:
    payload = cbor2.dumps({"a": [1, {"b": "text"}], "t": cbor2.CBORTag(0, "2024-02-29T12:30:15Z"), "n": 2**70})
    for end in range(len(payload)):
        with pytest.raises(PermanentError):
            read(payload[:end])


@pytest.mark.parametrize("values", [(1, "x"), (True, 1), (b"x", "x"), ([1], 1)])
def test_a_column_of_several_kinds_is_refused_and_nothing_guessed(values: tuple[Any, Any]) -> None:
    with pytest.raises(PermanentError):
        Cbor().decode(pa.array([cbor2.dumps({"a": value}) for value in values], pa.binary()))
