"""The routes of streams: how they are, and pausing, resuming and restarting them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import JSONBody, Parameter
from litestar.response import Stream

from ...errors import PermanentError
from ..access.scopes import OPERATOR
from ..recentlog import LogLine
from ..streams import (
    PartitionPosition,
    StreamDetail,
    StreamState,
    describe,
    detail,
    positions_of,
    rewinding,
)
from ..web.answers import answer, documented, offering
from .service import MAX_BODY_BYTES, ROOT, Asked, conflict, platform

DRAIN_INTERVAL = 0.05
"""Seconds from one look at a stream that is drained to the next."""

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


@get(f"{ROOT}/streams/{{id:str}}/log", **_operation(list[LogLine], "The last lines, the oldest first."))
async def read_log(request: Asked, id: Id) -> Response[Any]:
    """Show what was logged of a stream lately, since the start of the process."""
    of = platform(request)
    return answer(of.recent.lines(of.stream(id).stream.id))


class Rewinding(msgspec.Struct):
    """What reading again does."""

    effects: list[str]
    """In words, what it does to what the stream writes."""
    positions: list[PartitionPosition]
    """The partitions that can be read again."""


@get(f"{ROOT}/streams/{{id:str}}/rewind", **_operation(Rewinding, "What reading again would do."))
async def show_rewinding(request: Asked, id: Id) -> Response[Any]:
    """Say what reading again would do to what a stream writes, without doing it."""
    one = platform(request).stream(id)
    replays = [position for position in detail(one).positions if position.replays]
    return answer(Rewinding(list(rewinding(one)), replays))


class Rewind(msgspec.Struct, forbid_unknown_fields=True):
    """From where to read again."""

    positions: dict[str, Any] | None = None
    """A position for each partition, as the stream shows them, or null for its beginning; by default all begin anew."""


_rewinds = _operation(StreamState, "The stream, which is ending its work, and then reads again.")
_rewinds["request_max_body_size"] = MAX_BODY_BYTES


@post(f"{ROOT}/streams/{{id:str}}/rewind", **_rewinds)
async def rewind_stream(request: Asked, id: Id, data: JSONBody[Rewind]) -> Response[Any]:
    """Write what is in flight, and read again from other positions; a paused stream does so once it goes on."""
    of = platform(request)
    one = of.stream(id)
    try:
        one.rewind(positions_of(one, data.positions))
    except PermanentError as error:
        await of.gate.audit.record("stream_rewind", "refused", caller=request.user, resource=id)
        raise conflict(error) from None
    details = {"partitions": sorted(data.positions or {}) or "all"}
    await of.gate.audit.record("stream_rewind", caller=request.user, resource=id, details=details)
    return answer(describe(one))


@post(f"{ROOT}/streams/{{id:str}}/drain", **_operation(StreamState, "The stream; `paused` if all was written in time."))
async def drain_stream(request: Asked, id: Id) -> Response[Any]:
    """Pause a stream, and answer once all that it had read is written, or its `shutdown_timeout` has passed."""
    of = platform(request)
    answered = await _change(request, id, "pause")
    one = of.stream(id)
    try:
        async with of.clock.timeout(one.stream.shutdown_timeout):
            while one.state != "paused":
                await of.clock.sleep(DRAIN_INTERVAL)
    except TimeoutError:
        return answered
    return answer(describe(one))


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


ROUTES = [
    list_streams,
    watch_streams,
    show_stream,
    pause_stream,
    resume_stream,
    restart_stream,
    drain_stream,
    read_log,
    show_rewinding,
    rewind_stream,
]
