"""One path of a listener: which requests are for it, and those that are running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError
from .asgi import Asgi, Receive, Scope, Send

MAX_PART = 256
"""How many bytes the value of a ``{placeholder}`` may have."""


class Route:
    """One path of a server, and the requests to it that are running."""

    def __init__(self, path: str, app: Asgi, methods: Iterable[str] | None, *, probe: bool = False) -> None:
        if not path.startswith("/"):
            raise ConfigError(f"expected a path that begins with '/', not {path!r}")
        self.path, self.app, self.open, self.probe = path, app, True, probe
        self.methods = frozenset(method.upper() for method in methods) if methods is not None else None
        parts = path.split("/")[1:]
        self.beneath = parts[-1] == "*"
        self.parts = parts[:-1] if self.beneath else parts
        self.names = [part[1:-1] if part.startswith("{") and part.endswith("}") else None for part in self.parts]
        self.root = path[:-2] if self.beneath else ""
        self.tasks: set[asyncio.Task[Any]] = set()

    def shape(self) -> tuple[Any, ...]:
        """Return what paths that answer the same requests have in common; the more special are sorted first."""
        return (
            self.beneath,
            -len(self.parts),
            [(name is not None, "" if name else part) for name, part in self._pairs()],
        )

    def _pairs(self) -> Iterable[tuple[str | None, str]]:
        return zip(self.names, self.parts, strict=True)

    def match(self, parts: list[bytes]) -> dict[str, bytes] | None:
        """Return the values of the placeholders, or None if this is another path."""
        if len(parts) < len(self.parts) or (len(parts) > len(self.parts) and not self.beneath):
            return None
        found: dict[str, bytes] = {}
        for (name, expected), part in zip(self._pairs(), parts, strict=False):
            if name is None:
                if expected.encode() != part:
                    return None
            elif not part:
                return None
            else:
                found[name] = part
        return found

    async def close(self, grace: float) -> None:
        """Take no more requests; let the running ones finish, at most ``grace`` seconds."""
        self.open = False
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=grace)
        running = list(self.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def expected(path: str) -> Route:
    """Return a route that is closed until what serves it is there."""

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("a closed route was called")

    route = Route(path, never, None)
    route.open = False
    return route


def decoded(value: bytes) -> str:
    """Return the text of a part of a path; raises ValueError for what is too long, not UTF-8 or not printable."""
    if len(value) > MAX_PART:
        raise ValueError(f"a part of the path is longer than {MAX_PART} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError("a part of the path is not UTF-8") from None
    if not text.isprintable():
        raise ValueError("a part of the path has control characters")
    return text
