"""What logs have that is not known here: types, blocks, tools and fields, counted and never refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import msgspec

MAX_NAME_LENGTH = 200
"""How much of an unknown name is kept."""
MAX_NAMES = 20
"""How many unknown names of one line are counted."""

KNOWN: Mapping[str, frozenset[str]] = {
    what: frozenset(names)
    for what, names in msgspec.json.decode(files(__package__).joinpath("known.json").read_bytes()).items()
}
"""The names that are known, by what they name."""


def find_unknown(
    found: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], tools: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Return what is unknown of a line, each as what it is and its name."""
    names = {
        ("type", _named(found.get("type", ""))),
        ("subtype", _named(found.get("subtype", ""))),
        *(("field", _named(name)) for name in found.keys() - KNOWN["field"]),
        *(("block", _named(block.get("type"))) for block in blocks),
        *(("tool", _named(tool)) for tool in tools if not tool.startswith("mcp__")),
    }
    return tuple(sorted((what, name) for what, name in names if name not in KNOWN[what])[:MAX_NAMES])


def _named(name: Any) -> str:
    return name[:MAX_NAME_LENGTH].replace("\0", " ") if isinstance(name, str) else f"[{type(name).__name__}]"
