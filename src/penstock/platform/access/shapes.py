"""What is asked and answered about keys, the same in the API of the platform and in those of applications."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec


class KeyShown(msgspec.Struct):
    """What is known of a key."""

    state: Literal["active", "expired", "revoked"]
    id: str
    user: int
    user_name: str
    prefix: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """How a key is replaced."""

    overlap: Annotated[str, msgspec.Meta(max_length=40)] = "0s"
    """How long the old key goes on to work: ``24h``."""
