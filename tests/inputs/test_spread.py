"""Values over several lines among values that are one to a line."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.json import Json
from penstock.framing import Framing, split
from penstock.inputs.file.spread import join_spread

TEXTS = st.text(alphabet='ab"\\{}[],: \n\té', max_size=8)
VALUES = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.integers(0, 9) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)
WRITTEN = st.tuples(VALUES, st.sampled_from([None, 0, 1, "\t"]), st.sampled_from(["\n", "\r\n", "\n\n", "", " \n  "]))


def joined(data: bytes, step: int) -> list[bytes]:
    """The payloads of a text that is read some more bytes at a time."""
    found: list[bytes] = []
    at, size = 0, step
    while at < len(data):
        final = at + size >= len(data)
        lines = join_spread(split(Framing.LINES, data[at : at + size], final=final, keep_ends=True)[0], final)
        found += lines.payloads.to_pylist()
        at, size = at + lines.taken, step if lines.taken else size + step
    return [payload for payload in found if payload.strip()]


@given(st.lists(WRITTEN, max_size=6), st.integers(1, 60))
def test_objects_are_found_however_they_are_written_and_cut(written: list[Any], step: int) -> None:
    text = "".join(json.dumps(value, indent=indent) + end for value, indent, end in written).encode()
    payloads = joined(text, step)
    assert all(b"\n" not in payload.rstrip() for payload in payloads)
    values = [value for payload in payloads for value in _values(payload.decode())]
    assert values == [value for value, _, _ in written]


def _values(text: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    "torn", ['{"id":7,', '{"id":7,"x":[', '{"id":7,"x":', '{"id":7,"x', '{"id":7,"x":[{', "}", "{", '"', ","]
)
def test_a_torn_line_costs_no_other(torn: str, step: int) -> None:
    lines = [b'{"id":1}\n', torn.encode() + b"\n", b'{"id":2}\n', b'{"id":3}\n', b'{\n"id":4\n}\n']
    assert joined(b"".join(lines), step) == [*lines[:-1], b'{ "id":4 }\n']


def test_a_text_with_half_of_a_surrogate_pair_may_spread() -> None:
    payloads = joined(b'{"id":1}\n{\n"x":"\\ud83d"\n}\n{"id":2}\n', 9)
    assert payloads == [b'{"id":1}\n', b'{ "x":"\\ud83d" }\n', b'{"id":2}\n']
    assert Json().decode(pa.array([payloads[0], payloads[2]], pa.binary())).to_pylist() == [{"id": 1}, {"id": 2}]
