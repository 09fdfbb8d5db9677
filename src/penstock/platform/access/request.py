"""The parts of a request by which the gate decides."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

import msgspec

from . import addresses
from .caller import Caller
from .scopes import ANY, local, qualified

if TYPE_CHECKING:
    from litestar.types import HTTPScope

    from .lookup import State

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing."""
HEADER = b"x-penstock"
"""The header that a page of ours sends with each request that changes something: a page of another origin cannot."""
COOKIE = "penstock_session"
"""How the names of cookies begin; the port follows, as browsers do not tell ports apart."""
SECURE = "__Host-"
"""What stands before the name of a cookie that browsers keep from plain HTTP and from other names of the host."""
MAX_COOKIES = 4
"""How many sessions of one request are looked at: installations on other ports of a host share its cookies."""
_COOKIE = re.compile(rf"(?:{SECURE})?{COOKIE}_\d{{1,5}}=(pes_[0-9a-f]{{64}})", re.ASCII)
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_SECRET = re.compile(r"((?:pen|hea|pel|pes)_[0-9a-f]{8})[0-9a-f]+", re.IGNORECASE)
_BEARER = re.compile(r"bearer\s+(\S+)\s*|((?:pen|hea)_\S+)\s*", re.IGNORECASE)


class AuthRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is not yet admitted."""

    key: str | None
    """The text that was given as a key; it must never be written anywhere."""
    sessions: Sequence[str] = ()
    """The tokens of sessions among its cookies, as secret as keys."""
    foreign: str | None = None
    """Why no session may be used, as a page of another origin could have had it sent; None if none could."""
    scope: str
    """The scope that the key must have; ``any`` for a key of any scope."""
    named: str
    """That scope as the routes of the application name it."""
    limit: str
    """The scope in whose limit it counts."""
    bytes: int | None
    """The length of the body, if it is known."""
    route: str
    """The method and the template of the path."""
    address: str
    user_agent: str
    request_id: str

    def __repr__(self) -> str:
        return f"AuthRequest({self.route!r}, address={self.address!r}, request_id={self.request_id!r})"

    @classmethod
    def of(cls, scope: HTTPScope, application: str, trusted: Iterable[IPv4Network | IPv6Network]) -> AuthRequest:
        """Read a request of ASGI whose handler Litestar has found among those of ``application``."""
        opt = scope["route_handler"].opt
        needs = qualified(opt.get("scope", "admin"), application)
        limit = qualified(opt.get("limit") or ("read" if needs == ANY else needs), application)
        route = f"{scope['method']} {scope.get('path_template') or scope['path']}"
        return cls.read(scope, needs, route, application, trusted, limit=limit)

    @classmethod
    def read(
        cls,
        scope: Mapping[str, Any],
        needs: str,
        route: str,
        application: str,
        trusted: Iterable[IPv4Network | IPv6Network],
        *,
        limit: str | None = None,
    ) -> AuthRequest:
        """Read a request of ASGI that needs a key with the scope ``needs``."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        peer = scope.get("client")
        return cls(
            key=_key(headers),
            sessions=tokens_of(_texts(headers, b"cookie")),
            foreign=_foreign(str(scope["method"]), headers),
            scope=needs,
            named=local(needs, application),
            limit=limit or needs,
            bytes=_length(headers),
            route=route,
            address=addresses.client(peer[0] if peer else None, _texts(headers, b"x-forwarded-for"), trusted),
            user_agent=next(_texts(headers, b"user-agent"), ""),
            request_id=request_id(_texts(headers, b"x-request-id")),
        )

    def caller(self, state: State | None = None) -> Caller:
        """Return the caller; user 0 without a known key."""
        return Caller(
            user=state.user if state else 0,
            user_name=state.user_name if state else "",
            key=state.key if state else "",
            scopes=state.scopes if state else frozenset(),
            address=self.address,
            user_agent=self.user_agent,
            request_id=self.request_id,
            session=state.session if state else "",
        )


def request_id(given: Iterable[str]) -> str:
    """Return the id that the client gave, if it is fit to be logged, else a new one."""
    first = next(iter(given), "")
    return redact(first) if _REQUEST_ID.fullmatch(first) else uuid.uuid4().hex


def redact(text: str) -> str:
    """Return ``text`` with each key in it cut down to its public beginning."""
    return _SECRET.sub(r"\1...", text)


def tokens_of(cookies: Iterable[str]) -> list[str]:
    """Return the tokens of sessions among the values of Cookie headers."""
    parts = (part.strip() for value in cookies for part in value.split(";"))
    return [match[1] for part in parts if (match := _COOKIE.fullmatch(part))][:MAX_COOKIES]


def _key(headers: dict[bytes, list[bytes]]) -> str | None:
    for text in _texts(headers, b"authorization"):
        if bearer := _BEARER.fullmatch(text):
            return bearer[1] or bearer[2]
    for name in (b"x-api-key", b"api-key"):
        for text in _texts(headers, name):
            if text:
                return text
    return None


def _foreign(method: str, headers: dict[bytes, list[bytes]]) -> str | None:
    """Return why a session may not be used; browsers send cookies also for other ports of the same host."""
    if any(site not in ("same-origin", "none") for site in _texts(headers, b"sec-fetch-site")):
        return "pages of other origins may not use a session"
    if method not in SAFE_METHODS and HEADER not in headers:
        return f"with a session, whatever changes something needs the header {HEADER.decode()}: 1"
    return None


def _length(headers: dict[bytes, list[bytes]]) -> int | None:
    text = next(_texts(headers, b"content-length"), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _texts(headers: dict[bytes, list[bytes]], name: bytes) -> Iterator[str]:
    return (value.decode("latin-1").strip() for value in headers.get(name, ()))
