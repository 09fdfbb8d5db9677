import contextlib
import datetime
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.absence import without
from penstock.codecs.json import Json, absent, decoding
from penstock.component import Codec
from penstock.errors import PermanentError, RowsRejected
from penstock.framing import Framing, split
from penstock.metadata import ABSENT
from penstock.testing.suites.codecs import CodecSuite

MANY = 500
"""Payloads enough to be read by pyarrow."""


class TestSuite(CodecSuite):
    garbage = (b"", b"{", b"nonsense", b"\xff\xfe", b"5", b'{"a": 1}]')

    @pytest.fixture
    def component(self) -> Codec:
        return Json()


def payloads(*texts: bytes) -> pa.BinaryArray:
    return pa.array(texts, pa.binary())


def decode(*texts: bytes) -> list[dict[str, Any]]:
    return Json().decode(payloads(*texts)).to_pylist()


def test_a_payload_is_an_object_an_array_of_them_or_lines() -> None:
    assert decode(b'{"a": 1}', b'[{"a": 2}, {"a": 3}]', b'{"a": 4}\n\n{"a": 5}\r\n[{"a": 6}]\n') == [
        {"a": number} for number in range(1, 7)
    ]
    assert decode(b'{\n  "a": {\n    "b": 1\n  }\n}', b'\xef\xbb\xbf{"a": {"b": 2}}') == [
        {"a": {"b": 1}},
        {"a": {"b": 2}},
    ]
    assert decode(b"\n", b'{"a": 1}\n', b" \r\n") == [{"a": 1}]
    assert decode(b"[]") == []
    assert decode(b'{"a": 1}{"a": 2} [{"a": 3}]\n{\n"a": 4\n}') == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "the payload is empty: expected a JSON object"),
        (b"5", "expected a JSON object, found a number: 5"),
        (b"null", "expected a JSON object, found null"),
        (b'[{"a": 1}, "x"]', "found text within the array"),
        (b'{"a": ', '"a": '),
        (b'{"a": 1},{"a": 2}', "trailing characters"),
        (b'{"a": 1}{"a": 2', '"a": 2'),
        (b'{"a": NaN}', "invalid character"),
        (b'{"a": 1e400}', "out of range"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\ud83d"}', r"\\ud83d is half of a surrogate pair"),
        (b'{"a": "\\uDe00 and more"}', r"\\uDe00 is half of a surrogate pair"),
        (b'{"\\\\\\ud83d\\u0041": 1}', r"\\ud83d is half of a surrogate pair"),
        (b'{"a": "\\ud83d\\ud83d\\ude00"}', r"\\ud83d is half of a surrogate pair"),
        (b'{"a": "\\ud83d', "truncated"),
        (b'{"a": 1}\n{"a": \n', '"a": '),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested too deeply"),
        (b"[" * 49 + b"]" * 49, "expected a JSON object, found an array"),
        (b'{"a": 1, "a": {}}\n{"a": 2}', "`a` holds a number and an object: expected values of one kind"),
        (b'{"a": [1, "x"]}', r"`a\[\]` holds a number and text"),
        (b'{"a": 0.5}\n{"a": 9007199254740993}', "fractions and 9007199254740993"),
    ],
)
def test_what_is_no_object_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        decode(payload)
    learned = Json().decoder()
    good = payloads(*[b'{"a": 1}'] * MANY)
    learned(good)
    with pytest.raises(PermanentError):
        learned(pa.concat_arrays([good, payloads(payload), payloads(b'{"a": {}}')]))


def test_a_message_holds_no_more_than_the_beginning_of_a_payload() -> None:
    with pytest.raises(PermanentError) as refused:
        decode(b'{"a": "' + b"x" * 1_000_000)
    assert len(str(refused.value)) < 250


def test_objects_may_be_as_deep_as_arrow_can_carry() -> None:
    batch = Json().decode(payloads(b'{"a":' * 48 + b"1" + b"}" * 48))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    assert pa.ipc.open_stream(sink.getvalue()).read_next_batch() == batch
    with pytest.raises(PermanentError, match="at most 48 levels"):
        decode(b'{"a":' * 49 + b"1" + b"}" * 49)


def test_r7_schema_is_inferred_from_the_whole_batch() -> None:
    batch = Json().decode(payloads(b'{"a": 1}', b'{"a": 1.5, "b": {"c": [1]}}', b'{"b": {"d": null}, "e": []}'))
    assert batch.schema == pa.schema(
        [
            ("a", pa.float64()),
            ("b", pa.struct([("c", pa.list_(pa.int64())), ("d", pa.null())])),
            ("e", pa.list_(pa.null())),
        ]
    )
    assert batch.column("a").to_pylist() == [1.0, 1.5, None]


@pytest.mark.parametrize("columns", [None, frozenset({"s", "a"})])
@pytest.mark.parametrize("known", [False, True])
def test_r7_rows_after_the_first_ones_count_too(columns: frozenset[str] | None, known: bool) -> None:
    first, later = b'{"a": 1, "s": [{"x": 1}], "o": 1}', b'{"a": 1.5, "s": [{"x": 1, "y": "z"}], "o": 1.5}'
    decoder = Json().decoder(columns)
    if known:
        decoder(payloads(*[first] * MANY))
    batch = decoder(payloads(*[first] * MANY, later))
    assert batch.schema.field("a").type == pa.float64()
    assert batch.column("s")[-1].as_py() == [{"x": 1, "y": "z"}]
    assert batch.column("s")[0].as_py() == [{"x": 1, "y": None}]
    assert decoder(payloads(*[first] * MANY)).schema.field("s").type == batch.schema.field("s").type


def test_fields_that_come_later_within_wanted_objects_are_kept() -> None:
    decoder = Json().decoder(frozenset({"s"}))
    decoder(payloads(*[b'{"s": {"x": 1}, "o": 1}'] * MANY))
    batch = decoder(payloads(*[b'{"s": {"x": 1, "y": {"z": [1]}}, "o": "text"}'] * MANY))
    assert batch.to_pylist() == [{"s": {"x": 1, "y": {"z": [1]}}}] * MANY


def test_text_that_looks_like_a_time_stays_text() -> None:
    rows = [b'{"at": "2026-01-01T00:00:00Z", "in": {"at": "2026-01-01"}}'] * MANY
    decoder = Json().decoder()
    for _ in range(2):
        batch = decoder(payloads(*rows))
        assert batch.schema.field("at").type == pa.string()
        assert batch.schema.field("in").type == pa.struct([("at", pa.string())])


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([2**63 - 1, -(2**63)], pa.int64()),
        ([2**64 - 1, 0], pa.uint64()),
        ([2**64 - 1, -1], pa.decimal128(38, 0)),
        ([10**38 - 1], pa.decimal128(38, 0)),
        ([10**38], pa.string()),
        ([-(10**60), 1], pa.string()),
    ],
)
def test_integers_are_never_rounded(numbers: list[int], kind: pa.DataType) -> None:
    texts = [json.dumps({"a": number}).encode() for number in numbers]
    small = payloads(*[b'{"a": 1}'] * MANY)
    learned = Json().decoder()
    learned(small)
    for decoded in (Json().decode(payloads(*texts)), learned(pa.concat_arrays([small, payloads(*texts)]))[MANY:]):
        assert [int(value) for value in decoded.column("a").to_pylist()] == numbers
    assert Json().decode(payloads(*texts)).schema.field("a").type == kind


def test_a_learned_fraction_does_not_round_later_integers() -> None:
    decoder = Json().decoder()
    decoder(payloads(*[b'{"a": 0.5}'] * MANY))
    big = decoder(payloads(*[b'{"a": 9007199254740993}'] * MANY))
    assert big.column("a").to_pylist() == [9007199254740993] * MANY
    decoder(payloads(*[b'{"a": 0.5}'] * MANY))
    with pytest.raises(PermanentError, match="JSON is malformed"):
        decoder(payloads(*[b'{"a": NaN}'] * MANY))


def test_of_equal_keys_the_last_counts() -> None:
    decoder = Json().decoder()
    for _ in range(2):
        assert decoder(payloads(*[b'{"a": 1, "a": 2}'] * MANY)).column("a").to_pylist() == [2] * MANY


def test_a_learned_schema_stays_and_grows() -> None:
    decoder = Json().decoder()
    decoder(payloads(b'{"a": 1, "b": null, "c": {"x": 1}}'))
    second = decoder(payloads(*[b'{"c": {"y": 2}, "d": true, "a": 0.5}'] * MANY))
    names = ["a", "b", "c", "d"]
    assert without(second).schema.names == names
    assert second.schema.field("c").type == pa.struct([("x", pa.int64()), ("y", pa.int64())])
    third = decoder(payloads(*[b'{"a": 1, "b": "now"}'] * MANY))
    assert without(third).schema.names == names
    assert third.schema.field("a").type == pa.float64()
    assert without(third).slice(0, 1).to_pylist() == [{"a": 1.0, "b": "now", "c": None, "d": None}]
    assert decoder(payloads()).schema == without(third).schema
    assert decoder(payloads(b"{}", b"{}")).schema == third.schema


def test_a_column_of_another_kind_gets_it_for_its_batch() -> None:
    decoder = Json().decoder()
    decoder(payloads(*[b'{"a": 1}'] * MANY))
    assert decoder(payloads(*[b'{"a": "x"}'] * MANY)).column("a").to_pylist() == ["x"] * MANY
    with pytest.raises(PermanentError, match="`a` holds a number and text"):
        decoder(payloads(*[b'{"a": "x"}', b'{"a": 1}'] * MANY))


@pytest.mark.slow
def test_keys_that_are_data_are_not_learned_for_ever() -> None:
    decoder = Json().decoder()
    for number in range(50):
        batch = decoder(payloads(json.dumps({f"key{number}-{n}": n for n in range(100)}).encode()))
    assert batch.num_columns <= 2000


def test_a_row_is_never_read_across_payloads() -> None:
    decoder = Json().decoder()
    decoder(payloads(*[b'{"a": 1, "b": [{}]}'] * MANY))
    torn = [b'{"a": 1}{"a": 2}\n', b'{"a":\n', b"3}\n", b'{"a": 4}\n']
    with pytest.raises(PermanentError):
        decoder(payloads(*torn * MANY))


@pytest.mark.parametrize("keep_ends", [True, False])
def test_lines_are_decoded_as_they_were_framed(keep_ends: bool) -> None:
    data = b"".join(b'{"id": %d, "name": "n%d"}\r\n' % (n, n) for n in range(MANY))
    lines, _ = split(Framing.LINES, data, final=True, keep_ends=keep_ends)
    decoder = Json().decoder()
    assert decoder(lines) == decoder(lines) == Json().decode(lines)
    assert decoder(lines[7:]) == decoder(lines)[7:]


def test_only_the_columns_wanted_are_decoded() -> None:
    lines = payloads(*[b'{"id": %d, "userId": %d, "text": "x"}' % (n, n) for n in range(MANY)])
    decoder = Json().decoder(frozenset(["id", "userid", "sum"]))
    for _ in range(2):
        batch = decoder(lines)
        assert batch.schema.names == ["id", "userId"]
        assert batch.column("userId").to_pylist() == list(range(MANY))
    late = [b'{"id": 1, "sUM": 2, "userid": 3}', b'{"id": 1, "\\u0073um": 4}']
    batch = decoder(pa.concat_arrays([lines, payloads(*late)]))
    assert batch.schema.names == ["id", "userId", "sUM", "userid", "sum"]
    assert batch.slice(MANY).to_pylist() == [
        {"id": 1, "userId": None, "sUM": 2, "userid": 3, "sum": None},
        {"id": 1, "userId": None, "sUM": None, "userid": None, "sum": 4},
    ]


def test_rows_are_counted_even_if_no_column_is_wanted() -> None:
    decoder = Json().decoder(frozenset())
    for _ in range(2):
        assert decoder(payloads(*[b'{"a": [1], "b": 2}'] * MANY)).num_rows == MANY
        assert Json().decoder(frozenset())(payloads(b"{}", b"{}")).num_rows == 2
    assert Json().decode(payloads(b"{}", b"{}")).num_rows == 2


def test_several_threads_may_decode_at_once() -> None:
    decoder = Json().decoder()
    shapes = [payloads(*[json.dumps({f"k{n % 5}": n, "same": 1}).encode()] * MANY) for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(decoder, shapes))
    for n, batch in enumerate(batches):
        assert batch.column(f"k{n % 5}").to_pylist() == [n] * MANY
    assert set(without(decoder(shapes[0])).schema.names) == {"same", *(f"k{n}" for n in range(5))}


def test_a_key_with_a_nul_refuses_its_row() -> None:
    good, bad = b'{"a": 1}', b'{"a": 2, "a\\u0000b": 1}'
    with pytest.raises(RowsRejected) as rejected:
        Json().decoder()(payloads(good, bad, good))
    assert list(rejected.value.reasons) == [1]
    with pytest.raises(PermanentError, match="NUL"):
        Json().decoder()(payloads(b'{"a": {"b\\u0000": 1}}'))


def test_what_a_row_lacks_is_told_apart_from_null() -> None:
    rows = [{"a": 1}, {"a": None, "b": "x"}, {"b": None, "c": {"a": 1}}, {"a": 2, "b": '\\ "c": 1', "c": None}, {}]
    decoder = Json().decoder()
    for some in (rows, rows * MANY, rows, rows[:1] * MANY, rows[-1:] * MANY, [rows[0], *rows[:2] * MANY]):
        assert present(decoder(payloads(*[json.dumps(row).encode() for row in some]))) == some


def present(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows without what is noted as absent from them; of nested objects without their nulls."""
    found = []
    for row in batch.to_pylist():
        absent = json.loads(row.pop(ABSENT, None) or "[]")
        assert all(row[name] is None for name in absent)
        found.append({name: value for name, value in row.items() if name not in absent})
    return found


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "ü", 'q"\\']), VALUES, max_size=4), min_size=1, max_size=5)


def plain(value: Any) -> Any:
    """A value without what Arrow cannot tell apart: a key that is null from one that is missing."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, Decimal) or (isinstance(value, str) and value.lstrip("-").isdigit() and len(value) > 15):
        return int(value)
    return value


NEARLY_NULL = st.sampled_from([None, "null", ":null", ":null,", ": null}", "nullable", '":null', "", ":", "\\"])
PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", ":null", ""]), NEARLY_NULL), max_size=4)
WHOLE = [("a", "x"), ("b", "x")]


@settings(max_examples=200, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=6), st.sampled_from([":", ": ", " : ", ":  "]), st.booleans())
@example([WHOLE, [("a", None), ("a", None)]], ":", False)
@example([WHOLE, [("a", ":null,")]], ":", True)
@example([WHOLE, [("a", '":null')]], ":", True)
@example([[*WHOLE, (":null", "x")], [("a", "x"), (":null", "y")]], ":", True)
def test_a_written_null_is_told_from_texts_that_look_like_one(rows: list[Any], colon: str, lone: bool) -> None:
    rows = [list(dict(pairs).items()) for pairs in rows] if lone else rows
    encoded = [", ".join(json.dumps(key) + colon + json.dumps(value) for key, value in pairs) for pairs in rows]
    texts = payloads(*[f"{{{text}}}".encode() for text in encoded])
    for few, small, short in ((400, 4096, 1 << 14), (1, 0, 1 << 14), (1, 0, 0), (400, 4096, 0)):
        with (
            patch.object(decoding, "_FEW", few),
            patch.object(decoding, "_SMALL", small),
            patch.object(absent, "_SHORT", short),
            contextlib.suppress(PermanentError),
        ):
            decoder = Json().decoder()
            for _ in range(2):
                assert present(decoder(texts)) == [dict(pairs) for pairs in rows]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_absent_is_told_from_null_in_both_ways_of_decoding(first: list[Any], second: list[Any], ended: bool) -> None:
    decoder = Json().decoder()
    for rows in (first, second, first):
        texts = payloads(*[json.dumps(row).encode() + (b"\n" if ended else b"") for row in rows])
        for few in (1, 400):
            with patch.object(decoding, "_FEW", few), contextlib.suppress(PermanentError):
                assert [sorted(row) for row in present(decoder(texts))] == [sorted(row) for row in rows]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_both_ways_of_decoding_give_the_same(first: list[Any], second: list[Any], ended: bool) -> None:
    decoder = Json().decoder()
    end = b"\n" if ended else b""
    for rows in (first, second, first, second):
        texts = payloads(*[json.dumps(row, ensure_ascii=False).encode() + end for row in rows])
        try:
            exact = Json().decode(texts)
        except PermanentError:
            with pytest.raises(PermanentError), patch.object(decoding, "_FEW", 1):
                decoder(texts)
            continue
        assert [plain(row) for row in exact.to_pylist()] == [plain(row) for row in rows]
        with patch.object(decoding, "_FEW", 1):
            learned = decoder(texts)
        learned.validate(full=True)
        assert plain(without(learned).to_pylist()) == plain(exact.to_pylist())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
def test_garbage_is_refused_or_read_but_never_breaks_anything(garbage: bytes) -> None:
    decoder = Json().decoder()
    good = payloads(b'{"a": 1, "b": "x", "c": 0.5}', b"{}")
    decoder(good)
    for text in (garbage, b'{"b": "' + garbage + b'"}', b'{"c": ' + garbage + b"}"):
        both = pa.concat_arrays([good, payloads(text)])
        with patch.object(decoding, "_FEW", 1):
            try:
                expected = Json().decode(both)
            except PermanentError:
                with pytest.raises(PermanentError):
                    decoder(both)
            else:
                assert plain(without(decoder(both)).to_pylist()) == plain(expected.to_pylist())


def test_rows_are_written_without_nulls_and_in_column_order() -> None:
    batch = pa.record_batch({"a": [None, None], "b": [1, None], "c": ["x", None], "d": [None, True]})
    assert Json().encode(batch).to_pylist() == [b'{"b":1,"c":"x"}', b'{"d":true}']
    assert Json().encode_lines(batch).to_pybytes() == b'{"b":1,"c":"x"}\n{"d":true}\n'
    assert Json().encode(batch.select(["c"])).to_pylist() == [b'{"c":"x"}', b"{}"]
    assert Json().encode(pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([])))).to_pylist() == [
        b"{}",
        b"{}",
    ]
    assert Json().encode(batch.slice(0, 0)).to_pylist() == []


def encoded(array: pa.Array) -> list[Any]:
    texts = Json().encode(pa.record_batch({"a": array})).to_pylist()
    return [text.removeprefix(b'{"a":').removesuffix(b"}").decode() if text != b"{}" else None for text in texts]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            pa.array([1.0, 0.1, 1e300, -0.0, math.nan, math.inf, None]),
            ["1.0", "0.1", "1e+300", "-0.0", None, None, None],
        ),
        (pa.array([0.1, 16777216], pa.float32()), ["0.1", "16777216.0"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([Decimal("1.50"), None]), ["1.50", None]),
        (pa.array([0, 1_500], pa.timestamp("ms")), ['"1970-01-01T00:00:00.000"', '"1970-01-01T00:00:01.500"']),
        (pa.array([0], pa.timestamp("s", "Europe/Berlin")), ['"1970-01-01T00:00:00Z"']),
        (pa.array([datetime.date(2026, 1, 2)]), ['"2026-01-02"']),
        (pa.array([datetime.time(1, 2, 3)]), ['"01:02:03.000000"']),
        (pa.array([1500, -1], pa.duration("ms")), ['"PT1.500S"', '"PT-0.001S"']),
        (pa.array([-(2**63) + 1], pa.duration("ns")), ['"PT-9223372036.854775807S"']),
        (pa.array([90], pa.duration("s")), ['"PT90S"']),
        (pa.array([b"ok", b"\xff", None]), ['"ok"', '"/w=="', None]),
        (pa.array([b"ok"], pa.binary_view()), ['"ok"']),
        (pa.array(["x", None, "x"]).dictionary_encode(), ['"x"', None, '"x"']),
        (
            pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string(), pa.int64())),
            ['{"k":1,"l":null}', "{}", None],
        ),
        (pa.array([[(1, 'q"')]], pa.map_(pa.int64(), pa.string())), ['{"1":"q\\""}']),
        (pa.array([[1, None], [], None]), ["[1,null]", "[]", None]),
        (pa.array([[[None]], None], pa.large_list(pa.list_(pa.null()))), ["[[null]]", None]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), ["[1,2]", None]),
        (pa.array([{"x": None, "y": [{}]}, None]), ['{"y":[{}]}', None]),
        (pa.array(['q"\\\n\x01\x7f\u2028é']), ['"q\\"\\\\\\n\\u0001\x7f\u2028é"']),
        (pa.array(["a", "b"], pa.string_view()), ['"a"', '"b"']),
        (pa.array([None, 1]).cast(pa.int8()), [None, "1"]),
    ],
)
def test_every_type_has_its_json(array: pa.Array, expected: list[Any]) -> None:
    assert encoded(array) == expected
    assert encoded(pa.concat_arrays([array, array])[len(array) :]) == expected


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (pa.record_batch([pa.array([1]), pa.array([2])], ["a", "a"]), "two columns are called `a`"),
        (pa.record_batch({"a": pa.array([-1], pa.time64("us"))}), "`a` of type time64.* not between 00:00 and 24:00"),
        (pa.record_batch({"a": pa.array([1], pa.date64())}), "`a` of type date64.* a date has a time of day"),
        (
            pa.record_batch({"a": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
            "`a` .* there is no JSON for it",
        ),
    ],
)
def test_what_json_cannot_express_is_refused(batch: pa.RecordBatch, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        Json().encode(batch)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_decoding_undoes_encoding(rows: list[Any]) -> None:
    try:
        batch = Json().decode(payloads(*[json.dumps(row).encode() for row in rows]))
    except PermanentError:
        return
    again = Json().decode(Json().encode(batch))
    assert plain(again.to_pylist()) == plain(batch.to_pylist())
    lines, _ = split(Framing.LINES, Json().encode_lines(batch), final=False)
    assert lines == Json().encode(batch)


def test_it_is_found_by_its_address() -> None:
    assert isinstance(Codec.parse("json"), Json)
    assert Codec.parse({"type": "json"}) == Json()
    assert sys.modules["penstock.codecs.json"].Json is Codec.find("json")


@pytest.mark.parametrize(
    "number", ["1E-400", "-1e-999", "2e-324", "0.5e-0324", "1e-99999", f"0.{'0' * 400}1", "0.0001e-321"]
)
@pytest.mark.parametrize("shape", ['{"a":%s}', '{"a":[{"b":%s,"c":0}]}', '[{"a":1.5},{"a":%s}]', '{"a":%s}\n{"a":0.5}'])
def test_a_number_that_would_be_read_as_zero_is_refused(number: str, shape: str) -> None:
    for decode in (decoding.LearningDecoder(), decoding.decode_exactly):
        for _ in range(2):  # also by a decoder that knows the types
            with pytest.raises(PermanentError, match="too near to zero"):
                decode(payloads((shape % number).encode()))
            decode(payloads(*[b'{"a":0.25}'] * 600))


@pytest.mark.parametrize(
    "number", ["0", "0.0", "0e-400", "-0.0E-999", "5e-324", "1e-300", "0.00e-0999", f"0.{'0' * 400}"]
)
def test_a_zero_and_the_smallest_number_are_read(number: str) -> None:
    (row,) = decoding.LearningDecoder()(payloads(b'{"a":' + number.encode() + b"}")).to_pylist()
    assert row["a"] == float(number)


def test_a_text_that_looks_like_a_vanishing_number_is_read() -> None:
    texts = [{"a": text} for text in ("1e-400", "1e-400,", "x\n1e-400\n", "0" * 400)]
    assert (
        decoding.LearningDecoder()(payloads(*(json.dumps(text).encode() for text in texts))).select(["a"]).to_pylist()
        == texts
    )
