"""Configurations that are wrong, hostile or unreadable are refused with where and why, at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from penstock import ConfigError
from penstock.config.configuration import load, loads

STREAM = "streams:\n  - input: {type: memory}\n    output: drop\n"


def refused(text: str) -> str:
    began = time.process_time()
    with pytest.raises(ConfigError) as raised:
        loads(text)
    assert time.process_time() - began < 20
    assert len(str(raised.value)) < 5000
    return str(raised.value)


def test_a_key_that_is_given_twice_is_refused_with_its_line() -> None:
    text = refused("streams:\n  - input: {type: memory}\n    output: drop\n    output: drop\n")
    assert "'output' is given twice" in text
    assert text.startswith("4 ")


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    assert "did you mean 'max_in_flight'?" in refused(STREAM + "    max_in_fligth: 3\n")
    assert "did you mean 'memory'?" in refused(STREAM.replace("memory", "memmory"))


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases counted each time" in refused("\n".join(lines) + "\n" + STREAM)


def test_an_alias_of_itself_is_refused() -> None:
    assert "nested deeper" in refused("a: &a [*a]\n" + STREAM)


@pytest.mark.parametrize("opening", ["[", "{a: "])
@pytest.mark.parametrize("depth", [100, 2_000, 50_000])
def test_deep_nesting_is_refused(opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    assert "nested deeper" in refused(f"a: {opening * depth}1{closing * depth}\n" + STREAM)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (STREAM.replace("memory", "mémory").encode("latin-1"), "is not UTF-8"),
        (STREAM.encode("utf-16"), "is not UTF-8"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"streams:\n\t- input: x\n", "cannot start any token"),
        (b"streams: \x00", ""),
        (b"", "expected a mapping"),
        (b"- 1\n", "expected a mapping"),
        (b"streams: {}\n", "streams"),
        (b"a: b: c\n", ""),
        (b"? [a]\n: b\n", "a key must be"),
        (b"streams: !!python/object/apply:os.system ['true']\n", ""),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "streams.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert expected in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + STREAM.encode())
    assert load(path).streams


@pytest.mark.parametrize("what", ["folder", "missing", "huge"])
def test_what_is_no_configuration_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "streams.yaml"
    if what == "folder":
        path.mkdir()
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    with pytest.raises(ConfigError, match=r"streams\.yaml"):
        load(path)
