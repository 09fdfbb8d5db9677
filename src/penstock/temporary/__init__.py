"""Tables beside a stream that its queries look rows up in: one file per ``type``."""

from collections.abc import Mapping
from typing import Any

ALIASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
"""Names that mean another component with some options given: none so far."""
