"""How keys, limits, logs and the audit look in requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from ....platform.access.keys import MAX_NAME_LENGTH

Level = Literal["debug", "info", "warning", "error"]


class KeyMade(msgspec.Struct):
    """A key that was made. ``key`` is shown this once."""

    key: str
    id: str
    user: int
    user_name: str
    prefix: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """The key that is wanted."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    scopes: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=10)] = []
    """Of health.ingest (or ingest), health.read, health.export and health.admin; only the first if none is named."""
    expires: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    """``90d``, ``2027-01-01`` or a time of RFC 3339."""
    expires_at: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    """The same under its other name."""
    limits: dict[str, dict[str, Annotated[int, msgspec.Meta(ge=0, le=2**53)]]] | None = None
    """In place of those of the settings: ``{"health.ingest": {"requests": 1000}}``."""


class Allowance(msgspec.Struct):
    """What is left of a sliding day beyond its hours."""

    window: int
    limit: int
    remaining: int
    bytes_limit: int
    bytes_remaining: int


class RateLimit(msgspec.Struct):
    """A limit and what is left of it."""

    window: int
    limit: int
    remaining: int
    reset: int
    bytes_limit: int
    bytes_remaining: int
    allowance: Allowance


class Me(msgspec.Struct):
    """Who calls."""

    user: int
    user_name: str
    key: str
    key_name: str
    scopes: list[str]
    expires_at: datetime | None


class AuditRow(msgspec.Struct):
    """Something that was done, or tried."""

    id: str
    time: datetime
    key_id: str | None
    action: str
    outcome: Literal["success", "refused", "failed"]
    resource: str | None
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: dict[str, Any] | None


class LevelShown(msgspec.Struct):
    """From which level on lines are logged."""

    level: Level


class LogStatistics(msgspec.Struct):
    """How many lines were logged."""

    since: datetime
    level: Level
    lines: dict[str, int]


class LogLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line to log."""

    level: Level = "info"
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "a test of the log"


class Logged(msgspec.Struct):
    """What was logged."""

    level: Level
    logged: bool


class CharacteristicsStatistics(msgspec.Struct):
    """What is known of the characteristics of the caller."""

    count: int
    updated_at: datetime | None
    verified_at: datetime | None
