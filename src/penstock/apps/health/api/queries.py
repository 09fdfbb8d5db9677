"""The parameters that the reading routes share, and how they reach the parts of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

from litestar import Request, Response
from litestar.params import Parameter
from sqlalchemy import Connection

from ....platform.access.caller import Caller
from ....platform.web.answers import answer_with
from ....platform.web.parameters import TEXT
from ..service import Health

Asked = Request[Caller, Any, Any]

Source = Annotated[
    str | None,
    Parameter(pattern=TEXT, max_length=500, description="Only what came from this source; empty: from none."),
]
Name = Annotated[str, Parameter(pattern=TEXT, min_length=1, max_length=200)]
Types = Annotated[
    str | None, Parameter(pattern=TEXT, max_length=4000, description="Only these metrics, separated by commas.")
]


def health(request: Request[Any, Any, Any]) -> Health:
    """Return the parts of the service."""
    return cast(Health, request.app.state.health)


async def answered(
    request: Asked, read: Callable[[Connection], Mapping[str, Any]], *, changes: bool = False
) -> Response[Any]:
    """Return what ``read`` finds in the health database in an envelope with an ETag."""
    return await answer_with(request, health(request).database, read, changes=changes)
