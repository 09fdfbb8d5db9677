"""Errors of an HTTP API: JSON, always in the same envelope."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from ...errors import ConnectionLost, PenstockError, TransientError
from ..access.request import redact

log = logging.getLogger("penstock.web")


class ApiError(Exception):
    """Refuse a request with a status and a name; raised anywhere below a route and answered as JSON."""

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message
        self.headers, self.details = headers or {}, details or {}


def envelope(error: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    now = datetime.now(UTC).isoformat()
    body = {"success": False, "data": None, "error": error, "message": message, "timestamp": now}
    return body | (details or {})


def answer(
    status: int,
    error: str,
    message: str,
    *,
    headers: dict[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> Response[dict[str, Any]]:
    """Return an error: ``{"success": false, "error": ..., "message": ..., "data": null, "timestamp": ...}``."""
    body = envelope(error, message, details)
    return Response(body, status_code=status, headers=headers or {}, media_type="application/json")


def refused(_: Request[Any, Any, Any], error: ApiError) -> Response[dict[str, Any]]:
    """Answer an ApiError."""
    return answer(error.status, error.error, error.message, headers=error.headers, details=error.details)


def wrong(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Answer a request that does not fit its route."""
    status = error.status_code
    if status == 500:
        return failed(request, error)
    name = HTTPStatus(status).phrase.lower().replace(" ", "_") if status != 400 else "validation_error"
    details = {"details": error.extra} if error.extra else None
    return answer(status, name, str(error.detail), headers=dict(error.headers or {}), details=details)


def unavailable(_: Request[Any, Any, Any], error: PenstockError) -> Response[dict[str, Any]]:
    """Answer that the database or the stream is away: 503, to be tried again."""
    log.warning("the service is not available: %s", error)
    return answer(503, "unavailable", "the database does not answer; try again", headers={"retry-after": "5"})


def too_deep(_: Request[Any, Any, Any], __: RecursionError) -> Response[dict[str, Any]]:
    """Answer a body that is nested without an end."""
    return answer(400, "validation_error", "the body is nested too deeply")


def failed(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Answer a fault of ours without showing it."""
    path = redact(ascii(request.url.path)[1:-1][:200])
    log.error("%s %s failed", request.method, path, exc_info=error)
    return answer(500, "internal_error", "this request could not be handled; the log says why")


HANDLERS = {
    ApiError: refused,
    HTTPException: wrong,
    ConnectionLost: unavailable,
    TransientError: unavailable,
    RecursionError: too_deep,
    Exception: failed,
}
