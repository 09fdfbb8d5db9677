from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from sqlalchemy import select, update

from penstock.clock import Clock
from penstock.platform.access import keys, lookup, schema
from penstock.platform.access.scopes import Limit

ANYTHING = Limit(requests=10_000, bytes=10**9)


class ShiftedClock(Clock):
    """The clock of the machine, put on by ``shift`` seconds."""

    shift = 0.0

    def time(self) -> float:
        return super().time() + self.shift

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_may_come_in_three_headers(open_gate, database, header):
    async with open_gate(database) as service:
        made = await service.make()
        value = f"Bearer {made.secret}" if header == "authorization" else made.secret
        answer = await service.client.get("/readings", headers={header: value})
        assert answer.status_code == 200
        assert answer.json() == {"user": "me", "address": "127.0.0.1", "key": made.key.id}


async def test_another_kind_of_authorization_does_not_hide_the_key(open_gate, database):
    async with open_gate(database) as service:
        made = await service.make()
        for authorization in ("Basic dXNlcjpwYXNz", f"bearer   {made.secret} ", made.secret, "\x80\xff"):
            headers = [(b"Authorization", authorization.encode("latin-1")), (b"X-API-Key", made.secret.encode())]
            assert (await service.client.get("/readings", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "key", [None, "pen_", "x" * 5000, "pen_" + "0" * 40, "' OR 1=1 --", "pen_00000000\x80" + "0" * 31]
)
async def test_without_a_right_key_the_answer_is_401_as_json(open_gate, any_database, key):
    async with open_gate(any_database) as service:
        await service.make()
        headers = [(b"x-api-key", key.encode("latin-1"))] if key else []
        answer = await service.client.get("/readings", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="penstock"'
        assert answer.json()["error"] == "authentication"
        assert answer.json()["success"] is False
        assert answer.headers["x-ratelimit-limit"]
        expected = 1 if key is not None and keys.prefix_of(key) else 0
        assert service.gate.verifier.hashes == expected, "an unknown key takes as long as a wrong one"


async def test_a_wrong_secret_behind_a_right_prefix_is_401(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make()
        assert (await service.get(made.key.prefix + "0" * 32)).status_code == 401
        assert (await service.get(made.secret)).status_code == 200
        assert (await service.get(made.key.prefix + "0" * 32)).status_code == 401


async def test_argon2_is_computed_once_for_a_key(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make()
        for _ in range(5):
            assert (await service.get(made.secret)).status_code == 200
        assert service.gate.verifier.hashes == 1


async def test_a_revoked_key_is_refused_at_once(open_gate, any_database):
    async with open_gate(any_database) as service, open_gate(any_database) as replica:
        made = await service.make()
        assert (await service.get(made.secret)).status_code == 200
        assert (await replica.get(made.secret)).status_code == 200
        await any_database.run(lambda c: keys.revoke(c, made.key.id))
        for each in (service, replica):
            answer = await each.get(made.secret)
            assert answer.status_code == 401
            assert "revoked" in answer.json()["message"]


async def test_an_expired_key_is_refused(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make(expires_at=datetime.now(UTC) + timedelta(hours=1))
        assert (await service.get(made.secret)).status_code == 200
        past = update(schema.keys).values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        await any_database.run(lambda c: c.execute(past))
        answer = await service.get(made.secret)
        assert answer.status_code == 401
        assert "expired" in answer.json()["message"]


async def test_a_replaced_key_works_until_its_overlap_ends(open_gate, any_database):
    clock = ShiftedClock()
    async with open_gate(any_database, clock=clock) as service:
        old = await service.make()
        new = await any_database.run(lambda c: keys.rotate(c, old.key.id, overlap=3600))
        assert (await service.get(old.secret)).status_code == 200
        assert (await service.get(new.secret)).status_code == 200
        clock.shift = 3601.0
        assert (await service.get(old.secret)).status_code == 401
        assert (await service.get(new.secret)).status_code == 200


async def test_a_key_is_good_for_its_scopes_only(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make(scopes=["write"])
        assert (await service.get(made.secret, "/any")).status_code == 200
        answer = await service.get(made.secret)
        assert answer.status_code == 403
        assert answer.json()["error"] == "forbidden"
        assert answer.json()["scope"] == "read"
        assert "'toys.read'" in answer.json()["message"]
        assert answer.headers["x-ratelimit-limit"] == "100"
        assert (await service.get(made.secret, "/settings")).json()["scope"] == "admin"


async def test_a_route_that_says_nothing_of_keys_needs_admin(open_gate, database):
    async with open_gate(database) as service:
        made, administrator = await service.make(), await service.make(scopes=["admin"])
        assert (await service.get(None, "/forgotten")).status_code == 401
        assert (await service.get(made.secret, "/forgotten")).status_code == 403
        assert (await service.get(administrator.secret, "/forgotten")).status_code == 200


async def test_what_is_public_or_is_not_there_needs_no_key(open_gate, database):
    async with open_gate(database) as service:
        assert (await service.get(None, "/alive")).status_code == 200
        assert (await service.get(None, "/nowhere")).status_code == 404
        assert (await service.client.options("/readings")).status_code == 204
        assert (await service.client.put("/readings")).status_code == 405


async def test_every_answer_says_what_is_left(open_gate, database):
    async with open_gate(database) as service:
        made = await service.make()
        for left in (99, 98, 97):
            answer = await service.get(made.secret)
            assert answer.headers["x-ratelimit-limit"] == "100"
            assert answer.headers["x-ratelimit-remaining"] == str(left)
            assert answer.headers["x-ratelimit-window"] == "3600"
            assert 0 < int(answer.headers["x-ratelimit-reset"]) - datetime.now(UTC).timestamp() < 3700
            assert answer.headers["x-ratelimit-bytes-limit"] == "10000000"
        assert (await service.client.post("/readings", headers={"api-key": made.secret})).headers[
            "x-ratelimit-limit"
        ] == "50", "each class of routes has a limit of its own"


async def test_beyond_the_limit_the_answer_is_429_and_says_when_to_come_back(open_gate, database):
    limit = Limit(requests=2, bytes=1000, allowance_requests=1)
    async with open_gate(database, read=limit) as service:
        made = await service.make()
        assert [(await service.get(made.secret)).status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = await service.get(made.secret)
        body = answer.json()
        assert body["error"] == "rate_limit_exceeded"
        assert 0 < body["retry_after"] == int(answer.headers["retry-after"]) <= 3660
        assert body["rate_limit"]["limit"] == 2
        assert body["rate_limit"]["remaining"] == 0
        assert body["rate_limit"]["allowance"]["remaining"] == 0
        assert answer.headers["x-ratelimit-remaining"] == "0"
        other = await service.make()
        assert (await service.get(other.secret)).status_code == 200, "another key has a limit of its own"


async def test_fifty_at_once_with_a_limit_of_twenty_are_twenty(open_gate, any_database):
    async with open_gate(any_database, read=Limit(requests=20, bytes=1000)) as service:
        made = await service.make()
        answers = await asyncio.gather(*(service.get(made.secret) for _ in range(50)))
        assert sorted(answer.status_code for answer in answers) == [200] * 20 + [429] * 30


async def test_a_body_counts_when_its_length_is_known_and_afterwards_when_it_is_not(open_gate, database):
    async def pieces():
        for _ in range(6):
            yield b"x" * 100

    async with open_gate(database, ingest=Limit(requests=100, bytes=1000)) as service:
        made = await service.make()
        headers = {"api-key": made.secret}
        answer = await service.client.post("/readings", headers=headers, content=b"x" * 300)
        assert answer.headers["x-ratelimit-bytes-remaining"] == "700"
        answer = await service.client.post("/readings", headers=headers, content=pieces())
        assert answer.json() == {"bytes": 600}
        answer = await service.client.post("/readings", headers=headers, content=b"x" * 100)
        assert answer.headers["x-ratelimit-bytes-remaining"] == "0"
        answer = await service.client.post("/readings", headers=headers, content=b"x")
        assert answer.status_code == 429
        assert (await service.client.post("/readings", headers=headers)).status_code == 200


async def test_a_key_may_have_limits_of_its_own(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make(limits={"read": {"requests": 1, "allowance_requests": 0}})
        assert (await service.get(made.secret)).headers["x-ratelimit-limit"] == "1"
        assert (await service.get(made.secret)).status_code == 429


async def test_all_keys_of_an_address_share_a_limit(open_gate, database):
    async with open_gate(database, by_address=Limit(requests=3, bytes=1000)) as service:
        first, second = await service.make(), await service.make()
        answers = [await service.get(key.secret) for key in (first, second, first, second)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        async with service.from_address("192.0.2.9") as elsewhere:
            assert (await elsewhere.get("/readings", headers={"api-key": first.secret})).status_code == 200


async def test_an_address_may_show_only_so_many_wrong_keys(open_gate, database):
    async with open_gate(database, failures=Limit(requests=3, bytes=1)) as service:
        known, fresh = await service.make(), await service.make()
        assert (await service.get(known.secret)).status_code == 200
        wrong = known.key.prefix + "0" * 32
        assert [(await service.get(wrong)).status_code for _ in range(5)] == [401] * 3 + [429] * 2
        assert service.gate.verifier.hashes == 4, "then nothing is computed for it any more"
        assert (await service.get("pen_" + "0" * 40)).status_code == 429
        assert (await service.get(known.secret)).status_code == 200, "a key that was verified still passes"
        assert (await service.get(fresh.secret)).status_code == 429
        async with service.from_address("192.0.2.9") as elsewhere:
            assert (await elsewhere.get("/readings", headers={"api-key": fresh.secret})).status_code == 200
        assert (await service.get(fresh.secret)).status_code == 200


async def test_the_address_is_that_of_the_client_behind_a_trusted_proxy(open_gate, database):
    async with open_gate(database, trusted_proxies=[ip_network("127.0.0.0/8")]) as service:
        made = await service.make()
        answer = await service.get(made.secret, x_forwarded_for="1.2.3.4, 203.0.113.9")
        assert answer.json()["address"] == "203.0.113.9"
    async with open_gate(database) as service:
        assert (await service.get(made.secret, x_forwarded_for="203.0.113.9")).json()["address"] == "127.0.0.1"


async def test_every_authentication_is_written_down(open_gate, any_database, audited):
    async with open_gate(any_database) as service:
        made = await service.make(scopes=["read"])
        await service.get(made.secret, x_request_id="abc-1", user_agent="HAE/9")
        await service.get(made.key.prefix + "0" * 32)
        await service.get(None)
        await service.client.post("/readings", headers={"api-key": made.secret})
    success, wrong, missing, forbidden = audited
    assert success["action"] == "authentication_success"
    assert (success["user_id"], success["key_id"], success["outcome"]) == (made.key.user, made.key.id, "success")
    assert (success["address"], success["user_agent"], success["request_id"]) == ("127.0.0.1", "HAE/9", "abc-1")
    assert success["resource"] == "GET /readings"
    assert (wrong["action"], wrong["outcome"], wrong["key_id"]) == ("authentication_failed", "refused", made.key.id)
    assert json.loads(wrong["details"]) == {"reason": "wrong"}
    assert (json.loads(missing["details"]), missing["key_id"]) == ({"reason": "missing"}, None)
    assert (forbidden["action"], json.loads(forbidden["details"])) == ("access_refused", {"missing": "toys.ingest"})


async def test_an_answer_waits_until_it_is_written_down(open_gate, database, audited):
    async with open_gate(database) as service:
        made = await service.make()
        answers = await asyncio.gather(*(service.get(made.secret) for _ in range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20
        assert len(audited) == 20
        assert len({row["id"] for row in audited}) == 20


async def test_refusals_that_go_on_are_written_down_once_a_minute(open_gate, database, audited):
    async with open_gate(database, ingest=Limit(requests=1, bytes=1)) as service:
        made = await service.make()
        for _ in range(20):
            await service.client.post("/readings", headers={"api-key": made.secret})
    assert [row["action"] for row in audited] == ["authentication_success", "ingest_refused"]
    assert json.loads(audited[1]["details"])["reason"] == "rate_limit_exceeded"


async def test_without_a_stream_the_audit_goes_to_the_log_and_the_request_on(open_gate, database, caplog):
    async with open_gate(database) as service:
        made = await service.make()
        assert (await service.get(made.secret)).status_code == 200
    (line,) = [record.getMessage() for record in caplog.records if record.name == "penstock.access.audit"]
    row = json.loads(line[line.index("{") :])
    assert (row["action"], row["key_id"], row["address"]) == ("authentication_success", made.key.id, "127.0.0.1")


async def test_the_last_use_is_written_down(open_gate, any_database):
    async with open_gate(any_database) as service:
        made = await service.make()
        await service.get(made.secret)
        await service.get(made.secret)
    used = (await any_database.run(lambda c: keys.find(c, made.key.id))).last_used_at
    assert used is not None
    assert datetime.now(UTC) - used < timedelta(seconds=20)


async def test_while_the_database_is_away_keys_work_as_they_last_did(open_gate, postgres_server, monkeypatch, caplog):
    from penstock.platform.database import Database

    monkeypatch.setattr(lookup, "RETRY_INTERVAL", 0.1)
    database = Database.of(postgres_server.create_database())
    await database.run(lambda c: schema.metadata.create_all(c, tables=[schema.users, schema.keys, schema.audit]))
    clock = ShiftedClock()
    async with open_gate(database, read=ANYTHING, clock=clock) as service:
        made, unseen, revoked = await service.make(), await service.make(), await service.make()
        assert (await service.get(made.secret)).status_code == 200
        await database.run(lambda c: keys.revoke(c, revoked.key.id))
        assert (await service.get(revoked.secret)).status_code == 401
        await asyncio.to_thread(postgres_server.kill)
        for _ in range(3):
            assert (await service.get(made.secret)).status_code == 200
            await asyncio.sleep(0.1)
        assert (await service.get(revoked.secret)).status_code == 401
        answer = await service.get(unseen.secret)
        assert answer.status_code == 503, "a key that cannot be checked is not a wrong key"
        assert answer.headers["retry-after"]
        clock.shift = lookup.STALE_TTL
        assert (await service.get(made.secret)).status_code == 503, "but not for ever"
        await asyncio.to_thread(postgres_server.start)
        await asyncio.sleep(0.2)
        assert (await service.get(unseen.secret)).status_code == 200
        assert (await service.get(made.secret)).status_code == 200
        await database.run(lambda c: keys.revoke(c, made.key.id))
        assert (await service.get(made.secret)).status_code == 401
    await asyncio.to_thread(database.close)


async def test_a_database_that_hangs_holds_nobody_up_for_long(open_gate, any_database, monkeypatch):
    monkeypatch.setattr(lookup, "READ_TIMEOUT", 0.2)
    async with open_gate(any_database) as service:
        made = await service.make()
        assert (await service.get(made.secret)).status_code == 200
        select_ = lookup._Channel._select

        goes_on = threading.Event()

        def hang(self, prefixes):
            goes_on.wait()
            return select_(self, prefixes)

        monkeypatch.setattr(lookup._Channel, "_select", hang)
        try:
            answers = await asyncio.gather(*(service.get(made.secret) for _ in range(10)))
        finally:
            goes_on.set()
        assert [answer.status_code for answer in answers] == [200] * 10


async def test_many_keys_are_read_together_and_each_gets_its_own(open_gate, any_database):
    async with open_gate(any_database, by_address=ANYTHING) as service:
        made = [await service.make(name=f"key {number}") for number in range(8)]
        for _ in range(3):
            answers = await asyncio.gather(*(service.get(key.secret) for key in made * 4))
            assert [answer.json()["key"] for answer in answers] == [key.key.id for key in made * 4]


async def test_a_revocation_amid_many_requests_is_seen_by_each_that_comes_later(open_gate, any_database):
    async with open_gate(any_database, read=ANYTHING) as service:
        made = await service.make()
        stop = asyncio.Event()

        async def ask():
            while not stop.is_set():
                await service.get(made.secret)

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.sleep(0.2)
        await any_database.run(lambda c: keys.revoke(c, made.key.id))
        for _ in range(20):
            assert (await service.get(made.secret)).status_code == 401
        stop.set()
        await asyncio.gather(*asking)


async def test_no_key_material_is_written_anywhere(open_gate, any_database, audited, caplog):
    caplog.set_level(logging.DEBUG)
    async with open_gate(any_database, failures=Limit(requests=2, bytes=1)) as service:
        made = await service.make()
        secret = made.secret.removeprefix(made.key.prefix)
        wrong = made.key.prefix + secret[::-1]
        texts = []
        for key in (made.secret, wrong, wrong, wrong, made.secret + "x"):
            for path in ("/readings", "/settings", "/nowhere", f"/{key}"):
                answer = await service.get(key, path, x_request_id=key)
                texts += [answer.text, repr(answer.headers)]
        rows = await any_database.run(
            lambda c: [repr(c.execute(select(t)).fetchall()) for t in (schema.keys, schema.audit)]
        )
    texts += [repr(audited), *rows, *(r.getMessage() for r in caplog.records if r.name.startswith("penstock"))]
    remembered = (service.gate._lookup._last, service.gate.verifier._verified)
    texts += [repr(service.gate.limits.__dict__), *(repr(cache._values) for cache in remembered)]
    assert audited
    for text in texts:
        assert secret not in text
        assert secret[::-1] not in text


async def test_l14_a_backfill_of_more_requests_than_the_hour_has_is_let_in(open_gate, database):
    """What a phone sends beyond its hour is taken from the day's allowance: 429 would be data lost for ever."""
    async with open_gate(database) as service:
        made = await service.make(scopes=["ingest"])
        headers = {"api-key": made.secret, "content-length": "400000"}
        for number in range(120):
            answer = await service.client.post("/readings", headers=headers, content=b"{}")
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining"] == str(max(0, 49 - number))
        assert answer.headers["x-ratelimit-allowance-remaining"] == str(5000 - 70)
