"""Look after keys and read the audit on behalf of a caller, within what that caller may do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, select, tuple_

from ...duration import seconds
from ...errors import ConfigError
from ..database import Database
from ..web.errors import ApiError
from . import keys
from .audit import Audit
from .caller import Caller
from .schema import audit as audit_table
from .scopes import OPERATOR, Scopes

T = TypeVar("T")

AuditKey = tuple[datetime, str]
"""The time and the id of a row of the audit: what follows it is older."""


class Authority(NamedTuple):
    """Whose keys a caller may look after, and which scopes it may hand out."""

    user: int | None
    """The only user whose keys it sees; None for all."""
    scopes: frozenset[str] | None
    """The scopes; None for all."""

    @classmethod
    def of(cls, caller: Caller, declared: Scopes) -> Authority:
        """Return that of a caller: an operator's is everything, an application's administrator's its own user there."""
        if OPERATOR.name in caller.scopes:
            return cls(None, None)
        administered = [name.removesuffix(".admin") for name in caller.scopes if name.endswith(".admin")]
        granted = (scope for application in administered for scope in declared.of_application(application))
        return cls(caller.user, frozenset(granted))


class Administration:
    """Make, list, rotate and revoke keys; each change, and each that is refused, is in the audit."""

    def __init__(self, database: Database, declared: Scopes, audit: Audit) -> None:
        self._database, self._declared, self._audit = database, declared, audit

    async def list_keys(self, user: int | None) -> list[keys.Key]:
        """Return the keys of a user, or of all, the newest first."""
        return await self._database.run(partial(keys.listed, user=user))

    async def create_key(
        self,
        caller: Caller,
        authority: Authority,
        *,
        name: str,
        user: str | int,
        scopes: Iterable[str],
        application: str = "",
        expires: str | None = None,
        limits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> keys.Made:
        """Make a key for ``user``; raises ApiError."""

        def change(connection: Connection) -> keys.Made:
            granted = self._declared.asked(scopes, application)
            _check_scopes(authority, granted)
            return keys.create(
                connection,
                name=name,
                user=user,
                scopes=granted,
                expires_at=keys.expiry_of(expires),
                limits=self._declared.limits(limits),
            )

        made = await self._change(caller, "api_key_creation", None, change)
        details = {"name": made.key.name, "scopes": made.key.scopes, "expires_at": made.key.expires_at}
        await self._audit.record("api_key_created", caller=caller, resource=made.key.id, details=details)
        return made

    async def rotate_key(self, caller: Caller, authority: Authority, key: str, overlap: str) -> keys.Made:
        """Make a key in place of another, which goes on to work for the time of the overlap; raises ApiError."""
        try:
            lasts = seconds(overlap)
        except ValueError as error:
            raise ApiError(400, "validation_error", f"overlap: {error}") from None

        def change(connection: Connection) -> keys.Made:
            _check_scopes(authority, keys.find(connection, key, user=authority.user).scopes)  # the caller sees it
            return keys.rotate(connection, key, overlap=lasts, user=authority.user)

        made = await self._change(caller, "api_key_rotation", _public(key), change)
        details = {"replaces": _public(key), "overlap": lasts}
        await self._audit.record("api_key_rotated", caller=caller, resource=made.key.id, details=details)
        return made

    async def revoke_key(self, caller: Caller, authority: Authority, key: str) -> keys.Key:
        """End a key: the next request with it is refused, by every replica; raises ApiError."""

        def change(connection: Connection) -> keys.Key:
            _check_scopes(authority, keys.find(connection, key, user=authority.user).scopes)
            return keys.revoke(connection, key, user=authority.user)

        found = await self._change(caller, "api_key_revoke", _public(key), change)
        await self._audit.record("api_key_revoked", caller=caller, resource=found.id)
        return found

    async def _change(self, caller: Caller, action: str, resource: str | None, change: Callable[[Connection], T]) -> T:
        """Run a change of keys; raises ApiError for what is wrong with it, and writes that down too."""
        try:
            return await self._database.run(change, changes=True)
        except keys.NoSuchKey as error:
            await self._audit.record(f"{action}_failed", "refused", caller=caller, resource=resource)
            raise ApiError(404, "not_found", str(error)) from None
        except ConfigError as error:
            details = {"reason": str(error)}
            await self._audit.record(f"{action}_failed", "refused", caller=caller, resource=resource, details=details)
            raise ApiError(400, "validation_error", str(error)) from None


def read_audit(
    connection: Connection,
    *,
    user: int | None,
    action: str | None,
    after: Sequence[Any] | None,
    limit: int,
    without: str | None = None,
) -> tuple[list[dict[str, Any]], AuditKey | None]:
    """Return a page of the audit, the newest first, and the key to go on after; None at the end."""
    ordered = [audit_table.c.time, audit_table.c.id]
    query = select(audit_table).order_by(*(column.desc() for column in ordered))
    if user is not None:
        query = query.where(audit_table.c.user_id == user)
    if action is not None:
        query = query.where(audit_table.c.action == action)
    if without is not None:
        query = query.where(audit_table.c.action != without)
    if after is not None:
        query = query.where(tuple_(*ordered) < tuple_(*after))
    rows = [dict(row) for row in connection.execute(query.limit(limit + 1)).mappings()]
    page = rows[:limit]
    for row in page:
        row["details"] = json.loads(row["details"]) if row["details"] else None
    return page, (page[-1]["time"], page[-1]["id"]) if len(rows) > limit else None


def _check_scopes(authority: Authority, scopes: Iterable[str]) -> None:
    """Raise ConfigError unless keys with these scopes may be handed out."""
    if authority.scopes is None:
        return
    foreign = next((name for name in scopes if name not in authority.scopes), None)
    if foreign is not None:
        raise ConfigError(f"keys with the scope {foreign!r} are for operators: penstock keys")


def _public(key: str) -> str:
    """Return what may be written down of what was given as the id of a key, for it could be the whole key."""
    return key[:12] if key.startswith(("pen_", "hea_")) else key
