"""A payload that stands in the configuration as a mapping or a list, as JSON text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def json_text(value: Any) -> str:
    """Return the value as JSON; raises ValueError naming a number that JSON does not have."""
    for path, number in _not_finite(value, ""):
        raise ValueError(f"{path or 'the value'} is {number}, which JSON has no number for: write a text or null")
    return json.dumps(value, ensure_ascii=False)


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{index}]")
