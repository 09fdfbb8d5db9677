"""Read YAML, JSON and TOML into plain values that know their lines, with variables filled in."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..errors import ConfigError

Path_: TypeAlias = tuple[str | int, ...]

MAX_DEPTH = 64
"""Levels of nesting that are read."""
MAX_VALUES = 100_000
"""Values that are read, those behind aliases counted each time: what stops alias bombs."""
MAX_FILE_BYTES = 16 << 20
"""Bytes of a configuration that are read."""


@dataclass
class Document:
    """A parsed configuration and where each of its values stands."""

    value: Any
    file: str = ""
    lines: dict[Path_, int] = field(default_factory=dict)
    faults: dict[Path_, ConfigError] = field(default_factory=dict)
    """Texts whose variables could not be filled in; they stand in the value as they were written."""

    def line(self, path: Path_) -> int | None:
        """Return the line of ``path``, or of its nearest parent that has one."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def error(self, message: str, path: Path_ = ()) -> ConfigError:
        """Return a ConfigError that points at ``path``."""
        return ConfigError(message, path=".".join(map(str, path)), line=self.line(path), file=self.file)


def read_document(path: Path, environment: Mapping[str, str] = os.environ) -> Document:
    """Read a file by its suffix; raises ConfigError for what cannot be read or parsed."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB", file=str(path))
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}", file=str(path)) from error
    return parse_document(text, path.suffix.lower(), str(path), environment)


def parse_document(
    text: str, suffix: str = ".yaml", file: str = "", environment: Mapping[str, str] = os.environ
) -> Document:
    """Parse ``text`` as what ``suffix`` says: ``.yaml``, ``.yml``, ``.json`` or ``.toml``."""
    if suffix in (".yaml", ".yml"):
        document = _Composer(file, environment).compose(text)
    elif suffix == ".json":
        document = _parse_json(text, file, environment)
    elif suffix == ".toml":
        document = _parse_toml(text, file, environment)
    else:
        raise ConfigError(
            f"expected a .yaml, .yml, .json or .toml file, not {suffix or 'one without a suffix'}", file=file
        )
    return document


class _Composer:
    """Builds plain values from YAML nodes, which know lines, duplicate keys and aliases."""

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        self._document = Document(None, file)
        self._environment, self._left = environment, MAX_VALUES
        self._yaml = YAML(typ="safe", pure=True)

    def compose(self, text: str) -> Document:
        file = self._document.file
        try:
            node = self._yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            raise ConfigError(f"{error.problem or error.context}", line=line, file=file) from error
        except (YAMLError, ValueError) as error:
            raise ConfigError(f"not valid YAML: {str(error).splitlines()[0]}", file=file) from error
        except RecursionError as error:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=file) from error
        if node is not None:
            self._document.value = self._build(node, ())
        return self._document

    def _build(self, node: Node, path: Path_) -> Any:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        self._left -= 1
        if self._left < 0:
            raise self._document.error(f"more than {MAX_VALUES} values, aliases counted each time", path)
        if len(path) > MAX_DEPTH:
            raise self._document.error(f"nested deeper than {MAX_DEPTH} levels", path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, ScalarNode):
                raise self._document.error("a key must be a plain text", path)
            if key == "<<":
                merged = self._build(value_node, (*path, key))
                for source in merged if isinstance(merged, list) else [merged]:
                    if not isinstance(source, dict):
                        raise self._document.error("`<<` must name a mapping", (*path, key))
                    built = {**source, **built}
                continue
            self._document.lines[(*path, key)] = key_node.start_mark.line + 1
            if key in {k.value for k, _ in node.value[: node.value.index((key_node, value_node))]}:
                raise self._document.error(f"the key {key!r} is given twice", (*path, key))
            built[key] = self._build(value_node, (*path, key))
        return built

    def _scalar(self, node: ScalarNode, path: Path_) -> Any:
        text = fill_in(node.value, self._environment, self._document, path)
        plain = node.style in (None, "")
        tag = node.tag if text == node.value or not plain else self._resolve(text)
        if not plain or tag == "tag:yaml.org,2002:str":
            return text
        try:
            value = self._yaml.constructor.construct_object(ScalarNode(tag, text, node.start_mark, node.end_mark))
        except (YAMLError, ValueError) as error:
            raise self._document.error(f"cannot be read as {str(tag).rsplit(':', 1)[-1]}: {text!r}", path) from error
        if isinstance(value, date):  # options are what JSON can hold, so a date stays the text that it is in the file
            return text
        if value is not None and not isinstance(value, str | int | float):
            raise self._document.error(f"{str(tag).rsplit(':', 1)[-1]} values are not supported: write a text", path)
        return value

    def _resolve(self, text: str) -> str:
        return str(self._yaml.resolver.resolve(ScalarNode, text, (True, False)))


_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def fill_in(text: str, environment: Mapping[str, str], document: Document, path: Path_) -> str:
    """Replace ``${VAR}``, ``${env:VAR:-default}`` and ``${file:/path}``; ``$${`` stands for ``${``. Done once.

    What cannot be replaced is left as it is and noted in ``document.faults``, so that all faults are told at once.
    """

    def replace(match: re.Match[str]) -> str:
        try:
            return "${" if match[0] == "$${" else _value(match[1], environment)
        except ValueError as error:
            document.faults.setdefault(path, document.error(str(error), path))
            return match[0]

    return _VARIABLE.sub(replace, text) if "${" in text else text


def _value(inner: str, environment: Mapping[str, str]) -> str:
    """Return what stands for ``${inner}``; raises ValueError where nothing does."""
    if inner.startswith("file:"):
        try:
            return Path(inner.removeprefix("file:")).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"${{{inner}}}: the file cannot be read: {error}") from error
    name, has_default, default = inner.removeprefix("env:").partition(":-")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"${{{inner}}}: expected ${{VAR}}, ${{env:VAR:-default}} or ${{file:/path}}; $${{ is a plain ${{"
        )
    found = environment.get(name)
    if found or (found is not None and not has_default):
        return found
    if not has_default:
        raise ValueError(f"the environment variable {name} is not set, and ${{{inner}}} has no default")
    return default


def _fill_in_all(value: Any, environment: Mapping[str, str], document: Document, path: Path_ = ()) -> Any:
    if len(path) > MAX_DEPTH:
        raise document.error(f"nested deeper than {MAX_DEPTH} levels", path)
    if isinstance(value, dict):
        return {key: _fill_in_all(item, environment, document, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in_all(item, environment, document, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, date | time):
        return value.isoformat()
    return fill_in(value, environment, document, path) if isinstance(value, str) else value


def _parse_json(text: str, file: str, environment: Mapping[str, str]) -> Document:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"the key {twice!r} is given twice", file=file)
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error.msg}", line=error.lineno, file=file) from error
    except RecursionError as error:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=file) from error
    document = Document(value, file, _json_lines(text))
    document.value = _fill_in_all(value, environment, document)
    return document


def _json_lines(text: str) -> dict[Path_, int]:
    """Return the lines of a JSON text, read as YAML without its tabs; an empty mapping if that fails."""
    try:
        return _Composer("", {}).compose(text.replace("\t", " ").replace("${", "$_{")).lines
    except ConfigError:
        return {}


_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-.\"']+)\s*=")


def _parse_toml(text: str, file: str, environment: Mapping[str, str]) -> Document:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        raise ConfigError(f"not valid TOML: {error}", line=int(at[1]) if at else None, file=file) from error
    except RecursionError as error:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=file) from error
    document = Document(value, file, _toml_lines(text))
    document.value = _fill_in_all(value, environment, document)
    return document


def _toml_lines(text: str) -> dict[Path_, int]:
    """Return the lines of tables and keys, found by their headers: tomllib does not tell them."""
    lines: dict[Path_, int] = {(): 1}
    counts: dict[Path_, int] = {}
    table: Path_ = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            path: list[str | int] = []
            names = [name.strip(" \"'") for name in header[2].split(".")]
            for index, name in enumerate(names):
                path.append(name)
                if index == len(names) - 1 and header[1] == "[[":
                    counts[tuple(path)] = counts.get(tuple(path), -1) + 1
                if tuple(path) in counts:
                    path.append(counts[tuple(path)])
            table = tuple(path)
            lines[table] = number
        elif key := _KEY.match(line):
            lines.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)
    return lines
