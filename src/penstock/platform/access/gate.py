"""Who is let in: the key of a request is checked, what it may do, how often, and all of it is written down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import update

from ...apps.health import metrics
from ...apps.health.schema import keys
from ...apps.health.settings import Limit, Settings
from ...errors import PenstockError
from ..database import Database
from ..web.errors import ApiError
from . import addresses
from .audit import Audit, Outcome, entry
from .caller import SCOPES, Caller
from .hashing import Verifier
from .keys import prefix_of
from .limits import Demand, Limits, MemoryLimits, Usage
from .lookup import Lookup, State
from .middleware import GateMiddleware
from .redis import Replicas, SharedLimits, SharedProofs
from .visit import Visit

__all__ = ["Gate", "GateMiddleware", "Passed"]

log = logging.getLogger("penstock.health.access")

USED_EVERY = 60.0
"""How often the last use of a key is written down, in seconds."""
_CHALLENGE = {"www-authenticate": 'Bearer realm="penstock health"'}


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was let in."""

    caller: Caller
    own: Mapping[str, Mapping[str, int]]
    """The limits of the key that are not those of the settings."""
    limit: str
    """The class of limits that it counts in."""
    usages: Sequence[Usage]
    audited: asyncio.Task[None]
    """Done once it is written down that it was let in."""

    def headers(self) -> dict[str, str]:
        """Return what the answer says of the limits."""
        return limit_headers(self.usages[0])


class Gate:
    """Checks each request: its key, the key's scope, and the limits of key and address."""

    def __init__(self, settings: Settings, database: Database, replicas: Replicas | None = None) -> None:
        self.settings, self.database = settings, database
        self.limits: Limits = SharedLimits(replicas) if replicas else MemoryLimits()
        self.verifier = Verifier(SharedProofs(replicas) if replicas else None)
        self.audit = Audit()
        self._replicas = replicas
        self._lookup = Lookup(database)
        self._used: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, settings: Settings, database: Database) -> Gate:
        """Return the gate of a service, which connects with the first request; raises ConfigError."""
        return cls(settings, database, Replicas(settings.redis_url) if settings.redis_url else None)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Gate]:
        """Close what the gate is connected to on leaving; what it was to write down is written first."""
        try:
            yield self
        finally:
            await self.audit.close()
            await asyncio.gather(*self._writing, return_exceptions=True)
            await self._lookup.close()
            await self.verifier.close()
            if self._replicas is not None:
                await self._replicas.close()

    async def admit(self, visit: Visit) -> Passed:
        """Let a request in, or raise ApiError: 401, 403 or 429. Raises TransientError if keys cannot be checked."""
        state = await self._known(visit)
        caller = visit.caller(state)
        usages = await self.limits.admit(self._demands(caller, state.limits, visit.limit, 1, visit.bytes or 0))
        if not all(usage.fits for usage in usages):
            action = "ingest_refused" if visit.limit == "ingest" else "access_refused"
            raise await self._beyond(visit, usages, action, caller)
        if visit.scope != "any" and visit.scope not in state.scopes:
            metrics.authenticated("forbidden")
            await self._write(visit, caller, "access_refused", "refused", missing=visit.scope)
            message = f"this key lacks the scope {visit.scope!r}; it has {', '.join(sorted(state.scopes))}"
            raise ApiError(403, "forbidden", message, headers=limit_headers(usages[0]), details={"scope": visit.scope})
        self._note_use(state.key)
        metrics.authenticated("success")
        audited = asyncio.create_task(self._write(visit, caller, "authentication_success", "success"))
        return Passed(caller=caller, own=state.limits, limit=visit.limit, usages=usages, audited=audited)

    async def spend(self, passed: Passed, bytes: int) -> None:
        """Count the bytes of a body whose length was not known when it was let in."""
        await self.limits.spend(self._demands(passed.caller, passed.own, passed.limit, 0, bytes))

    async def usage(self, passed: Passed) -> dict[str, Usage]:
        """Return what the caller's key has used, by class, without counting anything."""
        demands = [self._demands(passed.caller, passed.own, name, 0, 0)[0] for name in SCOPES]
        return dict(zip(SCOPES, await self.limits.admit(demands), strict=True))

    def _demands(
        self, caller: Caller, own: Mapping[str, Mapping[str, int]], limit: str, requests: int, bytes: int
    ) -> list[Demand]:
        """Return what a request asks of the limits: of its key first, then of its address."""
        granted: Limit = getattr(self.settings, limit)
        if own.get(limit):
            granted = granted.model_copy(update=dict(own[limit]))
        return [
            Demand(f"key:{caller.key}:{limit}", granted, requests, bytes),
            Demand(f"address:{addresses.group(caller.address)}", self.settings.by_address, requests, bytes),
        ]

    async def _known(self, visit: Visit) -> State:
        """Return the key of a request; raises ApiError unless it is a right one that works."""
        if visit.key is None:
            raise await self._unknown(visit, "missing", "this needs a key: Authorization: Bearer hea_...")
        prefix = prefix_of(visit.key)
        try:
            state = await self._lookup.find(prefix) if prefix else None
        except PenstockError:
            metrics.authenticated("unavailable")
            row = entry("authentication_failed", "failed", caller=visit.caller(), details={"reason": "unavailable"})
            await self.audit.write_rarely(row)
            raise
        wrong = "this key is not known; penstock health keys list shows those that are"
        if state is None:
            raise await self._unknown(visit, "unknown" if prefix else "malformed", wrong)
        if not await self.verifier.knows(state.key, state.hash, visit.key):
            await self._refuse_guessing(visit)
            if not await self.verifier.verify(state.key, state.hash, visit.key):
                raise await self._unknown(visit, "wrong", wrong, state)
        if refusal := state.refusal():
            raise await self._unknown(visit, refusal, f"this key is {refusal}; make a new one", state)
        return state

    async def _refuse_guessing(self, visit: Visit) -> None:
        """Verify nothing for an address that has shown too many wrong keys; keys verified before still pass."""
        usages = await self.limits.admit([self._failure(visit, 0)])
        if not usages[0].remaining_requests:
            usages = await self.limits.admit([self._failure(visit, 1)])
            raise await self._beyond(visit, usages, "authentication_failed", visit.caller())

    async def _unknown(self, visit: Visit, reason: str, message: str, state: State | None = None) -> ApiError:
        """Return why a request is not let in: 401, or 429 for an address that shows too many wrong keys."""
        metrics.authenticated("unknown" if reason == "wrong" else reason, "none" if reason == "missing" else "hea")
        wrong = reason in ("malformed", "unknown", "wrong")
        address = Demand(f"address:{addresses.group(visit.address)}", self.settings.by_address)
        usages = await self.limits.admit([self._failure(visit, 1), address] if wrong else [address])
        caller = visit.caller(state) if state is not None and reason != "wrong" else visit.caller()
        if not all(usage.fits for usage in usages):
            return await self._beyond(visit, usages, "authentication_failed", caller)
        row = entry(
            "authentication_failed",
            "refused",
            caller=caller,
            resource=visit.route,
            details={"reason": reason},
            user=state.user if state is not None else None,
            key=state.key if state is not None else None,
        )
        await self.audit.write(row)
        return ApiError(401, "authentication", message, headers=_CHALLENGE | limit_headers(usages[0]))

    def _failure(self, visit: Visit, requests: int) -> Demand:
        return Demand(f"failures:{addresses.group(visit.address)}", self.settings.failures, requests)

    async def _beyond(self, visit: Visit, usages: Sequence[Usage], action: str, caller: Caller) -> ApiError:
        """Return that a limit is reached, and write it down, once a minute for each that goes on."""
        usage = next(usage for usage in usages if not usage.fits)
        metrics.authenticated("limited")
        limits = {self.settings.by_address: "by_address", self.settings.failures: "failures"}
        metrics.refused(limits.get(usage.limit, visit.limit))
        details = {"reason": "rate_limit_exceeded", "limit": visit.limit}
        await self.audit.write_rarely(entry(action, "refused", caller=caller, resource=visit.route, details=details))
        seconds = max(1, -int(-usage.retry // 1))
        return ApiError(
            429,
            "rate_limit_exceeded",
            f"too much within the hour, and no allowance of the day is left; try again in {seconds} s",
            headers={"retry-after": str(seconds), **limit_headers(usage)},
            details={"retry_after": seconds, "rate_limit": limit_body(usage)},
        )

    async def _write(self, visit: Visit, caller: Caller, action: str, outcome: Outcome, **details: Any) -> None:
        await self.audit.record(action, outcome, caller=caller, resource=visit.route, details=details or None)

    def _note_use(self, key: str) -> None:
        """Write down when the key was last used, off the way of the request."""
        now = time.monotonic()
        if now - self._used.get(key, -USED_EVERY) < USED_EVERY:
            return
        self._used[key] = now
        task = asyncio.create_task(self._write_use(key))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_use(self, key: str) -> None:
        used = update(keys).where(keys.c.id == key).values(last_used_at=datetime.now(UTC))
        try:
            await self.database.run(lambda connection: connection.execute(used), changes=True)
        except PenstockError as error:
            log.warning("the last use of key %s is not written down: %s", key, error)


def limit_headers(usage: Usage) -> dict[str, str]:
    """Return what an answer says of a limit; ``-reset`` is the time at which more is free, in seconds since 1970."""
    requests, bytes = usage.remaining_allowance
    return {
        "x-ratelimit-limit": str(usage.limit.requests),
        "x-ratelimit-remaining": str(usage.remaining_requests),
        "x-ratelimit-reset": str(int(time.time() + usage.reset) + 1),
        "x-ratelimit-window": "3600",
        "x-ratelimit-bytes-limit": str(usage.limit.bytes),
        "x-ratelimit-bytes-remaining": str(usage.remaining_bytes),
        "x-ratelimit-allowance-remaining": str(requests),
        "x-ratelimit-allowance-bytes-remaining": str(bytes),
    }


def limit_body(usage: Usage) -> dict[str, Any]:
    """Return a limit and its usage as JSON shows them."""
    requests, bytes = usage.remaining_allowance
    return {
        "window": 3600,
        "limit": usage.limit.requests,
        "remaining": usage.remaining_requests,
        "reset": int(time.time() + usage.reset) + 1,
        "bytes_limit": usage.limit.bytes,
        "bytes_remaining": usage.remaining_bytes,
        "allowance": {
            "window": 86_400,
            "limit": usage.limit.allowance_requests,
            "remaining": requests,
            "bytes_limit": usage.limit.allowance_bytes,
            "bytes_remaining": bytes,
        },
    }
