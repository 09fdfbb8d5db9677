"""Find the address of a client behind proxies."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

UNKNOWN = "unknown"
"""The address of a client that has none, for example on a Unix socket."""
MAX_HOPS = 32
"""How many entries of X-Forwarded-For are looked at, from the right."""


def client(peer: str | None, forwarded: Iterable[str], trusted: Iterable[IPv4Network | IPv6Network]) -> str:
    """Return the address of the client: the right-most hop that is not a trusted proxy.

    ``forwarded`` are the values of X-Forwarded-For, in order; they are believed only as far as trusted proxies wrote
    them. What is not an address ends the search: the proxy that passed it on is then the client.
    """
    found = _address(peer or "")
    if found is None:
        return UNKNOWN
    networks = tuple(trusted)
    if not networks:
        return str(found)
    hops = ",".join(forwarded).split(",")
    for hop in hops[: -MAX_HOPS - 1 : -1]:
        if not _within(found, networks):
            break
        before = _address(hop)
        if before is None:
            break
        found = before
    return str(found)


def group(address: str) -> str:
    """Return the subject of limits for ``address``: itself, or the /64 network of an IPv6 address."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return address


def _within(address: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read ``1.2.3.4``, ``1.2.3.4:5678``, ``2001:db8::1``, ``[2001:db8::1]:5678``; mapped IPv4 is IPv4."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
