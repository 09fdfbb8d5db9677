"""Bodies and receipts in an object store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...clients import object_store
from ...errors import ConfigError
from ...identifiers import month_of
from .folder import Spool, classifying

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK_SIZE = 1 << 20
"""Bytes that are fetched at once."""
UPLOADS = 2
"""How many pieces of a large body are on their way at once."""


class Bucket:
    """An object store below ``url``; what is fetched goes through files of ``spool``."""

    def __init__(self, url: str, spool: Spool) -> None:
        self._url, self._spool = url.rstrip("/"), spool
        self._stores: dict[str, ObjectStore] = {}
        self._locate(self._url)

    def location(self, identifier: str) -> str:
        """Return where a body is."""
        return f"{self._url}/{month_of(identifier)}/{identifier}"

    def keep(self, arrived: Path, identifier: str) -> None:
        """Store a body, and remove the file in which it arrived."""
        import obstore

        with object_store.translated(f"cannot keep the raw body of ingest {identifier}"):
            store, key = self._locate(self.location(identifier))
            obstore.put(store, key, arrived, max_concurrency=UPLOADS)
        arrived.unlink()

    def write(self, identifier: str, receipt: bytes) -> None:
        """Store a receipt in place of the one there is."""
        import obstore

        with object_store.translated(f"cannot note what was accepted as {identifier}"):
            store, key = self._locate(self.location(identifier))
            obstore.put(store, f"{key}.json", receipt)

    def read(self, identifier: str) -> bytes | None:
        """Return a receipt, None if there is none."""
        import obstore

        with (
            object_store.translated(f"cannot read what was accepted as {identifier}"),
            suppress(FileNotFoundError, obstore.exceptions.NotFoundError),
        ):
            store, key = self._locate(self.location(identifier))
            return bytes(obstore.get(store, f"{key}.json").bytes())
        return None

    def open(self, location: str) -> BinaryIO:
        """Fetch a body into a file, and open it."""
        import obstore

        with classifying(f"fetch {location}"), object_store.translated(f"cannot fetch {location}"):
            store, key = self._locate(location)
            file = self._spool.temporary()
            try:
                for chunk in obstore.get(store, key).stream(min_chunk_size=CHUNK_SIZE):
                    file.write(chunk)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

    def months(self) -> Sequence[str]:
        """Return the months in which bodies came."""
        import obstore

        found: list[str] = []
        with object_store.translated(f"cannot list {self._url}"):
            store, prefix = self._locate(self._url)
            for year in obstore.list_with_delimiter(store, prefix or None)["common_prefixes"]:
                months = obstore.list_with_delimiter(store, year)["common_prefixes"]
                found += ["/".join(month.rstrip("/").split("/")[-2:]) for month in months]
        return found

    def names(self, month: str) -> Iterator[str]:
        """Yield the ids of a month that have a receipt, in no order."""
        import obstore

        with object_store.translated(f"cannot list {self._url}/{month}"):
            store, prefix = self._locate(f"{self._url}/{month}/")
            for chunk in obstore.list(store, prefix):
                names = (meta["path"].rpartition("/")[2] for meta in chunk)
                yield from (name.removesuffix(".json") for name in names if name.endswith(".json"))

    def remove(self, identifier: str) -> None:
        """Remove a body, and its receipt after it: a body without one would never be found again."""
        import obstore

        store, key = self._locate(self.location(identifier))
        for name in (key, f"{key}.json"):
            with (
                object_store.translated(f"cannot remove the body {identifier}"),
                suppress(FileNotFoundError, obstore.exceptions.NotFoundError),
            ):
                obstore.delete(store, name)

    def _locate(self, address: str) -> tuple[ObjectStore, str]:
        found = object_store.locate(address)
        if found is None or isinstance(found[0], object_store.Http):
            raise ConfigError(f"expected the address of an object store such as s3://bucket/path, not {address!r}")
        options, path = found
        root = address.removesuffix(path)
        return self._stores.get(root) or self._stores.setdefault(root, options.connect()), path
