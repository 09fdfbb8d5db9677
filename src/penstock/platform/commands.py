"""The commands that look after keys and sign people in, in the database of an installation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, insert

from ..duration import seconds
from ..errors import ConfigError
from ..serving.listener import split_address
from .access import keys, sessions
from .access.audit import entry
from .access.schema import audit
from .access.scopes import Scopes
from .database import Database


def create_key(
    database: Database,
    declared: Scopes,
    *,
    name: str,
    user: str = "me",
    scopes: Iterable[str] = (),
    application: str = "",
    expires: str | None = None,
    as_json: bool = False,
) -> str:
    """Make a key and return it alone, or with all about it as JSON; it is shown this once.

    Without ``scopes`` it may send, to ``application`` or to all, and not read. ``expires`` is ``90d``, ``2027-01-01``
    or a time. Raises ConfigError.
    """
    expires_at = keys.expiry_of(expires)
    granted = declared.asked(scopes, application)

    def make(connection: Connection) -> keys.Made:
        made = keys.create(connection, name=name, user=user, scopes=granted, expires_at=expires_at)
        details = {"name": made.key.name, "scopes": made.key.scopes, "expires_at": made.key.expires_at}
        _write_down(connection, "api_key_created", made.key, details)
        return made

    return _format(database.call(make, changes=True), as_json)


def list_keys(database: Database, *, user: str | None = None, as_json: bool = False) -> str:
    """Return all keys, or those of one user, as a table or as JSON."""
    found = [key for key in database.call(keys.listed) if user is None or key.user_name == user]
    if as_json:
        return json.dumps([key.describe() for key in found], indent=2)
    if not found:
        return "there are no keys; make one by: penstock keys create --name phone"
    rows = [["ID", "KEY", "USER", "NAME", "SCOPES", "STATE", "EXPIRES", "LAST USED"]]
    for key in found:
        expires, used = (moment.strftime("%Y-%m-%d %H:%M") if moment else "-" for moment in _moments(key))
        rows.append([key.id, key.prefix, key.user_name, key.name, ",".join(key.scopes), key.state, expires, used])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def rotate_key(database: Database, key: str, *, overlap: str = "0s", as_json: bool = False) -> str:
    """Make a key in place of ``key``, an id or a public prefix, which goes on to work for ``overlap``.

    Returns the new key like ``create_key``. Raises ConfigError, NoSuchKey.
    """
    try:
        lasts = seconds(overlap)
    except ValueError as error:
        raise ConfigError(f"overlap: {error}") from None

    def replace(connection: Connection) -> keys.Made:
        made = keys.rotate(connection, key, overlap=lasts)
        _write_down(connection, "api_key_rotated", made.key, {"overlap": lasts})
        return made

    return _format(database.call(replace, changes=True), as_json)


def revoke_key(database: Database, key: str, *, as_json: bool = False) -> str:
    """End ``key``, an id or a public prefix, now and for good; raises NoSuchKey."""

    def end(connection: Connection) -> keys.Key:
        found = keys.revoke(connection, key)
        _write_down(connection, "api_key_revoked", found)
        return found

    found = database.call(end, changes=True)
    return json.dumps(found.describe()) if as_json else f"{found.prefix} ({found.name}) is revoked"


def create_link(database: Database, scopes: Iterable[str], address: str, *, user: str = "me") -> str:
    """Return a link with which a person signs in, once, at ``address``, with all ``scopes``.

    The token stands behind the `#`, which browsers send to nobody.
    """
    host, port = split_address(address)
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"

    def make(connection: Connection) -> str:
        token = sessions.create_link(connection, user=user, scopes=scopes)
        row = entry("sign_in_link_created", "success", details={"by": "command", "user": user})
        connection.execute(insert(audit).values({name: getattr(row, name) for name in row.__struct_fields__}))
        return token

    token = database.call(make, changes=True)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/#sign-in={token}"


def _format(made: keys.Made, as_json: bool) -> str:
    return json.dumps({"key": made.secret, **made.key.describe()}) if as_json else made.secret


def _write_down(connection: Connection, action: str, key: keys.Key, details: dict[str, Any] | None = None) -> None:
    """Audit in the same transaction: no stream runs beside a command."""
    row = entry(action, "success", user=key.user, resource=key.id, details={"by": "command", **(details or {})})
    connection.execute(insert(audit).values({name: getattr(row, name) for name in row.__struct_fields__}))


def _moments(key: keys.Key) -> tuple[Any, Any]:
    return key.expires_at, key.last_used_at
