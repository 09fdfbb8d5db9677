from __future__ import annotations

from typing import Any

import pytest

from penstock.apps.health.export.sources import normalise


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Watch A", "Watch A"),
        ("Watch A|Phone A", "Phone A|Watch A"),
        ("Phone A|Watch A", "Phone A|Watch A"),
        ("Watch A|Watch A", "Watch A"),
        (" Watch A | |Phone A ", "Phone A|Watch A"),
        ("Anna’s\u00a0Watch", "Anna's Watch"),
        ("Anna's\\xa0Watch", "Anna's Watch"),
        ("Anna's\u202f Watch", "Anna's Watch"),
        ("", ""),
        (None, ""),
        ({"name": "Watch A", "identifier": "x"}, "Watch A"),
        ({"identifier": "x"}, "x"),
        ({}, ""),
        (["b", "a"], "a|b"),
        (5, "5"),
    ],
)
def test_a_source_has_one_spelling(source: Any, expected: str) -> None:
    assert normalise(source) == normalise(source) == expected


def test_normalising_again_changes_nothing() -> None:
    once = normalise("b|a’s\u00a0|b")
    assert normalise(once) == once
