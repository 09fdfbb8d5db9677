"""The routes by which keys, logs and the audit are looked after, and by which a caller sees itself."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, Parameter
from sqlalchemy import Connection, select

from ....platform.access import gate, keys
from ....platform.access.administration import Administration, Authority
from ....platform.access.administration import read_audit as read_page
from ....platform.access.gate import Admission
from ....platform.access.schema import audit
from ....platform.access.scopes import OPERATOR, local
from ....platform.access.shapes import KeyShown, Rotation
from ....platform.web import cursors
from ....platform.web.answers import answer, answer_with, documented
from ....platform.web.parameters import Cursor, Limit
from ..schema import characteristics
from ..scopes import NAME
from .administered import (
    AuditRow,
    CharacteristicsStatistics,
    KeyMade,
    Level,
    LevelShown,
    Logged,
    LogLine,
    LogStatistics,
    Me,
    NewKey,
    RateLimit,
)
from .queries import Asked, health

log = logging.getLogger("penstock.health")

MAX_BODY_BYTES = 64_000
"""Bytes of a body of these routes."""
_LOGGER = "penstock"
Id = Annotated[
    str,
    Parameter(pattern="^[A-Za-z0-9_-]{1,64}$", description="The id of a key, or how it begins: pen_1a2b3c4d."),
]


def _documented(status: int, data: Any, description: str, scope: str = "admin") -> dict[str, Any]:
    """Return the options of a handler whose success has ``status``."""
    limit = "read" if scope == "any" else "admin"
    options = documented(data, description, scope=scope, limit=limit, status=status)
    return options | {"status_code": status, "request_max_body_size": MAX_BODY_BYTES}


def _keys(request: Asked) -> Administration:
    of = health(request)
    return Administration(of.access, of.gate.scopes, of.gate.audit)


def _authority(request: Asked) -> Authority:
    """Return what the caller may do here: this API shows the keys of its own user alone, also to an operator."""
    return Authority.of(request.user, health(request).gate.scopes)._replace(user=request.user.user)


def _describe(key: keys.Key) -> dict[str, Any]:
    """Return a key as this API shows it: the scopes of health without the name of the application."""
    return {**key.describe(), "scopes": [local(scope, NAME) for scope in key.scopes]}


def _made(made: keys.Made) -> dict[str, Any]:
    shown = _describe(made.key)
    return {"key": made.secret} | {name: shown[name] for name in KeyMade.__struct_fields__ if name != "key"}


@post("/api/v1/auth/keys", **_documented(201, KeyMade, "The key, shown this once."))
async def create_key(request: Asked, data: JSONBody[NewKey]) -> Response[Any]:
    """Make a key for the caller's user. What it reads is shown in this answer, and nowhere ever again."""
    made = await _keys(request).create_key(
        request.user,
        _authority(request),
        name=data.name,
        user=request.user.user,
        scopes=data.scopes,
        application=NAME,
        expires=data.expires or data.expires_at,
        limits=data.limits,
    )
    return answer(_made(made), 201)


@get("/api/v1/auth/keys", **_documented(200, list[KeyShown], "The keys of the caller's user, the newest first."))
async def list_keys(request: Asked) -> Response[Any]:
    """List the keys of the caller's user, those that do not work any more too."""
    return answer([_describe(key) for key in await _keys(request).list_keys(request.user.user)])


@post("/api/v1/auth/keys/{key:str}/rotate", **_documented(201, KeyMade, "The key in its place, shown this once."))
async def rotate_key(request: Asked, key: Id, data: JSONBody[Rotation | None] = None) -> Response[Any]:
    """Make a key in place of another one, which goes on to work for the time of the overlap."""
    overlap = data.overlap if data is not None else "0s"
    return answer(_made(await _keys(request).rotate_key(request.user, _authority(request), key, overlap)), 201)


@delete("/api/v1/auth/keys/{key:str}", **_documented(200, KeyShown, "The key, which works no more."))
async def revoke_key(request: Asked, key: Id) -> Response[Any]:
    """Revoke a key of the caller's user: the next request with it is refused, by every replica."""
    return answer(_describe(await _keys(request).revoke_key(request.user, _authority(request), key)))


@get(
    "/api/v1/auth/rate-limit",
    **_documented(200, dict[str, RateLimit], "The limits of the caller's key, by scope.", "any"),
)
async def rate_limit(request: Asked) -> Response[Any]:
    """Tell what the caller's key has left of its limits; `reset` is in seconds since 1970."""
    admission: Admission = request.auth
    usage = await health(request).gate.usage(admission, NAME)
    return answer({local(name, NAME): gate.limit_body(found) for name, found in usage.items()})


@get("/api/v1/me", **_documented(200, Me, "The user and the key of this request.", "any"))
async def me(request: Asked) -> Response[Any]:
    """Tell the caller who it is."""
    caller = request.user
    scopes = [local(scope, NAME) for scope in caller.scopes]
    if caller.session:
        return answer(Me(caller.user, caller.user_name, caller.key, "a session", sorted(scopes), None))
    key = await health(request).access.run(lambda connection: keys.find(connection, caller.key))
    scopes = [local(scope, NAME) for scope in key.scopes]
    return answer(Me(caller.user, caller.user_name, key.id, key.name, scopes, key.expires_at))


@get(
    "/api/v1/admin/audit", **_documented(200, list[AuditRow], "A page of the audit; `next_cursor` is null on the last.")
)
async def read_audit(
    request: Asked,
    limit: Limit = 100,
    cursor: Cursor = None,
    action: Annotated[str | None, Parameter(pattern="^[a-z_]{1,64}$", description="Only this action.")] = None,
) -> Response[Any]:
    """List what was done with the keys of the caller's user, and what was tried with them, the newest first."""
    user = request.user.user
    after = cursors.read(cursor, [audit.c.time, audit.c.id], "audit", action)

    def read(connection: Connection) -> dict[str, Any]:
        rows, last = read_page(connection, user=user, action=action, after=after, limit=limit)
        page = [{name: value for name, value in row.items() if name != "user_id"} for row in rows]
        return {"data": page, "next_cursor": cursors.written(last, "audit", action)}

    return await answer_with(request, health(request).access, read)


class LogCounts(logging.Handler):
    """Counts the lines of this process by their level."""

    def __init__(self) -> None:
        super().__init__()
        self.since = datetime.now(UTC)
        self.lines = {"debug": 0, "info": 0, "warning": 0, "error": 0}

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        self.lines[_named(record.levelno)] += 1


_COUNTS = LogCounts()


def _count_lines() -> LogCounts:
    """Return the counts; they begin once the log is set up, for a handler of ours alone would keep lines unseen."""
    logger = logging.getLogger(_LOGGER)
    if _COUNTS not in logger.handlers and logger.handlers:
        logger.addHandler(_COUNTS)
    return _COUNTS


_count_lines()


def _named(level: int) -> Level:
    return "error" if level >= 40 else "warning" if level >= 30 else "info" if level >= 20 else "debug"


@get("/api/v1/admin/logging/level", **_documented(200, LevelShown, "The level.", OPERATOR.name))
async def log_level(request: Asked) -> Response[Any]:
    """Tell from which level on this process logs."""
    return answer(LevelShown(_named(logging.getLogger(_LOGGER).getEffectiveLevel())))


@put("/api/v1/admin/logging/level", **_documented(200, LevelShown, "The level that holds now.", OPERATOR.name))
async def set_log_level(request: Asked, data: JSONBody[LevelShown]) -> Response[Any]:
    """Log from another level on, until this process ends."""
    logger = logging.getLogger(_LOGGER)
    before = _named(logger.getEffectiveLevel())
    logger.setLevel(data.level.upper())
    details = {"from": before, "to": data.level}
    await health(request).gate.audit.record("log_level_changed", caller=request.user, details=details)
    return answer(data)


@get("/api/v1/admin/logging/stats", **_documented(200, LogStatistics, "Lines by level.", OPERATOR.name))
async def log_statistics(request: Asked) -> Response[Any]:
    """Tell how many lines this process has logged, by level."""
    counts = _count_lines()
    level = _named(logging.getLogger(_LOGGER).getEffectiveLevel())
    return answer(LogStatistics(since=counts.since, level=level, lines=dict(counts.lines)))


@post("/api/v1/admin/logging/test", **_documented(200, Logged, "Whether the line is in the log.", OPERATOR.name))
async def try_log(request: Asked, data: JSONBody[LogLine | None] = None) -> Response[Any]:
    """Log a line, so that one can look where it appears."""
    line = data or LogLine()
    number = logging.getLevelNamesMapping()[line.level.upper()]
    log.log(number, "test line by user %d: %r", request.user.user, line.message)
    await health(request).gate.audit.record("log_tested", caller=request.user, details={"level": line.level})
    return answer(Logged(level=line.level, logged=log.isEnabledFor(number)))


@get(
    "/api/v1/admin/characteristics/stats",
    **_documented(200, CharacteristicsStatistics, "How many characteristics the caller's user has given, and when."),
)
async def characteristics_statistics(request: Asked) -> Response[Any]:
    """Tell how many characteristics are known of the caller's user, and when they were last changed and verified."""
    user = request.user.user
    query = select(characteristics).where(characteristics.c.user_id == user)
    row = await health(request).database.run(lambda connection: connection.execute(query).mappings().first())
    if row is None:
        return answer(CharacteristicsStatistics(0, None, None))
    given = [value for value in json.loads(row["values"]).values() if value is not None]
    return answer(CharacteristicsStatistics(len(given), row["updated_at"], row["verified_at"]))


ROUTES = [
    create_key,
    list_keys,
    rotate_key,
    revoke_key,
    rate_limit,
    me,
    read_audit,
    log_level,
    set_log_level,
    log_statistics,
    try_log,
    characteristics_statistics,
]
