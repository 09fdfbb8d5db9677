"""Tell right keys from wrong ones: Argon2id, done once for each key and remembered by a proof."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from hashlib import sha256
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from ...errors import TransientError
from ...runtime.threads import Threads

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
AT_ONCE = 2
"""How many keys are verified at the same time: each takes 19 MiB and a core for some 20 ms."""
MOST_WAITING = 200
"""How many keys may wait to be verified."""
REMEMBERED = 10_000
"""How many verified keys are remembered."""
LASTS = 3600.0
"""How long they are, in seconds."""


class Shared(Protocol):
    """Where replicas tell each other which keys they have verified; may know nothing, never fails."""

    async def proof(self, key: str) -> bytes | None:
        """Return the proof that was kept for a key id."""

    async def keep(self, key: str, proof: bytes, lasts: float) -> None:
        """Keep a proof for so many seconds."""


def hashed(written: str) -> str:
    """Return what is kept of a key: its Argon2id hash, with its parameters and salt. Takes some 20 ms."""
    return _HASHER.hash(written)


def matches(hash: str, written: str) -> bool:
    """Whether ``hash`` was made of this key. Takes some 20 ms."""
    try:
        return _HASHER.verify(hash, written)
    except (VerificationError, InvalidHashError):
        return False


def proof(hash: str, written: str) -> bytes:
    """Return what only those can know who have both the key and its hash; tells nothing of either."""
    return hmac.digest(hash.encode(), written.encode(), sha256)


class Verifier:
    """Verifies each key by Argon2 once; later by its proof, which ends with the hash it was made with."""

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._asked: dict[tuple[str, bytes], asyncio.Task[bool]] = {}
        self._threads: Threads | None = None
        self.hashes = 0
        """How many times Argon2 was computed."""

    async def knows(self, key: str, hash: str, written: str) -> bool:
        """Whether this key was verified before, here or by another replica."""
        expected = proof(hash, written)
        known = self._known.get(key)
        if known is not None and known[1] > time.monotonic():
            return hmac.compare_digest(known[0], expected)
        found = await self._shared.proof(key) if self._shared is not None else None
        if found is None or not hmac.compare_digest(found, expected):
            return False
        self._remember(key, expected)
        return True

    async def verify(self, key: str, hash: str, written: str) -> bool:
        """Whether ``written`` is the key that ``hash`` was made of; remembers it if so.

        Whoever asks the same meanwhile waits for the same answer. Raises TransientError if too many ask.
        """
        expected = proof(hash, written)
        asked = self._asked.get((key, expected))
        if asked is None:
            if len(self._asked) >= MOST_WAITING:
                raise TransientError("too many keys are being verified; try again")
            asked = asyncio.create_task(self._verify(key, hash, written, expected))
            self._asked[key, expected] = asked
            asked.add_done_callback(lambda _: self._asked.pop((key, expected), None))
        return await asyncio.shield(asked)

    async def _verify(self, key: str, hash: str, written: str, expected: bytes) -> bool:
        if self._threads is None:
            self._threads = Threads(AT_ONCE, "argon2")
        self.hashes += 1
        if not await self._threads.run(matches, hash, written):
            return False
        self._remember(key, expected)
        if self._shared is not None:
            await self._shared.keep(key, expected, LASTS)
        return True

    async def close(self) -> None:
        """Wait for what is being verified, and end the threads."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _remember(self, key: str, expected: bytes) -> None:
        self._known[key] = (expected, time.monotonic() + LASTS)
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
