"""The option ``durability``: whether a stream has a write-ahead log, where it is and when it is synced."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from .context import Context
from .duration import Duration
from .extras import require
from .options import Options

_PART = r"^[A-Za-z0-9_.-]{1,200}$"
"""Parts of the name of an object."""


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


class Local(_Synced):
    """Keep the log in local files."""

    type: Literal["local"] = "local"
    """In local files."""
    path: str = ""
    """The folder of the log."""
    sync: Literal["per_entry", "group_commit", "periodic"] | None = None
    """See `durability.sync`."""
    interval: Duration | None = None
    """See `durability.interval`."""


class Bucket(Options):
    """A bucket of S3, or of a server that speaks its protocol and has conditional writes."""

    bucket: str = Field(min_length=1)
    """The bucket."""
    region: str | None = None
    """The region of the bucket."""
    endpoint: str | None = None
    """The address of the server, where it is not Amazon's."""
    access_key_id: str | None = None
    """The access key; from the environment when left out."""
    secret_access_key: SecretStr | None = None
    """The secret of the access key."""
    allow_http: bool = False
    """Allow an endpoint without TLS."""


class SegmentLimits(Options):
    """When an object of the log is full."""

    max_entries: int = Field(1000, ge=1)
    """The most batches in one object."""
    max_bytes: int = Field(1 << 20, ge=1024)
    """The size at which an object holds no further batch."""
    flush_interval: Duration = Field(1.0, gt=0)
    """Accepted without effect: what waits is stored as soon as the object before it is, since only then it is acked."""


_TUNED = {
    "aggressive": {"max_entries": 10_000, "max_bytes": 10 << 20, "flush_interval": "10s"},
    "balanced": {},
    "low_latency": {"max_entries": 100, "max_bytes": 100 << 10, "flush_interval": "100ms"},
}


class SegmentTuning(Options):
    """When an object of the log is full, by what matters."""

    strategy: Literal["aggressive", "balanced", "low_latency"] = "balanced"
    """Objects of 10,000 batches or 10 MiB, of 1000 or 1 MiB, or of 100 or 100 KiB at most."""
    max_entries: int | None = Field(None, ge=1)
    """Another number of batches."""
    max_bytes: int | None = Field(None, ge=1024)
    """Another size."""
    flush_interval: Duration | None = Field(None, gt=0)
    """As in `segment`."""

    def limits(self) -> SegmentLimits:
        """Return what that comes to."""
        own = self.model_dump(mode="json", exclude={"strategy"}, exclude_none=True)
        return SegmentLimits.model_validate({**_TUNED[self.strategy], **own})


class Cursor(Options):
    """How often it is noted in the bucket up to where the log is written downstream."""

    max_entries: int = Field(1000, ge=1)
    """After so many entries."""
    interval: Duration = Field(1.0, gt=0)
    """After so much time."""


class ParallelPut(Options):
    """How many requests run at once."""

    workers: int = Field(1, ge=1, le=8)
    """How many objects are read at once when the log is recovered; they are written one after another."""
    shutdown_timeout: Duration = Field(30.0, gt=0)
    """Accepted without effect: `shutdown_timeout` of the stream says how long a stop may take."""


class Compression(Options):
    """How objects are compressed."""

    type: Literal["none", "zstd", "lz4"] = "none"
    """The algorithm."""
    level: int | None = Field(None, ge=0, le=22)
    """Its level: 0 to 22 for `zstd` (3), 1 to 16 for `lz4` (4)."""

    @model_validator(mode="after")
    def _has_level(self) -> Compression:
        if self.level is not None and (self.type == "none" or (self.type == "lz4" and not 1 <= self.level <= 16)):
            raise ValueError(f"level: {self.type} has no level {self.level}")
        return self


class ObjectStore(_Synced):
    """Keep the log in a bucket, so that another machine goes on where this one was lost.

    What is acked is in the bucket: objects are stored before, and none is overwritten (conditional writes). The files
    below the data folder are a copy of them. One process writes a log: another one that opens it takes it over, and
    the one before fails with its next write.
    """

    type: Literal["object_store"]
    """In a bucket."""
    node_id: str = Field(pattern=_PART)
    """The name of the node; the same after a restart, and on the machine that takes over."""
    stream_id: str = Field(pattern=_PART)
    """The name of the stream below it."""
    prefix: str = "penstock/wal"
    """Where logs are in the bucket: this one below `prefix/node_id/stream_id/`."""
    s3: Bucket
    """The bucket."""
    segment: SegmentLimits = SegmentLimits()
    """When an object is full."""
    segment_tuning: SegmentTuning | None = None
    """Instead of `segment`."""
    cursor: Cursor = Cursor()
    """How often the position is noted."""
    parallel_put: ParallelPut = ParallelPut()
    """How many requests run at once."""
    compression: Compression = Compression()
    """How objects are compressed."""
    sync: Literal["per_entry", "group_commit", "periodic"] | None = None
    """See `durability.sync`; `per_entry` would be a request for each batch, and is refused."""
    interval: Duration | None = None
    """See `durability.interval`."""

    @model_validator(mode="after")
    def _expect_obstore(self) -> ObjectStore:
        require("obstore", "`durability.backend` in an object store")
        return self

    @property
    def path(self) -> str:
        """The folder of the copy: that of a log without a backend."""
        return ""

    @property
    def limits(self) -> SegmentLimits:
        """When an object is full."""
        return self.segment_tuning.limits() if self.segment_tuning is not None else self.segment

    @property
    def root(self) -> str:
        """Where the objects of this log are."""
        return "/".join(part for part in (self.prefix.strip("/"), self.node_id, self.stream_id) if part)


def _kind(value: Any) -> str:
    kind = value.get("type", "local") if isinstance(value, dict) else getattr(value, "type", "local")
    return str(kind)


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
    backend: (
        Annotated[Annotated[Local, Tag("local")] | Annotated[ObjectStore, Tag("object_store")], Discriminator(_kind)]
        | None
    ) = None
    """Where the log is kept: `local` is another way to write `path`, `sync` and `interval`."""

    @model_validator(mode="after")
    def _is_no_request_each(self) -> Durability:
        if self.bucket is not None and self._sync == "per_entry":
            raise ValueError("sync: per_entry would be a request to the object store for each batch: use group_commit")
        return self

    @property
    def bucket(self) -> ObjectStore | None:
        """The object store that has the log, if one has."""
        return self.backend if isinstance(self.backend, ObjectStore) else None

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
