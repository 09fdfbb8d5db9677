"""Source priority: whose value counts where the points of several sources say the same time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, delete, select

from .schema import priorities

MAX_SOURCES = 100
"""How many sources one priority can name."""
_KINDS = (("health",), ("watch",), ("iphone", "phone", "ipad"))
"""The order of the phone: what was entered by hand in its Health app, the watch, the phone, other apps and devices."""
Rank = tuple[int, int]


def split(source: str) -> frozenset[str]:
    """Return the names in a source: an aggregated bucket joins those of all devices by ``|``."""
    return frozenset(part for part in source.split("|") if part)


class Priority:
    """The order of the sources of a metric: those that a person has put in order first, then that of the phone."""

    def __init__(self, chosen: Sequence[str] = ()) -> None:
        self.chosen = tuple(chosen)
        self._places = {name: place for place, name in enumerate(chosen)}

    def rank(self, source: str) -> Rank:
        """Return the rank of one source; the least is the first."""
        if source in self._places:
            return 0, self._places[source]
        lower = source.lower()
        for place, words in enumerate(_KINDS):
            if lower == words[0] if place == 0 else any(word in lower for word in words):
                return 1, place
        return 1, len(_KINDS)

    def best(self, sources: frozenset[str]) -> Rank:
        """Return the rank of the first of several sources."""
        return min((self.rank(source) for source in sources), default=(2, 0))

    def order(self, sources: Sequence[str]) -> list[str]:
        """Return sources in their order."""
        return sorted(sources, key=lambda source: (self.rank(source), source))


def load(connection: Connection, user: int, metric: str) -> Priority:
    """Return the priority of a metric: that of the metric, else that of all metrics of the user, else the default."""
    return Priority(load_order(connection, user, metric) or load_order(connection, user, "") or ())


def load_order(connection: Connection, user: int, metric: str) -> list[str] | None:
    """Return the order that a person chose for a metric, or with ``""`` for all; None if there is none."""
    c = priorities.c
    found = connection.scalar(select(c.sources).where(c.user_id == user, c.metric == metric))
    return msgspec.json.decode(found, type=list[str]) if found is not None else None


def save(connection: Connection, user: int, metric: str, sources: Sequence[str]) -> None:
    """Keep the order that a person chose; an empty one takes it back."""
    c = priorities.c
    connection.execute(delete(priorities).where(c.user_id == user, c.metric == metric))
    if sources:
        row = {"user_id": user, "metric": metric, "sources": msgspec.json.encode(list(sources)).decode()}
        connection.execute(priorities.insert().values(row))
