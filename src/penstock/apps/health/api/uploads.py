"""How routes that take bodies are described, and what they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import QueryParameter

from ....platform.web.answers import Failure
from . import bodies
from .answers import Answer

Wait = Annotated[
    float | None,
    QueryParameter(
        ge=0,
        le=bodies.MAX_WAIT,
        schema_extra={"minimum": 0},  # Litestar leaves out a minimum of 0
        description="Wait at most so many seconds for the points to be stored, whatever the size of the body.",
    ),
]

CsvZone = Annotated[
    str | None,
    QueryParameter(
        max_length=bodies.MAX_HEADER,
        description="Of times in CSV that say no offset: `Europe/Berlin`, `+02:00`. The header `Timezone` and a field "
        "`timezone` of a form say the same; without any, it is that of the user's characteristics, or else UTC.",
    ),
]
_FAILURES = {
    401: "No key, or one that is not valid.",
    403: "The key has not the scope.",
    413: "The body is too large; `limit` says how large it may be.",
    415: "The body is coded in a way that cannot be read.",
    429: "Too much within the hour and the day; `retry-after` says when to come back.",
    503: "The body could not be made durable now, or too many arrive; send it again.",
    507: "There is no room for the body.",
}


def failures(*statuses: int, **more: str) -> dict[int, ResponseSpec]:
    """Return how errors are documented."""
    texts = {status: _FAILURES[status] for status in statuses} | {int(key[1:]): text for key, text in more.items()}
    return {code: ResponseSpec(Failure, generate_examples=False, description=text) for code, text in texts.items()}


CONFLICT = {"_404": "There is no such ingest of yours.", "_409": "Not possible; `message` says why."}


_RESPONSES = failures(401, 403, 413, 415, 429, 503, 507) | {
    200: ResponseSpec(Answer, generate_examples=False, description="Stored: what became of each point."),
    202: ResponseSpec(Answer, generate_examples=False, description="Durable, and not yet stored: ask `status_url`."),
    400: ResponseSpec(
        cast(Any, Answer | Failure),
        generate_examples=False,
        description="Nothing of the body can be read; it is kept.",
    ),
}


@dataclass
class Upload(Operation):
    """An operation that takes a body as a stream, which Litestar does not see."""

    def __post_init__(self) -> None:
        """Say what is taken."""
        example = {"data": {"metrics": [{"name": "step_count", "units": "count", "data": []}]}}
        schema = Schema(type=[OpenAPIType.OBJECT, OpenAPIType.ARRAY], description="An export, in any of its forms.")
        content = {"application/json": OpenAPIMediaType(schema=schema, example=example)}
        self.request_body = RequestBody(content=content | self.others(), required=True)

    def others(self) -> dict[str, OpenAPIMediaType]:
        """Return what is taken besides JSON."""
        return {}


@dataclass
class UploadOfAnyForm(Upload):
    """An operation that takes what the app sends in every form."""

    def others(self) -> dict[str, OpenAPIMediaType]:
        """Return what is taken besides JSON."""
        return {"text/csv": OpenAPIMediaType(schema=Schema(description="Rows, with a line of headers."))}


OPTIONS: dict[str, Any] = {
    "opt": {"scope": "ingest", "limit": "ingest"},
    "responses": _RESPONSES,
    "operation_class": Upload,
    "request_max_body_size": None,  # ours is checked as the body arrives, and answered with the limit
    "status_code": 200,
}
"""The options of a route that takes a body as a stream."""
