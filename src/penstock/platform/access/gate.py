"""Admit requests: check the key or session, its scope and its limits, and write all of it down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from ...clock import Clock
from ...errors import PenstockError
from ..cache import Cache
from ..database import Database
from ..web.errors import ApiError
from . import addresses, sessions
from .audit import Audit, Outcome, entry
from .caller import Caller
from .hashing import DUMMY_HASH, Verifier
from .keys import prefix_of
from .limits import Demand, Limits, MemoryLimits, Usage
from .lookup import Lookup, State
from .middleware import GateMiddleware
from .options import AccessOptions
from .redis import Replicas, SharedDigests, SharedLimits
from .request import AuthRequest
from .scopes import ANY, Scopes, narrowed
from .usage import LastUse

__all__ = ["Admission", "Gate", "GateMiddleware"]

log = logging.getLogger("penstock.access")

CACHE_SIZE = 10_000
"""Of how many sessions it is remembered that their use was written down."""

_CHALLENGE = {"www-authenticate": 'Bearer realm="penstock"'}


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was admitted."""

    caller: Caller
    own: Mapping[str, Mapping[str, int]]
    """The limits of the key that differ from those of its scopes."""
    limit: str
    """The scope in whose limit it counts."""
    usages: Sequence[Usage]
    audited: asyncio.Future[None]
    """Done once the admission is written down."""

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer that tell of the limits."""
        return limit_headers(self.usages[0])


class Observer:
    """Is told what becomes of requests, for metrics; by default does nothing."""

    def authenticated(self, result: str, key: str = "key") -> None:
        """Take note of an authentication; ``key`` is "none" if there was no key."""

    def limited(self, limit: str) -> None:
        """Take note of a limit that was reached: "by_address", "failures" or the name of a scope."""


class Gate:
    """Check each request: its key, the key's scope, and the limits of key and address."""

    def __init__(
        self,
        options: AccessOptions,
        scopes: Scopes,
        database: Database,
        *,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.options, self.scopes, self.database = options, scopes, database
        self._clock = clock or Clock()
        self._replicas = Replicas(options.redis_url, clock=clock) if options.redis_url else None
        self.limits: Limits = SharedLimits(self._replicas) if self._replicas else MemoryLimits(clock)
        self.verifier = Verifier(SharedDigests(self._replicas) if self._replicas else None, clock)
        self.audit = Audit(clock=clock)
        self._observer = observer or Observer()
        self._lookup = Lookup(database, clock)
        self._used = LastUse(database, clock)
        self._seen: Cache[str, bool] = Cache(ttl=sessions.SEEN_INTERVAL, size=CACHE_SIZE, clock=clock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Gate]:
        """Write down what is pending and disconnect on leaving."""
        try:
            yield self
        finally:
            await self.audit.close()
            await self._used.close()
            await self._lookup.close()
            await self.verifier.close()
            if self._replicas is not None:
                await self._replicas.close()

    async def admit(self, request: AuthRequest, *, is_frequent: bool = False) -> Admission:
        """Admit a request, or raise ApiError: 401, 403 or 429. Raises TransientError if keys cannot be checked.

        Of requests that come many times a second, and of sessions, admissions are written down once a minute for each.
        """
        state = await self._authenticate(request)
        caller = request.caller(state)
        usages = await self.limits.admit(self._demands(caller, state.limits, request.limit, 1, request.bytes or 0))
        if not all(usage.fits for usage in usages):
            action = "ingest_refused" if request.limit.endswith(".ingest") else "access_refused"
            raise await self._beyond(request, usages, action, caller)
        if request.scope != ANY and request.scope not in state.scopes:
            self._observer.authenticated("forbidden")
            await self._write(request, caller, "access_refused", "refused", missing=request.scope)
            shown = "session" if state.session else "key"
            message = (
                f"this {shown} lacks the scope {request.scope!r}; it has {', '.join(sorted(state.scopes)) or 'none'}"
            )
            headers, details = limit_headers(usages[0]), {"scope": request.named}
            raise ApiError(403, "forbidden", message, headers=headers, details=details)
        if not state.session:
            self._used.note(state.key)
        self._observer.authenticated("success")
        if is_frequent or state.session:
            audited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            audited.set_result(None)
            row = entry("authentication_success", "success", caller=caller, resource=request.route)
            await self.audit.write_rarely(row)
        else:
            audited = asyncio.ensure_future(self._write(request, caller, "authentication_success", "success"))
        return Admission(caller=caller, own=state.limits, limit=request.limit, usages=usages, audited=audited)

    async def redeem(self, request: AuthRequest, token: str, lifetime: sessions.Lifetime) -> sessions.Begun:
        """Begin a session by a link; raises ApiError: 401 for a wrong one, 429 for too many of them."""
        await self._refuse_guessing(request)
        begin = partial(sessions.redeem, token=token, caller=request.caller(), lifetime=lifetime)
        try:
            return await self.database.run(begin, changes=True)
        except sessions.NoSuchSession as error:
            raise await self._unknown(request, "unknown", str(error)) from None

    async def spend(self, admission: Admission, bytes: int) -> None:
        """Count the bytes of a body whose length was not known when it was admitted."""
        await self.limits.spend(self._demands(admission.caller, admission.own, admission.limit, 0, bytes))

    async def usage(self, admission: Admission, application: str) -> dict[str, Usage]:
        """Return the use of the caller's key by scope of ``application``, without counting anything."""
        names = self.scopes.of_application(application)
        demands = [self._demands(admission.caller, admission.own, name, 0, 0)[0] for name in names]
        return dict(zip(names, await self.limits.admit(demands), strict=True))

    def _demands(
        self, caller: Caller, own: Mapping[str, Mapping[str, int]], limit: str, requests: int, bytes: int
    ) -> list[Demand]:
        """Return what a request asks of the limits: of its key first, then of its address."""
        granted = self.scopes.limit(limit)
        if own.get(limit):
            granted = narrowed(granted, own[limit], limit)
        subject = f"session:{caller.session}" if caller.session else f"key:{caller.key}"
        demands = [Demand(f"{subject}:{limit}", granted, requests, bytes)]
        if not self.scopes.is_of_things(limit):
            address = f"address:{addresses.group(caller.address)}"
            demands.append(Demand(address, self.options.by_address, requests, bytes))
        return demands

    async def _authenticate(self, request: AuthRequest) -> State:
        """Return the state of the key, or of the session where no key is shown; raises ApiError unless it works.

        An unknown key is verified like a wrong one: the time of a refusal does not tell which prefixes exist.
        """
        if request.key is None:
            return await self._authenticate_session(request)
        wrong = "this key is not known; penstock keys list shows those that are"
        prefix = prefix_of(request.key)
        if prefix is None:
            raise await self._unknown(request, "malformed", wrong)
        try:
            state = await self._lookup.find(prefix)
        except PenstockError:
            self._observer.authenticated("unavailable")
            row = entry("authentication_failed", "failed", caller=request.caller(), details={"reason": "unavailable"})
            await self.audit.write_rarely(row)
            raise
        key, hash = (state.key, state.hash) if state is not None else (prefix, DUMMY_HASH)
        if not await self.verifier.is_verified(key, hash, request.key):
            await self._refuse_guessing(request)
            if not await self.verifier.verify(key, hash, request.key) or state is None:
                raise await self._unknown(request, "unknown" if state is None else "wrong", wrong, state)
        assert state is not None
        if refusal := state.refusal(datetime.fromtimestamp(self._clock.time(), UTC)):
            raise await self._unknown(request, refusal, f"this key is {refusal}; make a new one", state)
        return state

    async def _authenticate_session(self, request: AuthRequest) -> State:
        """Return the state of the session; raises ApiError unless there is one that works and a page of ours uses it.

        A session that is not known counts like a missing key: browsers show old ones, and nobody guesses one.
        """
        if not request.sessions:
            raise await self._unknown(request, "missing", "this needs a key: Authorization: Bearer pen_...")
        if request.foreign is not None:
            raise ApiError(403, "forbidden", request.foreign)
        state = await self.database.run(partial(sessions.find, tokens=request.sessions))
        if state is None:
            raise await self._unknown(request, "missing", "this session has ended; sign in again")
        if not self._seen.get(state.session):
            self._seen.put(state.session, True)
            await self.database.run(partial(sessions.touch, id=state.session), changes=True)
        return state

    async def _refuse_guessing(self, request: AuthRequest) -> None:
        """Verify nothing for an address that has shown too many wrong keys; keys verified before still pass."""
        usages = await self.limits.admit([self._failure(request, 0)])
        if not usages[0].remaining_requests:
            usages = await self.limits.admit([self._failure(request, 1)])
            raise await self._beyond(request, usages, "authentication_failed", request.caller())

    async def _unknown(self, request: AuthRequest, reason: str, message: str, state: State | None = None) -> ApiError:
        """Return the refusal: 401, or 429 for an address that shows too many wrong keys."""
        self._observer.authenticated(
            "unknown" if reason == "wrong" else reason, "none" if reason == "missing" else "key"
        )
        is_wrong = reason in ("malformed", "unknown", "wrong")
        address = Demand(f"address:{addresses.group(request.address)}", self.options.by_address)
        usages = await self.limits.admit([self._failure(request, 1), address] if is_wrong else [address])
        caller = request.caller(state) if state is not None and reason != "wrong" else request.caller()
        if not all(usage.fits for usage in usages):
            return await self._beyond(request, usages, "authentication_failed", caller)
        row = entry(
            "authentication_failed",
            "refused",
            caller=caller,
            resource=request.route,
            details={"reason": reason},
            user=state.user if state is not None else None,
            key=state.key if state is not None else None,
        )
        await self.audit.write(row)
        return ApiError(401, "authentication", message, headers=_CHALLENGE | limit_headers(usages[0]))

    def _failure(self, request: AuthRequest, requests: int) -> Demand:
        return Demand(f"failures:{addresses.group(request.address)}", self.options.failures, requests)

    async def _beyond(self, request: AuthRequest, usages: Sequence[Usage], action: str, caller: Caller) -> ApiError:
        """Return that a limit is reached, and write it down, once a minute for each that goes on."""
        usage = next(usage for usage in usages if not usage.fits)
        self._observer.authenticated("limited")
        limits = {self.options.by_address: "by_address", self.options.failures: "failures"}
        self._observer.limited(limits.get(usage.limit, request.limit))
        details = {"reason": "rate_limit_exceeded", "limit": request.limit}
        await self.audit.write_rarely(entry(action, "refused", caller=caller, resource=request.route, details=details))
        seconds = max(1, -int(-usage.retry // 1))
        return ApiError(
            429,
            "rate_limit_exceeded",
            f"too much within the hour, and no allowance of the day is left; try again in {seconds} s",
            headers={"retry-after": str(seconds), **limit_headers(usage)},
            details={"retry_after": seconds, "rate_limit": limit_body(usage)},
        )

    async def _write(self, request: AuthRequest, caller: Caller, action: str, outcome: Outcome, **details: Any) -> None:
        await self.audit.record(action, outcome, caller=caller, resource=request.route, details=details or None)


def limit_headers(usage: Usage) -> dict[str, str]:
    """Return the headers that tell of a limit; ``-reset`` is when more is free, in seconds since 1970."""
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
    """Return a limit and its usage as JSON."""
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
