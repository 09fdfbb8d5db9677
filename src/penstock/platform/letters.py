"""Dead letters as they are listed, wherever they are kept, and what addresses one."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

MAX_PAYLOAD_SIZE = 20_000
"""Characters of a payload that are shown in a list."""
MAX_GROUPS = 200
"""How many groups are counted, the largest first."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was refused, with its reason and its origin."""

    id: str
    time: datetime | None
    stream: str
    stage: str
    reason: str
    payload: str | None
    encoding: str
    """How the payload is written: ``utf-8`` or ``base64``."""
    is_cut: bool
    """Whether only the beginning of the payload is shown."""
    metadata: Any
    """Where it came from: source, path, table and more."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters with the same reason."""

    stream: str
    stage: str
    reason: str
    count: int
    first: datetime | None
    last: datetime | None


class Address(NamedTuple):
    """Which row of which table is meant, and a digest of it: rows may move, and then it is not acted upon."""

    place: str
    row: str
    digest: bytes

    def written(self) -> str:
        """Return it as an id."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).rstrip(b"=").decode()

    @classmethod
    def read(cls, id: str) -> Address | None:
        """Return the address of an id; None if it is none."""
        try:
            content = base64.b64decode(id + "=" * (-len(id) % 4), altchars=b"-_", validate=True)
            return cls(*msgspec.msgpack.decode(content, type=tuple[str, str, bytes]))
        except (binascii.Error, msgspec.DecodeError, ValueError):
            return None


class Cursor(NamedTuple):
    """Behind which row each place goes on."""

    time: datetime | None
    row: str


class Place(Protocol):
    """A table or file of dead letters. Reading and dropping raise PenstockError."""

    name: str
    """What tells it apart; it tells nothing of where it is."""

    def has(self, row: str) -> bool:
        """Tell whether ``row`` is written like the address of a row of this place."""

    async def page(self, wanted: Mapping[str, str], after: Cursor | None, limit: int) -> list[Letter]:
        """Return at most ``limit`` dead letters, the newest first."""

    async def count(self, wanted: Mapping[str, str]) -> int:
        """Return how many dead letters there are."""

    async def groups(self) -> list[Group]:
        """Return how many dead letters there are, by stream, stage and reason."""

    async def find(self, address: Address) -> Mapping[str, Any] | None:
        """Return the row at an address, whole; None if it is gone."""

    async def drop(self, address: Address) -> bool:
        """Delete the row at an address; return whether it was there."""

    def close(self) -> None:
        """Let go of what is open."""


def letter_of(place: str, at: str, row: Mapping[str, Any]) -> Letter:
    """Return the dead letter of a row that is kept at ``at`` of a place."""
    payload = row["payload"]
    return Letter(
        id=Address(place, at, digest_of(row)).written(),
        time=row["time"],
        stream=row["stream"] or "",
        stage=row["stage"] or "",
        reason=row["reason"] or "",
        payload=payload[:MAX_PAYLOAD_SIZE] if payload is not None else None,
        encoding=row["encoding"] or "utf-8",
        is_cut=payload is not None and len(payload) > MAX_PAYLOAD_SIZE,
        metadata=metadata_of(row),
    )


def metadata_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a row came from; nothing where that is not JSON."""
    try:
        return msgspec.json.decode(row["metadata"] or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def digest_of(row: Mapping[str, Any]) -> bytes:
    """Return a digest of all of a row."""
    content = repr([row[name] for name in ("time", "stream", "stage", "reason", "payload", "metadata")])
    return hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=8).digest()
