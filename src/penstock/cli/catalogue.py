"""Show what components there are and what each can do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ..component import Component
from ..config.reference import (
    KINDS,
    _default,
    aliases,
    as_dictionary,
    describe,
    find_component,
    kind_of,
    type_name,
)


def listing(wanted: str | None) -> Iterator[str]:
    """Return a line for each component, with a heading for each kind."""
    kinds = KINDS if wanted is None else (kind_of(wanted),)
    names = {kind: {**dict.fromkeys(kind.names(), ""), **_short(kind)} for kind in kinds}
    width = max((len(name) for found in names.values() for name in found), default=0)
    for index, kind in enumerate(kinds):
        if len(kinds) > 1:
            yield ("\n" if index else "") + f"{kind._package}:"
        for name, summary in sorted(names[kind].items()):
            yield f"  {name.ljust(width)}  {summary or _summary(kind, name)}"


def _short(kind: type[Component]) -> dict[str, str]:
    return {
        alias: f"Short for {of} with {', '.join(f'{key}: {value}' for key, value in options.items())}."
        for alias, (of, options) in aliases(kind).items()
    }


def _summary(kind: type[Component], name: str) -> str:
    try:
        return describe(kind.find(name)).summary
    except ValueError as missing:  # what it needs is not installed
        return f"({missing})"


def as_json(kind_name: str, name: str) -> str:
    """Return all that is known of a component as JSON."""
    return json.dumps(as_dictionary(*find_component(kind_name, name)), indent=2, ensure_ascii=False)


def as_text(kind_name: str, name: str) -> str:
    """Return the page of a component, to be read in a terminal."""
    kind, component = find_component(kind_name, name)
    described = describe(component)
    parts = [f"{kind.__name__.lower()} {component.type_name}\n\n{described.summary}"]
    parts += [described.prose] if described.prose else []
    schema = component.model_json_schema()
    nested = schema.get("$defs", {})
    parts.append("Options:\n" + "\n".join(_options(schema, nested)))
    for title, inner in nested.items():
        if "properties" in inner:
            parts.append(f"{title}:\n" + "\n".join(_options(inner, nested)))
    if described.example:
        indented = "\n".join(f"  {line}" if line else "" for line in described.example.splitlines())
        parts.append(f"Example:\n{indented}")
    return "\n\n".join(parts)


def _options(schema: dict[str, object], nested: dict[str, object]) -> Iterator[str]:
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    for key, option in properties.items():
        kind = _plain(type_name(option, nested))
        default = _default(option).strip("`")
        note = ", required" if key in required else f", default {default}" if default else ""
        yield f"  {key} ({kind}{note})"
        if option.get("description"):
            yield f"      {' '.join(str(option['description']).split())}"


def _plain(text: str) -> str:
    """Drop the links of a page from a type's name."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
