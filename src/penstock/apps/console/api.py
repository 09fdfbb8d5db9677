"""The API of the console: what the one who has signed in may see."""

from __future__ import annotations

import logging
from typing import Any, cast
from urllib.parse import quote

import msgspec
from litestar import Litestar, Request, Response, get

from ...application import Installation
from ...platform.access.caller import Caller
from ...platform.access.gate import Gate
from ...platform.access.middleware import GateMiddleware
from ...platform.access.scopes import ANY, OPERATOR
from ...platform.application import Platform
from ...platform.web import api
from ...platform.web.answers import answer, documented
from ...platform.web.exchange import WebPolicy

ROOT = "/api/console"
Asked = Request[Caller, Any, Any]


class PageShown(msgspec.Struct):
    """A page in the navigation."""

    path: str
    title: str
    module: str
    """The path of the module that shows it; empty for a document of its own."""
    group: str
    icon: str
    search: str
    """The path of an API that lists what can be found besides."""
    listed: bool


class Navigation(msgspec.Struct):
    """Who has signed in, and the pages that are there for it."""

    user: int
    user_name: str
    scopes: list[str]
    session: str | None
    """The id of the session; null for a request with a key."""
    pages: list[PageShown]


class Found(msgspec.Struct):
    """What the search finds."""

    title: str
    kind: str
    """What it is, in a word."""
    hint: str
    """What tells it apart from others of this name."""
    address: str
    """Where a browser gets to it, from the root of this server."""


@get(f"{ROOT}/navigation", **documented(Navigation, "Who calls, and its pages.", scope=ANY, limit=OPERATOR.name))
async def show_navigation(request: Asked) -> Response[Any]:
    """Tell which pages there are for the caller, in the order in which they are listed."""
    caller, installation = request.user, cast(Installation, request.app.state.installation)
    pages = [
        PageShown(one.path, one.title, one.module, one.group, one.icon, one.search, one.listed)
        for one in installation.pages
        if not one.scope or one.scope in caller.scopes
    ]
    return answer(
        Navigation(caller.user, caller.user_name, sorted(caller.scopes), caller.session or None, pages),
    )


@get(f"{ROOT}/search/streams", **documented(list[Found], "The streams.", scope=OPERATOR.name))
async def find_streams(request: Asked) -> Response[Any]:
    """List the streams for the search of the console."""
    streams = request.app.state.streams()
    return answer([_found(one.stream.id, one.stream.source.application) for one in streams])


def _found(id: str, application: str) -> Found:
    return Found(id, "Stream", application, f"/#/streams/{quote(id, safe='')}")


def build(platform: Platform, gate: Gate) -> Litestar:
    """Return the application that serves all routes."""
    policy = WebPolicy(
        logging.getLogger("penstock.console"),
        address=platform.installation.address,
        trusted_proxies=gate.options.trusted_proxies,
    )
    return api.build(
        "Penstock console",
        [show_navigation, find_streams],
        policy,
        openapi_path=f"{ROOT}/openapi.json",
        key="A key made by `penstock keys create`; the page uses the cookie of a session.",
        middleware=[GateMiddleware],
        state={
            "installation": platform.installation,
            "streams": platform.context.streams,
            "gate": gate,
            "application": "console",
        },
    )
