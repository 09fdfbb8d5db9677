"""The configurations that were applied over HTTP, each kept in a file that its owner alone may read."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Literal

import msgspec

from ..config.configuration import Configuration, build
from ..config.document import parse_document
from ..errors import ConfigError

MAX_VERSIONS = 200
"""Versions that are kept; the oldest are deleted."""
_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,9}")


class Candidate(msgspec.Struct, forbid_unknown_fields=False):
    """A configuration as a text."""

    content: str
    format: Literal["yaml", "json", "toml"] = "yaml"

    def build(self, environment: dict[str, str], file: str = "") -> Configuration:
        """Return the configuration as one of ``file``; raises ConfigError for everything that is wrong."""
        return build(parse_document(self.content, f".{self.format}", file, environment), environment)


class Version(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A configuration that was applied, without its text."""

    id: str
    created_at_ms: int
    format: str
    parent_id: str | None = None


class _Stored(msgspec.Struct):
    metadata: Version
    content: str


class Versions:
    """A folder with a file for each version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> list[Version]:
        """Return the versions, the newest first."""
        files = sorted(self._folder.glob("*.json"), key=_order, reverse=True) if self._folder.is_dir() else []
        return [msgspec.json.decode(file.read_bytes(), type=_Stored).metadata for file in files]

    def save(self, candidate: Candidate) -> Version:
        """Keep a candidate; returns its version."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = self.list()
        now = time.time_ns() // 1_000_000
        taken = [one for one in known if one.created_at_ms == now]
        parent = known[0].id if known else None
        made = Version(id=f"{now}-{len(taken)}", created_at_ms=now, format=candidate.format, parent_id=parent)
        target = self._folder / f"{made.id}.json"
        part = self._folder / f".{made.id}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_Stored(made, candidate.content)))
            os.fsync(file.fileno())
        part.rename(target)
        for old in known[MAX_VERSIONS - 1 :]:
            self.delete(old.id)
        return made

    def load(self, id: str) -> Candidate:
        """Return the text of a version; raises ConfigError if there is none of this id."""
        file = self._folder / f"{id}.json"
        if not _ID.fullmatch(id) or not file.is_file():
            raise ConfigError(f"there is no version {id[:40]!r}")
        stored = msgspec.json.decode(file.read_bytes(), type=_Stored)
        return msgspec.convert({"content": stored.content, "format": stored.metadata.format}, Candidate)

    def delete(self, id: str) -> None:
        """Forget a version."""
        (self._folder / f"{id}.json").unlink(missing_ok=True)


def _order(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.stem.split("-") if part.isdigit())
