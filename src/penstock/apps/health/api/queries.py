"""What the reading routes have in common: their parameters, their envelope, and what is refused."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import Parameter
from litestar.response import Stream
from sqlalchemy import Connection

from ....platform.access.caller import Caller, Refused
from ....platform.web.paging import Window
from ..service import Health

T = TypeVar("T")
Payload = dict[str, Any]
Asked = Request[Caller, Any, Any]

_DATE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?"
_OFFSET = "[Zz]|[-+ ](?:[01][0-9]|2[0-3]):?[0-5][0-9]"
MOMENT = f"^({_DATE})(?:[Tt ]({_CLOCK})({_OFFSET})?)?$"
"""A time of RFC 3339, or a date. The plus of an offset may have become a space on its way."""
ZONE = "^[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}$"
TEXT = "^[^\\x00-\\x1f\\x7f]*$"
LARGEST = 10_000
"""How many rows a page can have."""

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
Source = Annotated[
    str | None,
    Parameter(pattern=TEXT, max_length=500, description="Only what came from this source; empty: from none."),
]
Name = Annotated[str, Parameter(pattern=TEXT, min_length=1, max_length=200)]
Cursor = Annotated[
    str | None,
    Parameter(pattern="^[A-Za-z0-9_-]+$", max_length=4000, description="`next_cursor` of the page before."),
]
Limit = Annotated[int, Parameter(ge=1, le=LARGEST, description="How many rows at most.")]
Types = Annotated[
    str | None, Parameter(pattern=TEXT, max_length=4000, description="Only these metrics, separated by commas.")
]


class Failure(msgspec.Struct):
    """An error: what went wrong, and where."""

    error: str
    message: str
    timestamp: str
    success: bool = False
    data: None = None


class Answer(msgspec.Struct, Generic[T]):
    """The envelope of every answer."""

    data: T
    timestamp: str
    success: bool = True
    error: str | None = None


class Page(msgspec.Struct, Generic[T]):
    """The envelope of a page."""

    data: T
    timestamp: str
    next_cursor: str | None
    """What asks for the page after this; null on the last."""
    success: bool = True
    error: str | None = None


_FAILURES = {
    400: "A parameter is wrong; `details` names it.",
    401: "No key, or one that is not valid.",
    403: "The key has not the scope.",
    404: "There is nothing of this name.",
    429: "Too many requests; `retry-after` says when to come back.",
    503: "The database does not answer; try again.",
}


def documented(
    data: Any,
    description: str,
    *,
    scope: str = "read",
    limit: str | None = None,
    envelope: Any = Answer,
    files: Sequence[str] = (),
) -> Payload:
    """Return the options of a handler: who may call it, and how its answers look.

    ``files`` are the media types in which it answers besides JSON.
    """
    answer = ResponseSpec(envelope[data], generate_examples=False, description=description)
    failures = {
        status: ResponseSpec(Failure, generate_examples=False, description=text) for status, text in _FAILURES.items()
    }
    return {
        "opt": {"scope": scope, "limit": limit or scope},
        "before_request": known_parameters,
        "responses": {200: answer} | failures,
        "operation_class": _offering(tuple(files)),
    }


@lru_cache
def _offering(files: Sequence[str]) -> type[Operation]:
    """Return what describes an operation that answers with these files too."""

    @dataclass
    class Offering(Operation):
        def __post_init__(self) -> None:
            answer = (self.responses or {}).get("200")
            if isinstance(answer, OpenAPIResponse) and answer.content is not None:
                for kind in files:
                    type = OpenAPIType.OBJECT if kind.endswith("json") else OpenAPIType.STRING
                    answer.content[kind] = OpenAPIMediaType(schema=Schema(type=type))

    return Offering if files else Operation


def reads(path: str, data: Any, description: str, **options: Any) -> Callable[[Any], HTTPRouteHandler]:
    """Return the decorator of a reading route whose answer's ``data`` has the type ``data``."""
    operation = documented(data, description, **options)
    operation["responses"][304] = ResponseSpec(None, description="Nothing has changed since `if-none-match`.")
    return get(path, **operation)


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


def wrong(name: str, message: str) -> Refused:
    """Return the refusal of a parameter."""
    message = f"{name[:200]!r} {message}"
    return Refused(400, "validation_error", message, details={"details": [{"key": name[:200], "message": message}]})


def missing(what: str, name: str, known: Collection[str] = ()) -> Refused:
    """Return that there is no such thing, and what may have been meant."""
    return Refused(404, "not_found", f"there is no {what} {name!r}{meant(name, known)}")


def health(request: Request[Any, Any, Any]) -> Health:
    """Return the parts of the service."""
    return cast(Health, request.app.state.health)


def zone_of(name: str | None, parameter: str = "timezone") -> ZoneInfo | None:
    """Return the time zone of a parameter; raises Refused. Reads a file: not for the event loop."""
    if name is None:
        return None
    try:
        if re.fullmatch(ZONE[1:-1], name):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        pass
    raise wrong(parameter, f"is not an IANA time zone: {name!r}{meant(name, available_timezones())}")


def moment(parameter: str, text: str | None, zone: tzinfo = UTC) -> datetime | None:
    """Return the time, in UTC, of a parameter; raises Refused. Without an offset it is meant in ``zone``."""
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
    """Return the half-open window of two parameters; raises Refused."""
    since, before = moment(names[0], start, zone), moment(names[1], end, zone)
    if since is not None and before is not None and before < since:
        raise wrong(names[1], f"is before {names[0]!r}")
    return Window(since, before)


def listed(types: str | None) -> list[str]:
    """Return the names of a list that is separated by commas."""
    return [name for part in (types or "").split(",") if (name := part.strip())]


async def answered(
    request: Asked, read: Callable[[Connection], Mapping[str, Any]], *, changes: bool = False
) -> Response[Any]:
    """Return the envelope of what ``read`` returns (``data``, and what is named beside it), with its ETag.

    It is read and encoded in a thread; one that ``changes`` something says so. The tag is of the content, so it stays
    as long as nothing changes.
    """
    database = health(request).database
    content, tag = await asyncio.to_thread(lambda: _encoded(database.call(read, changes=changes)))
    return tagged(request, content, tag)


def _encoded(payload: Mapping[str, Any]) -> tuple[bytes, str]:
    content = msgspec.json.encode({"success": True, "error": None, **payload})
    tag = f'W/"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
    return content[:-1] + b',"timestamp":"' + datetime.now(UTC).isoformat().encode() + b'"}', tag


def tagged(request: Asked, content: bytes, tag: str, media_type: str = "application/json") -> Response[Any]:
    """Return ``content``, or 304 if the client says that it has it."""
    asked = request.headers.get("if-none-match", "")
    known = {part.strip().removeprefix("W/") for part in asked.split(",")}
    if known & {"*", tag.removeprefix("W/")}:
        return Response(None, status_code=304, headers={"etag": tag}, media_type=media_type)
    return Response(content, headers={"etag": tag}, media_type=media_type)


async def flowing(pieces: Iterator[bytes], media_type: str, headers: dict[str, str]) -> Response[Any]:
    """Return a body that is made piece by piece, in threads, as fast as it is taken.

    The first piece is made before anything is answered, so that what is wrong from the start is an error.
    """
    first = await asyncio.to_thread(next, pieces, None)

    async def following() -> AsyncIterator[bytes]:
        piece = first
        while piece is not None:
            yield piece
            piece = await asyncio.to_thread(next, pieces, None)

    return Stream(following(), media_type=media_type, headers=headers)


def attachment(name: str) -> dict[str, str]:
    """Return the header by which a file is saved under ``name``, made of safe characters only."""
    return {"content-disposition": f'attachment; filename="{re.sub("[^A-Za-z0-9._-]+", "_", name)[:150]}"'}
