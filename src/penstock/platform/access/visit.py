"""What the gate looks at in a request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

import msgspec

from . import addresses
from .caller import SCOPES, Caller

if TYPE_CHECKING:
    from litestar.types import HTTPScope

    from .lookup import State

_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_SECRET = re.compile(r"(hea_[0-9a-f]{8})[0-9a-f]+", re.IGNORECASE)
_BEARER = re.compile(r"bearer\s+(\S+)\s*|(hea_\S+)\s*", re.IGNORECASE)


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """A request before it is let in."""

    key: str | None
    """What was shown as a key; never written anywhere."""
    scope: str
    """What the key must be good for; ``any`` for a key of any kind."""
    limit: str
    """The class of limits that it counts in."""
    bytes: int | None
    """The length of the body, if it is known."""
    route: str
    """The route and its method, without what stands for its parts."""
    address: str
    user_agent: str
    request_id: str

    def __repr__(self) -> str:
        return f"Visit({self.route!r}, address={self.address!r}, request_id={self.request_id!r})"

    @classmethod
    def of(cls, scope: HTTPScope, trusted: Iterable[IPv4Network | IPv6Network]) -> Visit:
        """Read a request of ASGI, of which Litestar has found the handler."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        opt = scope["route_handler"].opt
        needs = opt.get("scope", "admin")
        peer = scope.get("client")
        return cls(
            key=_key(headers),
            scope=needs,
            limit=opt.get("limit") or (needs if needs in SCOPES else "read"),
            bytes=_length(headers),
            route=f"{scope['method']} {scope.get('path_template') or scope['path']}",
            address=addresses.client(peer[0] if peer else None, _texts(headers, b"x-forwarded-for"), trusted),
            user_agent=next(_texts(headers, b"user-agent"), ""),
            request_id=request_id(_texts(headers, b"x-request-id")),
        )

    def caller(self, state: State | None = None) -> Caller:
        """Return who calls; without a key that is known, nobody with the address of the request."""
        return Caller(
            user=state.user if state else 0,
            user_name=state.user_name if state else "",
            key=state.key if state else "",
            scopes=state.scopes if state else frozenset(),
            address=self.address,
            user_agent=self.user_agent,
            request_id=self.request_id,
        )


def request_id(given: Iterable[str]) -> str:
    """Return the id that the client gave, if it is a harmless one, else a new one."""
    first = next(iter(given), "")
    return masked(first) if _REQUEST_ID.fullmatch(first) else uuid.uuid4().hex


def masked(text: str) -> str:
    """Return ``text`` as it may be logged: of keys that somebody wrote into it, their public part only."""
    return _SECRET.sub(r"\1...", text)


def _key(headers: dict[bytes, list[bytes]]) -> str | None:
    for text in _texts(headers, b"authorization"):
        if bearer := _BEARER.fullmatch(text):
            return bearer[1] or bearer[2]
    for name in (b"x-api-key", b"api-key"):
        for text in _texts(headers, name):
            if text:
                return text
    return None


def _length(headers: dict[bytes, list[bytes]]) -> int | None:
    text = next(_texts(headers, b"content-length"), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _texts(headers: dict[bytes, list[bytes]], name: bytes) -> Iterator[str]:
    return (value.decode("latin-1").strip() for value in headers.get(name, ()))
