from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.apps.health.scopes import declared
from penstock.errors import ConfigError
from penstock.platform import commands
from penstock.platform.access import keys, schema
from penstock.platform.access.scopes import Scopes
from penstock.platform.database import Database

DECLARED = Scopes(declared())


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = (
        f"sqlite:///{tmp_path}/health.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    )
    made = Database.of(url)
    made.call(schema.metadata.create_all)
    yield made
    made.close()


def test_a_key_is_printed_alone(database):
    text = commands.create_key(database, DECLARED, name="phone")
    assert keys.prefix_of(text)
    assert database.call(lambda c: keys.find(c, text)).user_name == "me"


def test_a_key_is_printed_with_all_about_it_as_json(database):
    text = commands.create_key(
        database, DECLARED, name="phone", user="anna", scopes=["write", "admin"], expires="90d", as_json=True
    )
    shown = json.loads(text)
    assert keys.prefix_of(shown["key"])
    assert (shown["name"], shown["user_name"], shown["scopes"]) == ("phone", "anna", ["health.ingest", "health.admin"])
    assert shown["expires_at"]
    assert shown["state"] == "active"


@pytest.mark.parametrize("wrong", [{"name": ""}, {"scopes": ["all"]}, {"expires": "2020-01-01"}, {"user": "x" * 101}])
def test_what_is_wrong_makes_no_key(database, wrong):
    with pytest.raises(ConfigError):
        commands.create_key(database, DECLARED, **({"name": "phone"} | wrong))
    assert database.call(keys.listed) == []


def test_keys_are_listed_for_people_and_as_json(database):
    assert "penstock keys create" in commands.list_keys(database)
    secret = commands.create_key(database, DECLARED, name="phone")
    commands.create_key(database, DECLARED, name="tablet", user="anna")
    text = commands.list_keys(database)
    heading, *lines = text.splitlines()
    assert heading.split()[:3] == ["ID", "KEY", "USER"]
    assert [line.split()[3] for line in lines] == ["tablet", "phone"]
    assert secret not in text
    assert [key["name"] for key in json.loads(commands.list_keys(database, user="anna", as_json=True))] == ["tablet"]


def test_a_key_is_replaced(database):
    old = commands.create_key(database, DECLARED, name="phone")
    new = commands.rotate_key(database, old[:12], overlap="24h")
    assert keys.prefix_of(new)
    assert database.call(lambda c: keys.find(c, old)).replaced_by == database.call(lambda c: keys.find(c, new)).id
    with pytest.raises(ConfigError, match="is replaced"):
        commands.rotate_key(database, old[:12])
    with pytest.raises(ConfigError, match="overlap: expected a duration"):
        commands.rotate_key(database, new[:12], overlap="soon")


def test_a_key_is_revoked(database):
    secret = commands.create_key(database, DECLARED, name="phone")
    assert commands.revoke_key(database, secret[:12]) == f"{secret[:12]} (phone) is revoked"
    assert json.loads(commands.revoke_key(database, secret[:12], as_json=True))["state"] == "revoked"
    with pytest.raises(keys.NoSuchKey, match="there is no key 'pen_00000000'"):
        commands.revoke_key(database, "pen_00000000")


def test_changes_are_written_down_with_them(database):
    secret = commands.create_key(database, DECLARED, name="phone")
    new = commands.rotate_key(database, secret[:12])
    commands.revoke_key(database, new[:12])
    rows = database.call(lambda c: c.execute(select(schema.audit).order_by(schema.audit.c.id)).mappings().fetchall())
    assert [row["action"] for row in rows] == ["api_key_created", "api_key_rotated", "api_key_revoked"]
    assert {row["outcome"] for row in rows} == {"success"}
    assert all(json.loads(row["details"])["by"] == "command" for row in rows)
    assert secret[12:] not in repr(rows)
