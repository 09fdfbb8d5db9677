"""VRL: an integer that does not fit into 64 bits is the error of its row, never another number."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import PermanentError
from penstock.processors.vrl.program import compile_program

MOST = 2**63 - 1


def run(statement: str, **event: Any) -> Any:
    return compile_program(statement, "UTC", allow_host=False).run(event)


integers = (
    st.integers(-(2**63), MOST) | st.integers(-5, 5) | st.integers(2**31, 2**33) | st.integers(-(2**33), -(2**31))
)


@pytest.mark.parametrize(
    "expression",
    ["a + b", "a - b", "a * b", "a - b * 3 + 1", "(a + 1) * (b - 1)", "a * a - b * b", "abs(a) - -7", "a + abs(b - a)"],
)
@given(a=integers, b=integers)
@example(a=MOST, b=1)
@example(a=-(2**63), b=-1)
@example(a=-(2**63), b=0)
@example(a=2**32, b=2**31)
def test_a_result_is_exact_or_refused(expression: str, a: int, b: int) -> None:
    text = ".n = " + re.sub(r"\b[ab]\b", r"int!(.\g<0>)", expression)
    try:
        found = run(text, a=a, b=b)["n"]
    except PermanentError as error:
        found = str(error)
    exact = _exactly(expression, a, b)
    assert found == exact if exact is not None else "is out of range of int64" in str(found)


class Bounded(int):
    """An integer that notes when a result does not fit."""

    def _made(self, value: int) -> Bounded:
        if not -(2**63) <= value <= MOST:
            raise OverflowError
        return Bounded(value)

    def __add__(self, other: int) -> Bounded:
        return self._made(int(self) + int(other))

    def __sub__(self, other: int) -> Bounded:
        return self._made(int(self) - int(other))

    def __mul__(self, other: int) -> Bounded:
        return self._made(int(self) * int(other))

    def __abs__(self) -> Bounded:
        return self._made(abs(int(self)))


def _exactly(expression: str, a: int, b: int) -> int | None:
    try:
        return int(eval(expression, {"a": Bounded(a), "b": Bounded(b), "abs": abs}))
    except OverflowError:
        return None


@pytest.mark.parametrize(
    "statement",
    [
        ".n = int!(.id) + 1",
        ".n = to_int!(.text) * 1024",
        "if int!(.id) + 1 > 0 { .n = 1 }",
        '.n = { "deep": [1, int!(.id) * 2] }',
        ".n = map_values([1, 2]) -> |value| { value * int!(.id) }",
        "total = 1\nfor_each([1, 2]) -> |_i, one| { total = total + int!(.id) + one }\n.n = total",
        ".n = (int!(.id) + 1) / 2",
        '.n = int!(."a key".b[0]) + 1',
        '# a + b\n.n = length("a + b") +\n  int!(.id)',
        ".n = to_int!(.far)",
        ".n = to_int!(value: .far)",
    ],
)
def test_what_overflows_anywhere_in_a_program_refuses_the_row(statement: str) -> None:
    event = {"id": MOST, "text": str(MOST), "far": 1e300, "a key": {"b": [MOST]}}
    with pytest.raises(PermanentError, match="is out of range of int64"):
        run(statement, **event)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (".n = .id + 1 ?? 0", 0),
        (".n = to_int(.far) ?? 0", 0),
        (".n, err = .id * 2", None),
        ('.n = string!(.text) + "-" + string!(.text)', "x-x"),
        (".n = -5 - -3 * 2", 1),
        (".n = int!(.small) * 0.5 + 1", 2.5),
        (".n = !(1 + 2 == 3)", False),
        ('.n = {"a": 1} | {"b": 1 + 1}', {"a": 1, "b": 2}),
        ("checked = 1; .n = checked + 2", 3),
        ('.n = "-" * 3', "---"),
        (".n = to_int(.small) + 1 ?? 0", 4),
    ],
)
def test_programs_mean_what_they_meant(statement: str, expected: Any) -> None:
    assert run(statement, id=MOST, far=1e300, text="x", small=3).get("n") == expected


def test_a_row_on_which_the_library_panics_is_refused() -> None:
    with pytest.raises(PermanentError, match="overflow"):
        run('.n = parse_duration!(.text, "ns")', text="9999999999999999999h")


def test_a_failure_of_another_kind_is_told_where_it_was_written() -> None:
    with pytest.raises(PermanentError, match=r"\(line 2, column 6\)"):
        run(".m = 1 + 2\n.n = int!(.id) + 1", id="text")
