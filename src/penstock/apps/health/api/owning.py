"""The routes by which a person takes everything home, and deletes points or everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete
from litestar.params import Parameter
from sqlalchemy import Connection, select

from ....platform.web.answers import attachment, documented, flowing, reads
from ....platform.web.errors import ApiError
from ....platform.web.parameters import End, Start, window, wrong
from ..reading import takeout
from ..schema import ingests
from ..store.erasure import erase_points, erase_user
from .queries import Asked, Name, Source, answered, health
from .reading import metric_of

_DONE = ("processed", "failed")


class Erased(msgspec.Struct):
    """How many points were deleted."""

    deleted: int


@reads("/api/v1/takeout", Any, "A ZIP file: `tables/*.jsonl` and `raw/*`.", scope="export", files=("application/zip",))
async def take(request: Asked) -> Response[Any]:
    """Take everything home in one file: all bodies as they were received, and the rows of all tables."""
    whole, now = health(request), datetime.now(UTC)
    pieces = takeout.pack(whole.database, whole.raw, request.user.user, now)
    await whole.gate.audit.record("data_taken_home", caller=request.user)
    name = attachment(f"health_data_{now:%Y%m%d_%H%M%S}.zip")
    return await flowing(pieces, "application/zip", name)


@delete(
    "/api/v1/metrics/{name:str}",
    status_code=200,
    **documented(Erased, "They are deleted.", scope="admin", limit="admin"),
)
async def erase(
    request: Asked,
    name: Name,
    start: Start = None,
    end: End = None,
    source: Source = None,
    kind: Annotated[str | None, Parameter(max_length=255, description="Only points of this kind.")] = None,
) -> Response[Any]:
    """Delete the points of a metric from a start on and before an end, or the one whose time both say.

    Values that they had replaced are deleted with them. The bodies in which they came are kept, until their ingests are
    deleted; a point that the phone sends again comes back.
    """
    whole, user = health(request), request.user.user
    if start is None or end is None:
        raise wrong("start" if start is None else "end", "is missing: what is deleted has a start and an end")
    since, before = window(start, None if start == end else end)
    assert since is not None
    until = before if before is not None else since + timedelta(microseconds=1)

    def write(connection: Connection) -> dict[str, Any]:
        metric = metric_of(connection, user, name)
        return {"data": Erased(erase_points(connection, metric, since, until, source, kind))}

    answer = await answered(request, write, changes=True)
    details = {"start": start, "end": end, "source": source, "kind": kind}
    await whole.gate.audit.record("points_deleted", caller=request.user, resource=name, details=details)
    return answer


@delete(
    "/api/v1/user/data",
    status_code=200,
    **documented(dict[str, int], "How many rows of which tables were deleted.", scope="admin", limit="admin"),
)
async def erase_everything(
    request: Asked,
    confirm: Annotated[Literal["everything"], Parameter(description="That it is meant.")],
) -> Response[Any]:
    """Delete everything of a person: points, history, bodies, characteristics. Keys stay until they are revoked."""
    whole, user = health(request), request.user.user
    every = await whole.database.run(lambda connection: _ingests(connection, user))

    def write(connection: Connection) -> dict[str, Any]:
        _ingests(connection, user)
        return {"data": erase_user(connection, user)}

    answer = await answered(request, write, changes=True)
    for ingest in every:
        await whole.raw.remove(ingest)
    await whole.gate.audit.record("everything_deleted", caller=request.user, details={"bodies": len(every)})
    return answer


def _ingests(connection: Connection, user: int) -> list[str]:
    """Return the ingests of a user; raises ApiError while one is being processed."""
    c = ingests.c
    found = connection.execute(select(c.id, c.state).where(c.user_id == user)).all()
    if any(row.state not in _DONE for row in found):
        raise ApiError(409, "conflict", "an ingest is still being processed; delete everything afterwards")
    return [row.id for row in found]


ROUTES: list[Any] = [take, erase, erase_everything]
