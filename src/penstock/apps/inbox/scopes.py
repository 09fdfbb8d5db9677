"""The scopes of the inbox."""

from __future__ import annotations

from collections.abc import Sequence

from ...platform.access.scopes import MEGABYTE, Limit, Scope

SEND = "inbox.send"
_LIMIT = Limit(requests=1_000_000, bytes=100_000 * MEGABYTE)


def declared() -> Sequence[Scope]:
    """Return the scopes: to send rows, and to read them."""
    return (
        Scope(SEND, "Send rows to /ingest.", _LIMIT, is_default=True, is_of_things=True, aliases=("send",)),
        Scope("inbox.read", "Read rows.", _LIMIT, tables="all"),
    )
