"""Answers of routes: their envelope, their ETag, and how they are described in the OpenAPI document."""

from __future__ import annotations

import asyncio
import hashlib
import re
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.response import Stream
from sqlalchemy import Connection

from ..database import Database
from .parameters import known_parameters

T = TypeVar("T")
Payload = dict[str, Any]


class Failure(msgspec.Struct):
    """An error: what went wrong, and where."""

    error: str
    message: str
    timestamp: str
    success: bool = False
    data: None = None


class Answer(msgspec.Struct, Generic[T]):
    """The envelope of every answer."""

    data: T
    timestamp: str
    success: bool = True
    error: str | None = None


class Page(msgspec.Struct, Generic[T]):
    """The envelope of a page."""

    data: T
    timestamp: str
    next_cursor: str | None
    """What asks for the page after this; null on the last."""
    success: bool = True
    error: str | None = None


_FAILURES = {
    400: "A parameter is wrong; `details` names it.",
    401: "No key, or one that is not valid.",
    403: "The key has not the scope.",
    404: "There is nothing of this name.",
    429: "Too many requests; `retry-after` says when to come back.",
    503: "The database does not answer; try again.",
}


BLOCK_SIZE = 256 * 1024
"""Bytes of a file that are read at once."""


def documented(
    data: Any,
    description: str,
    *,
    scope: str = "read",
    limit: str | None = None,
    envelope: Any = Answer,
    files: Sequence[str] = (),
    status: int = 200,
) -> Payload:
    """Return the options of a handler: who may call it, and how its answers look.

    ``files`` are the media types in which it answers besides JSON; ``status`` is that of success.
    """
    answer = ResponseSpec(envelope[data], generate_examples=False, description=description)
    failures = {
        refused: ResponseSpec(Failure, generate_examples=False, description=text) for refused, text in _FAILURES.items()
    }
    return {
        "opt": {"scope": scope, "limit": limit or scope},
        "before_request": known_parameters,
        "responses": {status: answer} | failures,
        "operation_class": offering(tuple(files)),
    }


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None, **more: Any) -> Response[Any]:
    """Return ``data``, and what stands beside it, in an envelope."""
    now = datetime.now(UTC).isoformat()
    body = {"success": True, "data": data, "error": None, "timestamp": now, **more}
    return Response(body, status_code=status, headers=dict(headers or {}))


@lru_cache
def offering(files: Sequence[str]) -> type[Operation]:
    """Return what describes an operation that answers with these files too."""

    @dataclass
    class Offering(Operation):
        def __post_init__(self) -> None:
            answer = (self.responses or {}).get("200")
            if isinstance(answer, OpenAPIResponse) and answer.content is not None:
                for kind in files:
                    type = OpenAPIType.OBJECT if kind.endswith("json") else OpenAPIType.STRING
                    answer.content[kind] = OpenAPIMediaType(schema=Schema(type=type))

    return Offering if files else Operation


def reads(path: str, data: Any, description: str, **options: Any) -> Callable[[Any], HTTPRouteHandler]:
    """Return the decorator of a reading route whose answer's ``data`` has the type ``data``."""
    operation = documented(data, description, **options)
    operation["responses"][304] = ResponseSpec(None, description="Nothing has changed since `if-none-match`.")
    return get(path, **operation)


async def answer_with(
    request: Request[Any, Any, Any],
    database: Database,
    read: Callable[[Connection], Mapping[str, Any]],
    *,
    changes: bool = False,
) -> Response[Any]:
    """Return what ``read`` finds (``data``, and fields beside it) in an envelope with an ETag.

    Reading and encoding happen in a thread. The tag is a hash of the content: it stays until something changes.
    """
    content, tag = await asyncio.to_thread(lambda: _encoded(database.call(read, changes=changes)))
    return tagged(request, content, tag)


def _encoded(payload: Mapping[str, Any]) -> tuple[bytes, str]:
    content = msgspec.json.encode({"success": True, "error": None, **payload})
    tag = f'W/"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
    return content[:-1] + b',"timestamp":"' + datetime.now(UTC).isoformat().encode() + b'"}', tag


def tagged(
    request: Request[Any, Any, Any], content: bytes, tag: str, media_type: str = "application/json"
) -> Response[Any]:
    """Return ``content``, or 304 if the client says that it has it."""
    asked = request.headers.get("if-none-match", "")
    known = {part.strip().removeprefix("W/") for part in asked.split(",")}
    if known & {"*", tag.removeprefix("W/")}:
        return Response(None, status_code=304, headers={"etag": tag}, media_type=media_type)
    return Response(content, headers={"etag": tag}, media_type=media_type)


async def flowing(pieces: Iterator[bytes], media_type: str, headers: dict[str, str]) -> Response[Any]:
    """Return a body that is made piece by piece, in threads, as fast as it is taken.

    The first piece is made before anything is answered, so that what is wrong from the start is an error.
    """
    first = await asyncio.to_thread(next, pieces, None)

    async def following() -> AsyncIterator[bytes]:
        piece = first
        while piece is not None:
            yield piece
            piece = await asyncio.to_thread(next, pieces, None)

    return Stream(following(), media_type=media_type, headers=headers)


def file_answer(file: BinaryIO, media_type: str, headers: dict[str, str]) -> Response[Any]:
    """Return what is left of an open file, read in threads as fast as it is taken; it is closed in any case."""
    blocks = _blocks(file)
    weakref.finalize(blocks, file.close)  # a client may be gone before the first block is asked for
    return Stream(blocks, media_type=media_type, headers=headers)


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while block := await asyncio.to_thread(file.read, BLOCK_SIZE):
            yield block


def attachment(name: str) -> dict[str, str]:
    """Return the header by which a file is saved under ``name``, made of safe characters only."""
    return {"content-disposition": f'attachment; filename="{re.sub("[^A-Za-z0-9._-]+", "_", name)[:150]}"'}
