"""The routes of a person's own characteristics, and of what follows from them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, patch, post, put
from litestar.params import JSONBody, Parameter
from sqlalchemy import Connection

from ....platform.web.answers import Payload, documented, reads
from ....platform.web.errors import ApiError
from ....platform.web.parameters import known_parameters, meant, missing, wrong
from ..export import catalogue
from ..export.dates import zone_of
from ..reading import person
from ..reading.person import EARLIEST, Characteristics, Kept
from .queries import Asked, Name, answered

PATH = "/api/v1/user/characteristics"
MAX_BODY_BYTES = 100_000
"""Bytes of characteristics."""


async def known_fields(request: Request[Any, Any, Any]) -> None:
    """Refuse a characteristic that there is not, before it is read into one."""
    await known_parameters(request)
    try:
        given = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ApiError(400, "validation_error", f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ApiError(400, "validation_error", "the body is no JSON object")
    known = Characteristics.__struct_fields__
    for name in given:
        if name not in known:
            raise wrong(name, f"is no characteristic{meant(name, known)}; there are {', '.join(known)}")
    try:
        msgspec.convert(given, Characteristics)  # strictly: 0 is not false, as it may be in a query
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise wrong(re.split(r"[.\[`]", place)[0] or "body", f"is wrong: {message}") from None


def _writes(description: str) -> Payload:
    return documented(Characteristics, description, scope="ingest", limit="read") | {
        "before_request": known_fields,
        "request_max_body_size": MAX_BODY_BYTES,
    }


def _checked(values: Characteristics) -> Characteristics:
    born = values.date_of_birth
    if born is not None and not EARLIEST <= born <= datetime.now(UTC).date():
        raise wrong("date_of_birth", f"is {born}, which is before {EARLIEST} or in the future")
    if values.timezone is not None and zone_of(values.timezone) is None:
        raise wrong("timezone", "is not known; expected a name such as Europe/Berlin, or an offset such as +02:00")
    return values


def _none() -> ApiError:
    return ApiError(404, "not_found", f"there are no characteristics; POST {PATH} gives some")


@reads(PATH, Characteristics | None, "The characteristics; null if none were given.")
async def show(request: Asked) -> Response[Any]:
    """Return the characteristics, with the age that follows from them."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        kept = person.load(connection, user)
        return {"data": kept.to_json() if kept else None}

    return await answered(request, read)


async def _stored(request: Asked, values: Characteristics) -> Response[Any]:
    user = request.user.user

    def write(connection: Connection) -> Payload:
        return {"data": person.save(connection, user, _checked(values)).to_json()}

    return await answered(request, write, changes=True)


@post(PATH, status_code=200, **_writes("The characteristics as they are now."))
async def give(request: Asked, data: JSONBody[Characteristics]) -> Response[Any]:
    """Give the characteristics, in place of any before."""
    return await _stored(request, data)


@put(PATH, **_writes("The characteristics as they are now."))
async def replace(request: Asked, data: JSONBody[Characteristics]) -> Response[Any]:
    """Replace the characteristics: what is not given is not set."""
    return await _stored(request, data)


@patch(PATH, **_writes("The characteristics as they are now."))
async def change(request: Asked, data: JSONBody[Characteristics]) -> Response[Any]:
    """Change the characteristics that are given, and leave the others; the first ones are made by it too."""
    user = request.user.user
    given = msgspec.json.decode(await request.body())

    def write(connection: Connection) -> Payload:
        kept = person.load(connection, user, to_change=True)
        before = kept.values if kept else Characteristics()
        changed = msgspec.structs.replace(before, **{name: getattr(data, name) for name in given})
        return {"data": person.save(connection, user, _checked(changed)).to_json()}

    return await answered(request, write, changes=True)


@delete(PATH, status_code=200, **documented(dict[str, bool], "Whether there were any.", scope="ingest", limit="read"))
async def forget(request: Asked) -> Response[Any]:
    """Delete the characteristics."""
    user = request.user.user

    def write(connection: Connection) -> Payload:
        return {"data": {"deleted": person.forget(connection, user)}}

    return await answered(request, write, changes=True)


@post(
    f"{PATH}/verify",
    status_code=200,
    **documented(Characteristics, "The characteristics.", scope="ingest", limit="read"),
)
async def verify(request: Asked) -> Response[Any]:
    """Confirm that the characteristics are right as of today."""
    user = request.user.user

    def write(connection: Connection) -> Payload:
        kept = person.verify(connection, user)
        if kept is None:
            raise _none()
        return {"data": kept.to_json()}

    return await answered(request, write, changes=True)


def _today() -> date:
    return datetime.now(UTC).date()


def _own(kept: Kept | None) -> Characteristics | None:
    return kept.values if kept else None


@reads(f"{PATH}/validation/{{metric_type:str}}", dict[str, Any], "Between which values the metric is plausible.")
async def validation(request: Asked, metric_type: Name) -> Response[Any]:
    """Return between which values a metric is plausible, in general and for this person."""
    user = request.user.user
    metric = catalogue.find(metric_type)
    if metric is None:
        raise missing("metric", metric_type, catalogue.METRICS)

    def read(connection: Connection) -> Payload:
        return {"data": person.plausible(metric, _own(person.load(connection, user)), _today())}

    return await answered(request, read)


@reads(f"{PATH}/uv-recommendations", dict[str, Any], "Minutes until unprotected skin burns, by UV index.")
async def sun(request: Asked) -> Response[Any]:
    """Return how long the sun is harmless to this skin. General knowledge, not medical advice."""
    user = request.user.user
    return await answered(request, lambda connection: {"data": person.sun(_own(person.load(connection, user)))})


@reads(f"{PATH}/activity-personalization", dict[str, Any], "The metrics that count, and what is recommended.")
async def activity(request: Asked) -> Response[Any]:
    """Return which metrics of movement count for this person."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        return {"data": person.activity(_own(person.load(connection, user)), _today())}

    return await answered(request, read)


@reads(f"{PATH}/heart-rate-zones", dict[str, Any], "Five zones, in beats a minute.")
async def zones(
    request: Asked,
    resting_hr: Annotated[
        int | None, Parameter(ge=20, le=150, description="At rest; without it, the newest resting_heart_rate.")
    ] = None,
) -> Response[Any]:
    """Return the zones of heart rate for training; the date of birth has to be known."""
    user = request.user.user

    def read(connection: Connection) -> Payload:
        own = _own(person.load(connection, user))
        age = own.age(_today()) if own else None
        if age is None:
            raise ApiError(404, "not_found", f"the date of birth is not known; PATCH {PATH} with date_of_birth")
        resting = resting_hr if resting_hr is not None else person.resting_heart_rate(connection, user)
        greatest = person.greatest_heart_rate(age)
        if resting is not None and resting >= greatest:
            if resting_hr is not None:
                raise wrong("resting_hr", f"is not below {greatest}, the greatest heart rate at the age of {age}")
            resting = None
        return {
            "data": {
                "age": age,
                "maximum": greatest,
                "resting": resting,
                "method": "percentage of maximum" if resting is None else "Karvonen",
                "zones": person.heart_rate_zones(age, resting),
            }
        }

    return await answered(request, read)


@reads(f"{PATH}/emergency-info", dict[str, Any] | None, "What helps in an emergency; null if nothing is known.")
async def emergency(request: Asked) -> Response[Any]:
    """Return what helps in an emergency: blood type, conditions, medication, whom to call."""
    user = request.user.user
    return await answered(request, lambda connection: {"data": person.emergency(person.load(connection, user))})


ROUTES: list[Any] = [
    show,
    give,
    replace,
    change,
    forget,
    verify,
    validation,
    sun,
    activity,
    zones,
    emergency,
]
