"""Patterns of paths, and values cut out of a JSON text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.inputs.file.pattern import Pattern
from penstock.inputs.file.values import are_lines, cut


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("a/*.json", "a/b.json", {}),
        ("a/*.json", "a/b/c.json", None),
        ("a/**/*.json", "a/b.json", {}),
        ("a/**/*.json", "a/b/c/d.json", {}),
        ("a/**", "a/b/c.json", {}),
        ("{table}/{year}-{month}.csv", "t/2024-05.csv", {"table": "t", "year": "2024", "month": "05"}),
        ("{table}/*", "a/b/c", None),
        ("inbox/{table}/", "inbox/a/b.json", {"table": "a"}),
        ("a?[0-9].json", "ab7.json", {}),
        ("a[!0-9].json", "a7.json", None),
        ("a[!0-9].json", "ax.json", {}),
        ("*.json", ".hidden.json", None),
        (".*.json", ".hidden.json", {}),
        ("*", "a.json.tmp", None),
        ("*.tmp", "a.json.tmp", {}),
        ("a+(b).json", "a+(b).json", {}),
        ("{not a name}.json", "{not a name}.json", {}),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, path: str, values: dict[str, str] | None) -> None:
    assert Pattern(pattern).match(path) == values
    if not Pattern(pattern).is_plain:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
        walked = [(entry.path, found) for entry, found in Pattern(f"{tmp_path}/{pattern}").walk()]
        assert walked == ([] if values is None else [(str(tmp_path / path), values)])


def test_a_placeholder_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="used twice"):
        Pattern("{a}/{a}")


TEXTS = st.text(alphabet='ab"\\{}[],: \n\té', max_size=8)
VALUES = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.integers() | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1, 2]), st.integers(1, 60), st.booleans())
def test_the_elements_of_an_array_are_found_however_it_is_cut(
    values: list[Any], indent: int | None, step: int, ascii_only: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()[1:]
    found, at, size, closed = [], 0, step, False
    while not closed:
        taken = cut(text[at : at + size], within_array=True)
        assert all(payload.count(b"\n") <= 1 for payload in taken.payloads.to_pylist())
        found += [json.loads(payload) for payload in taken.payloads.to_pylist() if payload.strip()]
        size = step if taken.taken else size + step
        at, closed = at + taken.taken, taken.closed
        assert size < len(text) + 2 * step
    assert found == values
    assert not text[at:].strip()


@given(st.lists(VALUES, min_size=1, max_size=5), st.sampled_from(["", "\n", " \n\n"]))
def test_objects_spread_over_lines_are_told_apart(values: list[Any], between: str) -> None:
    text = between.join(json.dumps(value, indent=1) for value in values).encode()
    taken = cut(text, within_array=False)
    assert [json.loads(payload) for payload in taken.payloads.to_pylist()] == values


@pytest.mark.parametrize(
    ("head", "final", "lines"),
    [
        (b'{"a":1}\n{"a":2}\n', False, True),
        (b'{"a":1}', True, True),
        (b'{"a":1}', False, None),
        (b'{"a":', False, None),
        (b'{\n "a": 1\n}\n', False, False),
        (b'{\n "a": 1\n', False, None),
        (b'{"bad\n{"a":1}\n', False, True),
        (b"garbage\n", True, True),
    ],
)
def test_lines_are_told_from_documents(head: bytes, final: bool, lines: bool | None) -> None:
    assert are_lines(head, final) is lines
