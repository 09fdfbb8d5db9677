"""Who calls: what the rest of the service knows of a request that was let in."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The user behind a key or a session, and the request it came with."""

    user: int
    user_name: str
    key: str
    """The id of the key, never the key; of a session that a link began, empty."""
    scopes: frozenset[str]
    address: str
    """Of the client; behind a trusted proxy, as that says."""
    user_agent: str = ""
    request_id: str = ""
    session: str = ""
    """The id of the session; empty for a request with a key."""
