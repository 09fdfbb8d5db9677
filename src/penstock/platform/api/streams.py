"""The routes of streams: how they are, and pausing, resuming and restarting them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import Parameter
from litestar.response import Stream

from ...errors import PermanentError
from ..access.scopes import OPERATOR
from ..streams import StreamDetail, StreamState, describe, detail
from ..web.answers import answer, documented, offering
from .service import ROOT, Asked, conflict, platform

Id = Annotated[str, Parameter(pattern="^[A-Za-z0-9_-]{1,200}$", description="The id of a stream.")]


def _operation(data: Any, description: str) -> dict[str, Any]:
    return documented(data, description, scope=OPERATOR.name) | {"status_code": 200}


@get(f"{ROOT}/streams", **_operation(list[StreamState], "The streams of this process, in the order of its start."))
async def list_streams(request: Request[Any, Any, Any]) -> Response[Any]:
    """List the streams: whether each is well, how many rows it has moved, and how fast."""
    return answer([describe(one) for one in platform(request).streams()])


_watches = _operation(StreamState, "Server-sent events: `stream`, with the state of one that has changed.")
_watches["operation_class"] = offering(("text/event-stream",))


@get(f"{ROOT}/streams/events", **_watches)
async def watch_streams(request: Asked) -> Stream:
    """Tell how the streams are, at first of all of them, and then of those that change, at most once a second."""
    return platform(request).live.response(request.headers.get("last-event-id", ""))


@get(f"{ROOT}/streams/{{id:str}}", **_operation(StreamDetail, "The stream."))
async def show_stream(request: Asked, id: Id) -> Response[Any]:
    """Show all about a stream: also its positions, what it promises, and its configuration without secrets."""
    return answer(detail(platform(request).stream(id)))


async def _change(request: Asked, id: str, action: str) -> Response[Any]:
    """Have a stream do something, and write that down; raises ApiError."""
    of = platform(request)
    one = of.stream(id)
    do: dict[str, Callable[[], None]] = {"pause": one.pause, "resume": one.resume, "restart": one.restart}
    try:
        do[action]()
    except PermanentError as error:
        await of.gate.audit.record(f"stream_{action}", "refused", caller=request.user, resource=id)
        raise conflict(error) from None
    await of.gate.audit.record(f"stream_{action}", caller=request.user, resource=id)
    return answer(describe(one))


@post(f"{ROOT}/streams/{{id:str}}/pause", **_operation(StreamState, "The stream, which is ending its work."))
async def pause_stream(request: Asked, id: Id) -> Response[Any]:
    """Read nothing more, write what is in flight, and then stay `paused` until `resume` or the next start of all."""
    return await _change(request, id, "pause")


@post(f"{ROOT}/streams/{{id:str}}/resume", **_operation(StreamState, "The stream, which goes on."))
async def resume_stream(request: Asked, id: Id) -> Response[Any]:
    """Go on where a pause ended."""
    return await _change(request, id, "resume")


@post(f"{ROOT}/streams/{{id:str}}/restart", **_operation(StreamState, "The stream, which is ending its work."))
async def restart_stream(request: Asked, id: Id) -> Response[Any]:
    """Read nothing more, write what is in flight, open everything anew, and go on."""
    return await _change(request, id, "restart")


ROUTES = [list_streams, watch_streams, show_stream, pause_stream, resume_stream, restart_stream]
