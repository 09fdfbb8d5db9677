"""The msgpack codec: values in are values out, and what the format does not hold is refused."""

from __future__ import annotations

from typing import Any

import msgpack
import pyarrow as pa
import pytest

from penstock.absence import shapes_of, without
from penstock.codecs.msgpack import Msgpack
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.batches import ARROW_TYPES
from penstock.testing.suites.codecs import CodecSuite

KEPT = ("bool", "int64", "float64", "string", "binary", "timestamp_utc", "list", "struct")


class TestMsgpack(CodecSuite):
    garbage = (b"", b"\xc1", b"\x01", b"\x93\x01", b"\x81\xa1a", b"\x81\xa1a\x01\x02", b"\x91" * 5000, b"\xdf\xff")
    types = tuple(ARROW_TYPES[name] for name in KEPT)
    finite = False

    @pytest.fixture
    def component(self) -> Codec:
        return Codec.parse("msgpack")


def decode(*values: Any) -> list[dict[str, Any]]:
    rows = Msgpack().decode(pa.array([msgpack.packb(value) for value in values], pa.binary()))
    return without(rows).to_pylist()  # type: ignore[no-any-return]


def test_whole_numbers_of_64_bits_are_exact() -> None:
    numbers = [2**63 - 1, -(2**63), 0]
    assert [row["n"] for row in decode(*({"n": n} for n in numbers))] == numbers
    assert [row["n"] for row in decode({"n": 2**64 - 1}, {"n": 1})] == [2**64 - 1, 1]
    assert [int(row["n"]) for row in decode({"n": 2**64 - 1}, {"n": -1})] == [2**64 - 1, -1]


def test_a_timestamp_keeps_its_nanoseconds() -> None:
    payload = msgpack.packb({"t": msgpack.Timestamp(1_700_000_000, 123_456_789), "l": [msgpack.Timestamp(0, 1)]})
    batch = Msgpack().decode(pa.array([payload], pa.binary()))
    assert batch.schema.field("t").type == pa.timestamp("ns", "UTC")
    assert batch.column("t").cast(pa.int64()).to_pylist() == [1_700_000_000_123_456_789]
    again = Msgpack().decode(Msgpack().encode(batch))
    assert again.equals(batch)


def test_what_arrow_has_and_the_format_has_not_is_text() -> None:
    rows = pa.record_batch(
        {
            "decimal": pa.array(["1.10"]).cast(pa.decimal128(5, 2)),
            "date": pa.array([19000], pa.date32()),
            "local": pa.array([0], pa.timestamp("us")),
            "clock": pa.array([1_500_000], pa.time64("us")),
        }
    )
    found = Msgpack().decode(Msgpack().encode(rows)).to_pylist()
    assert found[0]["decimal"] == "1.10"
    assert found[0]["date"] == "2022-01-08"
    assert found[0]["local"].startswith("1970-01-01T00:00:00")
    assert found[0]["clock"] == "00:00:01.500000"


def test_a_key_that_is_missing_is_absent_and_null_is_null() -> None:
    batch = Msgpack().decode(pa.array([msgpack.packb({"a": 1}), msgpack.packb({"a": None, "b": 2})], pa.binary()))
    shapes = shapes_of(batch)
    assert shapes is not None
    assert shapes.names == {"b"}
    assert without(batch).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": 2}]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "the key 'a' comes twice"),
        (b"\x81\xa1x\x82\xa1a\x01\xa1a\x02", "the key 'a' comes twice"),
        (msgpack.packb({1: 2}), "expected texts as keys"),
        (msgpack.packb({"a": {1: 2}}), "expected texts as keys"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "an extension of type 5"),
        (msgpack.packb([1]), "expected a map, found lists"),
        (b"\x81\xa1a\xa1\xff", "UnicodeDecodeError"),
    ],
)
def test_what_cannot_be_a_row_is_refused_with_its_reason(payload: bytes, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        Msgpack().decode(pa.array([payload], pa.binary()))


def test_a_payload_cut_off_anywhere_is_refused() -> None:
    payload = msgpack.packb({"a": [1, {"b": "text"}], "t": msgpack.Timestamp(1, 1)})
    for end in range(len(payload)):
        with pytest.raises(PermanentError):
            Msgpack().decode(pa.array([payload[:end]], pa.binary()))


@pytest.mark.parametrize("values", [(1, "x"), (True, 1), (b"x", "x"), ([1], 1), (0.5, 2**60 + 1)])
def test_a_column_of_several_kinds_is_refused_and_nothing_guessed(values: tuple[Any, Any]) -> None:
    with pytest.raises(PermanentError):
        decode(*({"a": value} for value in values))


def test_what_it_cannot_write_is_refused() -> None:
    maps = pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64()))
    with pytest.raises(PermanentError, match="keys that are not texts"):
        Msgpack().encode(pa.record_batch({"m": maps}))
