"""The routes of keys, users, scopes and the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.params import JSONBody, Parameter
from sqlalchemy import Connection, select

from ..access.administration import read_audit as read_page
from ..access.keys import MAX_NAME_LENGTH, Made
from ..access.schema import audit, users
from ..access.scopes import ANY, OPERATOR
from ..access.shapes import KeyShown, Rotation
from ..web import cursors
from ..web.answers import Page, answer, answer_with, documented
from ..web.parameters import Cursor, Limit
from .service import MAX_BODY_BYTES, ROOT, Asked, authority, platform

Id = Annotated[
    str, Parameter(pattern="^[A-Za-z0-9_-]{1,64}$", description="The id of a key, or how it begins: pen_1a2b3c4d.")
]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]


class KeyMade(KeyShown):
    """A key that was made. ``key`` is shown this once."""

    key: str = ""


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """The key that is wanted."""

    name: Name
    user: Name | None = None
    """Whose data it gives access to; a new name is a new user. Without it, the caller's own user."""
    scopes: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=50)] = []
    """As listed by `scopes`; without any, those of a device that sends."""
    expires: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    """``90d``, ``2027-01-01`` or a time of RFC 3339; without it, never."""
    limits: dict[str, dict[str, Annotated[int, msgspec.Meta(ge=0, le=2**53)]]] | None = None
    """In place of those of the scopes: ``{"inbox.send": {"requests": 1000}}``."""


class UserShown(msgspec.Struct):
    """A user: whose data a key gives access to."""

    id: int
    name: str
    created_at: datetime


class ScopeShown(msgspec.Struct):
    """A right that a key may have."""

    name: str
    description: str
    is_default: bool
    """Whether a key has it for which no scope was asked."""
    may_grant: bool
    """Whether the caller may make keys with it."""


class AuditRow(msgspec.Struct):
    """Something that was done, or tried."""

    id: str
    time: datetime
    user_id: int | None
    key_id: str | None
    action: str
    outcome: Literal["success", "refused", "failed"]
    resource: str | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: dict[str, Any] | None


def _operation(
    data: Any, description: str, *, scope: str = ANY, status: int = 200, envelope: Any = None
) -> dict[str, Any]:
    more = {} if envelope is None else {"envelope": envelope}
    options = documented(data, description, scope=scope, limit=OPERATOR.name, status=status, **more)
    return options | {"status_code": status, "request_max_body_size": MAX_BODY_BYTES}


def _made(made: Made) -> dict[str, Any]:
    return {"key": made.secret, **made.key.describe()}


@get(f"{ROOT}/keys", **_operation(list[KeyShown], "The keys, the newest first: all for an operator, else one's own."))
async def list_keys(request: Asked) -> Response[Any]:
    """List keys, those that do not work any more too."""
    return answer([key.describe() for key in await platform(request).administration.list_keys(authority(request).user)])


@post(f"{ROOT}/keys", **_operation(KeyMade, "The key, shown this once.", status=201))
async def create_key(request: Asked, data: JSONBody[NewKey]) -> Response[Any]:
    """Make a key. What it reads is shown in this answer, and nowhere ever again."""
    found = authority(request)
    user: str | int = data.user if data.user is not None and found.user is None else request.user.user
    made = await platform(request).administration.create_key(
        request.user,
        found,
        name=data.name,
        user=user,
        scopes=data.scopes,
        expires=data.expires,
        limits=data.limits,
    )
    return answer(_made(made), 201)


@post(f"{ROOT}/keys/{{key:str}}/rotate", **_operation(KeyMade, "The key in its place, shown this once.", status=201))
async def rotate_key(request: Asked, key: Id, data: JSONBody[Rotation | None] = None) -> Response[Any]:
    """Make a key in place of another one, which goes on to work for the time of the overlap."""
    overlap = data.overlap if data is not None else "0s"
    made = await platform(request).administration.rotate_key(request.user, authority(request), key, overlap)
    return answer(_made(made), 201)


@delete(f"{ROOT}/keys/{{key:str}}", **_operation(KeyShown, "The key, which works no more."))
async def revoke_key(request: Asked, key: Id) -> Response[Any]:
    """Revoke a key: the next request with it is refused, and sessions that it began have ended."""
    revoked = await platform(request).administration.revoke_key(request.user, authority(request), key)
    return answer(revoked.describe())


@get(f"{ROOT}/users", **_operation(list[UserShown], "The users, by name.", scope=OPERATOR.name))
async def list_users(request: Asked) -> Response[Any]:
    """List the users."""

    def read(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(select(users).order_by(users.c.name)).mappings()]

    return answer(await platform(request).database.run(read))


@get(f"{ROOT}/scopes", **_operation(list[ScopeShown], "The scopes that the applications which run here declare."))
async def list_scopes(request: Asked) -> Response[Any]:
    """List what a key may be good for."""
    granted = authority(request).scopes
    return answer(
        [
            ScopeShown(one.name, one.description, one.is_default, granted is None or one.name in granted)
            for one in platform(request).gate.scopes.declared
        ]
    )


@get(f"{ROOT}/audit", **_operation(list[AuditRow], "A page of the audit, the newest first.", envelope=Page))
async def read_audit(
    request: Asked,
    limit: Limit = 100,
    cursor: Cursor = None,
    action: Annotated[str | None, Parameter(pattern="^[a-z_]{1,64}$", description="Only this action.")] = None,
    without: Annotated[str | None, Parameter(pattern="^[a-z_]{1,64}$", description="All but this action.")] = None,
) -> Response[Any]:
    """List what was done and tried with keys and sessions: with all for an operator, else with those of one's user."""
    user = authority(request).user
    after = cursors.read(cursor, [audit.c.time, audit.c.id], "audit", action, without)

    def read(connection: Connection) -> dict[str, Any]:
        rows, last = read_page(connection, user=user, action=action, without=without, after=after, limit=limit)
        return {"data": rows, "next_cursor": cursors.written(last, "audit", action, without)}

    return await answer_with(request, platform(request).database, read)


ROUTES = [list_keys, create_key, rotate_key, revoke_key, list_users, list_scopes, read_audit]
