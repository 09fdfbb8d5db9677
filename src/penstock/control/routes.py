"""The routes of the control plane: what there is, streams and their operations, and the configuration."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

from ..clock import Clock
from ..config.configuration import Configuration, HealthCheck
from ..errors import ConfigError, PermanentError
from ..observe.metrics import exposition
from ..redaction import redact
from ..roster import Changes
from ..serving.asgi import Asgi, Scope
from ..serving.guard import is_local, page_refusal, refusal
from ..supervision import SupervisedStream
from ..udf import keeping_functions
from . import resources
from .http import Answer, Handler, Problem, Request, serve
from .operations import Operation, Operations
from .versions import Candidate, Versions

_SHARED_NAMES = {"/status", "/metrics", "/schema"}
"""Paths that are left to an application which serves everything below the prefix."""


POLL_INTERVAL = 0.01
"""How often the state of a stream is looked at that is being started or stopped, in seconds."""


class Controlled(Protocol):
    """The engine, as the control plane works with it."""

    configuration: Configuration | None

    @property
    def supervised(self) -> list[SupervisedStream]: ...
    async def adopt(self, configuration: Configuration) -> Changes: ...
    def start(self, id: str) -> None: ...


class Control:
    """The control plane of one process."""

    def __init__(
        self, engine: Controlled, options: HealthCheck, taken: Collection[str] = (), clock: Clock | None = None
    ) -> None:
        self._engine, self._options, self._clock = engine, options, clock or Clock()
        self._prefix = options.api_prefix.rstrip("/")
        self._is_shared = f"{self._prefix}/*" in taken
        self._began = self._clock.monotonic()
        self._operations = Operations(self._clock)
        self._draft: Candidate | None = None
        self._version = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, Asgi]]:
        """Yield the routes by path; on leaving, operations that are under way end."""
        self._version = await asyncio.to_thread(version, "penstock")
        try:
            yield self._routes()
        finally:
            await self._operations.close()

    def _routes(self) -> dict[str, Asgi]:
        change = {name: self._change_of(name) for name in ("start", "stop", "restart")}
        table: dict[str, Mapping[str, Handler]] = {
            "/system": {"GET": self._system},
            "/status": {"GET": self._status},
            "/nodes": {"GET": self._nodes},
            "/node": {"GET": self._node},
            "/streams": {"GET": self._list_streams},
            "/streams/{id}": {"GET": self._show_stream},
            **{f"/streams/{{id}}/{name}": {"POST": handler} for name, handler in change.items()},
            "/operations": {"GET": self._list_operations},
            "/operations/{id}": {"GET": self._show_operation, "DELETE": self._cancel_operation},
            "/events": {"GET": self._list_events},
            "/components": {"GET": self._list_components},
            "/components/{kind}": {"GET": self._list_components},
            "/components/{kind}/{name}": {"GET": self._show_component},
            "/schema": {"GET": self._schema},
            "/metrics": {"GET": self._metrics},
        }
        for root in ("/configuration", "/config"):
            table |= {
                root: {"GET": self._configuration},
                f"{root}/validate": {"POST": self._validate},
                f"{root}/draft": {"GET": self._show_draft, "PUT": self._save_draft},
                f"{root}/diff": {"GET": self._diff},
                f"{root}/versions": {"GET": self._list_versions},
                f"{root}/apply": {"POST": self._apply},
                f"{root}/rollback/{{id}}": {"POST": self._rollback},
            }
        own = {path: handlers for path, handlers in table.items() if not (self._is_shared and path in _SHARED_NAMES)}
        return {
            f"{self._prefix}{path}": serve(handlers, partial(self._refusal, path.startswith("/config")))
            for path, handlers in own.items()
        }

    def _refusal(self, is_private: bool, scope: Scope) -> Problem | None:
        """Return why a request is refused: a wrong token, or a change by somebody who might be anybody."""
        token, address = self._options.api_token, self._options.address
        is_change = is_private or scope["method"] not in ("GET", "HEAD")
        if token is not None:
            given = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
            if not hmac.compare_digest(given, b"Bearer " + token.get_secret_value().encode()):
                return Problem(401, "unauthorized", "expected the API token as bearer token")
            why = page_refusal(scope, address, self._options.cors_origins) if is_change else None
            return Problem(403, "forbidden", why) if why else None
        if not is_change:
            return None
        if self._is_shared or not is_local(address):
            return Problem(403, "forbidden", "this needs `health_check.api_token` in the configuration")
        why = refusal(scope, address)
        return Problem(403, "forbidden", why) if why else None

    # What there is

    @property
    def _uptime(self) -> float:
        return self._clock.monotonic() - self._began

    async def _system(self, request: Request) -> Answer:
        return Answer(
            resources.system(self._engine.supervised, self._version, sum(one.is_open for one in self._operations))
        )

    async def _status(self, request: Request) -> Answer:
        return Answer(resources.process_status(self._engine.supervised, self._version, self._uptime))

    async def _node(self, request: Request) -> Answer:
        name = self._options.node_id or "local-node"
        return Answer(resources.node(name, self._engine.supervised, self._version, self._uptime))

    async def _nodes(self, request: Request) -> Answer:
        return _page([(await self._node(request)).body], request)

    async def _list_components(self, request: Request) -> Answer:
        from ..config.reference import KINDS  # Nothing that a start needs.

        wanted = request.scope["path_params"].get("kind")
        kinds = [kind for kind in KINDS if wanted in (None, kind.__name__.lower(), kind._package)]
        if not kinds:
            raise Problem(404, "not_found", "no kind of component is called this")
        names = await asyncio.to_thread(lambda: [(kind, name) for kind in kinds for name in kind.names()])
        return Answer([{"kind": kind.__name__.lower(), "name": name} for kind, name in names])

    async def _show_component(self, request: Request) -> Answer:
        from ..config.reference import as_dictionary, find_component

        given = request.scope["path_params"]
        try:
            return Answer(await asyncio.to_thread(lambda: as_dictionary(*find_component(given["kind"], given["name"]))))
        except ConfigError as error:
            raise Problem(404, "not_found", str(error)) from None

    async def _schema(self, request: Request) -> Answer:
        from ..config.schema import json_schema

        return Answer(await asyncio.to_thread(json_schema))

    async def _metrics(self, request: Request) -> Answer:
        return Answer(exposition(), kind=b"text/plain; version=0.0.4; charset=utf-8")

    # Streams

    def _stream(self, request: Request) -> SupervisedStream:
        id = request.scope["path_params"]["id"]
        for one in self._engine.supervised:
            if one.stream.id == id:
                return one
        raise Problem(404, "not_found", "no stream has this id", stream_id=id)

    def _described(self, one: SupervisedStream) -> dict[str, Any]:
        return resources.stream_status(one, self._operations.open_for(one.stream.id))

    async def _list_streams(self, request: Request) -> Answer:
        return _page([self._described(one) for one in self._engine.supervised], request)

    async def _show_stream(self, request: Request) -> Answer:
        return Answer(self._described(self._stream(request)))

    def _change_of(self, name: str) -> Handler:
        async def change(request: Request) -> Answer:
            one = self._stream(request)
            work = partial(self._change, name, one.stream.id)
            operation = self._operations.begin(name, one.stream.id, request.correlation_id, work)
            location = f"{self._prefix}/operations/{operation.id}".encode()
            return Answer(operation, 202, headers=((b"location", location),))

        return change

    async def _change(self, name: str, id: str) -> dict[str, str]:
        """Start, stop or restart a stream, and wait until it is so; raises PermanentError."""

        def current() -> SupervisedStream:
            return next(one for one in self._engine.supervised if one.stream.id == id)

        one = current()
        has_ended = one.state in ("finished", "stopped", "failed")
        if name == "stop":
            if not has_ended and one.state != "paused":
                one.pause()
            reached = {"paused", "finished", "stopped", "failed"}
        else:
            began = one.began_at
            if has_ended:
                self._engine.start(id)
            elif one.state == "paused":
                one.resume()
            elif name == "restart":
                one.restart()
            else:
                began = None
            reached = {"running", "finished", "failed"}

        def is_reached() -> bool:
            now = current()
            return now.state in reached and not now.is_halting and (name == "stop" or now.began_at != began)

        while not is_reached():
            await self._clock.sleep(POLL_INTERVAL)
        if name != "stop" and current().state == "failed":
            raise PermanentError(current().failure or "it has failed")
        return {"observed_state": resources.stream_state(current())}

    # Operations

    async def _list_operations(self, request: Request) -> Answer:
        wanted = {
            name: value
            for name, value in request.parameters.items()
            if name in ("resource_id", "operation", "state", "correlation_id")
        }
        found = [one for one in self._operations if all(getattr(one, key) == value for key, value in wanted.items())]
        return _page(found, request)

    def _operation(self, request: Request) -> Operation:
        found = self._operations.get(request.scope["path_params"]["id"])
        if found is None:
            raise Problem(404, "not_found", "no operation has this id")
        return found

    async def _show_operation(self, request: Request) -> Answer:
        return Answer(self._operation(request))

    async def _cancel_operation(self, request: Request) -> Answer:
        one = self._operation(request)
        self._operations.cancel(one)
        return Answer(one)

    async def _list_events(self, request: Request) -> Answer:
        return Answer(list(self._operations.events))

    # The configuration

    def _running(self) -> Configuration:
        if self._engine.configuration is None:
            raise Problem(409, "conflict", "this process was not started with a configuration")
        return self._engine.configuration

    def _versions(self) -> Versions:
        return Versions(self._running().data / "configurations")

    def _candidate(self, candidate: Candidate) -> Configuration:
        """Return what a candidate is as the file that runs; raises ConfigError."""
        file = next((stream.source.file for stream in self._running().streams if stream.source.file), "")
        return keeping_functions(lambda: candidate.build(dict(os.environ), file))

    async def _configuration(self, request: Request) -> Answer:
        return Answer(_describe(self._running()))

    async def _validate(self, request: Request) -> Answer:
        candidate = await request.body(Candidate)
        try:
            await asyncio.to_thread(self._candidate, candidate)
        except ConfigError as error:
            return Answer({"valid": False, "errors": _issues(error)})
        return Answer({"valid": True, "errors": []})

    async def _show_draft(self, request: Request) -> Answer:
        return Answer(self._draft)

    async def _save_draft(self, request: Request) -> Answer:
        self._draft = await request.body(Candidate)
        return Answer(self._draft)

    async def _diff(self, request: Request) -> Answer:
        if self._draft is None:
            return Answer({"changed": False, "draft": None})
        try:
            draft = await asyncio.to_thread(self._candidate, self._draft)
        except ConfigError as error:
            raise _invalid(error) from None
        current = self._running()
        before, after = _describe(current), _describe(draft)
        differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return Answer(
            {"changed": not current.is_same(draft), "changes": sorted(differing), "current": before, "draft": after}
        )

    async def _list_versions(self, request: Request) -> Answer:
        return Answer(await asyncio.to_thread(self._versions().list))

    async def _apply(self, request: Request) -> Answer:
        return await self._adopt(await request.body(Candidate), "configuration_applied", request)

    async def _rollback(self, request: Request) -> Answer:
        try:
            candidate = await asyncio.to_thread(self._versions().load, request.scope["path_params"]["id"])
        except ConfigError as error:
            raise Problem(404, "not_found", str(error)) from None
        return await self._adopt(candidate, "configuration_rolled_back", request)

    async def _adopt(self, candidate: Candidate, event: str, request: Request) -> Answer:
        try:
            configuration = await asyncio.to_thread(self._candidate, candidate)
            saved = await asyncio.to_thread(self._versions().save, candidate)
            try:
                changes = await self._engine.adopt(configuration)
            except ConfigError:
                await asyncio.to_thread(self._versions().delete, saved.id)
                raise
        except ConfigError as error:
            self._operations.note(event, "failed", str(error), correlation_id=request.correlation_id)
            raise _invalid(error) from None
        self._operations.note(event, "succeeded", str(changes), correlation_id=request.correlation_id)
        affected = [*changes.started, *changes.changed, *changes.ended]
        return Answer({"version": saved, "affected_streams": affected})


def _page(items: list[Any], request: Request) -> Answer:
    try:
        return Answer(resources.page(items, request.parameters))
    except ValueError:
        raise Problem(400, "invalid_request", "page and page_size are numbers") from None


def _describe(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration without secrets."""
    shown: dict[str, Any] = redact(configuration.model_dump(mode="json", exclude_unset=True, fallback=str))
    return shown


def _issues(error: ConfigError) -> list[dict[str, Any]]:
    return [{"path": one.path, "message": one.message, "line": one.line} for one in getattr(error, "errors", [error])]


def _invalid(error: ConfigError) -> Problem:
    return Problem(422, "invalid_configuration", str(error), details={"errors": _issues(error)})
