"""Write the reference pages of all components: ``python -m penstock.config.reference DIRECTORY``."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..application import Application
from ..component import Buffer, Codec, Component, Input, Output, Processor, Temporary
from ..errors import ConfigError
from ..registry import entry_points
from .configuration import Configuration

KINDS: tuple[type[Component], ...] = (Input, Buffer, Processor, Temporary, Output, Codec, Application)
"""The kinds of component, in the order in which data meets them."""
_DURATION_EXAMPLES = ["10ms", "1s", "1h30m"]
_SINGULAR = {kind._package: kind.__name__.lower() for kind in KINDS}
_EXAMPLE = re.compile(r"\n*^Example::\n\n((?: {4}.*(?:\n|\Z)|\s*\n)+)\Z", re.MULTILINE)
_FORMATS = {"password": "secret text", "path": "path", "uri": "URL", "date": "date", "date-time": "date and time"}
_NAMES = {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false", "null": "nothing"}


@dataclass(frozen=True)
class Description:
    """The parts of a component's docstring."""

    summary: str
    """The line in the catalogue."""
    prose: str
    """The rest of the page."""
    example: str
    """A runnable example, as YAML; empty if there is none."""


def describe(component: type[BaseModel]) -> Description:
    """Split the docstring of a component into summary, prose and example."""
    text = inspect.cleandoc(component.__doc__ or "")
    found = _EXAMPLE.search(text)
    example = inspect.cleandoc(found[1]) if found else ""
    summary, _, prose = (text[: found.start()] if found else text).partition("\n")
    return Description(summary.strip(), prose.strip(), example)


def kind_of(name: str) -> type[Component]:
    """Return the kind of that name, in the singular or the plural; raises ConfigError."""
    for kind in KINDS:
        if name.lower() in (kind.__name__.lower(), kind._package):
            return kind
    raise ConfigError(f"no kind is called {name!r}; expected one of {', '.join(k.__name__.lower() for k in KINDS)}")


def find_component(kind_name: str, name: str) -> tuple[type[Component], type[Component]]:
    """Return the kind and the component of these names; raises ConfigError."""
    kind = kind_of(kind_name)
    name = aliases(kind).get(name, (name, {}))[0]
    try:
        return kind, kind.find(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def as_dictionary(kind: type[Component], component: type[Component]) -> dict[str, Any]:
    """Return all that is known of a component, as JSON has it."""
    described = describe(component)
    return {
        "kind": kind.__name__.lower(),
        "name": component.type_name,
        "summary": described.summary,
        "description": described.prose,
        "example": described.example,
        "schema": component.model_json_schema(),
    }


def shipped(kind: type[Component]) -> list[str]:
    """Return the names of this kind that are part of this package and have a page."""
    if kind is not Application:
        return kind.modules()
    entries = entry_points(f"penstock.{kind._package}")
    return sorted(entry.name for entry in entries if entry.value.startswith("penstock."))


def aliases(kind: type[Component]) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Return the names of this kind that stand for another one with some options given."""
    return kind.aliases()


def pages() -> dict[str, str]:
    """Return all pages by path: the catalogue, the configuration, each kind and each component."""
    found = {"index.md": _catalogue(), "configuration.md": _configuration_page()}
    for kind in KINDS:
        found[f"{kind._package}/index.md"] = _kind_page(kind)
        for name in shipped(kind):
            found[f"{kind._package}/{name}.md"] = page(kind, name)
    return found


def page(kind: type[Component], name: str) -> str:
    """Return the reference page of one component."""
    component = kind.find(name)
    description = describe(component)
    parts = [_GENERATED, f"# {name}", f"*{_SINGULAR[kind._package].capitalize()}.* {description.summary}"]
    parts += [description.prose] if description.prose else []
    parts += _option_sections(component)
    if description.example:
        parts.append(f"## Example\n\n```yaml\n{_in_context(kind, description.example)}\n```")
    also = [_alias_line(alias, options) for alias, (of, options) in aliases(kind).items() if of == name]
    parts += ["## Other names\n\n" + "\n".join(also)] if also else []
    return "\n\n".join(parts) + "\n"


_GENERATED = "<!-- Written by `make reference` from the component's declaration. -->"


def _alias_line(alias: str, options: Mapping[str, Any]) -> str:
    given = ", ".join(f"`{key}: {value}`" for key, value in options.items())
    return f"- `type: {alias}` is this with {given}."


def _in_context(kind: type[Component], example: str) -> str:
    """Return the example under the key that it has in a stream."""
    key = {"processors": "pipeline:\n  processors:", "codecs": "codec:"}.get(
        kind._package, f"{_SINGULAR[kind._package]}:"
    )
    lines = example.splitlines()
    if kind is Application:
        return "\n".join(["applications:", f"  - {lines[0]}", *(f"    {line}" if line else "" for line in lines[1:])])
    if kind is Temporary:
        return "\n".join(["temporary:", f"  - {lines[0]}", *(f"    {line}" if line else "" for line in lines[1:])])
    if kind is Processor:
        return "\n".join([key, f"    - {lines[0]}", *(f"      {line}" if line else "" for line in lines[1:])])
    return "\n".join([key, *(f"  {line}" if line else "" for line in lines)])


def _catalogue() -> str:
    parts = [
        _GENERATED,
        "# Reference",
        "Every component, by kind. The address of a page is that of the file in `src/penstock`.",
        "What surrounds them in a file is the [configuration](configuration.md).",
    ]
    for kind in KINDS:
        lines = [
            f"- [`{name}`]({kind._package}/{name}.md): {describe(kind.find(name)).summary}" for name in shipped(kind)
        ]
        parts += [f"## [{kind._package.capitalize()}]({kind._package}/index.md)", describe(kind).summary]
        parts += ["\n".join(lines)] if lines else []
    return "\n\n".join(parts) + "\n"


def _configuration_page() -> str:
    description = describe(Configuration)
    parts = [_GENERATED, "# Configuration", description.summary]
    parts += [description.prose] if description.prose else []
    sections = [section.replace("](../", "](") for section in _option_sections(Configuration)]
    return "\n\n".join([*parts, *sections]) + "\n"


def _kind_page(kind: type[Component]) -> str:
    description = describe(kind)
    parts = [_GENERATED, f"# {kind._package.capitalize()}", description.summary]
    parts += [description.prose] if description.prose else []
    rows = [f"| [`{name}`]({name}.md) | {_cell(describe(kind.find(name)).summary)} |" for name in shipped(kind)]
    for alias, (of, options) in sorted(aliases(kind).items()):
        given = ", ".join(f"{key}: {value}" for key, value in options.items())
        rows.append(f"| `{alias}` | Short for [`{of}`]({of}.md) with `{given}`. |")
    if rows:
        parts.append("\n".join(["| type | what it does |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _option_sections(component: type[BaseModel]) -> Iterator[str]:
    schema = component.model_json_schema()
    nested = schema.get("$defs", {})
    yield "## Options\n\n" + _table(schema, nested)
    for name, inner in nested.items():
        if "properties" in inner:
            summary = str(inner.get("description", "")).partition("\n")[0]
            yield f"### {name}\n\n" + (f"{summary}\n\n" if summary else "") + _table(inner, nested)


def _table(schema: Mapping[str, Any], nested: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = ["| option | type | default | description |", "| --- | --- | --- | --- |"]
    properties = schema.get("properties", {})
    for name in sorted(
        properties, key=lambda name: (name not in required, name == "name", list(properties).index(name))
    ):
        option = properties[name]
        default = "**required**" if name in required else _default(option)
        text = option.get("description") or ("Says which of these it is." if "const" in option else "")
        rows.append(f"| `{name}` | {_cell(type_name(option, nested))} | {_cell(default)} | {_cell(text)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(option: Mapping[str, Any]) -> str:
    value = option.get("default")
    if value is None or (isinstance(value, dict) and "$ref" in option):  # the table of those options has them
        return ""
    if option.get("examples") == _DURATION_EXAMPLES or any(
        choice.get("examples") == _DURATION_EXAMPLES for choice in option.get("anyOf", [])
    ):
        return f"`{_duration(value)}`" if isinstance(value, (int, float)) else f"`{value}`"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def type_name(option: Mapping[str, Any], nested: Mapping[str, Any]) -> str:
    """Describe in words, from its JSON Schema, which values an option takes."""
    if "x-component" in option:
        return f"[{_SINGULAR[option['x-component']]}](../{option['x-component']}/index.md)"
    if "x-type" in option:
        return str(option["x-type"])
    if any(isinstance(shown, dict) and shown.get("type") == "expr" for shown in option.get("examples", [])):
        return "text or expression"
    if "$ref" in option:
        return _referred(option["$ref"].rpartition("/")[2], nested)
    if "enum" in option:
        return _choice(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in option:
            return _choice(type_name(choice, nested) for choice in option[key] if choice.get("type") != "null")
    if "allOf" in option:
        return type_name(option["allOf"][0], nested)
    if option.get("examples") == _DURATION_EXAMPLES:
        return "duration"
    if option.get("format") in _FORMATS:
        return _FORMATS.get(option["format"], str(option["format"]))
    return _plain(option, nested)


def _plain(option: Mapping[str, Any], nested: Mapping[str, Any]) -> str:
    kind = option.get("type", "anything")
    if isinstance(kind, list):
        return "anything" if len(kind) > 4 else _choice(_NAMES.get(one, str(one)) for one in kind if one != "null")
    if kind == "array":
        inner = type_name(option["items"], nested) if option.get("items") else "anything"
        return f"list of {inner}"
    if kind == "object":
        values = option.get("additionalProperties")
        return f"mapping to {type_name(values, nested)}" if isinstance(values, dict) and values else "mapping"
    return _NAMES.get(str(kind), str(kind)) + _limits(option)


def _limits(option: Mapping[str, Any]) -> str:
    least, most = option.get("minimum"), option.get("maximum")
    above, below = option.get("exclusiveMinimum"), option.get("exclusiveMaximum")
    limits = [f"≥ {least}" if least is not None else "", f"> {above}" if above is not None else ""]
    limits += [f"≤ {most}" if most is not None else "", f"< {below}" if below is not None else ""]
    found = ", ".join(limit for limit in limits if limit)
    return f" {found}" if found else ""


def _referred(name: str, nested: Mapping[str, Any]) -> str:
    inner = nested.get(name, {})
    if "properties" in inner:
        return f"[{name}](#{name.lower()})"
    return type_name(inner, nested) if inner else name


def _choice(options: Iterable[str]) -> str:
    found = list(dict.fromkeys(options))
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 2 else found)


def stale(directory: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the pages under ``directory`` that are missing, outdated or superfluous."""
    there = {path.relative_to(directory).as_posix() for path in directory.rglob("*.md")}
    changed = {name for name, text in wanted.items() if name not in there or (directory / name).read_text() != text}
    return sorted(changed | (there - set(wanted)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or with ``--check`` only say which are stale; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m penstock.config.reference", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    given = parser.parse_args(arguments)
    wanted = pages()
    outdated = stale(given.directory, wanted)
    for name in outdated:
        path: Path = given.directory / name
        if given.check:
            sys.stderr.write(f"{path} is stale: run `make reference`\n")
        elif name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()
    return 1 if given.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
