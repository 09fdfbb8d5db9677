"""Usage and verified keys in Redis, so that all replicas share them; each for itself while Redis is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from pydantic import SecretStr

from ...backoff import Backoff
from ...clients import redis
from ...clock import Clock
from ..cache import SingleFlight
from .limits import DAY, HOUR, Counts, Demand, MemoryLimits, Usage, usage

log = logging.getLogger("penstock.access")

ANSWER_TIMEOUT = 0.5
"""How long Redis may take, in seconds."""
BACKOFF = Backoff.model_validate({"initial": "1s", "maximum": "10s"})
"""How often Redis is tried while it is away."""
NAMESPACE = "{penstock}"
"""The beginning of all names in Redis; the braces keep them on one server of a cluster."""

T = TypeVar("T")

ADMIT = """
local now = tonumber(redis.call('TIME')[1])
local windows = {{tonumber(ARGV[2]), tonumber(ARGV[3])}, {tonumber(ARGV[4]), tonumber(ARGV[5])}}
local force = ARGV[1] == '1'

-- The buckets of a window are {number, requests, bytes, number, requests, bytes, ...}, the oldest first.
local function current(list, window)
    local first, kept = math.floor(now / window[1]) - window[2], {}
    for i = 1, #list, 3 do
        if list[i] >= first then
            kept[#kept + 1], kept[#kept + 2], kept[#kept + 3] = list[i], list[i + 1], list[i + 2]
        end
    end
    return kept
end

local function sum(list, part)
    local total = 0
    for i = part + 1, #list, 3 do total = total + list[i] end
    return total
end

local function take(list, window, part, want)
    local bucket = math.floor(now / window[1])
    if #list == 0 or list[#list - 2] < bucket then
        list[#list + 1], list[#list + 2], list[#list + 3] = bucket, 0, 0
    end
    list[#list - 2 + part] = list[#list - 2 + part] + want
end

local subjects, all_fit = {}, true
for number, key in ipairs(KEYS) do
    local raw = redis.call('GET', key)
    local kept = raw and cmsgpack.unpack(raw) or {{}, {}}
    local subject = {hour = current(kept[1], windows[1]), day = current(kept[2], windows[2]), fits = 1, within = {}}
    for part = 1, 2 do
        local at = 5 + (number - 1) * 6 + (part - 1) * 3
        local want, hour, day = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
        subject[part] = want
        subject.within[part] = sum(subject.hour, part) + want <= hour
        if want > 0 and not subject.within[part] and sum(subject.day, part) + want > day then
            subject.fits, all_fit = 0, false
        end
    end
    subjects[number] = subject
end

local answer = {now}
for number, key in ipairs(KEYS) do
    local subject, changed = subjects[number], false
    if all_fit or force then
        for part = 1, 2 do
            if subject[part] > 0 then
                local window = subject.within[part] and 1 or 2
                take(window == 1 and subject.hour or subject.day, windows[window], part, subject[part])
                changed = true
            end
        end
    end
    if changed then
        local longest = windows[#subject.day > 0 and 2 or 1]
        local lasts = longest[1] * (longest[2] + 1)
        redis.call('SET', key, cmsgpack.pack({subject.hour, subject.day}), 'EX', lasts)
    end
    answer[number + 1] = {subject.fits, cmsgpack.pack({subject.hour, subject.day})}
end
return answer
"""
"""Takes all demands or none, in one step: Redis runs nothing else meanwhile, and its clock counts."""


class Replicas:
    """A Redis that several replicas share; while it is away nobody waits for it, and it is tried with a backoff."""

    def __init__(self, url: SecretStr, *, backoff: Backoff | None = None, clock: Clock | None = None) -> None:
        self._url, self._backoff, self._clock = url, backoff or BACKOFF, clock or Clock()
        self._client = redis.client(url, timeout=ANSWER_TIMEOUT)
        self._failures = 0
        self._retry_at = 0.0
        self._trying: SingleFlight[str, None] = SingleFlight(size=1)
        self.admit = self._client.register_script(ADMIT)

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        return self._failures > 0

    async def ask(self, question: Callable[[Any], Awaitable[T]]) -> T | None:
        """Return the answer to ``question``, a call of the client; None while Redis is away."""
        if self.is_away:
            if self._clock.monotonic() >= self._retry_at:
                self._trying.start("redis", self._try)
            return None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await question(self._client)
        except Exception as error:
            if not self.is_away:
                log.warning(
                    "limits and keys are not shared with other replicas for now: %s",
                    redis.classify_error(error, self._url),
                )
                self._note_failure()
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._trying.close()
        await self._client.aclose()

    async def _try(self) -> None:
        """Give up broken connections, and see whether Redis takes writes again."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._client.connection_pool.disconnect(inuse_connections=False)
                await self._client.set(f"{NAMESPACE}:alive", 1, ex=60)
        except Exception:
            self._note_failure()
        else:
            self._failures = 0
            log.info("limits and keys are shared with other replicas again")

    def _note_failure(self) -> None:
        self._retry_at = self._clock.monotonic() + self._backoff.delay(self._failures)
        self._failures += 1


class SharedLimits:
    """Count in Redis, and beside it in this process, by which it goes on while Redis is away."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._own = MemoryLimits()

    async def admit(self, demands: Sequence[Demand]) -> list[Usage]:
        """Take all of the demands if all fit, else none of them, in one round trip."""
        found = await self._ask(demands, force=False)
        if found is None:
            return await self._own.admit(demands)
        if all(usage.fits for usage in found):
            await self._own.spend(demands)
        return found

    async def spend(self, demands: Sequence[Demand]) -> None:
        """Take the demands, whether they fit or not."""
        await self._ask(demands, force=True)
        await self._own.spend(demands)

    async def _ask(self, demands: Sequence[Demand], *, force: bool) -> list[Usage] | None:
        arguments: list[int] = [int(force), *HOUR, *DAY]
        for of in demands:
            limit = of.limit
            arguments += [of.requests, limit.requests, limit.allowance_requests]
            arguments += [of.bytes, limit.bytes, limit.allowance_bytes]
        names = [f"{NAMESPACE}:limit:{demand.subject}" for demand in demands]
        answer = await self._replicas.ask(lambda _: self._replicas.admit(keys=names, args=arguments))
        if answer is None:
            return None
        now, *subjects = answer
        return [
            usage(demand, _counts(packed), float(now), bool(fits))
            for demand, (fits, packed) in zip(demands, subjects, strict=True)
        ]


class SharedDigests:
    """Tell replicas which keys were verified; a digest is worth nothing without the key and its hash."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def digest(self, key: str) -> bytes | None:
        """Return the digest that was kept for a key id."""
        found: bytes | None = await self._replicas.ask(lambda client: client.get(f"{NAMESPACE}:verified:{key}"))
        return found

    async def keep(self, key: str, digest: bytes, ttl: float) -> None:
        """Keep a digest for ``ttl`` seconds."""
        await self._replicas.ask(lambda client: client.set(f"{NAMESPACE}:verified:{key}", digest, ex=int(ttl)))


def _counts(packed: bytes) -> Counts:
    counts = Counts()
    hour, day = msgspec.msgpack.decode(packed)
    for buckets, triples in ((counts.hour, hour), (counts.day, day)):
        for at in range(0, len(triples), 3):
            buckets[int(triples[at])] = [int(triples[at + 1]), int(triples[at + 2])]
    return counts
