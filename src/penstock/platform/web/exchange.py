"""What surrounds every request: its id, CORS, security headers and the access log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import msgspec

from ...identifiers import new_id
from ...serving.guard import page_refusal
from ..access.caller import Caller
from ..access.request import redact
from .errors import envelope
from .security import SECURITY_HEADERS

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:/+=-]{1,128}")
_TOKENS = re.compile(rb"[A-Za-z0-9_, -]{1,1000}")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED_HEADERS = (
    b"x-request-id, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-ratelimit-window, retry-after, "
    b"location, etag, content-disposition, x-next-cursor"
)
_API_HEADERS = (
    *SECURITY_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_HSTS = ((b"strict-transport-security", b"max-age=31536000; includeSubDomains"),)


@dataclass(frozen=True)
class WebPolicy:
    """How an application's API treats origins, proxies and its log."""

    log: logging.Logger
    """Where requests are logged."""
    allowed_origins: Sequence[str] = ()
    """The origins whose pages may call the API; ``*`` allows all."""
    address: str = ""
    """Where it is served: host and port."""
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    """The networks whose ``x-forwarded-proto`` is believed."""
    probes: tuple[str, ...] = ()
    """The beginnings of paths that are logged at level debug unless they fail."""


class RequestScope:
    """One request: its id, and the headers that its answer is given."""

    def __init__(self, policy: WebPolicy, scope: Any, send: Any) -> None:
        self._policy, self._scope, self._send = policy, scope, send
        self._started = time.perf_counter()
        self._status = self._sent = 0
        self._request_headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self._request_headers.get(b"x-request-id", b"")
        self.id: bytes = redact(given.decode()).encode() if _REQUEST_ID.fullmatch(given) else new_id().encode()
        """The id that the client gave, if it may be logged, or one of our own."""
        if self.id != given:  # so that whoever reads the header later reads the same
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
            scope["headers"].append((b"x-request-id", self.id))
        self._origin = self._request_headers.get(b"origin")
        allowed = self._policy.allowed_origins
        self._allowed = self._origin is not None and ("*" in allowed or self._origin.decode("latin-1") in allowed)

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks if a page of another origin may call the API."""
        return (
            self._scope["method"] == "OPTIONS"
            and self._origin is not None
            and b"access-control-request-method" in self._request_headers
        )

    def refusal(self) -> str | None:
        """Return why a page of another origin may not send this request, or None."""
        if self._scope["method"] in _SAFE_METHODS or not self._policy.address:
            return None
        is_proxied = self._is_tls() and self._scope.get("scheme") != "https"
        return page_refusal(self._scope, self._policy.address, self._policy.allowed_origins, is_proxied=is_proxied)

    async def preflight(self) -> None:
        """Answer a preflight."""
        fields = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
        names = self._request_headers.get(b"access-control-request-headers", b"")
        if _TOKENS.fullmatch(names):
            fields.append((b"access-control-allow-headers", names))
        if not self._allowed:
            await self.refuse(403, "forbidden", "pages of this origin may not call the API")
            return
        await self.answer(204, fields)

    async def answer(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        """Send a whole answer."""
        await self.send({"type": "http.response.start", "status": status, "headers": fields})
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, status: int, error: str, message: str) -> None:
        """Answer with an error."""
        body = msgspec.json.encode(envelope(error, message))
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.answer(status, fields, body)

    @property
    def has_begun(self) -> bool:
        """Whether the answer is on its way."""
        return bool(self._status)

    async def send(self, message: Any) -> None:
        """Pass on a message of the answer, adding the headers that it does not set itself."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given} - {b"vary"}  # what an answer depends on adds up
            message = {**message, "headers": [*given, *(pair for pair in self._headers() if pair[0] not in names)]}
        else:
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def _headers(self) -> Iterable[tuple[bytes, bytes]]:
        yield b"x-request-id", self.id
        yield from _API_HEADERS
        if self._is_tls():
            yield from _HSTS
        if self._policy.allowed_origins:
            yield b"vary", b"origin"
        if self._allowed and self._origin is not None:
            yield b"access-control-allow-origin", self._origin
            yield b"access-control-expose-headers", _EXPOSED_HEADERS

    def _is_tls(self) -> bool:
        return is_tls(self._scope, self._policy.trusted_proxies)

    def finish(self) -> None:
        """Log the request without its query and headers, which may hold personal data and keys."""
        path = (self._scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")[:200]
        if not path.isprintable():
            path = ascii(path)
        path = redact(path)
        user = self._scope.get("user")
        self._policy.log.log(
            logging.DEBUG if path.startswith(self._policy.probes) and self._status < 400 else logging.INFO,
            "%s %s %d %.1f ms, %d bytes, user %s",
            self._scope["method"],
            path,
            self._status or 499,
            (time.perf_counter() - self._started) * 1000,
            self._sent,
            user.user if isinstance(user, Caller) else "-",
        )


def is_tls(scope: Mapping[str, Any], trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Tell whether the client uses TLS, to this server or to a trusted proxy."""
    if scope.get("scheme") == "https":
        return True
    if dict(scope["headers"]).get(b"x-forwarded-proto", b"").strip().lower() == b"https":
        with suppress(ValueError):
            peer = ip_address((scope.get("client") or ("",))[0])
            return any(peer in network for network in trusted_proxies)
    return False
