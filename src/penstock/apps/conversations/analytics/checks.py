"""What the models promise of their columns, and the rows that break it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .models import PROJECT, read_models
from .records import SCHEMA

MAX_ROWS = 20
"""How many rows that break a promise are shown."""
BRONZE = ("raw",)
SILVER = ("staging", "intermediate", "marts")


@dataclass
class Check:
    """A property of a column, and the rows that break it."""

    model: str
    column: str
    name: str
    query: str
    found: list[Any] = field(default_factory=list)


def run_checks(connection: Any, layers: Sequence[str]) -> list[Check]:
    """Return the checks of the layers, each with the first rows that break it."""
    checks = [check for layer in layers for check in (_raw() if layer == "raw" else _of_layer(layer))]
    for check in checks:
        check.found = connection.execute(f"SELECT * FROM ({check.query}) LIMIT {MAX_ROWS:d}").fetchall()
    return checks


def _raw() -> Iterator[Check]:
    """Yield what is promised of the rows of the lake."""
    table = "raw.conversations"
    names = ", ".join(f"('{name}')" for name in SCHEMA.names)
    there = (
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'raw' AND table_name = 'conversations'"
    )
    yield Check(table, "*", "columns", f"SELECT * FROM (VALUES {names}) AS wanted(name) WHERE name NOT IN ({there})")
    yield Check(table, "_id", "unique", _query(table, "_id", "unique", {}, {}))
    for column in ("_id", "type", "extracted_at", "date"):
        yield Check(table, column, "not_null", _query(table, column, "not_null", {}, {}))
    late = "timestamp > ingested_at + INTERVAL 1 DAY"
    yield Check(
        table, "timestamp", "not_after_ingested", f"SELECT _id, timestamp, ingested_at FROM {table} WHERE {late}"
    )


def _of_layer(layer: str) -> Iterator[Check]:
    """Yield what the file of a layer says of its columns; dbt reads the same file."""
    from ruamel.yaml import YAML

    schemas = {model.name: model.schema for model in read_models()}
    content = YAML(typ="safe").load((PROJECT / "models" / layer / f"{layer}.yml").read_text())
    for model in content["models"]:
        place = f"{layer}.{model['name']}"
        for column in model["columns"]:
            for test in column["data_tests"]:
                name, given = (test, {}) if isinstance(test, str) else next(iter(test.items()))
                yield Check(place, column["name"], name, _query(place, column["name"], name, given, schemas))


def _query(place: str, column: str, name: str, given: Mapping[str, Any], schemas: Mapping[str, str]) -> str:
    if name == "not_null":
        return f"SELECT * FROM {place} WHERE {column} IS NULL"
    if name == "unique":
        return f"SELECT {column}, count(*) FROM {place} WHERE {column} IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    if name == "accepted_values":
        values = ", ".join(f"'{value}'" for value in given["values"])
        return f"SELECT {column}, count(*) FROM {place} WHERE {column} NOT IN ({values}) GROUP BY 1"
    to = given["to"].removeprefix("ref('").removesuffix("')")
    there = f"SELECT {given['field']} FROM {schemas[to]}.{to}"
    return f"SELECT DISTINCT {column} FROM {place} WHERE {column} IS NOT NULL AND {column} NOT IN ({there})"
