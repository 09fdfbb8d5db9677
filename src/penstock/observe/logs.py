"""Structured logs: every line carries its stream and, where there is one, a correlation id."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

stream_name: ContextVar[str | None] = ContextVar("stream_name", default=None)
"""The stream that the current task belongs to."""
correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""What ties together the lines that belong to one request."""

_LEVELS = {"trace": logging.DEBUG, "warn": logging.WARNING}
_COLORS = {logging.WARNING: "\033[33m", logging.ERROR: "\033[31m", logging.CRITICAL: "\033[1;31m"}
_RESET = "\033[0m"


class _JsonLines(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: event, level, timestamp, where it belongs, and the traceback if there is one."""
        line = {"event": record.getMessage(), **_context(), "level": record.levelname.lower()}
        line["timestamp"] = _timestamp(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _PlainLines(logging.Formatter):
    """Writes a record as a line for people, with a traceback below it if there is one."""

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = _COLORS if colors else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: time, level, message, and where it belongs."""
        level = f"[{record.levelname.lower():<9}]"
        if color := self._colors.get(record.levelno):
            level = f"{color}{level}{_RESET}"
        where = "".join(f" {name}={value}" for name, value in sorted(_context().items()))
        line = f"{_timestamp(record)} {level} {record.getMessage()}{where}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _context() -> dict[str, str]:
    found = {"stream": stream_name.get(), "correlation_id": correlation_id.get()}
    return {name: value for name, value in found.items() if value is not None}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def configure(level: str = "info", format: str = "plain", file_path: Path | None = None) -> None:
    """Send the logs of this process to standard error or to a file, for people or as JSON lines."""
    if file_path is not None:
        file_path.parent.mkdir(parents=True, exist_ok=True)
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if file_path is not None:
        handler = logging.FileHandler(file_path, encoding="utf-8", errors="backslashreplace")
    colors = file_path is None and sys.stderr.isatty()
    handler.setFormatter(_JsonLines() if format == "json" else _PlainLines(colors=colors))
    root = logging.getLogger("penstock")
    for old in root.handlers:
        old.close()
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(_LEVELS.get(level, level.upper()))
