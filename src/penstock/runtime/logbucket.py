"""The objects of a write-ahead log in a bucket: stored before anything is acked, owned by one process at a time."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from ..clock import Clock
from ..durability import ObjectStore, SegmentLimits
from ..errors import ConfigError, ConnectionLost
from .logfolder import sync

if TYPE_CHECKING:
    from obstore.store import S3Store

MAX_CLAIMS = 20
"""How often the manifest is claimed anew where others claim it too."""
PUT_TIMEOUT = 60.0
"""How long a request may take, in seconds."""
_NAME = re.compile(r"\d{20}\.wal")
_LEVELS = {"zstd": 3, "lz4": 4}


class LogTaken(ConfigError):
    """Another process has taken over the log, so this one writes to it no more."""


class Manifest(msgspec.Struct, frozen=True):
    """What is known of a log beside its objects."""

    owner: str
    """Who may write."""
    epoch: int
    """How often it has changed hands."""
    position: int
    """The number up to which all entries are written downstream, or a smaller one."""
    format: int = 1


class _Header(msgspec.Struct, frozen=True):
    """The first line of an object."""

    owner: str
    size: int
    compression: str = "none"


class LogBucket:
    """The objects of one log, each a whole segment under the name that it has as a file."""

    def __init__(self, options: ObjectStore, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._owner = uuid.uuid4().hex
        self._store: S3Store | None = None
        self._manifest = Manifest("", 0, 0)
        self._etag: str | None = None
        self._stored: set[str] = set()
        self._noted_at = 0.0

    @property
    def limits(self) -> SegmentLimits:
        """When an object is full."""
        return self._options.limits

    def _connect(self) -> S3Store:
        if self._store is None:
            from obstore.store import S3Store

            s3 = self._options.s3
            given: dict[str, Any] = {
                "access_key_id": s3.access_key_id,
                "secret_access_key": s3.secret_access_key.get_secret_value() if s3.secret_access_key else None,
                "endpoint": s3.endpoint,
                "region": s3.region,
                "conditional_put": "etag",
            }
            self._store = S3Store(
                s3.bucket,
                config={key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]
                client_options={"allow_http": s3.allow_http, "timeout": timedelta(seconds=PUT_TIMEOUT)},
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=15)},
            )
        return self._store

    def _key(self, name: str) -> str:
        return f"{self._options.root}/{name}"

    @contextmanager
    def _asking(self, action: str) -> Iterator[Any]:
        """Yield obstore; what the store refuses or does not answer becomes an OSError, after which one tries again."""
        import obstore

        try:
            yield obstore
        except (obstore.exceptions.NotFoundError, obstore.exceptions.AlreadyExistsError):
            raise
        except obstore.exceptions.PreconditionError:
            raise
        except (obstore.exceptions.BaseError, OSError) as error:
            text = re.sub(r"\?\S*", "", str(error).split("\n", 1)[0])
            raise OSError(f"cannot {action} in {self._options.s3.bucket}/{self._options.root}: {text}") from None

    def recover(self, folder: Path) -> int:
        """Take over the log and make its files those of the bucket; returns the position that is noted there.

        Raises ConnectionLost if the store cannot be asked.
        """
        try:
            self._claim()
            with self._asking("list") as obstore:
                found = {
                    meta["path"].rpartition("/")[2]: meta["path"]
                    for chunk in obstore.list(self._connect(), self._key(""))
                    for meta in chunk
                }
            self._stored = {name for name in found if _NAME.fullmatch(name)}
            missing = [name for name in sorted(self._stored) if not (folder / name).exists()]
            for file in folder.glob("*.wal"):
                if _NAME.fullmatch(file.name) and file.name not in self._stored:
                    file.unlink()  # it was not stored, so it was never acked; or it is written downstream
            with ThreadPoolExecutor(self._options.parallel_put.workers) as threads:
                list(threads.map(lambda name: self._fetch(name, folder), missing))
            sync(folder)
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        return self._manifest.position

    def _claim(self) -> None:
        for _ in range(MAX_CLAIMS):
            found, etag = self._read_manifest()
            wanted = Manifest(self._owner, found.epoch + 1, found.position)
            with suppress_conflicts() as attempt:
                self._etag = self._write_manifest(wanted, etag)
                self._manifest = wanted
            if attempt.succeeded:
                return
        raise OSError(f"others claim the log {self._options.root} all the time")

    def _read_manifest(self) -> tuple[Manifest, str | None]:
        with self._asking("read the manifest") as obstore:
            try:
                answer = obstore.get(self._connect(), self._key("manifest.json"))
                content = bytes(answer.bytes())
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return Manifest("", 0, 0), None
        try:
            return msgspec.json.decode(content, type=Manifest), answer.meta["e_tag"]
        except msgspec.MsgspecError as error:
            raise ConfigError(f"the manifest of the log {self._options.root} is damaged: {error}") from error

    def _write_manifest(self, manifest: Manifest, etag: str | None) -> str | None:
        with self._asking("write the manifest") as obstore:
            mode = {"e_tag": etag} if etag is not None else "create"
            result = obstore.put(self._connect(), self._key("manifest.json"), msgspec.json.encode(manifest), mode=mode)
            tag: str | None = result["e_tag"]
            return tag

    def _fetch(self, name: str, folder: Path) -> None:
        with self._asking(f"read {name}") as obstore:
            content = bytes(obstore.get(self._connect(), self._key(name)).bytes())
        line, _, payload = content.partition(b"\n")
        header = msgspec.json.decode(line, type=_Header)
        if header.compression != "none":
            payload = pa.Codec(header.compression).decompress(payload, header.size, asbytes=True)
        part = folder / f"{name}.new"
        with part.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        part.rename(folder / name)

    def put(self, segment: Path) -> None:
        """Store a segment; raises LogTaken if another process has taken over the log, OSError to try again."""
        content = segment.read_bytes()
        kind = self._options.compression
        payload = content
        if kind.type != "none":
            level = kind.level if kind.level is not None else _LEVELS[kind.type]
            payload = pa.Codec(kind.type, compression_level=level).compress(content, asbytes=True)
        header = msgspec.json.encode(_Header(self._owner, len(content), kind.type))
        body = header + b"\n" + payload
        with suppress_conflicts() as attempt:
            self._put(segment.name, body, "create")
        if not attempt.succeeded:
            # Either an attempt of ours has arrived whose answer did not, or somebody else writes this log.
            if self._owner_of(segment.name) != self._owner:
                raise self._taken()
            self._expect_own()
            self._put(segment.name, body, "overwrite")
        self._expect_own()
        self._stored.add(segment.name)

    def _put(self, name: str, body: bytes, mode: str) -> None:
        with self._asking(f"store {name}") as obstore:
            obstore.put(self._connect(), self._key(name), body, mode=mode, use_multipart=False)

    def _owner_of(self, name: str) -> str:
        with self._asking(f"read {name}") as obstore:
            content = bytes(obstore.get(self._connect(), self._key(name)).bytes())
        return msgspec.json.decode(content.partition(b"\n")[0], type=_Header).owner

    def _expect_own(self) -> None:
        if self._read_manifest()[0].owner != self._owner:
            raise self._taken()

    def _taken(self) -> LogTaken:
        return LogTaken(
            f"another process has taken over the write-ahead log {self._options.s3.bucket}/{self._options.root}: "
            "give this one another `node_id`, or stop it"
        )

    def is_due(self, position: int, written: Sequence[int]) -> bool:
        """Tell whether a position is to be noted: enough lies behind the last, or segments are no longer needed."""
        gone = position - self._manifest.position
        if gone <= 0:
            return False
        late = self._clock.monotonic() - self._noted_at >= self._options.cursor.interval
        return bool(written) and (late or gone >= self._options.cursor.max_entries)

    def note(self, position: int) -> None:
        """Note up to where all is written downstream, and delete the objects before that; a failure is tried later."""
        self._noted_at = self._clock.monotonic()
        if position > self._manifest.position:
            wanted = Manifest(self._owner, self._manifest.epoch, position)
            with suppress(OSError), suppress_conflicts() as attempt:
                self._etag = self._write_manifest(wanted, self._etag)
                self._manifest = wanted
            if self._manifest is not wanted or not attempt.succeeded:
                return
        names = sorted(self._stored)
        needless = [name for name, following in pairwise(names) if int(following[:20]) - 1 <= position]
        if needless:
            with suppress(OSError), self._asking("delete objects") as obstore:
                obstore.delete(self._connect(), [self._key(name) for name in needless])
                self._stored -= set(needless)


class _Attempt:
    succeeded = False


@contextmanager
def suppress_conflicts() -> Iterator[_Attempt]:
    """Suppress that an object is there already, or is not the one expected; what is yielded tells."""
    import obstore

    attempt = _Attempt()
    try:
        yield attempt
        attempt.succeeded = True
    except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError, FileExistsError):
        pass
