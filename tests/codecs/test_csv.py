from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.codecs.csv import Csv
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.records import column_names
from penstock.testing.suites.codecs import CodecSuite


class TestSuite(CodecSuite):
    garbage = (b"1,x\n", b"1,2,3,4", b'1,"x,0.5', b"1,\xff,0.5", b"")
    types = (pa.int64(), pa.float64(), pa.bool_())
    nulls = False

    @pytest.fixture
    def component(self) -> Codec:
        return Csv(columns=["id", "name", "value"])

    def test_what_is_encoded_is_decoded_again(self, component: Codec) -> None:
        super().test_what_is_encoded_is_decoded_again(Csv())

    def test_a_decoder_agrees_with_decode(self, component: Codec) -> None:
        payloads = self.payloads(component, 0, 9)
        assert component.decoder()(payloads) == component.decode(payloads)


class TestDocuments(TestSuite):
    garbage = (b"id\n1,2", b'id,"na', b"id\n\xff", b"\xff\n1", b"")

    @pytest.fixture
    def component(self) -> Codec:
        return Csv()


def payloads(*texts: bytes) -> pa.BinaryArray:
    return pa.array(texts, pa.binary())


def column(*fields: str) -> pa.Array:
    return Csv(columns=["n", "a"]).decode(payloads(*[f"1,{field}\n".encode() for field in fields])).column("a")


@pytest.mark.parametrize(
    ("fields", "kind", "values"),
    [
        (["1", "-2", ""], pa.int64(), [1, -2, None]),
        (["1", "9223372036854775808"], pa.decimal128(38, 0), [Decimal(1), Decimal(2**63)]),
        (["1", "0.5", "1.10", "1e+3", "2.5E-7"], pa.float64(), [1, 0.5, 1.1, 1000, 2.5e-7]),
        (["1e3", "0.5"], pa.string(), ["1e3", "0.5"]),
        (["+4915112345678", "+1"], pa.string(), ["+4915112345678", "+1"]),
        (["+0.5", "1.5"], pa.string(), ["+0.5", "1.5"]),
        (["-0", "1"], pa.string(), ["-0", "1"]),
        (["-0", "1.5"], pa.string(), ["-0", "1.5"]),
        (["-0.0", "1.5"], pa.float64(), [-0.0, 1.5]),
        ([".5", "1.5"], pa.string(), [".5", "1.5"]),
        (["5.", "1.5"], pa.string(), ["5.", "1.5"]),
        (["0.12345678901234567890", "1.5"], pa.string(), ["0.12345678901234567890", "1.5"]),
        (["0.1234567890123456", "-1.5"], pa.float64(), [0.1234567890123456, -1.5]),
        (["1e-400", "1.5"], pa.string(), ["1e-400", "1.5"]),
        (["0.00", "0"], pa.float64(), [0.0, 0.0]),
        (["1\u0661", "1"], pa.string(), ["1\u0661", "1"]),
        (["007", "1"], pa.string(), ["007", "1"]),
        (["007.5", "1"], pa.string(), ["007.5", "1"]),
        (["0.5", "9007199254740993"], pa.string(), ["0.5", "9007199254740993"]),
        (["1" * 40], pa.string(), ["1" * 40]),
        (["0x10", "1"], pa.string(), ["0x10", "1"]),
        ([" 1", "2"], pa.string(), [" 1", "2"]),
        (["nan", "1.5"], pa.string(), ["nan", "1.5"]),
        (["1e400", "1.5"], pa.string(), ["1e400", "1.5"]),
        (["true", "False", ""], pa.bool_(), [True, False, None]),
        (["true", "1"], pa.string(), ["true", "1"]),
        (["", ""], pa.null(), [None, None]),
        (['""', ""], pa.string(), ["", None]),
        (["2026-01-01", "2026-01-01T00:00:00Z"], pa.string(), ["2026-01-01", "2026-01-01T00:00:00Z"]),
        (['"a ""b"", c"', '"line\nbreak"'], pa.string(), ['a "b", c', "line\nbreak"]),
        (["NA", "null"], pa.string(), ["NA", "null"]),
    ],
)
def test_the_type_is_the_narrowest_that_keeps_all(fields: list[str], kind: pa.DataType, values: list[Any]) -> None:
    found = column(*fields)
    assert (found.type, found.to_pylist()) == (kind, values)


def test_a_type_once_widened_stays_so() -> None:
    decode = Csv(columns=["a", "b"]).decoder()
    assert decode(payloads(b"1,true")).schema.types == [pa.int64(), pa.bool_()]
    assert decode(payloads(b"0.5,")).schema.types == [pa.float64(), pa.bool_()]
    assert decode(payloads(b"1,7")).to_pylist() == [{"a": 1.0, "b": "7"}]
    assert decode(payloads(b"1,true")).schema.types == [pa.float64(), pa.string()]
    assert decode(payloads(b"01,true")).to_pylist() == [{"a": "01", "b": "true"}]
    assert decode(payloads(b"\n", b"\r\n")).num_rows == 0


def test_documents_have_columns_of_their_own() -> None:
    decode = Csv(delimiter=";").decoder()
    batch = decode(payloads(b"a;b\r\n1;x\r\n2;y\r\n", b'\xef\xbb\xbf"a";"c\nd"\n3;true', b"a;b\n"))
    assert batch.to_pylist() == [
        {"a": 1, "b": "x", "c\nd": None},
        {"a": 2, "b": "y", "c\nd": None},
        {"a": 3, "b": None, "c\nd": True},
    ]
    assert decode(payloads(b"a\n4\n")).to_pylist() == [{"a": 4, "b": None, "c\nd": None}]


def test_names_that_are_missing_or_taken_are_numbered() -> None:
    assert Csv().decode(payloads(b"id,a,a,\n1,x,y,z")).to_pylist() == [{"id": 1, "a": "x", "a_2": "y", "column_4": "z"}]


@pytest.mark.parametrize(
    "text", [b"id;v\n1;5,0\n", b"sep=;\r\nid;v\r\n1;5,0\r\n", b"\n\nid\tv\n1\t5,0", b"id;v\r1;5,0\r"]
)
def test_the_delimiter_of_a_document_is_told_by_its_header(text: bytes) -> None:
    assert Csv().decode(payloads(text)).to_pylist() == [{"id": 1, "v": "5,0"}]
    assert Csv(delimiter=",").decode(payloads(b"id;v\n1;5\n")).to_pylist() == [{"id;v": "1;5"}]


def test_a_quote_counts_only_at_the_start_of_a_field() -> None:
    decode = Csv(columns=["id", "size"]).decode
    rows = decode(payloads(b'1,5" pipe\n', b'2,"5"" pipe"\n', b'3,"a"b"c\n', b"4,x\r")).to_pylist()
    assert rows == [
        {"id": 1, "size": '5" pipe'},
        {"id": 2, "size": '5" pipe'},
        {"id": 3, "size": 'ab"c'},
        {"id": 4, "size": "x"},
    ]


def test_columns_without_names_are_numbered() -> None:
    assert Csv(header=False).decode(payloads(b"1,x", b'2,"y,z"')).to_pylist() == [
        {"column_1": 1, "column_2": "x"},
        {"column_1": 2, "column_2": "y,z"},
    ]


def test_ragged_records_are_refused() -> None:
    for ragged in (b"1\n", b"1,2,3\n"):
        with pytest.raises(PermanentError, match="Expected 2 columns"):
            Csv(columns=["a", "b"]).decode(payloads(b"1,2\n", ragged))
    with pytest.raises(PermanentError, match="a quote is never closed"):
        Csv(columns=["a", "b"]).decode(payloads(b'1,"x\n', b'2,y"\n'))


def test_rows_are_written_as_records_or_documents() -> None:
    batch = pa.record_batch({"a": [1, None], "b,c": ['say "hi"', ""], "d": [[{"x": 1}], None]})
    assert Csv(header=False).encode(batch).to_pylist() == [b'1,"say ""hi""","[{""x"":1}]"', b',"",']
    assert Csv().encode(batch.slice(1)).to_pylist() == [b'a,"b,c",d\n,"",']
    assert Csv(columns=["b,c", "a"], delimiter="\t").encode(batch).to_pylist() == [b'"say ""hi"""\t1', b'""\t']
    assert Csv(header=False).encode(batch.select(["a"])).to_pylist() == [b"1", b'""']
    assert Csv(columns=["a"]).decode(payloads(b"1", b'""')).to_pylist() == [{"a": 1}, {"a": None}]
    with pytest.raises(PermanentError, match="no column `z`"):
        Csv(columns=["z"]).encode(batch)


def test_every_kind_of_value_has_a_text() -> None:
    batch = pa.record_batch(
        {
            "at": pa.array([0], pa.timestamp("ms", "UTC")),
            "on": pa.array([1], pa.date32()),
            "raw": pa.array([b'\xff"'], pa.binary()),
            "text": pa.array([b'a"\n'], pa.binary()),
            "kind": pa.array(["x"]).dictionary_encode(),
            "none": pa.array([float("nan")]),
        }
    )
    assert Csv(header=False).encode(batch).to_pylist() == [b'1970-01-01T00:00:00.000Z,1970-01-02,/yI=,"a""\n",x,nan']


@pytest.mark.parametrize("options", [{"delimiter": '"'}, {"delimiter": ",,"}, {"quote": "é"}, {"columns": ["a", "a"]}])
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Csv(**options)


NUMBERS = st.one_of(
    st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
)


@settings(max_examples=300, deadline=None)
@given(NUMBERS.filter(bool))
def test_a_field_is_a_number_only_if_it_is_exactly_that(field: str) -> None:
    (value,) = column(field).to_pylist()
    if not isinstance(value, str):
        written = repr(value) if isinstance(value, float) else str(value)
        assert Decimal(written) == Decimal(field)
        assert not field.startswith(("+", "00", "."))
    else:
        assert value == field


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_any_text_survives(rows: list[tuple[str, str]], delimiter: str) -> None:
    marked = [("#" + left, right + "#") for left, right in rows]
    batch = pa.record_batch({"a": [left for left, _ in marked], "b": [right for _, right in marked]})
    for codec in (Csv(columns=["a", "b"], delimiter=delimiter), Csv(delimiter=delimiter)):
        assert codec.decode(codec.encode(batch)) == batch


@pytest.mark.parametrize("name", ["c{}", "a"])
def test_a_header_of_very_many_columns_is_read_in_no_time(name: str) -> None:
    names = column_names(",".join(name.format(number) for number in range(100_000)).encode(), ",")  # else an hour
    assert len(set(names)) == 100_000
    assert names[:2] == (["a", "a_2"] if name == "a" else ["c0", "c1"])


def test_names_that_are_numbered_stay_apart_from_those_that_are_given() -> None:
    assert column_names(b"a,a_2,a,a,,a_2,column_5", ",") == [
        "a",
        "a_2",
        "a_3",
        "a_4",
        "column_5",
        "a_2_2",
        "column_5_2",
    ]
