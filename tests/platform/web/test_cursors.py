"""Cursors: read back only by the question that they were given for."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Text

from penstock.platform.web import cursors
from penstock.platform.web.errors import ApiError

COLUMNS = [Column("number", BigInteger), Column("name", Text)]


def test_a_cursor_is_read_back() -> None:
    cursor = cursors.written((7, "seven"), "points", "ascending")
    assert cursors.read(cursor, COLUMNS, "points", "ascending") == (7, "seven")


def test_the_end_has_no_cursor() -> None:
    assert cursors.written(None) is None
    assert cursors.read(None, COLUMNS) is None


def test_a_cursor_of_another_question_is_refused() -> None:
    cursor = cursors.written((7, "seven"), "points")
    with pytest.raises(ApiError, match="another question"):
        cursors.read(cursor, COLUMNS, "workouts")


@pytest.mark.parametrize("key", [("seven", 7), (2**64 - 1, "seven"), (7, "se\x00ven"), (7,)])
def test_values_that_do_not_fit_their_columns_are_refused(key: tuple[int | str, ...]) -> None:
    cursor = cursors.written(key, "points")
    with pytest.raises(ApiError, match="not one that this service gave out"):
        cursors.read(cursor, COLUMNS, "points")


@pytest.mark.parametrize("cursor", ["x", "AAAA", "____", "é"])
def test_garbage_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError, match="not one that this service gave out"):
        cursors.read(cursor, COLUMNS)
