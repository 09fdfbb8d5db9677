"""Where the records of CSV end: as the standard library reads them, however the text is cut."""

from __future__ import annotations

import csv
import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import records
from penstock.errors import PermanentError
from penstock.records import column_names, find_head, find_records

PIECES = st.sampled_from(["a", "5", '"', '""', ",", ",", ";", "\n", "\n", "\r\n", "\r", " "])
TEXTS = st.lists(PIECES, max_size=40).map("".join)


def cut(text: bytes, delimiter: str = ",", *, final: bool = True) -> list[bytes]:
    ends = [0, *find_records(text, delimiter, final=final).ends.tolist()]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@settings(max_examples=600, deadline=None)
@given(TEXTS, st.sampled_from(",;"))
def test_records_end_where_the_standard_library_ends_them(text: str, delimiter: str) -> None:
    found = find_records(text.encode(), delimiter, final=True)
    if not found.unclosed:
        expected = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        each = [
            list(csv.reader(io.StringIO(one.decode(), newline=""), delimiter=delimiter))
            for one in cut(text.encode(), delimiter)
        ]
        assert [row for rows in each for row in rows] == expected
        assert all(len(rows) == 1 for rows in each)


@settings(max_examples=600, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 12), min_size=40, max_size=40), st.sampled_from([3, 8, 1 << 20]))
def test_it_makes_no_difference_how_a_text_is_cut(text: str, sizes: list[int], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_QUOTED_SIZE", limit)
        whole, found, rest = cut(text.encode()), [], b""
        data = text.encode()
        for size in sizes:
            rest, data = rest + data[:size], data[size:]
            complete = cut(rest, final=False)
            found += complete
            rest = rest[sum(map(len, complete)) :]
        assert found + cut(rest + data) == whole


def test_a_quote_that_is_never_closed_costs_its_line() -> None:
    text = b'id,size\n1,"5 pipe\n2,x\n3,5" pipe\n'
    assert cut(b'id,size\n1,"5 pipe\n2,x\n3,y\n') == [b"id,size\n", b'1,"5 pipe\n', b"2,x\n", b"3,y\n"]
    assert cut(text) == [b"id,size\n", b'1,"5 pipe\n2,x\n3,5" pipe\n']
    assert cut(b'1,"x\n', final=False) == []
    far = b'1,"x\n' + b"2,y\n" * records.MAX_QUOTED_SIZE
    assert cut(far, final=False)[:2] == [b'1,"x\n', b"2,y\n"]


def test_the_last_record_is_open_while_it_may_still_grow() -> None:
    for text, is_open in [(b"a,b\n", False), (b"a,b", True), (b'a,"b\n', True), (b'a,"b\nc\n', False), (b"", False)]:
        assert find_records(text, ",", final=True).is_open == is_open, text


@pytest.mark.parametrize(
    ("text", "delimiter", "record"),
    [
        (b"id,v\n1,2\n", ",", b"id,v"),
        (b"id;v\n1;2\n", ";", b"id;v"),
        (b"id\tv\r\n", "\t", b"id\tv"),
        (b"sep=;\r\nid;v,w\n", ";", b"id;v,w"),
        (b"SEP=|\nid|v\n", "|", b"id|v"),
        (b"id\n", ",", b"id"),
        (b'"a\nb",c\r1,2', ",", b'"a\nb",c'),
    ],
)
def test_the_delimiter_is_told_by_the_beginning(text: bytes, delimiter: str, record: bytes) -> None:
    head = find_head(text, None, final=True)
    assert head is not None
    assert (head.delimiter, head.record) == (delimiter, record)
    assert find_head(text[:2], None, final=False) is None


@pytest.mark.parametrize("header", [b"\xff\xfei\0d\0", b"i\0d\0", b'id,"v', b"\xe9t\xe9", b"\x01\x02garbage"])
def test_a_header_that_is_not_text_is_refused(header: bytes) -> None:
    with pytest.raises(PermanentError, match="the header cannot be read"):
        column_names(header, ",")
