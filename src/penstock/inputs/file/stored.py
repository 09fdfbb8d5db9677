"""The files of an object store, known by their path."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...clients.object_store import translated
from ...errors import ConfigError
from .content import Content, StoredContent
from .listing import Changes, Found, extensions_of, is_wanted
from .pattern import Pattern


class StoredListing:
    """Objects of a store, known by their path."""

    def __init__(self, store: Any, pattern: Pattern, format: str, *, can_list: bool = True) -> None:
        self._store, self._pattern, self._can_list = store, pattern, can_list
        self._extensions = extensions_of(format)
        self._listed: dict[str, Found] = {}
        if not can_list and not pattern.is_plain:
            raise ConfigError(f"files of a web server cannot be listed: expected one path, not {pattern.text!r}")

    def find(self) -> list[Found]:
        """Return the objects there are now, by name; raises TransientError or ConnectionLost."""
        import obstore

        text = self._pattern.text.strip("/")
        with translated(f"listing {text or 'the bucket'}"):
            if self._pattern.is_plain and text and not self._pattern.text.endswith("/"):
                try:
                    return [_stored(obstore.head(self._store, text), {})]
                except FileNotFoundError:
                    if not self._can_list:
                        return []
            folder = text if self._pattern.is_plain else self._pattern.folder.strip("/")
            chunks = obstore.list(self._store, prefix=folder or None)
            found = [_stored(meta, values) for chunk in chunks for meta, values in self._matching(chunk)]
        return sorted(found, key=lambda file: file.path.split("/"))

    def _matching(self, chunk: Any) -> Iterator[tuple[Any, Mapping[str, str]]]:
        for meta in chunk:
            if not self._pattern.is_plain:
                values = self._pattern.match(meta["path"])
                if values is not None:
                    yield meta, values
            elif self._pattern.takes(meta["path"]) and is_wanted(os.path.basename(meta["path"]), self._extensions):
                yield meta, {}

    def changes(self) -> Changes:
        """Return what has changed since this was last called; raises TransientError or ConnectionLost."""
        before, self._listed = self._listed, {found.key: found for found in self.find()}
        changed = [found for key, found in self._listed.items() if key not in before or before[key] != found]
        return Changes(changed, before.keys() - self._listed.keys())

    path = None

    def find_again(self, found: Found) -> Found | None:
        """Return an object as it is now; None if it is gone."""
        return next((other for other in self.find() if other.key == found.key), None)

    def generations(self, first: int = 0) -> Iterator[Found | int]:
        """Return nothing: objects are not renamed."""
        return iter(())

    def rotated(self, path: str) -> list[Found]:
        """Return nothing: objects are not renamed."""
        return []

    def moved(self, keys: Collection[str], beside: Collection[str]) -> dict[str, Found]:
        """Return nothing: an object has only its path."""
        return {}

    def open(self, found: Found) -> Content:
        """Open an object; reading it fails when it is gone."""
        return StoredContent(self._store, found.path, found.size, found.etag)

    def is_readable(self, found: Found) -> bool:
        """Tell that it may be: only reading an object tells."""
        return True

    def absent(self) -> str | None:
        """Return why there is nothing to read, where that is a mistake."""
        return f"no object matches {self._pattern.text!r}"


def _stored(meta: Any, values: Mapping[str, str]) -> Found:
    etag, modified = meta["e_tag"], meta["last_modified"].timestamp()
    version = etag or f"{meta['size']}:{modified}"
    return Found(meta["path"], meta["path"], meta["size"], version, modified, values, etag)
