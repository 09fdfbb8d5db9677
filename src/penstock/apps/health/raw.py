"""The bodies that were accepted, kept as they arrived: in a folder, or in an object store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
import obstore
from obstore.store import ObjectStore

from ...clients import object_store
from ...clients.disk import make_folder, sync_folder, write_all
from ...errors import ConfigError, PenstockError, PermanentError, TransientError
from .acceptance import Accepted
from .settings import Settings

BLOCK = 1 << 20
"""How many bytes are hashed and written at once, in a thread, while the next ones arrive."""
SYNCED = 8 << 20
"""After how many bytes the disk is told to begin, so that the last flush of a large body is short."""
ABANDONED = 3600.0
"""After how many seconds what a reception left behind belongs to a process that has died."""

_decode = msgspec.json.Decoder(Accepted).decode


def identified(ingest: str) -> str:
    """Return the id of an ingest as it is written in paths; raises ValueError if it is no UUID of version 7."""
    with suppress(ValueError, OverflowError):
        found = uuid.UUID(ingest)
        if found.version == 7 and str(found) == ingest.lower() and _month(found):
            return str(found)
    raise ValueError(f"expected a UUID of version 7, not {ingest[:64]!r}")


def _month(ingest: uuid.UUID) -> str:
    return datetime.fromtimestamp((ingest.int >> 80) / 1000, UTC).strftime("%Y/%m")


class Raw:
    """Keeps bodies verbatim as ``YYYY/MM/<id>``, each with what was promised about it in ``<id>.json`` beside it.

    With a ``url`` they go into that object store, and through the folder only on their way. The marks of what has
    not been handed to the stream yet are always in the folder: they belong to the process, as its log does.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._folder, self._arriving = folder, folder / "arriving"
        self._url = url.rstrip("/") if url else None
        self._stores: dict[str, ObjectStore] = {}
        if self._url:
            self._located(self._url)

    @classmethod
    def of(cls, settings: Settings) -> Raw:
        """Return the one that ``settings`` describe; raises ConfigError. Nothing is opened yet."""
        return cls(settings.data / "health" / "raw", settings.raw_url)

    @asynccontextmanager
    async def receive(self, ingest: str) -> AsyncIterator[Writing]:
        """Take the body of ``ingest``; what is not kept when this is left leaves nothing behind.

        Raises ValueError for an id that is no UUID of version 7.
        """
        writing = Writing(self, identified(ingest))
        try:
            yield writing
        finally:
            await writing.close()

    def open(self, location: str) -> BinaryIO:
        """Open a body to be read, from its beginning; blocks. What the object store keeps is fetched into a file.

        Raises PermanentError if it is not there, TransientError if it cannot be read now.
        """
        head, _, ingest = location.rpartition("/")
        try:
            ingest = identified(ingest)
        except ValueError as error:
            raise PermanentError(f"{location!r} is not where a raw body is: {error}") from None
        if "://" in head:
            return self._fetched(location)
        try:
            return self._path(ingest).open("rb")
        except FileNotFoundError:
            raise PermanentError(f"the raw body of ingest {ingest} is not in {self._folder}") from None
        except OSError as error:
            raise _classified(error, f"read the raw body of ingest {ingest}") from error

    def accepted(self, ingest: str) -> Accepted | None:
        """Return what was promised about ``ingest``, None if there is no such one; blocks.

        Raises TransientError if it cannot be read now.
        """
        try:
            ingest = identified(ingest)
        except ValueError:
            return None
        try:
            return _decode(self._path(ingest, ".json").read_bytes())
        except FileNotFoundError:
            return self._promised(ingest) if self._url else None
        except OSError as error:
            raise _classified(error, f"read what was accepted as {ingest}") from error

    def list(self) -> Iterator[Accepted]:
        """Return all that was accepted, the oldest first; blocks. From these the tables can be built again."""
        for month in self._months():
            names = self._stored(month) if self._url else (file.stem for file in (self._folder / month).glob("*.json"))
            for ingest in sorted(names):
                if (accepted := self.accepted(ingest)) is not None:
                    yield accepted

    def unsent(self) -> Iterator[Accepted]:
        """Return what is durable and was perhaps not handed to the stream before the process died; blocks.

        To be called before anything is received. What a reception left half-written is removed.
        """
        for file in sorted(self._arriving.glob("*")):
            if file.suffix == ".unsent":
                accepted = self.accepted(file.stem)
                if accepted is not None:
                    yield accepted
                else:
                    file.unlink(missing_ok=True)
            elif time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink(missing_ok=True)

    async def sent(self, ingest: str) -> None:
        """Note that ``ingest`` is in the stream's log."""
        await asyncio.to_thread((self._arriving / f"{ingest}.unsent").unlink, missing_ok=True)

    async def again(self, accepted: Accepted) -> None:
        """Note a further attempt at an ingest, before it is handed to the stream; durable. Raises TransientError."""
        await asyncio.to_thread(self._note, accepted)

    async def remove(self, ingest: str) -> None:
        """Remove a body and what was promised about it."""
        await asyncio.to_thread(self._remove, identified(ingest))

    def _path(self, ingest: str, suffix: str = "") -> Path:
        return self._folder / _month(uuid.UUID(ingest)) / f"{ingest}{suffix}"

    def _key(self, ingest: str) -> tuple[ObjectStore, str]:
        return self._located(f"{self._url}/{_month(uuid.UUID(ingest))}/{ingest}")

    def _located(self, address: str) -> tuple[ObjectStore, str]:
        found = object_store.locate(address)
        if found is None or isinstance(found[0], object_store.Http):
            raise ConfigError(f"raw_url: expected an address such as s3://bucket/path, not {address!r}")
        options, path = found
        root = address.removesuffix(path)
        return self._stores.get(root) or self._stores.setdefault(root, options.connect()), path

    def _spool(self, ingest: str) -> int:
        make_folder(str(self._arriving))
        return os.open(self._arriving / ingest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def _keep(self, accepted: Accepted) -> None:
        """Move the spooled body to its place, the promise beside it, all durable."""
        spooled = self._arriving / accepted.id
        if self._url:
            with object_store.translated(f"cannot keep the raw body of ingest {accepted.id}"):
                store, key = self._key(accepted.id)
                obstore.put(store, key, spooled)
            self._note(accepted)
            spooled.unlink()
        else:
            path = self._path(accepted.id)
            make_folder(str(path.parent))
            spooled.rename(path)
            self._note(accepted)

    def _note(self, accepted: Accepted) -> None:
        written = msgspec.json.encode(accepted)
        with _classifying(f"note what was accepted as {accepted.id}"):
            make_folder(str(self._arriving))
            (self._arriving / f"{accepted.id}.unsent").touch(0o600)
            if self._url:
                with object_store.translated(f"cannot note what was accepted as {accepted.id}"):
                    store, key = self._key(accepted.id)
                    obstore.put(store, f"{key}.json", written)
                return
            path = self._path(accepted.id, ".json")
            with tempfile.NamedTemporaryFile(prefix=accepted.id, dir=self._arriving, delete=False) as file:
                try:
                    file.write(written)
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
            sync_folder(str(path.parent))

    def _remove(self, ingest: str) -> None:
        if self._url:
            with object_store.translated(f"cannot remove ingest {ingest}"):
                store, key = self._key(ingest)
                obstore.delete(store, [f"{key}.json", key])
        for path in (self._path(ingest, ".json"), self._path(ingest), self._arriving / f"{ingest}.unsent"):
            with suppress(FileNotFoundError):
                path.unlink()

    def _fetched(self, location: str) -> BinaryIO:
        with _classifying(f"fetch {location}"), object_store.translated(f"cannot fetch {location}"):
            store, key = self._located(location)
            make_folder(str(self._arriving))
            file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._arriving))  # noqa: SIM115  (the caller closes it)
            try:
                for chunk in obstore.get(store, key).stream(min_chunk_size=BLOCK):
                    file.write(chunk)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

    def _promised(self, ingest: str) -> Accepted | None:
        try:
            with object_store.translated(f"cannot read what was accepted as {ingest}"):
                store, key = self._key(ingest)
                return _decode(bytes(obstore.get(store, f"{key}.json").bytes()))
        except PermanentError:
            return None

    def _months(self) -> Sequence[str]:
        if not self._url:
            return sorted(str(path.relative_to(self._folder)) for path in self._folder.glob("[0-9]*/[0-9]*"))
        found: list[str] = []
        with object_store.translated(f"cannot list {self._url}"):
            store, prefix = self._located(self._url)
            for year in obstore.list_with_delimiter(store, prefix or None)["common_prefixes"]:
                months = obstore.list_with_delimiter(store, year)["common_prefixes"]
                found += ["/".join(month.rstrip("/").split("/")[-2:]) for month in months]
        return sorted(found)

    def _stored(self, month: str) -> Iterator[str]:
        with object_store.translated(f"cannot list {self._url}/{month}"):
            store, prefix = self._located(f"{self._url}/{month}/")
            for chunk in obstore.list(store, prefix):
                names = (meta["path"].rpartition("/")[2] for meta in chunk)
                yield from (name.removesuffix(".json") for name in names if name.endswith(".json"))


class Writing:
    """A body that is arriving: hashed and written in threads while more of it comes."""

    def __init__(self, raw: Raw, ingest: str) -> None:
        self._raw, self._ingest = raw, ingest
        self._hash = hashlib.sha256()
        self._opened: int | None = None
        self._waiting: list[bytes] = []
        self._held = self._unsynced = 0
        self._running: asyncio.Future[None] | None = None
        self._keeping = self._kept = False
        self.bytes = 0
        """How many bytes have come."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises TransientError if there is no room for them."""
        self._waiting.append(chunk)
        self._held += len(chunk)
        self.bytes += len(chunk)
        if self._held >= BLOCK:
            await self._settled()
            chunks, self._waiting, self._held = self._waiting, [], 0
            self._running = asyncio.ensure_future(asyncio.to_thread(self._write, chunks))

    async def keep(self, accepted: Accepted) -> Accepted:
        """Make the body durable and return ``accepted`` with where it is, its size and its hash.

        Raises TransientError if that is not possible now; then nothing is kept.
        """
        await self._settled()
        kept: list[Accepted] = []
        self._running = asyncio.ensure_future(asyncio.to_thread(lambda: kept.append(self._finish(accepted))))
        await self._settled()
        self._kept = True
        return kept[0]

    async def close(self) -> None:
        """Remove what was not kept. A thread that is writing is waited for, even if we are cancelled."""
        try:
            if self._running is not None:
                await asyncio.wait([self._running])
                self._running.exception()  # whoever awaited it was told, or is gone
        finally:
            if not self._kept:
                await asyncio.shield(asyncio.to_thread(self._discard))

    async def _settled(self) -> None:
        if self._running is not None:
            await asyncio.shield(self._running)
            self._running = None

    def _write(self, chunks: list[bytes]) -> None:
        with _classifying("keep a raw body"):
            if self._opened is None:
                self._opened = self._raw._spool(self._ingest)
            for chunk in chunks:
                self._hash.update(chunk)
                write_all(self._opened, memoryview(chunk))
                self._unsynced += len(chunk)
            if self._unsynced >= SYNCED:
                os.fdatasync(self._opened)
                self._unsynced = 0

    def _finish(self, accepted: Accepted) -> Accepted:
        self._write(self._waiting)
        self._keeping = True
        with _classifying("keep a raw body"):
            opened, self._opened = self._opened, None
            assert opened is not None
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
            digest, month = self._hash.hexdigest(), _month(uuid.UUID(self._ingest))
            location = f"{self._raw._url}/{month}/{self._ingest}" if self._raw._url else f"{month}/{self._ingest}"
            kept = msgspec.structs.replace(accepted, id=self._ingest, raw=location, bytes=self.bytes, sha256=digest)
            self._raw._keep(kept)
            return kept

    def _discard(self) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
        (self._raw._arriving / self._ingest).unlink(missing_ok=True)
        if self._keeping:
            with suppress(PenstockError):  # what cannot be removed now was not handed to the stream either
                self._raw._remove(self._ingest)


def _classified(error: OSError, action: str) -> TransientError:
    return TransientError(f"cannot {action}: {error.strerror or error}")


@contextmanager
def _classifying(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _classified(error, action) from error
