"""Where batches come from: one file per ``type``."""

from collections.abc import Mapping
from typing import Any

ALIASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    format: ("file", {"format": format}) for format in ("csv", "json", "parquet", "avro", "arrow")
}
"""Names that mean another component with some options given: ``type: csv`` is a ``file`` of that format."""
