"""Tell right keys from wrong ones: by Argon2id once for each key, later by a digest that is remembered."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Protocol

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from ...clock import Clock
from ...runtime.threads import Threads
from ..cache import Cache, SingleFlight

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
DUMMY_HASH = "$argon2id$v=19$m=19456,t=2,p=1$BVpZ3Qp+BsE1UAIAfyHgzw$rh9cgHSH+B6asXnjffcxESudBwV3PGoxczUv/cYOm8g"
"""The hash of a text that nobody knows: what an unknown key is verified against, so that it takes as long."""
MAX_THREADS = 2
"""How many keys are verified at the same time: each takes 19 MiB and a core for some 20 ms."""
QUEUE_SIZE = 200
"""How many keys may be in verification or wait for it."""
CACHE_SIZE = 10_000
"""How many verified keys are remembered."""
VERIFIED_TTL = 3600.0
"""How long a verified key is remembered, in seconds."""


class SharedKeys(Protocol):
    """Where replicas tell each other which keys they have verified; may know nothing, never fails."""

    async def digest(self, key: str) -> bytes | None:
        """Return the digest that was kept for a key id."""

    async def keep(self, key: str, digest: bytes, ttl: float) -> None:
        """Keep a digest for ``ttl`` seconds."""


def hashed(written: str) -> str:
    """Return the Argon2id hash of a key, with its parameters and salt. Takes some 20 ms."""
    return _HASHER.hash(written)


def matches(hash: str, written: str) -> bool:
    """Tell whether ``hash`` was made of this key. Takes some 20 ms."""
    try:
        return _HASHER.verify(hash, written)
    except (VerificationError, InvalidHashError):
        return False


def digest(hash: str, written: str) -> bytes:
    """Return a digest that only a holder of both the key and its hash can make; it reveals neither."""
    return hmac.digest(hash.encode(), written.encode(), sha256)


class Verifier:
    """Verify each key by Argon2 once, later by its digest, which is void as soon as the hash changes."""

    def __init__(self, shared: SharedKeys | None = None, clock: Clock | None = None) -> None:
        self._shared = shared
        self._verified: Cache[str, bytes] = Cache(ttl=VERIFIED_TTL, size=CACHE_SIZE, clock=clock)
        self._running: SingleFlight[tuple[str, bytes], bool] = SingleFlight(size=QUEUE_SIZE)
        self._threads: Threads | None = None
        self.hashes = 0
        """How many times Argon2 was computed."""

    async def is_verified(self, key: str, hash: str, written: str) -> bool:
        """Tell whether this key was verified before, here or by another replica."""
        expected = digest(hash, written)
        known = self._verified.get(key)
        if known is not None:
            return hmac.compare_digest(known, expected)
        found = await self._shared.digest(key) if self._shared is not None else None
        if found is None or not hmac.compare_digest(found, expected):
            return False
        self._verified.put(key, expected)
        return True

    async def verify(self, key: str, hash: str, written: str) -> bool:
        """Tell whether ``written`` is the key that ``hash`` was made of; remembers it if so.

        Whoever asks the same meanwhile waits for the same result. Raises TransientError if too many ask.
        """
        expected = digest(hash, written)
        return await self._running.run((key, expected), lambda: self._verify(key, hash, written, expected))

    async def _verify(self, key: str, hash: str, written: str, expected: bytes) -> bool:
        if self._threads is None:
            self._threads = Threads(MAX_THREADS, "argon2")
        self.hashes += 1
        if not await self._threads.run(matches, hash, written):
            return False
        self._verified.put(key, expected)
        if self._shared is not None:
            await self._shared.keep(key, expected, VERIFIED_TTL)
        return True

    async def close(self) -> None:
        """Wait for what is being verified, and end the threads."""
        await self._running.close()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
