from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export.structure import Malformed, Structure, check

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('{}[],:"\\aé '),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{}[],:"\\aé '), inner, max_size=4),
    max_leaves=30,
)


def reference(text: bytes) -> list[tuple[int, str]]:
    """The brackets, colons and commas that are outside of texts."""
    found, inside, escaped = [], False, False
    for position, byte in enumerate(text):
        if inside:
            inside = escaped or byte != 34
            escaped = byte == 92 and not escaped
        elif byte == 34:
            inside = True
        elif byte in b"{}[],:":
            found.append((position, chr(byte)))
    return found


@settings(deadline=None)
@given(VALUES, st.integers(1, 40), st.booleans())
def test_the_structure_is_found_whatever_the_windows(value: Any, window: int, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii).encode()
    structure = Structure(io.BytesIO(text), window)
    found = []
    for _ in reference(text):
        position, kind = structure.take("more")
        found.append((position, chr(kind)))
    assert found == reference(text)
    assert structure.depth == 0
    with pytest.raises(Malformed, match="the body ends at byte"):
        structure.take("more")


def test_nesting_has_a_limit() -> None:
    structure = Structure(io.BytesIO(b"[" * 65))
    with pytest.raises(Malformed, match="at byte 64: expected at most 64 levels"):
        structure.take("a value")


def test_more_brackets_cannot_close_than_open() -> None:
    with pytest.raises(Malformed, match="at byte 2: expected no more closing"):
        Structure(io.BytesIO(b"{}}")).take("a value")


@pytest.mark.parametrize("text", [b"[NaN]", b"-Infinity", b'"\\ud800"', b'{"a":1,"a":2}', b"1e999", b"9" * 100])
def test_what_costs_one_element_is_let_through(text: bytes) -> None:
    check(text, 0)


@pytest.mark.parametrize(
    ("text", "byte"), [(b"[1,]", 103), (b'"\xff"', 101), (b"[1 2]", 103), (b"tru", 100), (b'"\n"', 101), (b"", 100)]
)
def test_what_is_no_json_is_refused_with_its_place(text: bytes, byte: int) -> None:
    with pytest.raises(Malformed, match=f"at byte {byte}: expected"):
        check(text, 100)
