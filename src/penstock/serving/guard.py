"""Refuse requests that a web page of another origin can make a browser send."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address

from .asgi import Scope
from .listener import split_address

_OWN = (b"same-origin", b"none")
"""Values of Sec-Fetch-Site for pages of our own, and for what a person typed."""


@lru_cache(maxsize=64)
def is_local(address: str) -> bool:
    """Tell whether ``address``, host and port, is reached from this machine alone; raises ValueError."""
    return _is_loopback(split_address(address)[0])


def refusal(scope: Scope, address: str) -> str | None:
    """Return why a request to the listener at ``address`` is refused, or None.

    A browser sends Origin with every POST, and Sec-Fetch-Site where it is up to date; both must say that the page is
    of our own origin. curl and devices send neither. On a loopback address Host must name this machine, too: a foreign
    name there is one that somebody pointed at it (DNS rebinding), whose page has the same origin as that name.
    """
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value.strip().lower())
    host = headers.get(b"host", [b""])[-1]
    if host and is_local(address) and not _is_loopback(_name(host)):
        return "this host is not served here; use 127.0.0.1 or localhost"
    if any(site not in _OWN for site in headers.get(b"sec-fetch-site", ())):
        return "pages of other origins may not post here"
    expected = b"%s://%s" % (str(scope.get("scheme", "http")).encode(), host)
    if any(origin != expected for origin in headers.get(b"origin", ())):
        return "pages of other origins may not post here"
    return None


def page_refusal(scope: Scope, address: str, allowed: Collection[str] = (), *, is_proxied: bool = False) -> str | None:
    """Return why a request that changes something, and that a key admits, is refused before that; or None.

    Pages of other origins than ``allowed`` are refused. Proxies may change scheme and Host, so a browser's own word for
    where its page is from (Sec-Fetch-Site, which no page can set) counts more than Origin. Browsers leave it out
    without TLS where the name is foreign: there a name may have been pointed at this machine (DNS rebinding),
    and on loopback Host has to name it, unless the request ``is_proxied``. Programs need no more than their key.
    """
    origin, host = _last(scope, b"origin"), _last(scope, b"host")
    site = _last(scope, b"sec-fetch-site")
    if origin and ("*" in allowed or origin.decode("latin-1") in allowed):
        return None
    if site:
        return None if site in _OWN else "pages of other origins may not change anything here"
    if not origin or is_proxied:
        return None
    if is_local(address) and not _is_loopback(_name(host)):
        return "this host is not served here; use 127.0.0.1 or localhost"
    return None if origin.partition(b"://")[2] == host else "pages of other origins may not change anything here"


def _last(scope: Scope, name: bytes) -> bytes:
    """Return the last value of a header in lower case; empty if there is none."""
    return next((value.strip().lower() for key, value in reversed(scope["headers"]) if key == name), b"")


def _name(host: bytes) -> str:
    """Return the name in a Host header, without the port."""
    text = host.decode("latin-1")
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


@lru_cache(maxsize=64)  # which a client may fill with what it likes
def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
