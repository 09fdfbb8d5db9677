"""The option ``durability``: whether a stream has a write-ahead log, where it is and when it is synced."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from .context import Context
from .duration import Duration
from .options import Options


class _Synced(Options):
    @model_validator(mode="before")
    @classmethod
    def _read_periodic(cls, value: Any) -> Any:
        """Take apart `sync: {periodic: {secs: 1, nanos: 0}}`, another way to write `periodic` and `interval`."""
        if not isinstance(value, dict) or not isinstance(value.get("sync"), dict):
            return value
        if list(value["sync"]) != ["periodic"] or value.get("interval") is not None:
            raise ValueError("sync: expected per_entry, group_commit or periodic, the last with `interval`")
        span = value["sync"]["periodic"]
        if isinstance(span, dict):
            span = _Span.model_validate(span)
            span = timedelta(seconds=span.secs, microseconds=span.nanos / 1000)
        return {**value, "sync": "periodic", "interval": span}


class _Span(Options):
    """A span of time in two numbers."""

    secs: int = Field(default=0, ge=0)
    nanos: int = Field(default=0, ge=0)


class Backend(_Synced):
    """Where the log is kept."""

    type: Literal["local"] = "local"
    """In local files, the only place there is."""
    path: str = ""
    """The folder of the log."""
    sync: Literal["per_entry", "group_commit", "periodic"] | None = None
    """See `durability.sync`."""
    interval: Duration | None = None
    """See `durability.interval`."""


class Durability(_Synced):
    """Keep what was read in a write-ahead log until it is written, and ack the input once it is on disk.

    If something is missing from the log (a bit that flipped, a file that is gone), `/health` and the log of the process
    name the file and the entries. What comes in is still kept, and nothing behind the damage is written before somebody
    has dealt with it: put back what can be put back, or let the stream go on without it by `penstock log salvage`,
    which says what is missing and keeps a copy of what was damaged. `penstock log inspect` changes nothing. What cannot
    be known: whether entries stood at the end of a file that was cut off after a crash and before the next start.
    """

    enabled: bool = True
    """Whether there is a log."""
    path: str = ""
    """The folder of the log; by default one in the folder of the stream's data."""
    sync: Literal["per_entry", "group_commit", "periodic"] = "group_commit"
    """When entries are forced to disk: each by itself, all that wait together, or all every `interval`. The input
    is acked only after that, whichever is chosen."""
    interval: Duration = 0.1
    """How often `periodic` forces entries to disk."""
    segment_bytes: int = 64 << 20
    """The size at which a new segment is begun; a segment is deleted once all of it is written downstream."""
    max_bytes: int | None = None
    """The size of the log at which reading waits for the output; by default the disk is the limit."""
    backend: Backend | None = None
    """Another way to write `path`, `sync` and `interval`."""

    def folder(self, context: Context) -> Path:
        """Return the folder with the log of this stream."""
        path = (self.backend.path if self.backend else "") or self.path
        return Path(path) / context.kept_as if path else context.directory / "wal" / context.kept_as

    @property
    def per_entry(self) -> bool:
        """Whether each entry is synced by itself."""
        return self._sync == "per_entry"

    @property
    def pause(self) -> float:
        """How long to gather entries before a sync, in seconds."""
        if self._sync != "periodic":
            return 0.0
        return (self.backend.interval if self.backend else None) or self.interval

    @property
    def _sync(self) -> str:
        return (self.backend.sync if self.backend else None) or self.sync
