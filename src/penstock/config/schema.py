"""The JSON Schema of a configuration file."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from ..application import Application
from ..component import Buffer, Codec, Component, Input, Output, Processor, Temporary
from .configuration import Configuration

_KINDS: tuple[type[Component], ...] = (Input, Buffer, Processor, Temporary, Output, Codec, Application)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, made from the option types of every component."""
    definitions: dict[str, Any] = {}
    for kind in _KINDS:
        installed = kind.installed()
        for name, component in installed.items():
            definitions[f"{kind._package}.{name}"] = _component_schema(component, name, definitions)
        if not installed:
            definitions[kind._package] = {"not": {}}
            continue
        definitions[kind._package] = {
            "anyOf": [
                {"enum": [*installed]},
                {
                    "type": "object",
                    "required": ["type"],
                    "properties": {"type": {"enum": [*installed, *sorted(kind.aliases())]}},
                    "allOf": [
                        {
                            "if": {"properties": {"type": {"const": name}}},
                            "then": {"$ref": f"#/$defs/{kind._package}.{name}"},
                        }
                        for name in installed
                    ],
                },
            ]
        }
    schema = _lifted(Configuration.model_json_schema(schema_generator=GenerateJsonSchema), definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Penstock configuration",
        **schema,
        "$defs": definitions,
    }


def _component_schema(component: type[Component], name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _lifted(component.model_json_schema(), definitions, f"{component._package}.{name}.")
    schema["properties"] = {"type": {"const": name}, **schema.get("properties", {})}
    schema["description"] = (component.__doc__ or "").strip().split("\n", 1)[0]
    schema.setdefault("type", "object")
    return schema


def _lifted(schema: dict[str, Any], definitions: dict[str, Any], owner: str = "") -> dict[str, Any]:
    """Move nested definitions to the top under their owner's name, and point markers of a kind at the kind's own."""
    for name, nested in schema.pop("$defs", {}).items():
        definitions[f"{owner}{name}"] = _pointed(nested, owner)
    pointed: dict[str, Any] = _pointed(schema, owner)
    return pointed


def _pointed(schema: Any, owner: str) -> Any:
    if isinstance(schema, list):
        return [_pointed(item, owner) for item in schema]
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        return f"#/$defs/{owner}{schema.removeprefix('#/$defs/')}"
    if not isinstance(schema, dict):
        return schema
    if "x-component" in schema:
        rest = {key: value for key, value in schema.items() if key != "x-component"}
        return {"$ref": f"#/$defs/{schema['x-component']}", **rest}
    return {key: _pointed(value, owner) for key, value in schema.items()}
