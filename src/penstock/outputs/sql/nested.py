"""JSON that was read as a list, struct or map, compared with what was written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np


def is_same_json(written: str, read: str | None) -> bool:
    """Tell whether all that is written in a JSON text is in another, which may have nulls beside it.

    A text may be printed in another way, as times are; a number may not be another one.
    """
    return read is not None and _is_same(_parsed(written), _parsed(read))


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _is_same(written: Any, read: Any) -> bool:
    if isinstance(written, dict) and isinstance(read, dict):
        return all(_is_same(value, read.get(key)) for key, value in written.items())
    if isinstance(written, list) and isinstance(read, list):
        return len(written) == len(read) and all(map(_is_same, written, read))
    if isinstance(written, Decimal) and isinstance(read, Decimal):
        return written == read or _is_nearest(written, read)
    return written is read if isinstance(written, bool) else (written is None) == (read is None)


def _is_nearest(written: Decimal, read: Decimal) -> bool:
    """Tell whether a fraction was written into 32 bits, as near to it as they can be."""
    return written % 1 != 0 and read != 0 and float(np.float32(float(written))) == float(read)
