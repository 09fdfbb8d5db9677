"""Merging a point with what is known of it: what a later export leaves out stays as an earlier one said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_NUMBERS = ("value", "minimum", "maximum", "altitude")
POOR_NAMES = ("", "Other", "Workout", "Unknown")
"""Names of a workout that say less than any other."""
_EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values of fields that say nothing."""
_encode = msgspec.json.Encoder(order="sorted").encode


def merge_fields(old: str | None, new: str | None) -> str | None:
    """Return the fields of both, those of ``new`` first unless they are empty: a function of SQLite."""
    if old is None or new is None:
        return new if old is None else old
    before, after = msgspec.json.decode(old), msgspec.json.decode(new)
    merged = before | {name: value for name, value in after.items() if value not in _EMPTY or name not in before}
    return new if merged == after else _encode(merged).decode()


def register(connection: Any) -> None:
    """Make the function known to a connection of SQLite."""
    connection.create_function("merge_fields", 2, merge_fields, deterministic=True)


def merge_columns(columns: Sequence[str], old: str, new: str, *, postgres: bool) -> dict[str, str]:
    """Return of each column the expression of the merged value; ``old`` and ``new`` are the names of tables."""
    found = {name: f"{new}.{name}" for name in columns}
    for name in found.keys() & {*_NUMBERS, "offset_minutes"}:
        found[name] = f"coalesce({new}.{name}, {old}.{name})"
    for unit in found.keys() & {"unit", "unit_id"}:
        nothing = "(" + " AND ".join(f"{new}.{name} IS NULL" for name in _NUMBERS if name in found) + ")"
        found[unit] = f"CASE WHEN {nothing} THEN {old}.{unit} ELSE {new}.{unit} END"
        for name in found.keys() & set(_NUMBERS):  # A number of another unit says nothing beside those of this.
            same = f"{nothing} OR {new}.{unit} = {old}.{unit} OR ({new}.{unit} IS NULL AND {old}.{unit} IS NULL)"
            found[name] = f"coalesce({new}.{name}, CASE WHEN {same} THEN {old}.{name} END)"
    if "fields" in found:
        found["fields"] = _merged_fields(f"{old}.fields", f"{new}.fields", postgres=postgres)
    if "name" in found:
        poor = f"{new}.name IN {POOR_NAMES} AND {old}.name <> ''"
        found["name"] = f"CASE WHEN {poor} THEN {old}.name ELSE {new}.name END"
    if "source" in found:
        found["source"] = f"CASE WHEN {new}.source = '' THEN {old}.source ELSE {new}.source END"
    return found


def _merged_fields(old: str, new: str, *, postgres: bool) -> str:
    if not postgres:
        return f"merge_fields({old}, {new})"
    empty = ", ".join(f"CAST('{_encode(value).decode()}' AS jsonb)" for value in _EMPTY)
    said = (
        "SELECT coalesce(jsonb_object_agg(said.key, said.value), CAST('{}' AS jsonb)) "  # noqa: S608
        f"FROM jsonb_each({new}) said WHERE said.value NOT IN ({empty}) OR NOT jsonb_exists({old}, said.key)"
    )
    return f"CASE WHEN {old} IS NULL THEN {new} WHEN {new} IS NULL THEN {old} ELSE {old} || ({said}) END"
