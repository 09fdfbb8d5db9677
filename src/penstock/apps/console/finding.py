"""What the search of the console finds besides pages: streams, tables and settings that the caller may see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import msgspec
from litestar import Request, Response, get

from ...platform.access.caller import Caller
from ...platform.access.scopes import ANY, OPERATOR
from ...platform.streams import configuration
from ...platform.tables.browsing import Tables
from ...platform.web.answers import answer, documented

ROOT = "/api/console"
Asked = Request[Caller, Any, Any]
MAX_SETTINGS = 5000
"""How many options of streams are listed."""
MAX_VALUE_LENGTH = 80
_TABS = {
    "keys": ("Keys", "make, rotate, revoke"),
    "sessions": ("Signed in", "sessions, and ending them"),
    "users": ("Users", "and what each may see"),
    "audit": ("Audit", "who did what"),
}


class Found(msgspec.Struct):
    """What the search finds."""

    title: str
    kind: str
    """What it is, in a word."""
    hint: str
    """What tells it apart from others of this name."""
    address: str
    """Where a browser gets to it, from the root of this server."""


@get(f"{ROOT}/search/streams", **documented(list[Found], "The streams.", scope=OPERATOR.name))
async def find_streams(request: Asked) -> Response[Any]:
    """List the streams for the search of the console."""
    streams = request.app.state.streams()
    return answer(
        [
            Found(one.stream.id, "Stream", one.stream.source.application, _view("streams", one.stream.id))
            for one in streams
        ]
    )


@get(f"{ROOT}/search/tables", **documented(list[Found], "The tables.", scope=ANY, limit=OPERATOR.name))
async def find_tables(request: Asked) -> Response[Any]:
    """List the tables that the caller may see, for the search of the console; a database that is away has none."""
    found = await cast(Tables, request.app.state.tables).names(request.user)
    return answer([Found(one, "Table", place, _view("tables", place, one)) for place, one in found])


@get(f"{ROOT}/search/settings", **documented(list[Found], "The settings.", scope=ANY, limit=OPERATOR.name))
async def find_settings(request: Asked) -> Response[Any]:
    """List what is set and where, for the search of the console: keys and users, and the options of each stream."""
    is_operator = OPERATOR.name in request.user.scopes
    tabs = [name for name in _TABS if is_operator or name in ("keys", "audit")]
    found = [Found(_TABS[name][0], "Setting", _TABS[name][1], f"/#/access?tab={name}") for name in tabs]
    for one in request.app.state.streams() if is_operator else ():
        address = f"{_view('streams', one.stream.id)}?tab=configuration"
        for name, value in _options(configuration(one.stream)):
            hint = f"{one.stream.id}: {value}"
            found.append(Found(name, "Setting", hint[:MAX_VALUE_LENGTH], address))
    return answer(found[:MAX_SETTINGS])


def _options(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each option of a configuration by its path, as in ``output.table_name``."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _options(one, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _options(one, f"{path}[{index}]")
    elif value is not None:
        yield path, str(value)


def _view(*path: str) -> str:
    return f"/#/{'/'.join(quote(part, safe='') for part in path)}"


ROUTES = [find_streams, find_tables, find_settings]
