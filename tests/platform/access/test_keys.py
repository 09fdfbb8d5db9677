from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from penstock.errors import ConfigError, TransientError
from penstock.platform.access import hashing, keys

from .conftest import create, declared

NOW = datetime(2026, 2, 3, 12, tzinfo=UTC)


def test_a_key_is_made_listed_found_and_revoked(any_database):
    made = any_database.call(lambda c: create(c, name="phone"))
    assert keys.prefix_of(made.secret) == made.key.prefix
    assert made.key.scopes == ("toys.ingest", "toys.read")
    assert (made.key.user_name, made.key.state) == ("me", "active")
    assert any_database.call(keys.listed) == [made.key]
    for text in (made.key.id, made.key.prefix, made.secret):
        assert any_database.call(lambda c, text=text: keys.find(c, text)) == made.key
    revoked = any_database.call(lambda c: keys.revoke(c, made.key.id))
    assert revoked.state == "revoked"
    assert any_database.call(lambda c: keys.revoke(c, made.key.id)) == revoked


def test_what_a_key_reads_is_kept_nowhere(any_database):
    made = any_database.call(lambda c: create(c, name="phone"))
    rows = any_database.call(lambda c: c.exec_driver_sql("SELECT * FROM penstock_keys").fetchall())
    secret = made.secret.removeprefix(made.key.prefix)
    assert secret not in repr(rows)
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in repr(rows)
    assert secret not in repr(made)
    assert secret not in repr(made.key)


def test_users_are_made_on_demand_and_once(any_database):
    first = any_database.call(lambda c: create(c, name="a", user="anna"))
    second = any_database.call(lambda c: create(c, name="b", user="anna"))
    other = any_database.call(lambda c: create(c, name="c", user="ben"))
    assert first.key.user == second.key.user != other.key.user
    assert any_database.call(lambda c: keys.listed(c, user=other.key.user)) == [other.key]
    with pytest.raises(keys.NoSuchKey):
        any_database.call(lambda c: keys.find(c, first.key.id, user=other.key.user))
    with pytest.raises(keys.NoSuchKey):
        any_database.call(lambda c: keys.revoke(c, first.key.id, user=other.key.user))
    assert any_database.call(lambda c: keys.find(c, first.key.id)).state == "active"


def test_a_change_that_fails_changes_nothing(any_database):
    def make_and_fail(connection):
        create(connection, name="phone")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        any_database.call(make_and_fail)
    assert any_database.call(keys.listed) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x00b"])
def test_a_name_has_1_to_100_printable_characters(database, name):
    with pytest.raises(ConfigError, match="1 to 100"):
        database.call(lambda c: create(c, name=name))
    with pytest.raises(ConfigError, match="1 to 100"):
        database.call(lambda c: create(c, name="phone", user=name))


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ([], ("toys.ingest",)),
        (["write"], ("toys.ingest",)),
        (["Admin", "toys.read ", "write", "ingest"], ("toys.ingest", "toys.read", "toys.admin")),
    ],
)
def test_scopes_and_their_aliases(asked, granted):
    assert declared().asked(asked) == granted


def test_unknown_scopes_are_refused():
    with pytest.raises(ConfigError, match="there is no scope 'delete'; expected some of "):
        declared().asked(["read", "delete"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("90d", NOW + timedelta(days=90)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T00:00:00+02:00", datetime(2026, 12, 31, 22, tzinfo=UTC)),
    ],
)
def test_when_a_key_expires(text, expected):
    assert keys.expiry_of(text, NOW) == expected


@pytest.mark.parametrize("text", ["soon", "90", "0s", "2026-02-03", "2020-01-01", "99999999d", "2026-13-01"])
def test_a_key_expires_in_the_future(text):
    with pytest.raises(ConfigError):
        keys.expiry_of(text, NOW)


def test_a_key_is_replaced_with_an_overlap(any_database):
    limits = {"ingest": {"requests": 7}}
    ends = datetime.now(UTC) + timedelta(days=90)
    old = any_database.call(lambda c: create(c, name="phone", scopes=["read"], expires_at=ends, limits=limits))
    new = any_database.call(lambda c: keys.rotate(c, old.key.prefix, overlap=86_400))
    now = any_database.call(lambda c: keys.find(c, old.key.id))
    assert now.state == "active"
    assert now.replaced_by == new.key.id
    assert timedelta(hours=23) < now.expires_at - datetime.now(UTC) <= timedelta(hours=24)
    assert (new.key.name, new.key.scopes, new.key.user) == ("phone", ("toys.read",), old.key.user)
    assert timedelta(days=89) < new.key.expires_at - datetime.now(UTC) <= timedelta(days=90)
    kept = any_database.call(
        lambda c: c.execute(keys.select(keys.keys.c.limits).where(keys.keys.c.id == new.key.id)).scalar()
    )
    assert kept == '{"toys.ingest": {"requests": 7}}'
    with pytest.raises(ConfigError, match="is replaced"):
        any_database.call(lambda c: keys.rotate(c, old.key.id))


def test_an_overlap_makes_no_key_live_longer(database):
    ends = datetime.now(UTC) + timedelta(hours=1)
    old = database.call(lambda c: create(c, name="phone", expires_at=ends))
    database.call(lambda c: keys.rotate(c, old.key.id, overlap=86_400))
    assert database.call(lambda c: keys.find(c, old.key.id)).expires_at == ends


def test_a_key_that_does_not_work_is_not_replaced(database):
    old = database.call(lambda c: create(c, name="phone"))
    database.call(lambda c: keys.revoke(c, old.key.id))
    with pytest.raises(ConfigError, match="is revoked"):
        database.call(lambda c: keys.rotate(c, old.key.id))


@pytest.mark.parametrize(
    "limits", [{"delete": {"requests": 1}}, {"read": {"requests": 0}}, {"read": {"speed": 1}}, {"read": {"bytes": "x"}}]
)
def test_limits_of_a_key_are_checked(database, limits):
    with pytest.raises(ConfigError, match=r"limit|no scope"):
        database.call(lambda c: create(c, name="phone", limits=limits))


@pytest.mark.parametrize("text", ["", "pen_", "pen_12345678", "HEA_" + "0" * 40, "pen_" + "0" * 39, "pen_" + "g" * 40])
def test_what_is_no_key_has_no_prefix(text):
    assert keys.prefix_of(text) is None


def test_an_error_does_not_repeat_a_whole_key(database):
    with pytest.raises(keys.NoSuchKey) as raised:
        database.call(lambda c: keys.find(c, "pen_" + "0123456789" * 4))
    assert "8901234567" not in str(raised.value)


async def test_a_key_is_verified_by_argon2_once():
    hash, verifier = hashing.hashed("pen_1"), hashing.Verifier()
    assert not await verifier.is_verified("1", hash, "pen_1")
    assert await verifier.verify("1", hash, "pen_1")
    assert await verifier.is_verified("1", hash, "pen_1")
    assert not await verifier.is_verified("1", hash, "pen_2")
    assert not await verifier.verify("1", hash, "pen_2")
    assert not await verifier.is_verified("1", hashing.hashed("pen_1"), "pen_1"), "a digest ends with its hash"
    assert verifier.hashes == 2
    await verifier.close()


async def test_a_broken_hash_matches_nothing():
    verifier = hashing.Verifier()
    assert not await verifier.verify("1", "no hash", "pen_1")
    await verifier.close()


async def test_who_asks_the_same_at_once_waits_for_one_argon2(monkeypatch):
    monkeypatch.setattr(hashing, "QUEUE_SIZE", 3)
    hash, verifier = hashing.hashed("pen_1"), hashing.Verifier()
    assert await asyncio.gather(*(verifier.verify("1", hash, "pen_1") for _ in range(20))) == [True] * 20
    assert verifier.hashes == 1
    asked = [asyncio.create_task(verifier.verify("1", hash, f"pen_{number}")) for number in range(5)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[:3] == [False, True, False]
    assert all(isinstance(error, TransientError) for error in found[3:])
    await verifier.close()
