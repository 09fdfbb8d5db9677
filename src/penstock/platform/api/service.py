"""The parts of the platform, as its routes find them in ``request.app.state.platform``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from litestar import Request

from ...application import Installation
from ...clock import Clock
from ...context import Context
from ...errors import PermanentError
from ...serving.listener import split_address
from ..access.administration import Administration, Authority
from ..access.caller import Caller
from ..access.sessions import Lifetime
from ..cache import SingleFlight
from ..database import Database
from ..deadletters import places_of
from ..letters import Place
from ..recentlog import RecentLog
from ..replays import Replays
from ..tables.browsing import Tables
from ..tables.queries import Queries
from ..web.errors import ApiError
from ..web.events import LiveState

if TYPE_CHECKING:
    from ...supervision import SupervisedStream
    from ..access.gate import Gate

Asked = Request[Caller, Any, Any]

ROOT = "/api/platform/v1"
"""The path below which the routes are."""
MAX_BODY_BYTES = 64_000
"""Bytes of a body of these routes."""


@dataclass(frozen=True)
class PlatformService:
    """What the routes work with."""

    installation: Installation
    gate: Gate
    database: Database
    """Where keys, sessions and the audit are."""
    streams: Callable[[], Sequence[SupervisedStream]]
    """The streams of this process."""
    lifetime: Lifetime
    """How long sessions live."""
    clock: Clock
    live: LiveState
    """What tells pages how the streams are."""
    context: Context
    """What the engine lends to what is opened for a moment."""
    recent: RecentLog = field(default_factory=RecentLog)
    """The last lines of the log of each stream."""
    resending: SingleFlight[str, None] = field(default_factory=lambda: SingleFlight(size=16))
    """The dead letters that are being sent again, each once."""

    queries: Queries = field(default_factory=Queries)
    """The queries of people that run."""

    @cached_property
    def places(self) -> dict[str, Place]:
        """The tables and files of dead letters, by name."""
        return places_of(one.stream for one in self.streams())

    async def close(self) -> None:
        """Close the connections to the tables of dead letters."""
        await self.resending.close()
        await self.replays.close()
        self.tables.close()
        for place in self.__dict__.get("places", {}).values():
            await asyncio.to_thread(place.close)

    @cached_property
    def replays(self) -> Replays:
        """The replays of dead letters."""
        return Replays(self.context, lambda id: self.stream(id).stream)

    @cached_property
    def tables(self) -> Tables:
        """The tables of the installation, as each caller may see them."""
        return Tables(self.installation, self.gate.scopes, lambda: [one.stream for one in self.streams()])

    @property
    def administration(self) -> Administration:
        """What looks after keys."""
        return Administration(self.database, self.gate.scopes, self.gate.audit)

    @property
    def port(self) -> int:
        """The port that is listened at, as it is configured."""
        return split_address(self.installation.address)[1]

    def stream(self, id: str) -> SupervisedStream:
        """Return the stream of this id; raises ApiError."""
        for one in self.streams():
            if one.stream.id == id:
                return one
        raise ApiError(404, "not_found", f"there is no stream {id[:100]!r}")


def platform(request: Request[Any, Any, Any]) -> PlatformService:
    """Return the parts of the platform."""
    return cast(PlatformService, request.app.state.platform)


def authority(request: Asked) -> Authority:
    """Return what the caller may do with keys; raises ApiError for one that may do nothing with any."""
    found = Authority.of(request.user, platform(request).gate.scopes)
    if found.scopes is not None and not found.scopes:
        raise ApiError(
            403, "forbidden", "keys are looked after with the scope operator, or that of an application's administrator"
        )
    return found


def conflict(error: PermanentError) -> ApiError:
    """Return the refusal of what does not fit the state something is in."""
    return ApiError(409, "conflict", str(error))
