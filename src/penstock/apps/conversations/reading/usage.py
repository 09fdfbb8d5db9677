"""Add up tokens and costs: by day, month, session, model and project, and in blocks of five hours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, exists, select

from ..prices import Prices, Tokens, cost
from ..schema import responses

BLOCK = timedelta(hours=5)
"""How long the allowance of a subscription lasts from its first use on."""
_BATCH_SIZE = 10_000


class By(StrEnum):
    """What is added up together."""

    DAILY = "daily"
    MONTHLY = "monthly"
    SESSION = "session"
    MODEL = "model"
    PROJECT = "project"
    BLOCKS = "blocks"


class Response(msgspec.Struct, frozen=True):
    """One response of a model."""

    at: datetime
    session: str | None
    project: str
    model: str | None
    tokens: Tokens
    cost_usd: float | None
    is_sidechain: bool = False
    """Whether a sub-agent had it."""


class Used(msgspec.Struct, kw_only=True):
    """What was used of one day, session or whatever was asked for."""

    key: str
    first_at: datetime
    last_at: datetime
    responses: int = 0
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    cost_usd: float = 0.0
    """The cost of the responses whose price is known."""
    models: set[str] = msgspec.field(default_factory=set)
    unpriced: set[str] = msgspec.field(default_factory=set)
    """The models whose price is not known: their tokens are counted, and cost nothing here."""


def usage(
    connection: Connection,
    by: By,
    prices: Prices,
    zone: tzinfo = UTC,
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    project: str | None = None,
) -> list[Used]:
    """Return what was used, in the order of time; days and months are those of ``zone``."""
    key: Callable[[Response], str] = {
        By.DAILY: lambda one: one.at.astimezone(zone).strftime("%Y-%m-%d"),
        By.MONTHLY: lambda one: one.at.astimezone(zone).strftime("%Y-%m"),
        By.SESSION: lambda one: one.session or "",
        By.MODEL: lambda one: one.model or "",
        By.PROJECT: lambda one: one.project,
        By.BLOCKS: _Blocks(zone).key,
    }[by]
    found: dict[str, Used] = {}
    for one in read_responses(connection, since, before, project):
        name = key(one)
        used = found.get(name)
        if used is None:
            used = found[name] = Used(key=name, first_at=one.at, last_at=one.at)
        _add(used, one, prices)
    return list(found.values())


def _add(used: Used, one: Response, prices: Prices) -> None:
    used.last_at = one.at
    used.responses += 1
    used.tokens.add(one.tokens)
    if one.model:
        used.models.add(one.model)
    if one.cost_usd is not None:
        used.cost_usd += one.cost_usd
    elif (price := prices.find(one.model, one.at)) is not None:
        used.cost_usd += cost(price, one.tokens)
    elif one.tokens.total:
        used.unpriced.add(one.model or "unknown")


class _Blocks:
    """Name the block of each response: it begins at the full hour of the first use after the block before."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone, self._start = zone, datetime.min.replace(tzinfo=UTC)

    def key(self, one: Response) -> str:
        if one.at >= self._start + BLOCK:
            self._start = one.at.replace(minute=0, second=0, microsecond=0)
        return self._start.astimezone(self._zone).isoformat()


def read_responses(
    connection: Connection,
    since: datetime | None = None,
    before: datetime | None = None,
    project: str | None = None,
) -> Iterator[Response]:
    """Yield each response of a model once, in the order of time.

    A sub-agent's log repeats the responses of its parent, under other requests; a gateway leaves out some requests.
    """
    one, other = responses.c, responses.alias("other").c
    is_copy = exists().where(
        and_(
            other.message == one.message,
            other.key != one.key,
            (one.is_sidechain & ~other.is_sidechain)
            | ((one.is_sidechain == other.is_sidechain) & (one.key == one.message + "|")),
        )
    )
    statement = select(responses).where(~is_copy)
    for condition in _window(since, before, project):
        statement = statement.where(condition)
    rows = connection.execution_options(yield_per=_BATCH_SIZE).execute(statement.order_by(one.at, one.key))
    for row in rows:
        tokens = Tokens(row.input, row.output, row.cache_write_5m, row.cache_write_1h, row.cache_read)
        yield Response(row.at, row.session, row.project, row.model, tokens, row.cost_usd, row.is_sidechain)


def _window(since: datetime | None, before: datetime | None, project: str | None) -> Iterable[Any]:
    if since is not None:
        yield responses.c.at >= since
    if before is not None:
        yield responses.c.at < before
    if project is not None:
        yield responses.c.project == project
