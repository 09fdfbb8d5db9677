"""Routes that take bodies: kept as they came, put into the stream, and answered with what became of their points."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NoReturn

from litestar import MediaType, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from ....errors import PenstockError
from ....platform.access.audit import entry
from ....platform.web.bodies import receive_chunks
from ....platform.web.errors import ApiError
from .. import metrics
from ..acceptance import Accepted
from ..export.dates import zone_of
from ..export.domains import DOMAINS
from ..reading import person
from ..service import Health
from . import answers, bodies
from .accepted import announce, hand_over, outcome_of
from .answers import Answer
from .queries import Asked, health
from .uploads import OPTIONS, CsvZone, UploadOfAnyForm, Wait, failures

log = logging.getLogger("penstock.health")

PATHS = ["/api/v1/ingest", "/v1/ingest", "/api/v1/sync", "/api/data", "/api/v1/ingest-async"]
DOMAIN_NAMES = sorted(name for name, domain in DOMAINS.items() if domain.ingested)


@post(PATHS, summary="Take an export", tags=["ingest"], **OPTIONS | {"operation_class": UploadOfAnyForm})
async def ingest(request: Asked, wait: Wait = None, timezone: CsvZone = None) -> Response[Answer]:
    """Take an export of the app: JSON of any version, CSV, or a form with files, compressed or not.

    Small bodies are answered with 200 once their points are stored, large ones with 202 once they are durable.
    """
    form = bodies.form_of(request.headers.get("content-type", ""))
    zone = await _zone(request, timezone) if form in ("csv", "multipart") else {}
    return await _take(request, form, wait, zone)


@post([f"/api/v1/ingest/{name}" for name in DOMAIN_NAMES], summary="Take a domain", tags=["ingest"], **OPTIONS)
async def ingest_domain(request: Asked, wait: Wait = None) -> Response[Answer]:
    """Take a body with the metrics of one domain."""
    name = request.scope["path"].rstrip("/").rpartition("/")[2]
    return await _take(request, f"domain:{name}", wait)


@post(
    "/api/v1/ingest/{ingest_id:str}",
    opt={"scope": "ingest", "limit": "ingest"},
    include_in_schema=False,
)
async def ingest_unknown(ingest_id: FromPath[str]) -> NoReturn:
    """Say which domains there are."""
    known = ", ".join(DOMAIN_NAMES)
    message = f"there is no domain {bodies.clean(ingest_id)!r}; expected one of {known}, or none: POST /api/v1/ingest"
    raise ApiError(404, "not_found", message)


@get(
    "/api/v1/ingest/{ingest_id:str}",
    summary="How far an ingest is",
    tags=["ingest"],
    opt={"scope": "read", "limit": "read"},
    responses=failures(401, 403, 429, _404="There is no such ingest of yours.", _503="Ask again.")
    | {200: ResponseSpec(Answer, generate_examples=False, description="What became of its points so far.")},
)
async def status(request: Asked, ingest_id: FromPath[str]) -> Response[Answer]:
    """Return what became of the points of a body so far."""
    began = time.perf_counter()
    outcome = await outcome_of(health(request), request.user.user, ingest_id)
    return Response(answers.answer(outcome, time.perf_counter() - began, asked=True), media_type=MediaType.JSON)


ROUTES = [ingest, ingest_domain, ingest_unknown, status]


async def _zone(request: Asked, said: str | None) -> dict[str, str]:
    """Return the zone of times without an offset: of the request, else of the user; nothing if none is said.

    Raises ApiError, 400, for one that is not known.
    """
    said = said or bodies.timezone_of(request.headers)
    if said:
        if await asyncio.to_thread(zone_of, said) is None:  # reads a file
            message = (
                f"the time zone {bodies.clean(said)!r} is not known; expected Europe/Berlin, or +02:00, or the like"
            )
            raise ApiError(400, "validation_error", message, details={"parameter": "timezone"})
        return {"timezone": said, "timezone-from": "request"}
    user = request.user.user
    kept = await health(request).database.run(lambda connection: person.load(connection, user))
    own = kept.values.timezone if kept is not None else None
    return {"timezone": own, "timezone-from": "user"} if own else {}


async def _take(
    request: Asked, form: str, wait: float | None, zone: Mapping[str, str] = MappingProxyType({})
) -> Response[Answer]:
    began = time.perf_counter()
    parts = health(request)
    ingest = parts.outcomes.begin(request.user.user)
    try:
        accepted = await _keep(request, parts, form, ingest, zone)
    except BaseException:
        parts.outcomes.end(ingest)
        raise
    preferences = request.headers.get("prefer", "")
    patience = wait if wait is not None else bodies.wait_of(preferences, accepted.bytes, parts.settings)
    with parts.outcomes.expect(accepted.id) as expected:
        await _hand_over(parts, accepted)
        noted = await _note(request, parts, accepted)
        outcome = await expected.wait(patience) or answers.waiting(accepted)
        await noted
    code = {"processed": 200, "failed": 400}.get(outcome.state, 202)
    headers = {"location": answers.status_url(accepted.id)} if code == 202 else {}
    answer = answers.answer(outcome, time.perf_counter() - began)
    later = BackgroundTask(announce, parts, accepted) if outcome.state == "accepted" else None
    return Response(answer, status_code=code, headers=headers, media_type=MediaType.JSON, background=later)


async def _keep(request: Asked, health: Health, form: str, ingest: str, zone: Mapping[str, str]) -> Accepted:
    """Take the body into the raw store; raises ApiError, and then nothing of it is kept."""
    headers, limit = request.headers, health.settings.max_body_bytes
    promise = Accepted(
        id=ingest,
        user=request.user.user,
        key=request.user.key,
        received_at=datetime.now(UTC),
        raw="",
        bytes=0,
        sha256="",
        content_type=bodies.clean(headers.get("content-type", "application/json")),
        content_encoding=bodies.encoding_of(headers.get("content-encoding", "")),
        form=form,
        headers={**bodies.run_of(headers), **zone},
    )
    try:
        async with health.raw.receive(promise.id) as writing:
            async with aclosing(receive_chunks(request, request.app.state.in_flight, limit)) as chunks:
                async for chunk in chunks:
                    await writing.write(chunk)
            if not writing.bytes:
                raise ApiError(400, "empty_body", "the body is empty; expected an export of the app, as JSON or CSV")
            accepted = await writing.keep(promise)
    except PenstockError as error:
        log.error("a body of user %d could not be kept: %s", promise.user, error)
        full = getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        raise ApiError(
            507 if full else 503,
            "storage_full" if full else "unavailable",
            "there is no room for the body; nothing of it is kept" if full else "the body could not be kept; try again",
            headers={"retry-after": "30"},
        ) from error
    metrics.volume("raw", "stored", accepted.bytes)
    return accepted


async def _hand_over(health: Health, accepted: Accepted) -> None:
    """Hand over a new body; raises ApiError, 503. It stays kept if the stream may have taken it nevertheless."""
    again = {"retry-after": "5"}
    try:
        await hand_over(health, accepted)
    except TimeoutError:
        log.error("the stream did not say in time whether it took ingest %s", accepted.id)
        message = "the body is kept, but the stream did not take it in time; it will be processed after a restart"
        details = {"id": accepted.id, "status_url": answers.status_url(accepted.id)}
        raise ApiError(503, "unavailable", message, headers=again, details=details) from None
    except PenstockError as error:
        log.error("the stream refused ingest %s: %s", accepted.id, error)
        await health.raw.remove(accepted.id)
        message = "the stream takes nothing now; nothing of the body is kept, send it again"
        raise ApiError(503, "unavailable", message, headers=again) from error


async def _note(request: Asked, health: Health, accepted: Accepted) -> Awaitable[None]:
    details = {"bytes": accepted.bytes, "form": accepted.form, **accepted.headers}
    return await health.gate.audit.begin(
        entry("ingest_accepted", "success", caller=request.user, resource=accepted.id, details=details)
    )
