"""The routes of dead letters: list, count, send again and drop them."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody, Parameter

from ...errors import ConnectionLost, PermanentError, TransientError
from ..access.scopes import OPERATOR
from ..deadletters import (
    Address,
    Cursor,
    Elsewhere,
    Group,
    Letter,
    Place,
    count_groups,
    drop,
    elsewhere,
    find,
    read_page,
)
from ..resending import send_again
from ..web.answers import Page, answer, documented
from ..web.errors import ApiError
from ..web.parameters import Cursor as CursorText
from ..web.parameters import wrong
from .service import MAX_BODY_BYTES, ROOT, Asked, conflict, platform

MAX_PAGE = 500
"""The most dead letters of a page: each may hold a long payload."""
MAX_MENDED_BYTES = 1_000_000
"""Bytes of a payload that was mended."""

Id = Annotated[str, Parameter(pattern="^[A-Za-z0-9_-]{1,200}$", description="The id of a dead letter, as listed.")]
Name = Annotated[str | None, Parameter(max_length=2000, description="Only those of this one.")]


class Mended(msgspec.Struct, forbid_unknown_fields=True):
    """What is sent in place of a dead letter."""

    payload: Annotated[str, msgspec.Meta(max_length=MAX_MENDED_BYTES)] | None = None
    """The payload as it should have been; without it, as it is."""


class Dropped(msgspec.Struct, forbid_unknown_fields=True):
    """Why a dead letter is dropped."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Settled(msgspec.Struct):
    """A dead letter that is no more."""

    id: str


def _operation(data: Any, description: str, **options: Any) -> dict[str, Any]:
    found = documented(data, description, scope=OPERATOR.name, **options)
    return found | {"status_code": 200, "request_max_body_size": MAX_BODY_BYTES + MAX_MENDED_BYTES}


@get(f"{ROOT}/dead-letters", **_operation(list[Letter], "Dead letters, the newest first.", envelope=Page))
async def list_letters(
    request: Asked,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="How many at most.")] = 100,
    cursor: CursorText = None,
    stream: Name = None,
    stage: Name = None,
    reason: Name = None,
) -> Response[Any]:
    """List the rows that streams refused, with reason, payload and origin."""
    asked = {"stream": stream, "stage": stage, "reason": reason}
    wanted = {name: value for name, value in asked.items() if value is not None}
    if any("\x00" in value for value in wanted.values()):
        return answer([], next_cursor=None)
    places = platform(request).places
    after = _read_cursor(cursor, places)
    found: list[tuple[Place, Letter]] = []
    for place in places.values():
        look = partial(read_page, place, wanted=wanted, after=after.get(place.name), limit=limit + 1)
        found += [(place, letter) for letter in await place.database.run(look)]
    found.sort(key=lambda one: (one[1].time is not None, one[1].time), reverse=True)
    page = found[:limit]
    for place, letter in page:
        address = Address.read(letter.id)
        assert address is not None
        after[place.name] = Cursor(letter.time, address.row)
    more = _write_cursor(after) if len(found) > limit else None
    return answer([letter for _, letter in page], next_cursor=more)


@get(f"{ROOT}/dead-letters/groups", **_operation(list[Group], "How many there are of each reason, the most first."))
async def list_groups(request: Asked) -> Response[Any]:
    """Count dead letters by stream, stage and reason."""
    groups = [
        group
        for place in platform(request).places.values()
        for group in await place.database.run(partial(count_groups, place))
    ]
    return answer(sorted(groups, key=lambda group: -group.count))


@get(f"{ROOT}/dead-letters/elsewhere", **_operation(list[Elsewhere], "The error outputs that are not listed, and why."))
async def list_elsewhere(request: Asked) -> Response[Any]:
    """List the error outputs that this API does not look into: files, DuckDB, and services."""
    return answer(elsewhere(one.stream for one in platform(request).streams()))


@post(f"{ROOT}/dead-letters/{{id:str}}/retry", **_operation(Settled, "It is written, and no dead letter any more."))
async def retry_letter(request: Asked, id: Id, data: JSONBody[Mended | None] = None) -> Response[Any]:
    """Send a dead letter again, as it is or mended: 409 says why it is refused once more, and it stays."""
    of = platform(request)
    await of.resending.run(id, partial(_retry, request, id, data.payload if data is not None else None))
    details = {"mended": data is not None and data.payload is not None}
    await of.gate.audit.record("dead_letter_retried", caller=request.user, resource=id, details=details)
    return answer(Settled(id))


async def _retry(request: Asked, id: str, payload: str | None) -> None:
    of = platform(request)
    place, address = _place(request, id)
    row = await place.database.run(partial(find, place, address=address))
    if row is None:
        raise _gone()
    try:
        await send_again(of.stream(row["stream"] or "").stream, row, payload, of.context)
    except (TransientError, ConnectionLost):
        raise
    except PermanentError as error:
        await of.gate.audit.record("dead_letter_retried", "refused", caller=request.user, resource=id)
        raise conflict(error) from None
    await place.database.run(partial(drop, place, address=address), changes=True)


@post(f"{ROOT}/dead-letters/{{id:str}}/drop", **_operation(Settled, "It is deleted."))
async def drop_letter(request: Asked, id: Id, data: JSONBody[Dropped]) -> Response[Any]:
    """Delete a dead letter for a reason, which is in the audit."""
    of = platform(request)
    place, address = _place(request, id)
    if not await place.database.run(partial(drop, place, address=address), changes=True):
        raise _gone()
    details = {"reason": data.reason}
    await of.gate.audit.record("dead_letter_dropped", caller=request.user, resource=id, details=details)
    return answer(Settled(id))


def _place(request: Asked, id: str) -> tuple[Place, Address]:
    address = Address.read(id)
    place = platform(request).places.get(address.place) if address is not None else None
    if address is None or place is None or not place.has(address.row):
        raise _gone()
    return place, address


def _gone() -> ApiError:
    return ApiError(404, "not_found", "there is no such dead letter, or it has moved; list them again")


def _write_cursor(after: dict[str, Cursor]) -> str:
    content = {name: [one.time.isoformat() if one.time else None, one.row] for name, one in after.items()}
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(content)).rstrip(b"=").decode()


def _read_cursor(cursor: str | None, places: dict[str, Place]) -> dict[str, Cursor]:
    if cursor is None:
        return {}
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(content, type=dict[str, tuple[datetime | None, str]])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise wrong("cursor", "is not one that this service gave out") from None
    if not all(name in places and places[name].has(row) for name, (_, row) in found.items()):
        raise wrong("cursor", "is not one that this service gave out")
    return {name: Cursor(time, row) for name, (time, row) in found.items()}


ROUTES = [list_letters, list_groups, list_elsewhere, retry_letter, drop_letter]
