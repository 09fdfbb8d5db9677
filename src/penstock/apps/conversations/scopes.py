"""What a key may be good for in conversations."""

from __future__ import annotations

from ...platform.access.scopes import MEGABYTE, Limit, Scope

NAME = "conversations"
READ = Scope(
    "conversations.read",
    "Read and search all conversations of this installation, and what they cost.",
    Limit(requests=20_000, bytes=100 * MEGABYTE, allowance_requests=100_000),
    tables="all",
)
