from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from pydantic import SecretStr

from penstock.backoff import Backoff
from penstock.platform.access import redis
from penstock.platform.access.limits import DAY, HOUR, Demand
from penstock.platform.access.scopes import Limit

SOON = Backoff.model_validate({"initial": "100ms", "maximum": "100ms"})
ANYTHING = Limit(requests=10_000, bytes=10**9)


async def test_two_gates_with_one_redis_are_one_limit(open_gate, any_database, redis_url):
    settings = {"redis_url": SecretStr(redis_url), "read": Limit(requests=20, bytes=1000)}
    async with open_gate(any_database, **settings) as first, open_gate(any_database, **settings) as second:
        made = await first.make()
        answers = await asyncio.gather(*(gate.get(made.secret) for gate in [first, second] * 25))
        assert sorted(answer.status_code for answer in answers) == [200] * 20 + [429] * 30
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 0 < refused.json()["retry_after"] <= 3660
        await second.client.post("/readings", headers={"api-key": made.secret}, content=b"x" * 100)
        answer = await first.client.post("/readings", headers={"api-key": made.secret}, content=b"x" * 100)
        assert answer.headers["x-ratelimit-bytes-remaining"] == str(10_000_000 - 200)


async def test_a_key_that_one_replica_has_verified_costs_another_no_argon2(open_gate, database, redis_url):
    settings = {"redis_url": SecretStr(redis_url)}
    async with open_gate(database, **settings) as first, open_gate(database, **settings) as second:
        made = await first.make()
        assert (await first.get(made.secret)).status_code == 200
        assert (await second.get(made.secret)).status_code == 200
        assert (first.gate.verifier.hashes, second.gate.verifier.hashes) == (1, 0)
        assert (await second.get(made.key.prefix + "0" * 32)).status_code == 401


async def test_nothing_in_redis_tells_a_key_or_lives_for_ever(open_gate, database, redis_url):
    limit = Limit(requests=1, bytes=100, allowance_requests=5)
    async with open_gate(database, redis_url=SecretStr(redis_url), read=limit) as service:
        made = await service.make()
        for _ in range(3):
            await service.get(made.secret)
        await service.get(made.key.prefix + "0" * 32)
        client = service.gate._replicas._client
        names = [name async for name in client.scan_iter("*")]
        assert len(names) >= 4
        for name in names:
            text = name + await client.get(name)
            assert made.secret.removeprefix(made.key.prefix).encode() not in text
            assert bytes.fromhex(made.secret.removeprefix(made.key.prefix)) not in text
            assert 0 < await client.ttl(name) <= DAY.length + DAY.bucket
        assert b"key:" + made.key.id.encode() + b":toys.read" in b" ".join(names)
        name = f"{redis.NAMESPACE}:limit:address:127.0.0.1"
        assert await client.ttl(name) <= HOUR.length + HOUR.bucket


async def test_what_somebody_plants_in_redis_opens_nothing(open_gate, database, redis_url):
    async with open_gate(database, redis_url=SecretStr(redis_url)) as service:
        made = await service.make()
        wrong = made.key.prefix + "0" * 32
        client = service.gate._replicas._client
        for planted in (b"", b"1", wrong.encode(), made.key.id.encode()):
            await client.set(f"{redis.NAMESPACE}:verified:{made.key.id}", planted)
            assert (await service.get(wrong)).status_code == 401
        await client.set(f"{redis.NAMESPACE}:limit:key:{made.key.id}:toys.read", b"\xff garbage")
        assert (await service.get(made.secret)).status_code == 200, "what cannot be read is as if Redis were away"


async def test_while_redis_is_away_each_replica_limits_by_itself(
    open_gate, database, redis_server, caplog, monkeypatch
):
    monkeypatch.setattr(redis, "BACKOFF", SOON)
    caplog.set_level("INFO", "penstock")
    settings = {"redis_url": SecretStr(redis_server.url), "read": Limit(requests=8, bytes=1000)}
    async with open_gate(database, **settings) as service, open_gate(database, **settings) as other:
        made = await service.make()
        assert [(await service.get(made.secret)).status_code for _ in range(4)] == [200] * 4
        await asyncio.to_thread(redis_server.kill)
        statuses = [(await service.get(made.secret)).status_code for _ in range(6)]
        assert statuses == [200] * 4 + [429] * 2, "it knows what it let in itself before"
        assert (await other.get(made.secret)).status_code == 200
        await asyncio.to_thread(redis_server.start)
        await until_back(service, other)
        remaining = int((await service.get(made.secret)).headers["x-ratelimit-remaining"])
        assert remaining < 8
        assert (await other.get(made.secret)).headers["x-ratelimit-remaining"] == str(remaining - 1)
    lines = [record.getMessage() for record in caplog.records if "shared with other replicas" in record.getMessage()]
    assert len([line for line in lines if "for now" in line]) == 2, "once for each of the two gates"
    assert len([line for line in lines if "again" in line]) == 2
    assert redis_server.password not in caplog.text


async def test_a_redis_that_hangs_holds_up_one_request_at_most(open_gate, database, redis_server, monkeypatch):
    monkeypatch.setattr(redis, "BACKOFF", SOON)
    monkeypatch.setattr(redis, "ANSWER_TIMEOUT", 1.0)
    settings = {"redis_url": SecretStr(redis_server.url), "read": ANYTHING}
    async with open_gate(database, **settings) as service:
        made = await service.make()
        assert (await service.get(made.secret)).status_code == 200
        redis_server.pause()
        began = time.monotonic()
        answers = [await service.get(made.secret) for _ in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20
        assert time.monotonic() - began < 20 * redis.ANSWER_TIMEOUT  # not each waits for it
        redis_server.resume()
        await until_back(service)
        assert (await service.get(made.secret)).status_code == 200


async def test_without_any_redis_at_the_url_the_service_goes_on(open_gate, database):
    async with open_gate(database, redis_url=SecretStr("redis://127.0.0.1:1/0")) as service:
        made = await service.make()
        assert [(await service.get(made.secret)).status_code for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("hours", [1, 30])
async def test_usage_of_long_ago_is_dropped(redis_url, hours):
    replicas = redis.Replicas(SecretStr(redis_url))
    limits = redis.SharedLimits(replicas)
    try:
        limit = Limit(requests=2, bytes=10, allowance_requests=1)
        demand = [Demand("key:1:read", limit)]
        assert [(await limits.admit(demand))[0].fits for _ in range(4)] == [True] * 3 + [False]
        name = f"{redis.NAMESPACE}:limit:key:1:read"
        hour, day = msgspec.msgpack.decode(await replicas._client.get(name))
        shift = hours * 3600 + 120
        older = [[hour[0] - shift // 60, *hour[1:]], [day[0] - shift // 900, *day[1:]]]
        await replicas._client.set(name, msgspec.msgpack.encode(older))
        expected = [True, True, hours > 24, False]
        assert [(await limits.admit(demand))[0].fits for _ in range(4)] == expected
    finally:
        await replicas.close()


async def until_back(*services):
    """Redis is tried by requests: ask with none of the limits that are counted here."""

    def are_back():
        for service in services:
            if service.gate._replicas.is_away:
                asyncio.ensure_future(service.gate._replicas.ask(None))  # noqa: RUF006
        return not any(service.gate._replicas.is_away for service in services)

    await until(are_back)


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not happen within 10 s")
