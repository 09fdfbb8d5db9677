"""Who calls: what the rest of the service knows of a request that was let in."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Scope = Literal["ingest", "read", "export", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "read", "export", "admin")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The user behind a key, and the request it came with."""

    user: int
    user_name: str
    key: str
    """The id of the key, never the key."""
    scopes: frozenset[Scope]
    address: str
    """Of the client; behind a trusted proxy, as that says."""
    user_agent: str = ""
    request_id: str = ""


class Refused(Exception):
    """A request is answered with an error; raised anywhere below the API and turned into JSON by it."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message
        self.headers, self.details = headers or {}, details or {}
