"""Sessions of people in a browser, and the links, each good for one use, by which they begin."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update

from ...errors import PermanentError
from ...identifiers import new_id
from .caller import Caller
from .keys import find_user, works
from .lookup import State
from .request import COOKIE, MAX_COOKIES, SECURE
from .schema import keys, links, sessions, users

LINK_TTL = 600.0
"""How long a link may be used, in seconds."""
SEEN_INTERVAL = 60.0
"""How often the last use of a session is written down, in seconds."""
KEPT_FOR = timedelta(days=30)
"""How long a session that has ended is listed, and an old link kept."""
MAX_USER_AGENT = 200
_LINK = re.compile(r"pel_[0-9a-f]{32}")


class NoSuchSession(PermanentError):
    """The session does not exist, or it has ended."""


class Lifetime(NamedTuple):
    """How long a session lives, in seconds."""

    absolute: float = 7 * 86_400.0
    """At most."""
    idle: float = 12 * 3600.0
    """Without being used."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session without its token, which its browser alone has."""

    id: str
    user: int
    user_name: str
    key: str | None
    """The id of the key it was begun with; None if a link began it."""
    scopes: tuple[str, ...]
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    """When it ends at the latest; earlier if it is not used."""
    address: str
    user_agent: str


class Begun(NamedTuple):
    """A new session, and the only copy of its token."""

    session: Session
    token: str

    def __repr__(self) -> str:
        return f"Begun({self.session!r})"


def create_link(connection: Connection, *, user: str, scopes: Iterable[str], ttl: float = LINK_TTL) -> str:
    """Return the token of a link by which a session of ``user`` with ``scopes`` can begin, once, within ``ttl``."""
    now, token = datetime.now(UTC), f"pel_{secrets.token_hex(16)}"
    row = {
        "hash": _hash(token),
        "user_id": find_user(connection, user),
        "scopes": json.dumps(list(scopes)),
        "created_at": now,
        "expires_at": now + timedelta(seconds=ttl),
    }
    connection.execute(insert(links).values(row))
    return token


def redeem(connection: Connection, token: str, caller: Caller, lifetime: Lifetime) -> Begun:
    """Begin a session by a link; raises NoSuchSession unless it is a right one that was not used before."""
    now = datetime.now(UTC)
    unused = (links.c.hash == _hash(token)) & links.c.used_at.is_(None) & (links.c.expires_at > now)
    if not _LINK.fullmatch(token) or not connection.execute(update(links).where(unused).values(used_at=now)).rowcount:
        raise NoSuchSession("this link was used before, or is too old; make one by: penstock sign-in")
    found = connection.execute(select(links).where(links.c.hash == _hash(token))).mappings().one()
    return _begin(connection, found["user_id"], json.loads(found["scopes"]), None, caller, lifetime)


def begin(connection: Connection, caller: Caller, lifetime: Lifetime) -> Begun:
    """Begin a session with the scopes of the key by which ``caller`` was admitted; it ends with that key."""
    return _begin(connection, caller.user, sorted(caller.scopes), caller.key, caller, lifetime)


def find(connection: Connection, tokens: Sequence[str]) -> State | None:
    """Return the session of the first of ``tokens`` that works, as the gate knows who is admitted, or None."""
    hashes = [_hash(token) for token in tokens[:MAX_COOKIES]]
    found = {row["hash"]: row for row in connection.execute(_SELECT.where(sessions.c.hash.in_(hashes))).mappings()}
    now = datetime.now(UTC)
    for row in (found[hash] for hash in hashes if hash in found):
        if _has_ended(row, now):
            continue
        return State(
            key=row["key_id"] or "",
            session=row["id"],
            user=row["user_id"],
            user_name=row["user_name"],
            hash="",
            scopes=frozenset(json.loads(row["scopes"])),
            limits={},
            expires_at=row["expires_at"],
            revoked_at=None,
        )
    return None


def touch(connection: Connection, id: str) -> None:
    """Note that a session is used now."""
    connection.execute(update(sessions).where(sessions.c.id == id).values(last_seen_at=datetime.now(UTC)))


def listed(connection: Connection) -> list[Session]:
    """Return the sessions that work, the one that was used last first."""
    now = datetime.now(UTC)
    rows = connection.execute(_SELECT.order_by(sessions.c.last_seen_at.desc(), sessions.c.id)).mappings()
    return [_session(row) for row in rows if not _has_ended(row, now)]


def revoke(connection: Connection, id: str) -> Session:
    """End a session now; raises NoSuchSession if none of this id works."""
    alive = (sessions.c.id == id) & sessions.c.revoked_at.is_(None)
    ended = connection.execute(update(sessions).where(alive).values(revoked_at=datetime.now(UTC)))
    if not ended.rowcount:
        raise NoSuchSession(f"there is no session {id[:64]!r}, or it has ended")
    return _session(connection.execute(_SELECT.where(sessions.c.id == id)).mappings().one())


def cookie(token: str, port: int, *, is_secure: bool, lasts: float) -> str:
    """Return the Set-Cookie header of a session; one that ``lasts`` no time at all deletes it."""
    parts = [f"{SECURE if is_secure else ''}{COOKIE}_{port}={token}", "Path=/", "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, f"Max-Age={int(lasts)}", *(["Secure"] if is_secure else [])])


def _begin(
    connection: Connection, user: int, scopes: list[str], key: str | None, caller: Caller, lifetime: Lifetime
) -> Begun:
    now, token = datetime.now(UTC), f"pes_{secrets.token_hex(32)}"
    _forget(connection, now - KEPT_FOR)
    row: dict[str, Any] = {
        "id": new_id(),
        "user_id": user,
        "hash": _hash(token),
        "key_id": key,
        "scopes": json.dumps(scopes),
        "created_at": now,
        "last_seen_at": now,
        "idle_ttl": int(lifetime.idle),
        "expires_at": now + timedelta(seconds=lifetime.absolute),
        "address": caller.address,
        "user_agent": caller.user_agent[:MAX_USER_AGENT],
    }
    connection.execute(insert(sessions).values(row))
    return Begun(_session(connection.execute(_SELECT.where(sessions.c.id == row["id"])).mappings().one()), token)


def _forget(connection: Connection, before: datetime) -> None:
    connection.execute(delete(sessions).where(or_(sessions.c.expires_at < before, sessions.c.revoked_at < before)))
    connection.execute(delete(links).where(links.c.expires_at < before))


def _has_ended(row: RowMapping, now: datetime) -> bool:
    idle_until = row["last_seen_at"] + timedelta(seconds=row["idle_ttl"])
    is_of_key = row["key_id"] is not None
    return (
        row["revoked_at"] is not None
        or min(row["expires_at"], idle_until) <= now
        or (is_of_key and not works(row["key_expires_at"], row["key_revoked_at"]))
    )


_SELECT = select(
    sessions,
    users.c.name.label("user_name"),
    keys.c.expires_at.label("key_expires_at"),
    keys.c.revoked_at.label("key_revoked_at"),
).select_from(sessions.join(users).outerjoin(keys, keys.c.id == sessions.c.key_id))


def _session(row: RowMapping) -> Session:
    return Session(
        id=row["id"],
        user=row["user_id"],
        user_name=row["user_name"],
        key=row["key_id"],
        scopes=tuple(json.loads(row["scopes"])),
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        expires_at=row["expires_at"],
        address=row["address"],
        user_agent=row["user_agent"],
    )


def _hash(token: str) -> str:
    """Return what is stored of a token: random bits need no slow hash, and looking one up tells nothing of it."""
    return sha256(token.encode()).hexdigest()
