"""Parameters of routes: their types, how they are read, and the refusal of what a route does not know."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from .errors import ApiError
from .paging import Window

_DATE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?"
_OFFSET = "[Zz]|[-+ ](?:[01][0-9]|2[0-3]):?[0-5][0-9]"
MOMENT = f"^({_DATE})(?:[Tt ]({_CLOCK})({_OFFSET})?)?$"
"""A time of RFC 3339, or a date. The plus of an offset may have become a space on its way."""
ZONE = "^[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}$"
TEXT = "^[^\\x00-\\x1f\\x7f]*$"
MAX_PAGE_ROWS = 10_000
"""The most rows of a page."""

_when = "RFC 3339, or a date (midnight in `timezone` where there is one, else in UTC)"
Start = Annotated[str | None, Parameter(pattern=MOMENT, max_length=40, description=f"From this time on: {_when}.")]
End = Annotated[str | None, Parameter(pattern=MOMENT, max_length=40, description=f"Before this time: {_when}.")]
Since = Annotated[
    str | None, Parameter(pattern=MOMENT, max_length=40, description="From this time on, RFC 3339 or a date.")
]
Before = Annotated[
    str | None, Parameter(pattern=MOMENT, max_length=40, description="Before this time, RFC 3339 or a date.")
]
Zone = Annotated[str | None, Parameter(pattern=ZONE, max_length=64, description="An IANA time zone: Europe/Berlin.")]
Cursor = Annotated[
    str | None,
    Parameter(pattern="^[A-Za-z0-9_-]+$", max_length=4000, description="`next_cursor` of the page before."),
]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE_ROWS, description="How many rows at most.")]


async def known_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a parameter that the route does not have: a misspelt one would be ignored, and too much answered."""
    known = _parameters(request.route_handler, frozenset(request.path_params))
    for name in request.query_params:
        if name not in known:
            raise wrong(name, f"is no parameter of this route{meant(name, known)}; it has {', '.join(known) or 'none'}")


@lru_cache
def _parameters(handler: HTTPRouteHandler, path: Collection[str]) -> Sequence[str]:
    """Return the names of the query parameters of a route."""
    return [
        getattr(field.kwarg_definition, "name", None) or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in ("request", "data", *path)
    ]


def meant(name: str, known: Collection[str]) -> str:
    """Return a question about what may have been meant by a name, if anything is close to it."""
    close = difflib.get_close_matches(name[:200], known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def wrong(name: str, message: str) -> ApiError:
    """Return the refusal of a parameter."""
    message = f"{name[:200]!r} {message}"
    return ApiError(400, "validation_error", message, details={"details": [{"key": name[:200], "message": message}]})


def missing(what: str, name: str, known: Collection[str] = ()) -> ApiError:
    """Return a 404 that names the thing and what may have been meant."""
    return ApiError(404, "not_found", f"there is no {what} {name!r}{meant(name, known)}")


def zone_of(name: str | None, parameter: str = "timezone") -> ZoneInfo | None:
    """Return the time zone of a parameter; raises ApiError. Reads a file: not for the event loop."""
    if name is None:
        return None
    try:
        if re.fullmatch(ZONE[1:-1], name):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        pass
    raise wrong(parameter, f"is not an IANA time zone: {name!r}{meant(name, available_timezones())}")


def moment(parameter: str, text: str | None, zone: tzinfo = UTC) -> datetime | None:
    """Return the time, in UTC, of a parameter; raises ApiError. Without an offset it is meant in ``zone``."""
    if text is None:
        return None
    if found := re.fullmatch(MOMENT[1:-1], text):
        day, clock, offset = found.groups()
        try:
            value = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(offset or '').upper().replace(' ', '+')}")
            return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise wrong(parameter, f"is not a time: {text!r}; expected 2026-02-03T06:15:00+01:00, or a date: 2026-02-03")


def window(
    start: str | None, end: str | None, zone: tzinfo = UTC, *, names: tuple[str, str] = ("start", "end")
) -> Window:
    """Return the half-open window of two parameters; raises ApiError."""
    since, before = moment(names[0], start, zone), moment(names[1], end, zone)
    if since is not None and before is not None and before < since:
        raise wrong(names[1], f"is before {names[0]!r}")
    return Window(since, before)


def listed(types: str | None) -> list[str]:
    """Return the names of a list that is separated by commas."""
    return [name for part in (types or "").split(",") if (name := part.strip())]
