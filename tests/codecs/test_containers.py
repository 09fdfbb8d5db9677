"""What the codecs have in common whose payload is a whole file."""

import datetime
import io
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.codecs.arrow import Arrow
from penstock.codecs.avro import Avro
from penstock.codecs.parquet import Parquet
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.batches import ARROW_TYPES, of_type
from penstock.testing.suites.codecs import CodecSuite


class ContainerSuite(CodecSuite):
    garbage = (b"", b"nonsense", b"\xff" * 40)
    types = tuple(
        ARROW_TYPES[name]
        for name in ("bool", "int64", "float32", "float64", "string", "binary", "date32", "list", "struct", "map")
    )

    def payloads(self, component: Codec, start: int, rows: int) -> pa.BinaryArray:
        """Payloads of one row each."""
        return pa.concat_arrays([component.encode(self.sample(start + row, 1)) for row in range(rows)])

    def test_one_payload_for_each_row(self, component: Codec) -> None:
        """There is one for all of them."""
        payloads = component.encode(self.sample(0, 5))
        assert (payloads.type, len(payloads)) == (pa.binary(), 1)
        assert len(component.encode(self.sample(0, 5).slice(0, 0))) == 0

    def test_a_payload_cut_off_anywhere_is_refused(self, component: Codec) -> None:
        whole = component.encode(self.sample(0, 3))[0].as_py()
        for end in range(len(whole)):
            with pytest.raises(PermanentError):
                component.decode(pa.array([whole[:end]], pa.binary()))

    def test_payloads_of_different_columns_become_one_batch(self, component: Codec) -> None:
        both = [component.encode(pa.record_batch({"a": [1]})), component.encode(pa.record_batch({"b": ["x"]}))]
        assert component.decode(pa.concat_arrays(both)).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
        conflict = [component.encode(pa.record_batch({"a": [1]})), component.encode(pa.record_batch({"a": ["x"]}))]
        with pytest.raises(PermanentError, match="do not fit together"):
            component.decode(pa.concat_arrays(conflict))


class TestArrow(ContainerSuite):
    @pytest.fixture(params=[None, "zstd", "lz4"])
    def component(self, request: pytest.FixtureRequest) -> Codec:
        return Arrow(compression=request.param)

    def test_a_slice_is_encoded_without_the_rest(self, component: Codec) -> None:
        """The bytes may differ where values are packed, the rows must not."""
        assert component.decode(component.encode(self.sample(0, 9).slice(3, 4))) == self.sample(3, 4)
        large, small = (component.encode(self.sample(0, rows).slice(0, 2))[0].as_py() for rows in (9000, 2))
        assert len(large) < 2 * len(small)

    def test_files_are_read_too(self) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.sample(0, 3).schema) as file:
            file.write_batch(self.sample(0, 3))
        file_payload = pa.array([sink.getvalue().to_pybytes()], pa.binary())
        assert Arrow().decode(file_payload) == self.sample(0, 3)

    @pytest.mark.parametrize("kind", ARROW_TYPES.values(), ids=str)
    def test_every_type_survives(self, kind: pa.DataType) -> None:
        assert Arrow().decode(Arrow().encode(of_type(kind))) == of_type(kind)


class TestParquet(ContainerSuite):
    @pytest.fixture(params=["zstd", "none"])
    def component(self, request: pytest.FixtureRequest) -> Codec:
        return Parquet(compression=request.param)

    def test_only_the_columns_wanted_are_read(self) -> None:
        payloads = Parquet().encode(pa.record_batch({"Id": [1], "name": ["x"]}))
        assert Parquet().decoder(frozenset(["id"]))(payloads).schema.names == ["Id"]
        assert Parquet().decoder(frozenset())(payloads).num_rows == 1


class TestAvro(ContainerSuite):
    @pytest.fixture(params=["deflate", "none"])
    def component(self, request: pytest.FixtureRequest) -> Codec:
        return Avro(compression=request.param)

    def test_a_payload_cut_off_anywhere_is_refused(self, component: Codec) -> None:
        """But for one that ends between two blocks, which nothing tells from a whole one."""
        whole = component.encode(self.sample(0, 3))[0].as_py()
        for end in range(len(whole)):
            try:
                assert component.decode(pa.array([whole[:end]], pa.binary())).num_rows == 0
            except PermanentError:
                continue

    @pytest.mark.parametrize(
        "kind", [kind for name, kind in ARROW_TYPES.items() if name not in ("duration", "timestamp_ns")], ids=str
    )
    def test_values_survive_every_type(self, kind: pa.DataType) -> None:
        again = Avro().decode(Avro().encode(of_type(kind)))
        assert again.to_pylist() == of_type(kind).to_pylist()


SCHEMA = {
    "type": "record",
    "name": "reading",
    "fields": [
        {"name": "sensor", "type": "string"},
        {"name": "value", "type": ["null", "int", "double"]},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
        {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "long"}}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    ],
}
ROW = {
    "sensor": "s",
    "value": 0.5,
    "kind": "B",
    "tags": [("a", [1, 2])],
    "price": Decimal("1.50"),
    "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
}


def test_datums_of_a_known_schema_are_a_row_each() -> None:
    codec = Codec.parse({"type": "avro", "schema": SCHEMA})
    rows = [ROW, {**ROW, "value": None}]
    fields = [
        ("sensor", pa.string()),
        ("value", pa.float64()),
        ("kind", pa.string()),
        ("tags", pa.map_(pa.string(), pa.list_(pa.int64()))),
        ("price", pa.decimal128(8, 2)),
        ("id", pa.string()),
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema(fields))
    payloads = codec.encode(batch)
    assert len(payloads) == 2
    assert codec.decode(payloads) == batch
    for bad in (payloads[0].as_py()[:-1], payloads[0].as_py() + b"x", b""):
        with pytest.raises(PermanentError, match="no Avro of the kind expected"):
            codec.decode(pa.array([bad], pa.binary()))
    with pytest.raises(PermanentError, match="cannot be written as Avro"):
        codec.encode(batch.select(["sensor"]))


def test_what_is_no_record_is_the_column_value() -> None:
    codec = Avro(schema='{"type": "map", "values": "long"}')
    payloads = codec.encode(pa.record_batch({"value": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))
    assert codec.decode(payloads).to_pylist() == [{"value": [("a", 1)]}]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]},
        {"type": "record", "name": "r", "fields": [{"name": "a", "type": ["int", "r"]}]},
        {"type": "nonsense"},
        "{",
        5,
    ],
)
def test_a_schema_without_columns_is_refused(schema: Any) -> None:
    with pytest.raises(ValidationError, match="no Avro schema"):
        Avro(schema=schema)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([1], pa.timestamp("ns")),
        pa.array([1], pa.duration("us")),
        pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=str,
)
def test_what_avro_cannot_hold_is_refused(array: pa.Array) -> None:
    with pytest.raises(PermanentError, match="cannot be written as Avro"):
        Avro().encode(pa.record_batch({"a": array}))
    with pytest.raises(PermanentError, match="expected a name of letters and digits"):
        Avro().encode(pa.record_batch({"a b": [1]}))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), codec=st.sampled_from([Arrow(), Parquet(), Avro()]))
def test_damage_is_refused_or_read_but_never_breaks_anything(data: st.DataObject, codec: Codec) -> None:
    whole = bytearray(codec.encode(pa.record_batch({"a": [1, 2], "b": ["x", None]}))[0].as_py())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(pa.array([bytes(whole)], pa.binary())).validate(full=True)
    except PermanentError:
        return


POINT = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
NAMED = {"type": "record", "name": "Named", "fields": [{"name": "name", "type": ["null", "string"]}]}
UNIONS: list[tuple[list[Any], list[tuple[Any, dict[str, Any] | None]]]] = [
    (["null", "int", "string"], [(1, {"member0": 1}), (None, None), ("1", {"member1": "1"})]),
    (["int", "double", "boolean"], [(1, {"member0": 1.0}), (0.5, {"member0": 0.5}), (True, {"member1": True})]),
    ([POINT, NAMED, "bytes"], [({"x": 1}, {"member0": {"x": 1}}), (b"x", {"member2": b"x"})]),
    (["null", NAMED, "long"], [({"name": None}, {"member0": {"name": None}}), (2**53 + 1, {"member1": 2**53 + 1})]),
    (
        [{"type": "array", "items": ["int", "string"]}, {"type": "map", "values": "int"}],
        [([1, "a"], {"member0": [{"member0": 1}, {"member1": "a"}]}), ({"k": 1}, {"member1": [("k", 1)]})],
    ),
    (
        [{"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "local-timestamp-millis"}],
        [(datetime.date(2024, 1, 2), {"member0": datetime.date(2024, 1, 2)})],
    ),
]


@pytest.mark.parametrize(("union", "values"), UNIONS)
def test_a_union_of_several_kinds_is_a_struct_of_members(
    union: list[Any], values: list[tuple[Any, dict[str, Any] | None]]
) -> None:
    schema = {"type": "record", "name": "Row", "fields": [{"name": "id", "type": "int"}, {"name": "v", "type": union}]}
    sink = io.BytesIO()
    fastavro.writer(sink, schema, [{"id": number, "v": value} for number, (value, _) in enumerate(values)])
    rows = Avro().decode(pa.array([sink.getvalue()], pa.binary())).to_pylist()
    assert [row["id"] for row in rows] == list(range(len(values)))
    assert [_filled(row["v"]) for row in rows] == [member for _, member in values]


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if not isinstance(value, dict) or "member0" not in value:
        return value
    return {name: _filled(item) for name, item in value.items() if item is not None}


def test_a_union_whose_members_cannot_be_told_apart_has_no_column() -> None:
    twin = {"type": "record", "name": "Twin", "fields": [{"name": "x", "type": "string"}]}
    with pytest.raises(ValidationError, match="has no column type"):
        Avro(schema={"type": "record", "name": "Row", "fields": [{"name": "v", "type": [POINT, twin]}]})
