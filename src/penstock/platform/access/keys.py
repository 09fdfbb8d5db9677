"""Keys: their text, and making, listing, rotating and revoking them."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ...duration import seconds
from ...errors import ConfigError, PermanentError
from ...identifiers import new_id
from . import hashing
from .schema import keys, users

MAX_NAME_LENGTH = 100
_PREFIX = re.compile(r"((?:pen|hea)_[0-9a-f]{8})(?:[0-9a-f]{32})?")
"""How a key begins; those that begin with hea_ are of older versions."""
_KEY = re.compile(r"((?:pen|hea)_[0-9a-f]{8})[0-9a-f]{32}")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret, which is known to its owner alone."""

    id: str
    user: int
    user_name: str
    prefix: str
    """Its public beginning: ``pen_1a2b3c4d``."""
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    replaced_by: str | None = None

    @property
    def state(self) -> str:
        """Whether it is ``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if works(self.expires_at, self.revoked_at) else "expired"

    def describe(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"state": self.state, **msgspec.to_builtins(self)}


class NoSuchKey(PermanentError):
    """The key does not exist, or it is another user's."""


class Made(NamedTuple):
    """A new key, and the only copy of its text."""

    key: Key
    secret: str

    def __repr__(self) -> str:
        return f"Made({self.key!r})"


def works(expires_at: datetime | None, revoked_at: datetime | None) -> bool:
    """Tell whether a key is neither revoked nor expired."""
    return revoked_at is None and (expires_at is None or expires_at > datetime.now(UTC))


def prefix_of(text: str) -> str | None:
    """Return the public part of a key, or None if ``text`` is not written like one."""
    written = _KEY.fullmatch(text)
    return written[1] if written else None


def expiry_of(text: str | None, now: datetime | None = None) -> datetime | None:
    """Read ``90d``, ``2027-01-01`` or a time as when a key expires; raises ConfigError unless that is to come."""
    if text is None or not text.strip():
        return None
    now = now or datetime.now(UTC)
    try:
        try:
            found = now + timedelta(seconds=seconds(text))
        except ValueError:
            found = datetime.fromisoformat(text.strip())
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is no time at which a key could expire; expected for example 90d or 2027-01-01"
        ) from None
    if found <= now:
        raise ConfigError(f"a key that expires at {found.isoformat()} would be expired already; expected a later time")
    return found


def create(
    connection: Connection,
    *,
    name: str,
    user: str | int = "me",
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    limits: Mapping[str, Mapping[str, int]] | None = None,
) -> Made:
    """Make a key for ``user``, a name that is made on demand or the id of one; raises ConfigError.

    ``scopes`` and ``limits`` are by full names, as ``Scopes`` returns them; limits replace those of the scopes:
    ``{"health.ingest": {"requests": 1000}}``.
    """
    name = _name(name, "key")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ConfigError("the key would be expired already; expected a time that is to come")
    named = user if isinstance(user, int) else _name(user, "user")
    prefix = f"pen_{secrets.token_hex(4)}"
    written = prefix + secrets.token_hex(16)
    row: dict[str, Any] = {
        "id": new_id(),
        "prefix": prefix,
        "hash": hashing.hashed(written),
        "name": name,
        "scopes": json.dumps(list(scopes)),
        "created_at": datetime.now(UTC),
        "expires_at": expires_at,
        "limits": json.dumps(limits) if limits else None,
    }
    owner = named if isinstance(named, int) else find_user(connection, named)
    connection.execute(insert(keys).values(user_id=owner, **row))
    return Made(find(connection, row["id"]), written)


def listed(connection: Connection, *, user: int | None = None) -> list[Key]:
    """Return all keys, or those of one user, the newest first."""
    query = _SELECT.order_by(keys.c.created_at.desc(), keys.c.id.desc())
    if user is not None:
        query = query.where(keys.c.user_id == user)
    return [_key(row) for row in connection.execute(query).mappings()]


def find(connection: Connection, key: str, *, user: int | None = None) -> Key:
    """Return the key with this id or public prefix; raises NoSuchKey if there is none, or it is another user's."""
    query = _SELECT.where(_named(key))
    if user is not None:
        query = query.where(keys.c.user_id == user)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NoSuchKey(f"there is no key {_harmless(key)!r}; `penstock keys list` shows all of them")
    return _key(row)


def rotate(connection: Connection, key: str, *, overlap: float = 0.0, user: int | None = None) -> Made:
    """Make a key in place of ``key``, which goes on to work for ``overlap`` seconds.

    The new one has the old one's name, scopes and limits, and as long to live as that had. Raises NoSuchKey, and
    ConfigError for a key that does not work any more or was replaced before.
    """
    old = _lock(connection, key, user)
    if old.state != "active" or old.replaced_by is not None:
        raise ConfigError(f"key {old.prefix} is {'replaced' if old.state == 'active' else old.state}; make a new one")
    now = datetime.now(UTC)
    lasts = old.expires_at - old.created_at if old.expires_at is not None else None
    limits = connection.execute(select(keys.c.limits).where(keys.c.id == old.id)).scalar()
    made = create(
        connection,
        name=old.name,
        user=old.user,
        scopes=old.scopes,
        expires_at=now + lasts if lasts is not None else None,
        limits=json.loads(limits) if limits else None,
    )
    ends = now + timedelta(seconds=max(0.0, overlap))
    if old.expires_at is not None:
        ends = min(ends, old.expires_at)
    connection.execute(update(keys).where(keys.c.id == old.id).values(expires_at=ends, replaced_by=made.key.id))
    return made


def revoke(connection: Connection, key: str, *, user: int | None = None) -> Key:
    """End ``key`` now, and for good; raises NoSuchKey. To revoke again changes nothing."""
    found = _lock(connection, key, user)
    if found.revoked_at is None:
        connection.execute(update(keys).where(keys.c.id == found.id).values(revoked_at=datetime.now(UTC)))
    return find(connection, found.id)


def users_holding(connection: Connection, scope: str | None = None) -> list[int]:
    """Return the ids of the users who have a key that works, for ``scope`` if that is given."""
    works = or_(keys.c.expires_at.is_(None), keys.c.expires_at > datetime.now(UTC))
    query = select(keys.c.user_id, keys.c.scopes).where(keys.c.revoked_at.is_(None), works)
    return sorted({user for user, scopes in connection.execute(query) if scope is None or scope in json.loads(scopes)})


def has_any(connection: Connection, *, scope: str) -> bool:
    """Tell whether a key with ``scope`` was ever made."""
    named = keys.c.scopes.contains(json.dumps(scope), autoescape=True)
    return connection.execute(select(keys.c.id).where(named).limit(1)).first() is not None


def _lock(connection: Connection, key: str, user: int | None) -> Key:
    """Find a key that nobody else can change before this transaction ends: to write first takes the lock."""
    connection.execute(update(keys).where(_named(key)).values(name=keys.c.name))
    return find(connection, key, user=user)


def _named(key: str) -> ColumnElement[bool]:
    key = key.strip()
    prefix = _PREFIX.fullmatch(key)
    return keys.c.prefix == prefix[1] if prefix else keys.c.id == key


_SELECT = select(
    keys.c.id,
    keys.c.user_id,
    users.c.name.label("user_name"),
    keys.c.prefix,
    keys.c.name,
    keys.c.scopes,
    keys.c.created_at,
    keys.c.expires_at,
    keys.c.revoked_at,
    keys.c.last_used_at,
    keys.c.replaced_by,
).join_from(keys, users)


def _key(row: RowMapping) -> Key:
    values = dict(row)
    return Key(user=values.pop("user_id"), scopes=tuple(json.loads(values.pop("scopes"))), **values)


def find_user(connection: Connection, name: str) -> int:
    """Return the id of the user of this name, who is made on demand."""
    known = update(users).where(users.c.name == name).values(name=name)  # to write first takes the lock
    if not connection.execute(known).rowcount:
        with suppress(IntegrityError), connection.begin_nested():  # unless somebody has just made the same user
            connection.execute(insert(users).values(name=name, created_at=datetime.now(UTC)))
    return int(connection.execute(select(users.c.id).where(users.c.name == name)).scalar_one())


def _name(text: str, of: str) -> str:
    text = text.strip()
    if not 1 <= len(text) <= MAX_NAME_LENGTH or not text.isprintable():
        raise ConfigError(f"the name of a {of} has 1 to {MAX_NAME_LENGTH} printable characters, not {len(text)}")
    return text


def _harmless(key: str) -> str:
    """Show no more than the public beginning of a whole key that was given in place of an id."""
    return f"{prefix}..." if (prefix := prefix_of(key.strip())) else key[:64]
