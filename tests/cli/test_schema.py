"""The JSON Schema says of configurations what the parser says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penstock.cli.serving import shipped
from penstock.config.configuration import loads
from penstock.config.document import parse_document, read_document
from penstock.config.schema import json_schema
from penstock.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXAMPLES = [file for file in (ROOT / "examples").glob("*.yaml") if not file.name.endswith(".test.yaml")]
FILES = sorted([*EXAMPLES, ROOT / "src/penstock/cli/up.yaml"])


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_shipped_fits_the_schema(validator: jsonschema.Draft202012Validator, path: Path) -> None:
    document: Any = read_document(path, {"USER": "x"}).value
    validator.validate(document)


def test_references_lead_somewhere() -> None:
    schema = json_schema()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()

    assert {name.removeprefix("#/$defs/") for name in references(schema)} <= set(schema["$defs"])


WRONG = [
    "streams: [{output: drop}]",
    "streams: [{input: {type: nothing}, output: drop}]",
    "streams: [{input: {type: generate, context: x, cuont: 1}, output: drop}]",
    "streams: [{input: {type: generate}, output: drop}]",
    "streams: [{input: {type: generate, context: x, batch_size: 0}, output: drop}]",
    "streams: [{input: {type: generate, context: x}, output: drop, pipeline: {processors: [{type: sql}]}}]",
    "streams: [{input: {type: generate, context: x}, output: drop}]\nnope: 1",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_the_parser_refuses_does_not_fit(validator: jsonschema.Draft202012Validator, text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text)
    assert not validator.is_valid(parse_document(text).value)


RIGHT = [
    "streams: []",
    "streams: [{input: {type: generate, context: {a: 1}, interval: 1ns}, output: drop}]",
    "streams: [{input: {type: generate, context: x, name: g}, output: {type: drop, name: d}, pipeline: null}]",
    "streams: [{input: {type: memory, messages: [a]}, output: stdout, pipeline: {processors: null}, buffer: null}]",
    "streams: [{input: {type: csv, path: a.csv}, output: drop, durability: {sync: periodic, interval: 10ms}}]",
    "streams: [{input: {type: memory}, output: {type: sql, url: 'sqlite:///x', table_name: {type: expr, expr: a}}}]",
    "streams: [{input: {type: http, address: '127.0.0.1:1', path: /x, max_body: 16MiB, codec: json}, output: drop}]",
    "streams: [{input: {type: generate, context: x}, output: drop, restart: {attempts: null}}]",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_the_parser_takes_fits(validator: jsonschema.Draft202012Validator, text: str) -> None:
    loads(text)
    validator.validate(parse_document(text).value)


def test_the_shipped_applications_have_valid_streams() -> None:
    streams = loads(shipped(), environment={"CLAUDE_DIR": "/agents"}).all_streams()
    assert [stream.id for stream in streams] == ["platform-audit", "ingest", "inbox", "health", "conversations-agents"]
