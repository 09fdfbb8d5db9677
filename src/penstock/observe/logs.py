"""Structured logs: every line carries its stream and, where there is one, a correlation id."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

stream_name: ContextVar[str | None] = ContextVar("stream_name", default=None)
"""The stream that the current task belongs to."""
correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""What ties together the lines that belong to one request."""

_LEVELS = {"trace": logging.DEBUG, "warn": logging.WARNING}


def _add_context(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    for name, variable in (("stream", stream_name), ("correlation_id", correlation_id)):
        if (value := variable.get()) is not None:
            event[name] = value
    return event


def configure(level: str = "info", format: str = "plain", file_path: Path | None = None) -> None:
    """Send the logs of this process to standard error or to a file, for people or as JSON lines."""
    import structlog  # takes longer to import than everything else here to run

    shared: list[Any] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any
    if format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        colors = file_path is None and sys.stderr.isatty()
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    if file_path is not None:
        file_path.parent.mkdir(parents=True, exist_ok=True)
    handler: logging.Handler = logging.FileHandler(file_path) if file_path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger("penstock")
    for old in root.handlers:
        old.close()
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(_LEVELS.get(level, level.upper()))
