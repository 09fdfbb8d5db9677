"""The API of the console: what the one who has signed in may see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import msgspec
from litestar import Litestar, Response, get
from litestar.params import Parameter

from ...application import Installation
from ...clients.database import redact_url
from ...clients.view import tables as tables_of
from ...errors import PenstockError
from ...platform.access.gate import Gate
from ...platform.access.middleware import GateMiddleware
from ...platform.access.scopes import ANY, OPERATOR
from ...platform.application import Platform
from ...platform.ownership import rows_database
from ...platform.tables.browsing import Tables
from ...platform.web import api
from ...platform.web.answers import answer, documented
from ...platform.web.exchange import WebPolicy
from . import finding
from .finding import ROOT, Asked
from .history import History, free_space
from .lineage import Lineage, lineage
from .tiles import Tiles

MAX_PAST = timedelta(days=31)
"""How far back the overview goes."""


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
    tiles: str | None
    """Where maps get tiles from; null for plain land and coast."""
    tiles_credit: str
    """What those who made the tiles want to have said."""


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
        Navigation(
            caller.user,
            caller.user_name,
            sorted(caller.scopes),
            caller.session or None,
            pages,
            *request.app.state.tiles,
        ),
    )


class Hour(msgspec.Struct):
    """What a stream moved in an hour."""

    hour: datetime
    stream: str
    rows_in: int
    rows_out: int
    rows_refused: int


class Place(msgspec.Struct):
    """A file or folder of the data folder."""

    place: str
    bytes: int
    before: int
    """How many there were at ``since``."""
    since: datetime | None
    """A day within the last week; null where nothing was measured yet."""


class Overview(msgspec.Struct):
    """What arrived, and what it takes."""

    hours: list[Hour]
    storage: list[Place]
    free: int | None
    """Bytes that are free where the data is."""
    data: str
    """The folder of the data."""
    database: str
    """Where the rows are, without a password."""


Since = Annotated[datetime, Parameter(description="From which moment on.")]


@get(f"{ROOT}/overview", **documented(Overview, "What arrived by the hour, and storage.", scope=OPERATOR.name))
async def show_overview(request: Asked, since: Since) -> Response[Any]:
    """Tell what each stream moved, hour by hour, and how much room it all takes."""
    state = request.app.state
    installation, history = cast(Installation, state.installation), cast(History, state.history)
    now = datetime.now(UTC)
    await history.count(state.streams(), now)
    found = await history.read(max(since.astimezone(UTC), now - MAX_PAST))
    return answer(
        found
        | {
            "free": free_space(installation.data),
            "data": str(installation.data.absolute()),
            "database": redact_url(installation.rows_url),
        }
    )


@get(f"{ROOT}/lineage", **documented(Lineage, "From where rows come and to where they go.", scope=OPERATOR.name))
async def show_lineage(request: Asked) -> Response[Any]:
    """Tell which sources, streams and tables rows pass, and which application reads them."""
    state = request.app.state
    try:
        found: Iterable[str] = await asyncio.to_thread(tables_of, rows_database(state.installation))
    except PenstockError:  # it does not answer, or is not there yet
        found = ()
    names = [name for name in found if not name.startswith("_")]
    readers = {page.application for page in state.installation.pages if page.listed}
    return answer(lineage(state.streams(), names, readers))


def build(platform: Platform, gate: Gate, history: History, tables: Tables, tiles: Tiles) -> Litestar:
    """Return the application that serves all routes."""
    policy = WebPolicy(
        logging.getLogger("penstock.console"),
        address=platform.installation.address,
        trusted_proxies=gate.options.trusted_proxies,
    )
    return api.build(
        "Penstock console",
        [show_navigation, show_overview, show_lineage, *finding.ROUTES],
        policy,
        openapi_path=f"{ROOT}/openapi.json",
        key="A key made by `penstock keys create`; the page uses the cookie of a session.",
        middleware=[GateMiddleware],
        state={
            "installation": platform.installation,
            "streams": platform.context.streams,
            "history": history,
            "tables": tables,
            "tiles": tiles,
            "gate": gate,
            "application": "console",
        },
    )
