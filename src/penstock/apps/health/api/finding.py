"""What the search of the console finds of a person's data: its metrics."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Response
from sqlalchemy import Connection

from ....platform.web.answers import reads
from ..reading.overview import label
from ..store import rollups
from .queries import Asked, answered


class MetricFound(msgspec.Struct):
    """A metric, and where a browser gets to it."""

    title: str
    kind: str
    hint: str
    address: str


@reads("/api/v1/search/metrics", list[MetricFound], "The metrics of which there are points, for the search of a page.")
async def find_metrics(request: Asked) -> Response[Any]:
    """List the metrics by what people call them, each with its name and the address of its page."""
    user = request.user.user

    def find(connection: Connection) -> dict[str, Any]:
        names = [row["metric"] for row in rollups.overview(connection, user)]
        return {"data": [MetricFound(label(name), "Metric", name, _address(name)) for name in names]}

    return await answered(request, find)


def _address(name: str) -> str:
    return f"/health-data#/metrics/{quote(name, safe='')}"


ROUTES = [find_metrics]
