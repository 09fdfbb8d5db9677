"""Join each row of an input with the version of its key that held at its time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..context import Context
from ..duration import Duration
from ._event_time_buffer import to_micros
from ._join_options import JoinBuffer
from ._joined_side import JoinedSide
from ._matching import Matcher, Matching, VersionMatcher


class TemporalJoin(JoinBuffer, type="temporal_join"):
    """Join each row of an input with the version of its key that held at its time: a table that changes.

    The rows of `right` are versions: each holds from its time until that of the next one of its key. A row of `left`
    is joined with the version that held at its own time, whatever the order in which both came; of two versions of one
    time the one that came last counts. The result has the columns of the left as they are, with the key once, and
    those of the right with its name in front (`rates_price`).

    A row waits until the watermark of the right has passed its time, since an earlier version may still come. The
    watermark of an input is the newest time that came from it less `out_of_orderness`, of the slowest of its partitions
    where there is an `idle_timeout`. A table that seldom changes needs an `idle_timeout`: after so long without a
    version the rows of the left go on without waiting; or a `ttl`, by the time of the rows.

    A row without a version goes out with null (`how: left`), else to the error output, or is dropped and counted with
    `unmatched: drop`. Versions that no row can need any more are forgotten, and with `valid_for` all that are so old;
    without it the last version of each key is held for good.

    What is held is saved with the positions, so that a restart reads nothing again and joins nothing twice, as often
    as the process is killed; a stop leaves rows waiting, the end of all inputs does not. A version that comes late
    holds for the rows that come after it with `late: join`.

    Example::

        type: temporal_join
        left: orders
        right: rates
        key: currency
        timestamp_field: at
        how: left
        idle_timeout: 10s
    """

    how: Literal["inner", "left"] = "inner"
    """Whether rows of the left are in the result though they have no version."""
    valid_for: Duration | None = Field(None, gt=0)
    """How long a version holds at most."""

    def matching(self) -> Matching:
        """Return what is joined."""
        ttl = to_micros(self.ttl) if self.ttl is not None else None
        lower = to_micros(self.valid_for) if self.valid_for is not None else 0
        return Matching(self.keys, self.how, self.unmatched, ttl, lower=lower)

    async def matcher(self, context: Context, sides: tuple[JoinedSide, JoinedSide]) -> Matcher:
        """Return what joins."""
        return VersionMatcher(self.matching(), sides)
