"""Keyed state: what a component remembers by key across restarts."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

MAX_KEY_SIZE = 1024
"""Characters of a key; hash what may be longer."""
MAX_VALUE_SIZE = 1 << 20
"""Bytes of a value."""

log = logging.getLogger("penstock")


class Entry(NamedTuple):
    """A value as JSON, and when it expires in seconds since 1970."""

    value: bytes
    expires: float | None


Place: TypeAlias = tuple[str, str]
"""The name of a state, and a key in it."""
Changes: TypeAlias = Mapping[Place, Entry | None]
"""What is put, by place; None where it is deleted."""


@dataclass(frozen=True, slots=True)
class Version:
    """One state of all: the changes of all versions up to ``base``, and those of ``number``."""

    number: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class Prune:
    """What is no longer needed of a stream's state."""

    now: float
    """What has expired by this time, in seconds since 1970."""
    settled: Version = Version()
    """The version that counted last, as far as is known."""
    replaced: Sequence[Place] = ()
    """Where it has replaced or deleted what was before."""
    has_void: bool = False
    """Whether there may be changes under numbers between its base and its own, which never came to count."""
    is_certain: bool = False
    """Whether no later one can have come to count, so that those under higher numbers never will."""


@runtime_checkable
class KeyedStore(Protocol):
    """Keeps changes of keyed state under version numbers; which version counts is saved with the positions."""

    async def load_state(self, stream: str, name: str, version: Version) -> Mapping[str, Entry]:
        """Return the state ``name`` of a stream as of a version, the longest unchanged first."""
        ...

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        """Keep changes under a new version number, and return once they are durable.

        Saving the same number again changes nothing. What ``prune`` names is deleted in the same transaction.
        """
        ...


class KeyedState:
    """Values by key, which survive restarts together with the positions of what was read: see ``Context.state``.

    All of it is held in memory. Beyond ``max_entries`` the entries that were put longest ago are forgotten, and with
    a ``ttl`` those that were put that many seconds ago. Keys are texts of at most 1024 characters, values whatever JSON
    can hold in at most 1 MiB.
    """

    def __init__(
        self,
        name: str,
        entries: Mapping[str, Entry] | None = None,
        *,
        ttl: float | None = None,
        max_entries: int = 100_000,
        now: float = 0.0,
    ) -> None:
        """``now`` is the time in seconds since 1970, which ``begin`` moves."""
        self.name, self.ttl, self.max_entries = name, ttl, max_entries
        self._now = now
        self._entries = OrderedDict(entries or {})
        self._shorten_lives()
        self._changes: dict[str, Entry | None] = {}
        self._before: dict[str, Entry | None] = {}
        """The entries as they were before the call in progress."""
        self._kept: dict[str, Entry | None] = {}
        self._has_warned = False
        self._forget()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``: a copy, which is to be put again if it is changed."""
        entry = self._entries.get(key)
        return default if entry is None or self._is_over(entry) else msgspec.json.decode(entry.value)

    def __contains__(self, key: str) -> bool:
        entry = self._entries.get(key)
        return entry is not None and not self._is_over(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, the one that was put longest ago first."""
        return iter([key for key, entry in self._entries.items() if not self._is_over(entry)])

    def find(self, keys: Iterable[str]) -> set[str]:
        """Return those of ``keys`` that are there."""
        found = self._entries.keys() & keys
        return {key for key in found if not self._is_over(self._entries[key])} if self.ttl is not None else found

    def put(self, key: str, value: Any = None) -> None:
        """Set the value of ``key``; raises ValueError if either is too large."""
        self.put_all({key: value})

    def put_all(self, values: Mapping[str, Any]) -> None:
        """Set the values of many keys; raises ValueError, and sets none, if a key or a value is too large."""
        expires = None if self.ttl is None else self._now + self.ttl
        nothing = Entry(b"null", expires)  # one for all keys without a value
        entries = {
            key: nothing if value is None else Entry(msgspec.json.encode(value), expires)
            for key, value in values.items()
        }
        for key, entry in entries.items():
            if len(key) > MAX_KEY_SIZE or len(entry.value) > MAX_VALUE_SIZE:
                raise ValueError(f"{self.name}: a key or value is too large to be kept: {key[:80]!r}")
            if "\0" in key or any("\ud800" <= letter <= "\udfff" for letter in key):
                raise ValueError(f"{self.name}: no store can keep the key {key[:80]!r}")
        for key, entry in entries.items():
            self._note(key, entry)
            self._entries[key] = entry
            self._entries.move_to_end(key)
        self._forget()

    def delete(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        if key in self._entries:
            self._note(key, None)
            del self._entries[key]

    def _note(self, key: str, entry: Entry | None) -> None:
        if key not in self._before:
            self._before[key] = self._entries.get(key)
        self._changes[key] = entry

    def _is_over(self, entry: Entry) -> bool:
        return entry.expires is not None and entry.expires <= self._now

    def _shorten_lives(self) -> None:
        """Let no entry live longer than from now: its time was told by a clock that was ahead, or by a longer ttl."""
        if self.ttl is None:
            return
        latest = self._now + self.ttl
        for key, entry in self._entries.items():
            if entry.expires is not None and entry.expires > latest:
                self._entries[key] = Entry(entry.value, latest)

    def _forget(self) -> None:
        """Remove what has expired, and what is more than may be held."""
        while self._entries:
            key = next(iter(self._entries))
            expires = self._entries[key].expires
            if expires is not None and expires <= self._now:
                self._entries.popitem(last=False)
            elif len(self._entries) > self.max_entries:
                self._note(key, None)
                self._entries.popitem(last=False)
                self._warn()
            else:
                break

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("%s: it holds %d keys, the most it may, and forgets the oldest", self.name, self.max_entries)

    # -- for the runner --------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Note the time, which stands still during a call."""
        self._now = now
        self._forget()

    def keep(self) -> None:
        """Keep what the call has changed."""
        self._kept.update(self._changes)
        self._changes.clear()
        self._before.clear()

    def roll_back(self) -> None:
        """Undo what the call has changed."""
        for key, entry in reversed(self._before.items()):
            if entry is None:
                self._entries.pop(key, None)
                continue
            is_gone = key not in self._entries
            self._entries[key] = entry
            if is_gone:
                self._entries.move_to_end(key, last=False)
        self._changes.clear()
        self._before.clear()

    def take(self) -> dict[Place, Entry | None]:
        """Return what was changed and kept since the last call."""
        self.keep()
        kept, self._kept = self._kept, {}
        return {(self.name, key): entry for key, entry in kept.items()}
