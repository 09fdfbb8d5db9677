"""The xml codec: elements, attributes and lists, hostile documents, and what XML cannot hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from penstock.absence import without
from penstock.codecs.xml import Xml
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.suites.codecs import CodecSuite

BOMB = (
    '<!DOCTYPE r [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "]><r><x>&j;</x></r>"
)

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


class TestXml(CodecSuite):
    garbage = (b"", b"x", b"<a>", b"<a/><b/>", b"<a></b>", b"<a>\x00</a>", b"<a>\xff</a>", BOMB.encode(), b"{}")

    @pytest.fixture
    def component(self) -> Codec:
        return Codec.parse("xml")

    def sample(self, start: int, rows: int) -> pa.RecordBatch:
        numbers = range(start, start + rows)
        return pa.record_batch({"id": [str(n) for n in numbers], "name": [f"n{n}" for n in numbers]})

    def any_batch(self) -> st.SearchStrategy[pa.RecordBatch]:
        cells = st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS), max_size=5)
        return cells.map(
            lambda rows: pa.record_batch({n: pa.array([r[n == "b"] for r in rows], pa.string()) for n in "ab"})
        )


def read(document: str | bytes, **options: Any) -> list[dict[str, Any]]:
    payload = document if isinstance(document, bytes) else document.encode()
    return without(Xml.model_validate(options).decode(pa.array([payload], pa.binary()))).to_pylist()  # type: ignore[no-any-return]


def test_elements_are_structs_lists_and_texts() -> None:
    document = """<?xml version="1.0" encoding="UTF-8"?>
    <!-- an order --><?note x?>
    <order id="7" xml:lang="en"><who><name>A &amp; B</name></who><item>x</item><item>y</item>
    <note><![CDATA[<b>]]></note><price currency="EUR">1.50</price><none/></order>"""
    assert read(document) == [
        {
            "@id": "7",
            "@xml:lang": "en",
            "who": {"name": "A & B"},
            "item": ["x", "y"],
            "note": "<b>",
            "price": {"@currency": "EUR", "#text": "1.50"},
            "none": "",
        }
    ]


def test_each_element_of_a_path_is_a_row() -> None:
    document = "<rss><channel><title>t</title><item><a>1</a></item><item><a>2</a><b>3</b></item></channel></rss>"
    assert read(document, row="channel/item") == [{"a": "1", "b": None}, {"a": "2", "b": "3"}]
    assert read("<rss/>", row="channel/item") == []


def test_what_may_come_once_or_several_times_is_a_list_where_that_is_said() -> None:
    codec = Xml(row="r", lists=frozenset({"c"}), structs=frozenset({"p"}))
    document = b'<x><r><c>1</c><p>5</p></r><r><c>1</c><c>2</c><p u="m">6</p></r><r><p/></r></x>'
    rows = without(codec.decode(pa.array([document], pa.binary()))).to_pylist()
    assert [row["c"] for row in rows] == [["1"], ["1", "2"], None]
    assert [row["p"] for row in rows] == [
        {"#text": "5", "@u": None},
        {"#text": "6", "@u": "m"},
        {"#text": None, "@u": None},
    ]
    with pytest.raises(PermanentError, match=r"holds (lists and texts|texts and lists)"):
        read("<x><r><c>1</c></r><r><c>1</c><c>2</c></r></x>", row="r")


def test_prefixes_stay_as_they_are_written() -> None:
    document = '<s:Envelope xmlns:s="u:s" xmlns="u:d"><s:Body s:id="1"><get>x</get></s:Body></s:Envelope>'
    assert read(document) == [{"s:Body": {"@s:id": "1", "get": "x"}}]
    assert read(document, row="s:Body") == [{"@s:id": "1", "get": "x"}]


def test_nil_is_null_and_what_is_missing_is_absent() -> None:
    batch = pa.record_batch({"a": [None, "x"], "b": ["", " y "]})
    payloads = Xml().encode(batch)
    assert b'nil="true"' in payloads[0].as_py()
    assert without(Xml().decode(payloads)).to_pylist() == batch.to_pylist()
    found = Xml().decode(pa.array([b"<r><a>1</a></r>", b"<r><b>2</b></r>"], pa.binary()))
    assert found.schema.names != without(found).schema.names, "absence is noted"
    assert Xml().encode(found).to_pylist() == [b"<row><a>1</a></row>", b"<row><b>2</b></row>"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-15", "windows-1252"])
def test_encodings_are_read(encoding: str) -> None:
    assert read(f'<?xml version="1.0" encoding="{encoding}"?><r><a>é</a></r>'.encode(encoding)) == [{"a": "é"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        '<!DOCTYPE r [<!ENTITY f SYSTEM "file://{file}">]><r><x>&f;</x></r>',
        '<!DOCTYPE r [<!ENTITY f SYSTEM "file://{file}">]><r x="&f;"/>',
        '<!-- c --> <?p q?>\n<!DOCTYPE r SYSTEM "file://{file}"><r/>',
        '<!DOCTYPE r [<!ENTITY % f SYSTEM "file://{file}"> %f;]><r/>',
        '<!DOCTYPE r PUBLIC "p" "http://127.0.0.1:9/x.dtd"><r/>',
    ],
    ids=["bomb", "file", "attribute", "external", "parameter", "network"],
)
def test_no_entity_is_ever_looked_at(document: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(PermanentError) as told:
        read(document.replace("{file}", str(tmp_path / "secret")).encode(encoding))
    assert "secret" not in str(told.value).replace(str(tmp_path), "")


def test_a_document_type_in_a_text_is_a_text() -> None:
    assert read("<r><a><![CDATA[<!DOCTYPE html>]]></a></r>") == [{"a": "<!DOCTYPE html>"}]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("<r>text<a/></r>", "text beside elements"),
        ("<r>&undefined;</r>", "well-formed"),
        ("<a>" * 70 + "</a>" * 70, "deeper than 64"),
        ("<a>" * 50_000, "well-formed"),
        ('<?xml version="1.0" encoding="utf-7"?><r/>', "encoded as utf-7"),
        ('<?xml version="1.0" encoding="ebcdic-cp-us"?><r/>', "encoded as"),
        ("<r><p:a>1</p:a></r>", "well-formed"),
        ('<r a="1" a="2"/>', "well-formed"),
    ],
)
def test_what_is_not_a_row_is_refused_with_its_reason(document: str, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        read(document)


@pytest.mark.parametrize(
    ("name", "value"), [("a b", "x"), ("1", "x"), ("a", "\x01"), ("a", "\x00"), ("p:a", "x"), ("a", [["x"]]), ("", "x")]
)
def test_what_xml_cannot_hold_is_refused(name: str, value: Any) -> None:
    with pytest.raises(PermanentError):
        Xml().encode(pa.record_batch({name: [value]}))


def test_a_path_that_is_none_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ValueError, match="names of elements"):
        Xml.model_validate({"row": "a//b"})


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@given(
    st.recursive(
        TEXTS,
        lambda inner: st.dictionaries(NAMES, inner | st.lists(TEXTS, min_size=2), min_size=1, max_size=4),
        max_leaves=12,
    ),
    TEXTS,
)
def test_any_document_is_read_as_it_was_written(value: Any, attribute: str) -> None:
    row = {"v": value, "w": {"@a": attribute, "#text": "x\r\n\t y"}}
    batch = pa.RecordBatch.from_pylist([row])
    (payload,) = Xml().encode(batch)
    assert b"\n" not in payload.as_py()
    assert read(payload.as_py()) == batch.to_pylist()


@given(st.binary(max_size=60) | st.text("<>/ab=\"'&;!?-[] x:", max_size=60).map(str.encode))
def test_garbage_is_refused_or_is_what_another_reading_says(payload: bytes) -> None:
    try:
        rows = read(payload)
    except PermanentError:
        return
    assert len(rows) == 1
    assert etree.fromstring(payload) is not None
