"""Values of JSON without what is secret in them: by the name of an option, or in a URL."""

from __future__ import annotations

import re
from typing import Any

from .clients.database import redact_url

MAX_TEXT_SIZE = 2000
"""Characters of a text that are shown."""
REDACTED = "**********"

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|authori[sz]ation|credential|api[-_]?key|access[-_]?key|cookie|signature", re.I
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def redact(value: Any) -> Any:
    """Return a value of JSON without what is secret in it: by the name of an option, or in a URL."""
    if isinstance(value, dict):
        return {name: REDACTED if _is_secret(name, item) else redact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return _URL.sub(lambda url: redact_url(url[0]), value)[:MAX_TEXT_SIZE]
    return value


def _is_secret(name: str, value: Any) -> bool:
    return bool(_SECRET_NAME.search(name)) and isinstance(value, str | int | float) and not isinstance(value, bool)
