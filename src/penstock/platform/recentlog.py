"""The last lines of the log of each stream, for pages that show them."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from ..clients.database import redact_url
from ..observe.logs import stream_name
from .access.request import redact

MAX_LINES = 200
"""Lines that are kept of each stream."""
MAX_LINE_SIZE = 2000
"""Characters of a line that are kept."""
MAX_STREAMS = 500
"""Of how many streams lines are kept; of others none."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


class LogLine(msgspec.Struct, frozen=True):
    """A line of the log."""

    at: datetime
    level: str
    text: str


class RecentLog(logging.Handler):
    """Keep the last lines that were logged for each stream, without keys and passwords."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, deque[LogLine]] = {}

    @contextmanager
    def listening(self) -> Iterator[RecentLog]:
        """Keep what is logged while open."""
        root = logging.getLogger("penstock")
        root.addHandler(self)
        try:
            yield self
        finally:
            root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, if it is of a stream."""
        name = stream_name.get()
        if name is None or (name not in self._lines and len(self._lines) >= MAX_STREAMS):
            return
        text = redact(_URL.sub(lambda url: redact_url(url[0]), record.getMessage()))[:MAX_LINE_SIZE]
        line = LogLine(datetime.fromtimestamp(record.created, UTC), record.levelname.lower(), text)
        self._lines.setdefault(name, deque(maxlen=MAX_LINES)).append(line)

    def lines(self, stream: str) -> list[LogLine]:
        """Return the last lines of a stream, the oldest first."""
        return list(self._lines.get(stream, ()))
