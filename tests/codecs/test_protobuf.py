"""Protobuf: every kind of field in both directions, exact or refused, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.codecs.protobuf import Protobuf
from penstock.component import Codec
from penstock.delivery import Batch
from penstock.errors import PermanentError
from penstock.testing import batches
from penstock.testing.suites import CodecSuite

ROW = """
syntax = "proto3";
message Row { optional int64 id = 1; optional string name = 2; optional double value = 3; optional bool ok = 4; }
"""
EVERYTHING = """
syntax = "proto3";
package t;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
enum Color { RED = 0; GREEN = 1; }
message Tree { string name = 1; repeated Tree children = 2; }
message Inner { int32 number = 1; optional string text = 2; repeated Deep deep = 3; }
message Deep { sint64 depth = 1; }
message Empty {}
message All {
  int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; fixed64 f64 = 6;
  float single = 7; double twice = 8; bool flag = 9; string text = 10; bytes raw = 11; Color color = 12;
  optional int32 maybe = 13;
  oneof either { string left = 14; int64 right = 15; }
  repeated int32 numbers = 16; repeated Inner inners = 17;
  map<string, int64> counts = 18; map<int32, Inner> by_number = 19;
  Inner inner = 20; Empty empty = 21; Tree tree = 22;
  google.protobuf.Timestamp at = 23; google.protobuf.Duration took = 24;
  google.protobuf.Int64Value wrapped = 25; google.protobuf.Struct json = 26;
  repeated google.protobuf.Timestamp times = 27; repeated string class = 28;
}
"""
FULL: dict[str, Any] = {
    "i32": -5,
    "i64": -(2**63),
    "u32": 2**32 - 1,
    "u64": 2**64 - 1,
    "s32": -7,
    "f64": 9,
    "single": 0.5,
    "twice": 0.1,
    "flag": True,
    "text": "zoë\n",
    "raw": b"\xff\x00",
    "color": 1,
    "maybe": 0,
    "left": None,
    "right": 3,
    "numbers": [1, 2, 3],
    "inners": [{"number": 1, "text": None, "deep": [{"depth": -1}]}, {"number": 2, "text": "", "deep": []}],
    "counts": [("a", 1), ("b", 2)],
    "by_number": [(7, {"number": 7, "text": "seven", "deep": []})],
    "inner": {"number": 0, "text": "x", "deep": []},
    "empty": {},
    "tree": '{"name": "root", "children": [{"name": "leaf"}]}',
    "at": 1_700_000_000_123_456_789,
    "took": -1_500_000_000,
    "wrapped": 0,
    "json": '{"a": [1.0, null]}',
    "times": [0, -1],
    "class": ["x"],
}


def everything() -> Protobuf:
    return Protobuf(proto=EVERYTHING, message_type="t.All")


def rows(*values: dict[str, Any]) -> Batch:
    return pa.RecordBatch.from_pylist(list(values), schema=everything().decode(pa.array([b""], pa.binary())).schema)


def plain(batch: Batch) -> list[dict[str, Any]]:
    """Rows with times as whole numbers, as Python's have only microseconds."""
    return [
        {
            field.name: (column.cast(pa.list_(pa.int64())) if field.name == "times" else column.cast(pa.int64()))
            .slice(at, 1)
            .to_pylist()[0]
            if field.name in ("at", "took", "times")
            else column[at].as_py()
            for field, column in zip(batch.schema, batch.columns, strict=True)
        }
        for at in range(batch.num_rows)
    ]


class TestProtobuf(CodecSuite):
    garbage = (b"\xff", b"\x08", b"\x12\x05ab", b"\x12\x02\xff\xfe")

    @pytest.fixture
    def component(self) -> Codec:
        return Protobuf(proto=ROW, message_type="Row")

    def any_batch(self) -> st.SearchStrategy[Batch]:
        kinds = {"id": pa.int64(), "name": pa.string(), "value": pa.float64(), "ok": pa.bool_()}

        def column(kind: pa.DataType, size: int) -> st.SearchStrategy[list[Any]]:
            return st.lists(st.none() | batches.values(kind, finite=False), min_size=size, max_size=size)

        def build(size: int) -> st.SearchStrategy[Batch]:
            cells = st.fixed_dictionaries({name: column(kind, size) for name, kind in kinds.items()})
            return cells.map(lambda found: pa.record_batch({n: pa.array(found[n], k) for n, k in kinds.items()}))

        return st.integers(1, 8).flatmap(build)


def test_every_kind_of_field_survives() -> None:
    codec, batch = everything(), rows(FULL)
    assert plain(codec.decode(codec.encode(batch))) == plain(batch) == [FULL]


def test_what_is_not_set_is_null_or_the_default() -> None:
    (row,) = plain(everything().decode(pa.array([b""], pa.binary())))
    defaults = {"i32": 0, "i64": 0, "u32": 0, "u64": 0, "s32": 0, "f64": 0, "single": 0.0, "twice": 0.0, "flag": False}
    defaults |= {"text": "", "raw": b"", "color": 0, "numbers": [], "inners": [], "counts": [], "by_number": []}
    assert row == dict.fromkeys(FULL) | defaults | {"times": [], "class": []}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_values_of_the_fields_survive(data: st.DataObject) -> None:
    whole = st.integers(-(2**63), 2**63 - 1)
    texts, times = st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(-(2**63) + 1, 2**63 - 1)
    inner = st.fixed_dictionaries(
        {"number": st.integers(-(2**31), 2**31 - 1), "text": st.none() | texts, "deep": st.just([])}
    )
    made = {
        "i64": whole,
        "u64": st.integers(0, 2**64 - 1),
        "twice": st.floats(allow_nan=False),
        "single": st.floats(width=32, allow_nan=False),
        "text": texts,
        "raw": st.binary(max_size=5),
        "color": st.integers(-(2**31), 2**31 - 1),
        "maybe": st.none() | st.integers(-5, 5),
        "inner": st.none() | inner,
        "inners": st.lists(inner, max_size=3),
        "counts": st.dictionaries(texts, whole, max_size=3).map(lambda one: sorted(one.items())),
        "at": st.none() | times,
        "took": st.none() | times,
        "times": st.lists(times, max_size=3),
    }
    codec = everything()
    values = [FULL | row for row in data.draw(st.lists(st.fixed_dictionaries(made), min_size=1, max_size=5))]
    batch = rows(*values)
    start = data.draw(st.integers(0, len(values) - 1))
    assert plain(codec.decode(codec.encode(batch.slice(start)))) == values[start:]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("i32", pa.array([2**31])),
        ("i32", pa.array([1.5])),
        ("u64", pa.array([-1])),
        ("i64", pa.array(["05"])),
        ("text", pa.array([5])),
        ("text", pa.array([b"\xff"])),
        ("flag", pa.array([1])),
        ("single", pa.array([0.1])),
        ("numbers", pa.array([[1, None]])),
        ("numbers", pa.array([5])),
        ("counts", pa.array([{"a": 1}])),
        ("inner", pa.array(["text"])),
        ("inner", pa.array([{"number": "x"}])),
        ("tree", pa.array(['{"nam": "x"}'])),
        ("json", pa.array(["[1]"])),
        ("at", pa.array(["2024-01-01 noon"])),
    ],
)
def test_a_value_that_a_field_cannot_hold_refuses_its_row(name: str, values: pa.Array) -> None:
    with pytest.raises(PermanentError):
        everything().encode(pa.record_batch({name: values}))


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("i32", pa.array([7], pa.int64()), 7),
        ("i64", pa.array([7], pa.uint8()), 7),
        ("twice", pa.array([7]), 7.0),
        ("i64", pa.array([7.0]), 7),
        ("i64", pa.array(["7"]), 7),
        ("text", pa.array(["x"]).dictionary_encode(), "x"),
        ("raw", pa.array(["é"]), "é".encode()),
        ("maybe", pa.array([None]), None),
        ("numbers", pa.array([None]), []),
    ],
)
def test_other_types_are_converted_where_that_is_exact(name: str, values: pa.Array, found: Any) -> None:
    codec = everything()
    assert codec.decode(codec.encode(pa.record_batch({name: values})))[name].to_pylist() == [found]


def test_columns_that_are_no_fields_are_left_out() -> None:
    codec = everything()
    (row,) = codec.decode(codec.encode(pa.record_batch({"i32": [1], "other": ["x"]}))).to_pylist()
    assert row["i32"] == 1
    assert "other" not in row


def test_a_time_beyond_64_bits_is_refused() -> None:
    far = Protobuf(
        proto='syntax = "proto3"; message M { message T { int64 seconds = 1; } T at = 23; }', message_type="M"
    )
    payload = far.encode(pa.record_batch({"at": [{"seconds": 253_402_300_799}]}))
    with pytest.raises(PermanentError, match="64 bits of nanoseconds"):
        everything().decode(payload)


def test_files_and_folders_are_compiled_with_their_imports(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "point.proto").write_text('syntax = "proto3"; package s; message Point { int32 x = 1; }')
    main = tmp_path / "main.proto"
    main.write_text('syntax = "proto3"; import "shared/point.proto"; message M { s.Point at = 1; }')
    for inputs in ([str(main)], [str(tmp_path)]):
        codec = Protobuf(proto_inputs=inputs, message_type="M")
        assert codec.decode(codec.encode(pa.record_batch({"at": [{"x": 3}]}))).to_pylist() == [{"at": {"x": 3}}]
    codec = Protobuf(
        proto_inputs=[str(tmp_path / "shared" / "point.proto")], proto_includes=[str(tmp_path)], message_type="s.Point"
    )
    main.write_text('syntax = "proto3"; message M { string other = 1; }')
    changed = Protobuf(proto_inputs=[str(main)], message_type="M")
    assert changed.decode(pa.array([b""], pa.binary())).schema.names == ["other"]


@pytest.mark.parametrize(
    ("text", "message_type", "expected"),
    [
        ('syntax = "proto3";\nmessage M { strin a = 1; }', "M", 'main.proto:2:13: "strin" is not defined'),
        ('syntax = "proto3";\nmessage M { int32 a = 1 }', "M", "main.proto:2:25: Expected"),
        ('syntax = "proto3"; import "no.proto"; message M {}', "M", "no.proto: File not found"),
        ('syntax = "proto3"; package p; message M {}', "M", "no message is called 'M'; there is p.M"),
        ('syntax = "proto3"; message M { M again = 1; }', "M", "'M' contains itself"),
    ],
)
def test_what_cannot_be_compiled_is_told_with_its_line(
    text: str, message_type: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "main.proto").write_text(text)
    with pytest.raises(ValidationError) as caught:
        Protobuf(proto_inputs=[str(tmp_path / "main.proto")], message_type=message_type)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{}, {"proto": ROW, "proto_inputs": ["a.proto"]}, {"proto_inputs": ["no.proto"]}, {"proto_inputs": ["."]}],
)
def test_what_is_to_be_compiled_must_be_there(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError):
        Protobuf(message_type="Row", **options)


def test_required_fields_of_proto2() -> None:
    codec = Protobuf(
        proto='syntax = "proto2"; message M { required int32 a = 1; optional int32 b = 2 [default = 5]; }',
        message_type="M",
    )
    assert codec.decode(codec.encode(pa.record_batch({"a": [1]}))).to_pylist() == [{"a": 1, "b": None}]
    with pytest.raises(PermanentError, match="no M"):
        codec.encode(pa.record_batch({"b": [1]}))
    with pytest.raises(PermanentError, match="no M"):
        codec.decode(pa.array([b""], pa.binary()))


def test_messages_are_no_lines() -> None:
    with pytest.raises(ValueError, match="length_delimited"):
        Protobuf(proto=ROW, message_type="Row").check_lines()
