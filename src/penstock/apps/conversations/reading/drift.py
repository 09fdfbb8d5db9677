"""What logs have that is not known here: the drift of their format, and the models that have no price."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select

from ..prices import Prices
from ..schema import drift, responses


class Unknown(msgspec.Struct, frozen=True):
    """Something that is not known, and where it was seen."""

    what: str
    """A type, a subtype, a field, a block or a tool of a line, or a model."""
    name: str
    lines: int
    """How many lines have it; of a model, how many responses."""
    first_at: datetime
    last_at: datetime
    version: str | None
    """The version of the agent that wrote the latest of them."""
    session: str | None


def list_unknown(connection: Connection, prices: Prices) -> list[Unknown]:
    """Return what is not known, by what it is, that of the most lines first."""
    found = select(*(drift.c[name] for name in Unknown.__struct_fields__)).order_by(drift.c.what, drift.c.lines.desc())
    unknown = [Unknown(*row) for row in connection.execute(found)]
    of = responses.c
    models = (
        select(of.model, func.count(), func.min(of.at), func.max(of.at), func.max(of.session))
        .where(of.model.is_not(None), of.cost_usd.is_(None), of.input + of.output > 0)
        .group_by(of.model)
        .order_by(func.count().desc())
    )
    for model, count, first, last, session in connection.execute(models):
        if prices.find(model, last) is None:
            unknown.append(Unknown("model", model, count, first, last, None, session))
    return unknown
