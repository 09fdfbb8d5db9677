"""Pages of an application: the files of a package, read once at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from ..serving.asgi import Receive, Scope, Send
from ..serving.listener import answer
from .web.security import SECURITY_HEADERS

INDEX = "index.html"
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
"""The kinds of files that are served, and their content types."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing but files of our own, no inline script or style, no text that becomes markup."""

_PAGE_HEADERS = (*SECURITY_HEADERS, (b"cross-origin-opener-policy", b"same-origin"))


class File(NamedTuple):
    """One file of the page."""

    content: bytes
    type: bytes
    etag: bytes


TOKENS = f"{__package__}.tokens"
"""The package of what the pages of all applications share."""


class StaticPages:
    """Serve the files of ``package`` and its folders at ``prefix`` and beneath it.

    ``policy`` is their Content-Security-Policy. ``tokens.css`` is beside them: the colours and fonts of all pages, for
    their stylesheets to import. Reads all files when it is made, so make it in a thread.
    """

    def __init__(self, package: str, prefix: str, policy: str = POLICY) -> None:
        self._prefix = prefix
        self._headers = ((b"content-security-policy", policy.encode()), *_PAGE_HEADERS)
        self._files = {**_read(TOKENS), **_read(package)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request beneath ``root_path``; what is not in the table is 404, whatever its path looks like."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, {"error": "expected GET, HEAD"}, [(b"allow", b"GET, HEAD"), *self._headers])
            return
        name = scope["path"].removeprefix(scope.get("root_path") or self._prefix)
        if name == "/":  # The page's own addresses are relative to the one without the slash.
            where = b".." + self._prefix.encode()
            await self._respond(scope, send, 308, b"", [(b"location", where), (b"content-length", b"0")])
            return
        file = self._files.get(name.removeprefix("/") or INDEX)
        if file is None:
            await answer(send, 404, {"error": "nothing is served at this path"}, self._headers)
            return
        headers = [(b"etag", file.etag), (b"cache-control", b"no-cache")]
        if _known(scope, file.etag):
            await self._respond(scope, send, 304, b"", headers)
            return
        length = (b"content-length", b"%d" % len(file.content))
        await self._respond(scope, send, 200, file.content, [(b"content-type", file.type), length, *headers])

    async def _respond(
        self, scope: Scope, send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _read(package: str) -> dict[str, File]:
    return {name: _file(entry) for name, entry in _walk(files(package)) if _suffix(name) in TYPES}


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _file(entry: Traversable) -> File:
    content = entry.read_bytes()
    etag = b'"%s"' % hashlib.sha256(content).hexdigest()[:32].encode()
    return File(content, TYPES[_suffix(entry.name)], etag)


def _known(scope: Scope, etag: bytes) -> bool:
    given = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return any(one.strip().removeprefix(b"W/") in (etag, b"*") for one in given.split(b","))
