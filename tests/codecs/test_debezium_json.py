"""Change events of Debezium: with and without a schema, with exact numbers and times."""

import base64
import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.suites.codecs import EXAMPLES, CodecSuite

DECIMAL = "org.apache.kafka.connect.data.Decimal"
SOURCE = {"db": "shop", "table": "orders", "lsn": 24023128}


def event(op: str, before: Any, after: Any, **more: Any) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": SOURCE, "ts_ms": 1_700_000_000_000, **more}


def decode(*events: Any, **options: Any) -> list[dict[str, Any]]:
    codec = Codec.parse({"type": "debezium_json", **options})
    payloads = pa.array([one if isinstance(one, bytes) else json.dumps(one).encode() for one in events], pa.binary())
    return codec.decoder()(payloads).to_pylist()


def envelope(*fields: dict[str, Any]) -> dict[str, Any]:
    row = {"type": "struct", "fields": list(fields), "optional": True}
    parts = [{**row, "field": "before"}, {**row, "field": "after"}, {"type": "string", "field": "op"}]
    return {"type": "struct", "fields": parts, "name": "orders.Envelope"}


def field(name: str, kind: str, semantic: str | None = None, **parameters: str) -> dict[str, Any]:
    return {"field": name, "type": kind, "optional": True, "name": semantic, "parameters": parameters}


def with_schema(row: Any, *fields: dict[str, Any], op: str = "c") -> dict[str, Any]:
    return {"schema": envelope(*fields), "payload": event(op, None, row)}


def unscaled(number: int) -> str:
    return base64.b64encode(number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)).decode()


class TestDebeziumJson(CodecSuite):
    decodes = False  # what it writes are rows, what it reads events
    garbage = (b"", b"{}", b"[]", b"{", b'{"op":1}', b'{"op":"c","after":[]}', b"\xff", b'{"payload":{}}')

    @pytest.fixture
    def component(self) -> Codec:
        return Codec.parse("debezium_json")


@pytest.mark.parametrize("payload", TestDebeziumJson.garbage)
def test_what_is_not_an_event_is_refused(payload: bytes) -> None:
    with pytest.raises(PermanentError):
        decode(payload)


def test_the_row_after_a_change_is_promoted_and_the_one_before_a_delete() -> None:
    created, updated, deleted = decode(
        event("c", None, {"id": 1, "amount": 5}),
        event("u", {"id": 1, "amount": 5}, {"id": 1, "amount": 7}),
        event("d", {"id": 1, "amount": 7}, None),
    )
    assert [(row["op"], row["id"], row["amount"]) for row in (created, updated, deleted)] == [
        ("c", 1, 5),
        ("u", 1, 7),
        ("d", 1, 7),
    ]
    assert (created["source_db"], created["source_table"], created["ts_ms"]) == ("shop", "orders", 1_700_000_000_000)
    assert created["before"] is None
    assert json.loads(updated["before"]) == {"id": 1, "amount": 5}
    assert json.loads(created["source"]) == SOURCE


def test_an_envelope_in_payload_is_unwrapped() -> None:
    """With `schemas.enable=true` and no schema it stands there too."""
    assert decode({"schema": None, "payload": event("c", None, {"id": 1})})[0]["id"] == 1


def test_without_unwrapping_there_are_both_rows() -> None:
    (row,) = decode(event("u", {"id": 1}, {"id": 2}), unwrap=False)
    assert (row["before"], row["after"], row["op"]) == ({"id": 1}, {"id": 2}, "u")
    described = {"schema": envelope(field("id", "int32")), "payload": event("d", {"id": 1}, None)}
    (row,) = decode(described, unwrap=False)
    assert (row["before"], row["after"], row["op"]) == ({"id": 1}, None, "d")


def test_columns_of_the_table_keep_their_names() -> None:
    (row,) = decode(event("c", None, {"op": 5, "source": "web", "id": 1}))
    assert (row["op"], row["source"], row["__op"]) == (5, "web", "c")
    assert json.loads(row["__source"]) == SOURCE


def test_a_truncated_table_has_no_row() -> None:
    row, other = decode(event("t", None, None), event("c", None, {"id": 1}))
    assert (row["op"], row["id"], other["id"]) == ("t", None, 1)


def test_a_schema_tells_what_values_are() -> None:
    fields = [
        field("small", "int16"),
        field("price", "bytes", "org.apache.kafka.connect.data.Decimal", scale="2"),
        field(
            "exact", "bytes", "org.apache.kafka.connect.data.Decimal", scale="30", **{"connect.decimal.precision": "60"}
        ),
        field("any", "struct", "io.debezium.data.VariableScaleDecimal"),
        field("day", "int32", "io.debezium.time.Date"),
        field("clock", "int64", "io.debezium.time.MicroTime"),
        field("made", "int64", "io.debezium.time.MicroTimestamp"),
        field("nano", "int64", "io.debezium.time.NanoTimestamp"),
        field("zoned", "string", "io.debezium.time.ZonedTimestamp"),
        field("raw", "bytes"),
        field("ratio", "double"),
        {**field("tags", "array"), "items": {"type": "string"}},
        field("json", "string", "io.debezium.data.Json"),
    ]
    row = {
        "small": 7,
        "price": unscaled(-12345),
        "exact": unscaled(10**59 + 1),
        "any": {"scale": 5, "value": unscaled(123456789012345678901234567890)},
        "day": 19675,
        "clock": 45_296_000_001,
        "made": 1_700_000_000_123_456,
        "nano": 1_700_000_000_123_456_000,
        "zoned": "2023-11-14T22:13:20.123456Z",
        "raw": base64.b64encode(b"\x00\xff").decode(),
        "ratio": 1,
        "tags": ["a", None],
        "json": '{"a":1}',
    }
    first, empty = decode(with_schema(row, *fields), with_schema(dict.fromkeys(row), *fields))
    at = datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
    found = {name: value for name, value in first.items() if name in row}
    assert found == {
        "small": 7,
        "price": decimal.Decimal("-123.45"),
        "exact": decimal.Decimal(10**59 + 1).scaleb(-30, decimal.Context(prec=70)),
        "any": "1234567890123456789012345.67890",
        "day": datetime.date(2023, 11, 14),
        "clock": datetime.time(12, 34, 56, 1),
        "made": at,
        "nano": at,
        "zoned": at.replace(tzinfo=datetime.UTC),
        "raw": b"\x00\xff",
        "ratio": 1.0,
        "tags": ["a", None],
        "json": '{"a":1}',
    }
    assert {empty[name] for name in row} == {None}


@pytest.mark.parametrize(
    ("kind", "semantic", "value"),
    [
        ("int16", None, 40_000),
        ("int32", None, "x"),
        ("bytes", None, "no base64!"),
        ("bytes", "org.apache.kafka.connect.data.Decimal", 1.5),
        ("string", "io.debezium.time.ZonedTimestamp", "yesterday"),
        ("boolean", None, 5),
    ],
)
def test_a_value_that_is_not_what_the_schema_says_refuses_its_row(kind: str, semantic: str | None, value: Any) -> None:
    with pytest.raises(PermanentError, match="'a'"):
        decode(with_schema({"a": value}, field("a", kind, semantic)))


def test_rows_of_two_schemas_come_in_order() -> None:
    old, new = field("id", "int32"), field("name", "string")
    rows = decode(
        with_schema({"id": 1}, old),
        with_schema({"id": 2, "name": "b"}, old, new),
        with_schema({"id": 3}, old),
    )
    assert [(row["id"], row["name"]) for row in rows] == [(1, None), (2, "b"), (3, None)]


@EXAMPLES
@given(st.integers(-(10**37), 10**37), st.integers(0, 30))
def test_decimals_keep_every_digit(number: int, scale: int) -> None:
    (row,) = decode(with_schema({"a": unscaled(number)}, field("a", "bytes", DECIMAL, scale=str(scale))))
    assert row["a"] == decimal.Decimal(number).scaleb(-scale, decimal.Context(prec=80))
