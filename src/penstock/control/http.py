"""Plain requests and answers of JSON over ASGI: bodies with a bound, problems in one shape, correlation ids."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from ..serving.asgi import Asgi, Receive, Scope, Send

MAX_BODY_BYTES = 1 << 20
"""Bytes of a body that are read."""
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

T = TypeVar("T")


class Problem(Exception):
    """Refuse a request with a status, a code and a message."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


@dataclass(frozen=True)
class Request:
    """A request whose body is read when it is asked for."""

    scope: Scope
    receive: Receive
    correlation_id: str

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query string."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1")))

    def header(self, name: bytes) -> str:
        """Return a header; empty if there is none."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    async def body(self, type: type[T]) -> T:
        """Return the body, which is JSON; raises Problem."""
        content = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "invalid_request", "the body is not complete")
            content += message.get("body", b"")
            if len(content) > MAX_BODY_BYTES:
                raise Problem(413, "payload_too_large", f"a body has at most {MAX_BODY_BYTES} bytes")
            if not message.get("more_body"):
                break
        try:
            return msgspec.json.decode(bytes(content), type=type)
        except msgspec.MsgspecError as error:
            raise Problem(400, "invalid_request", f"the body: {error}") from None


@dataclass(frozen=True)
class Answer:
    """What a request is answered: JSON, or text that is ready."""

    body: Any
    status: int = 200
    kind: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Awaitable[Answer]]


def serve(handlers: Mapping[str, Handler], check: Callable[[Scope], Problem | None]) -> Asgi:
    """Return an application that calls the handler of a request's method, unless ``check`` refuses it."""
    allowed = ", ".join(sorted(handlers))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"x-correlation-id"), "")
        request = Request(scope, receive, given if _CORRELATION_ID.fullmatch(given) else uuid.uuid4().hex)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            if method not in handlers:
                raise Problem(405, "method_not_allowed", f"expected {allowed}")
            if refused := check(scope):
                raise refused
            answer = await handlers[method](request)
        except Problem as problem:
            body = {"code": problem.code, "message": problem.message, "correlation_id": request.correlation_id}
            answer = Answer(body | problem.more, problem.status)
        content = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        headers = [
            (b"content-type", answer.kind),
            (b"content-length", b"%d" % len(content)),
            (b"x-correlation-id", request.correlation_id.encode()),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})

    return app
