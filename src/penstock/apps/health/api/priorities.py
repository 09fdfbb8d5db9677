"""The routes of source priority: whose values count where several sources say the same time."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, put
from litestar.params import JSONBody
from msgspec import Meta
from sqlalchemy import Connection, select

from ....platform.web.answers import Payload, documented, reads
from ....platform.web.errors import ApiError
from ..priority import MAX_SOURCES, Priority, load, load_order, save, split
from ..schema import metrics
from ..store.recounting import recount_metric
from ..store.session import lock, take_time
from .queries import Asked, Name, answered
from .reading import metric_of

PATH = "/api/v1/metrics/{name:str}/priority"
MAX_BODY_BYTES = 100_000


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Sources, the first of which counts first; none: as the phone has it."""

    sources: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]], Meta(max_length=MAX_SOURCES)
    ]


class Shown(msgspec.Struct):
    """The sources of a metric in the order in which they count, and whether a person chose it."""

    sources: list[str]
    chosen: bool


def _order_of(connection: Connection, user: int, metric: str) -> Payload:
    c = metrics.c
    lists = connection.scalars(select(c.source).where(c.user_id == user, c.metric == metric).distinct())
    priority: Priority = load(connection, user, metric)
    present = frozenset[str]().union(*(split(source) for source in lists))
    return {"data": Shown(priority.order(sorted(present | set(priority.chosen))), bool(priority.chosen))}


@reads(PATH, Shown, "The sources, the first counts first.")
async def show(request: Asked, name: Name) -> Response[Any]:
    """Return in which order the sources of a metric count where they say the same time."""
    user = request.user.user
    return await answered(
        request, lambda connection: _order_of(connection, user, metric_of(connection, user, name).name)
    )


@put(
    PATH,
    request_max_body_size=MAX_BODY_BYTES,
    **documented(Shown, "The sources as they count now.", scope="ingest", limit="read"),
)
async def change(request: Asked, name: Name, data: JSONBody[Order]) -> Response[Any]:
    """Choose in which order the sources of a metric count; all its points are counted anew."""
    user = request.user.user
    if len(set(data.sources)) < len(data.sources) or any("|" in source for source in data.sources):
        raise ApiError(
            400, "validation_error", "each source is named once, by its own name: 'Watch', not 'Phone|Watch'"
        )

    def write(connection: Connection) -> Payload:
        metric = metric_of(connection, user, name)
        take_time(connection)
        lock(connection, [user])
        if (load_order(connection, user, metric.name) or []) != data.sources:
            save(connection, user, metric.name, data.sources)
            if metric.record == "point":
                recount_metric(connection, user, metric.name)
        return _order_of(connection, user, metric.name)

    return await answered(request, write, changes=True)


ROUTES: list[Any] = [show, change]
