"""The routes by which people sign in and out, and by which sessions are looked after."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.params import JSONBody, Parameter

from ..access import sessions
from ..access.request import HEADER, AuthRequest
from ..access.scopes import ANY, OPERATOR
from ..web.answers import answer, documented
from ..web.errors import ApiError
from ..web.exchange import is_tls
from .service import MAX_BODY_BYTES, ROOT, Asked, PlatformService, platform

Id = Annotated[str, Parameter(pattern="^[A-Za-z0-9_-]{1,64}$", description="The id of a session.")]
Token = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """By what somebody signs in: one of the two."""

    key: Token | None = None
    """A key; the session has its scopes, and ends with it."""
    link: Token | None = None
    """What follows `#sign-in=` in a link of `penstock up` or `penstock sign-in`."""

    def __repr__(self) -> str:
        return "SignIn()"


class SessionShown(msgspec.Struct):
    """What is known of a session."""

    id: str
    user: int
    user_name: str
    key: str | None
    """The id of the key that began it; null if a link did."""
    scopes: list[str]
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    user_agent: str


class Me(msgspec.Struct):
    """Who calls."""

    user: int
    user_name: str
    scopes: list[str]
    session: str | None
    """The id of the session; null for a request with a key."""
    key: str | None
    """The id of the key; null for a session that a link began."""


def _operation(data: Any, description: str, *, scope: str = OPERATOR.name, status: int = 200) -> dict[str, Any]:
    options = documented(data, description, scope=scope, limit=OPERATOR.name, status=status)
    return options | {"status_code": status, "request_max_body_size": MAX_BODY_BYTES}


def _cookie(request: Asked, of: PlatformService, token: str, lasts: float) -> dict[str, str]:
    is_secure = is_tls(request.scope, of.gate.options.trusted_proxies)
    return {"set-cookie": sessions.cookie(token, of.port, is_secure=is_secure, lasts=lasts)}


_signs_in = _operation(SessionShown, "The session; its token is in the cookie alone.", status=201)
_signs_in["opt"] = {"public": True}


@post(f"{ROOT}/sessions", **_signs_in)
async def sign_in(request: Asked, data: JSONBody[SignIn]) -> Response[Any]:
    """Begin a session by a key or by a link, which is good for one use. Pages of other origins cannot."""
    of = platform(request)
    if HEADER.decode() not in request.headers:
        raise ApiError(403, "forbidden", f"signing in needs the header {HEADER.decode()}: 1")
    if (data.key is None) == (data.link is None):
        raise ApiError(400, "validation_error", "expected either `key` or `link`")
    proxies = of.gate.options.trusted_proxies
    asked = AuthRequest.read(request.scope, ANY, f"POST {ROOT}/sessions", "platform", proxies, limit=OPERATOR.name)
    if data.link is not None:
        begun = await of.gate.redeem(asked, data.link, of.lifetime)
    else:
        admission = await of.gate.admit(msgspec.structs.replace(asked, key=data.key))
        await admission.audited
        begin = partial(sessions.begin, caller=admission.caller, lifetime=of.lifetime)
        begun = await of.database.run(begin, changes=True)
    found = begun.session
    caller = msgspec.structs.replace(asked.caller(), user=found.user, key=found.key or "", session=found.id)
    await of.gate.audit.record("session_begun", caller=caller, resource=found.id, details={"scopes": found.scopes})
    return answer(begun.session, 201, _cookie(request, of, begun.token, of.lifetime.absolute))


@get(f"{ROOT}/me", **_operation(Me, "The user of this request, and what it may do.", scope=ANY))
async def me(request: Asked) -> Response[Any]:
    """Tell the caller who it is."""
    caller = request.user
    shown = Me(caller.user, caller.user_name, sorted(caller.scopes), caller.session or None, caller.key or None)
    return answer(shown)


@get(f"{ROOT}/sessions", **_operation(list[SessionShown], "The sessions that work, the last used first."))
async def list_sessions(request: Asked) -> Response[Any]:
    """List the sessions of all users."""
    return answer(await platform(request).database.run(sessions.listed))


@delete(f"{ROOT}/sessions/current", **_operation(SessionShown, "The session, which has ended.", scope=ANY))
async def sign_out(request: Asked) -> Response[Any]:
    """End the session of this request."""
    of = platform(request)
    if not request.user.session:
        raise ApiError(400, "validation_error", "this request has a key and no session")
    return answer(await _end(request, request.user.session), 200, _cookie(request, of, "", 0))


@delete(f"{ROOT}/sessions/{{id:str}}", **_operation(SessionShown, "The session, which has ended."))
async def revoke_session(request: Asked, id: Id) -> Response[Any]:
    """End a session: the next request with it is refused, by every replica."""
    return answer(await _end(request, id))


async def _end(request: Asked, id: str) -> sessions.Session:
    of = platform(request)
    try:
        ended = await of.database.run(partial(sessions.revoke, id=id), changes=True)
    except sessions.NoSuchSession as error:
        raise ApiError(404, "not_found", str(error)) from None
    await of.gate.audit.record("session_ended", caller=request.user, resource=id)
    return ended


ROUTES = [sign_in, me, list_sessions, sign_out, revoke_session]
