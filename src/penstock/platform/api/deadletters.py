"""The routes of dead letters: list, count, send again and drop them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pyarrow as pa
from litestar import Response, get, post
from litestar.params import JSONBody, Parameter

from ...delivery import Batch
from ...errors import ConnectionLost, PermanentError, TransientError
from ..access.scopes import OPERATOR
from ..deadletters import Elsewhere, elsewhere
from ..letters import Address, Cursor, Group, Letter, Place
from ..mending import Rule
from ..replays import Action, Replay
from ..resending import Again, send_again
from ..tables.cells import show
from ..web.answers import Page, answer, documented
from ..web.errors import ApiError
from ..web.parameters import Cursor as CursorText
from ..web.parameters import wrong
from .service import MAX_BODY_BYTES, ROOT, Asked, conflict, platform

T = TypeVar("T")

MAX_TRIED_ROWS = 100
"""How many rows of a dead letter that is tried are shown."""
MAX_TRIED_CELL = 2000
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


class Groups(msgspec.Struct, Generic[T]):
    """The envelope of groups."""

    data: T
    timestamp: str
    total: int
    """How many dead letters there are in all."""
    success: bool = True
    error: str | None = None


class Whole(msgspec.Struct):
    """A dead letter with all of its payload."""

    id: str
    payload: str | None
    encoding: str
    is_cut: bool


class Tried(msgspec.Struct):
    """What would be written for a dead letter."""

    columns: list[str]
    rows: list[list[Any]]


class Wanted(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which dead letters: those with all of these."""

    stream: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    stage: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=20_000)] | None = None
    search: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class NewReplay(msgspec.Struct, forbid_unknown_fields=True):
    """What is done with many dead letters."""

    action: Action
    wanted: Wanted = msgspec.field(default_factory=Wanted)
    rule: Rule | None = None
    """What is changed in each payload before it is tried or sent."""
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    """Why they are dropped."""


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
    search: Annotated[str | None, Parameter(max_length=500, description="A text in the reason or the payload.")] = None,
) -> Response[Any]:
    """List the rows that streams refused, with reason, payload and origin."""
    asked = {"stream": stream, "stage": stage, "reason": reason, "search": search}
    wanted = {name: value for name, value in asked.items() if value is not None}
    if any("\x00" in value for value in wanted.values()):
        return answer([], next_cursor=None)
    places = platform(request).places
    after = _read_cursor(cursor, places)
    found: list[tuple[Place, Letter]] = []
    for place in places.values():
        letters = await place.page(wanted, after.get(place.name), limit + 1)
        found += [(place, letter) for letter in letters]
    found.sort(key=lambda one: (one[1].time is not None, one[1].time), reverse=True)
    page = found[:limit]
    for place, letter in page:
        address = Address.read(letter.id)
        assert address is not None
        after[place.name] = Cursor(letter.time, address.row)
    more = _write_cursor(after) if len(found) > limit else None
    return answer([letter for _, letter in page], next_cursor=more)


@get(
    f"{ROOT}/dead-letters/groups",
    **_operation(list[Group], "How many there are of each reason, the most first.", envelope=Groups),
)
async def list_groups(request: Asked) -> Response[Any]:
    """Count dead letters by stream, stage and reason; ``total`` counts those of further groups too."""
    groups: list[Group] = []
    total = 0
    for place in platform(request).places.values():
        groups += await place.groups()
        total += await place.count({})
    return answer(sorted(groups, key=lambda group: -group.count), total=total)


@get(f"{ROOT}/dead-letters/elsewhere", **_operation(list[Elsewhere], "The error outputs that are not listed, and why."))
async def list_elsewhere(request: Asked) -> Response[Any]:
    """List the error outputs that this API does not look into: packed files, and services."""
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
    row = await place.find(address)
    if row is None:
        raise _gone()
    try:
        await send_again(of.stream(row["stream"] or "").stream, row, payload, of.context)
    except (TransientError, ConnectionLost):
        raise
    except PermanentError as error:
        await of.gate.audit.record("dead_letter_retried", "refused", caller=request.user, resource=id)
        raise conflict(error) from None
    await place.drop(address)


@post(f"{ROOT}/dead-letters/{{id:str}}/drop", **_operation(Settled, "It is deleted."))
async def drop_letter(request: Asked, id: Id, data: JSONBody[Dropped]) -> Response[Any]:
    """Delete a dead letter for a reason, which is in the audit."""
    of = platform(request)
    place, address = _place(request, id)
    if not await place.drop(address):
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


@get(f"{ROOT}/dead-letters/{{id:str}}", **_operation(Whole, "The dead letter."))
async def show_letter(request: Asked, id: Id) -> Response[Any]:
    """Show a payload that a list has only the beginning of."""
    row = await _row(request, id)
    payload = row["payload"]
    is_cut = payload is not None and len(payload) > MAX_MENDED_BYTES
    return answer(Whole(id, payload and payload[:MAX_MENDED_BYTES], row["encoding"] or "utf-8", is_cut))


@post(f"{ROOT}/dead-letters/{{id:str}}/try", **_operation(Tried, "What would be written."))
async def try_letter(request: Asked, id: Id, data: JSONBody[Mended | None] = None) -> Response[Any]:
    """Run a dead letter, as it is or mended, through its stream without writing: 409 says why it is refused."""
    of = platform(request)
    row = await _row(request, id)
    try:
        async with Again.open(of.stream(row["stream"] or "").stream, of.context) as again:
            batches = await again.attempt(row, data.payload if data is not None else None)
    except PermanentError as error:
        raise conflict(error) from None
    return answer(_tried(batches))


def _tried(batches: Sequence[Batch]) -> Tried:
    names = [name for name in (batches[0].schema.names if batches else []) if not name.startswith("__meta_")]
    rows: list[list[Any]] = []
    for batch in batches:
        columns = [batch.column(name) for name in names]
        # As text, since Python holds no nanoseconds.
        plain = [one.cast(pa.string()) if pa.types.is_temporal(one.type) else one for one in columns]
        rows += [list(row) for row in zip(*(one.slice(0, MAX_TRIED_ROWS).to_pylist() for one in plain), strict=True)]
    return Tried(names, [[show(cell, MAX_TRIED_CELL).value for cell in row] for row in rows[:MAX_TRIED_ROWS]])


@post(f"{ROOT}/dead-letters/replays", **_operation(Replay, "The replay, which has begun."))
async def start_replay(request: Asked, data: JSONBody[NewReplay]) -> Response[Any]:
    """Try, send or drop all dead letters of a group, each mended by a rule; it goes on behind the answer."""
    of = platform(request)
    wanted: dict[str, str] = msgspec.to_builtins(data.wanted)
    if any("\x00" in value for value in wanted.values()):
        raise wrong("wanted", "holds a NUL")
    if data.action == "drop" and data.reason is None:
        raise wrong("reason", "is missing: say why they are dropped")
    details = {"wanted": wanted, "rule": msgspec.to_builtins(data.rule), "reason": data.reason}
    caller = request.user

    async def ended(run: Replay) -> None:
        counts = {"done": run.done, "settled": run.settled, "refused": run.refused, "gone": run.gone}
        outcome: Literal["success", "failed"] = "failed" if run.state == "failed" else "success"
        how = counts | {"state": run.state, "replay": run.id}
        await of.gate.audit.record(f"dead_letters_{run.action}_ended", outcome, caller=caller, details=how)

    await of.gate.audit.record(f"dead_letters_{data.action}", caller=caller, details=details)
    return answer(of.replays.start(of.places, data.action, wanted, data.rule, caller.user, ended))


@get(f"{ROOT}/dead-letters/replays", **_operation(list[Replay], "The replays of the last day, the newest first."))
async def list_replays(request: Asked) -> Response[Any]:
    """List the replays that run, and those that have ended."""
    return answer(platform(request).replays.all())


@get(f"{ROOT}/dead-letters/replays/{{id:str}}", **_operation(Replay, "The replay."))
async def show_replay(request: Asked, id: Id) -> Response[Any]:
    """Show how far a replay is."""
    return answer(_replay(request, id))


@post(f"{ROOT}/dead-letters/replays/{{id:str}}/cancel", **_operation(Replay, "The replay, which ends."))
async def cancel_replay(request: Asked, id: Id) -> Response[Any]:
    """End a replay; what was sent or dropped stays so."""
    run = _replay(request, id)
    platform(request).replays.cancel(run)
    return answer(run)


def _replay(request: Asked, id: str) -> Replay:
    run = platform(request).replays.find(id)
    if run is None:
        raise ApiError(404, "not_found", "there is no such replay, or it is forgotten")
    return run


async def _row(request: Asked, id: str) -> Mapping[str, Any]:
    place, address = _place(request, id)
    row = await place.find(address)
    if row is None:
        raise _gone()
    return row


ROUTES = [
    list_letters,
    list_groups,
    list_elsewhere,
    list_replays,
    start_replay,
    show_replay,
    cancel_replay,
    show_letter,
    try_letter,
    retry_letter,
    drop_letter,
]
