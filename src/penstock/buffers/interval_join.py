"""Join rows of two inputs that have the same key and times close to each other."""

from __future__ import annotations

from pydantic import Field, model_validator

from ..context import Context
from ..duration import Duration
from ._event_time_buffer import MAX_ENTRIES, to_micros
from ._join_options import JoinBuffer
from ._joined_side import JoinedSide
from ._kept import Kept
from ._matching import How, IntervalMatcher, Matcher, Matching


class IntervalJoin(JoinBuffer, type="interval_join"):
    """Join rows of two inputs that have the same key and times close to each other.

    A row of `left` and one of `right` match when their keys are equal and the one on the right is at most `before`
    earlier and at most `after` later, both included. Each pair is one row of the result: the columns of the left as
    they are, with the key once, and those of the right with its name in front (`payments_amount`). Results go out as
    soon as both rows are there, in the order in which they are found.

    Each input has a watermark of its own: the newest time that came from it less `out_of_orderness`, of the slowest of
    its partitions where there is an `idle_timeout`. A row is held until the watermark of the other input has passed
    its interval, so that neither input needs to be as fast as the other. Without `idle_timeout` an input that is
    silent is waited for; with one, its watermark follows that of the other.

    Then nothing can match the row any more. If nothing did, it goes out with null for the other side where `how` keeps
    it (`left`, `right`, `full`), else it goes to the error output, or is dropped and counted with `unmatched: drop`. A
    row without a readable time or without the columns of the key goes to the error output too.

    What is held is saved with the positions, so that a restart reads nothing again and joins nothing twice, as often
    as the process is killed; a stop leaves rows waiting, the end of all inputs does not. With `ttl` a row waits no
    longer than until its own input is so much further, which bounds what is held while the other input is away.

    Example::

        type: interval_join
        left: orders
        right: payments
        key: order_id
        timestamp_field: at
        after: 10m
        how: left
        out_of_orderness: 5s
        idle_timeout: 1m
    """

    how: How = "inner"
    """Which rows are in the result though nothing matches them: none, those of one side, or all."""
    before: Duration = Field(0.0, ge=0)
    """How much earlier than the left row the right one may be."""
    after: Duration = Field(0.0, ge=0)
    """How much later than the left row the right one may be."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> IntervalJoin:
        if not {"before", "after"} & self.model_fields_set:
            raise ValueError("expected `before`, `after` or both: how far apart the rows may be")
        return self

    def matching(self) -> Matching:
        """Return what is joined."""
        ttl = to_micros(self.ttl) if self.ttl is not None else None
        return Matching(
            self.keys, self.how, self.unmatched, ttl, lower=-to_micros(self.before), upper=to_micros(self.after)
        )

    async def matcher(self, context: Context, sides: tuple[JoinedSide, JoinedSide]) -> Matcher:
        """Return what joins, with the rows that were matched before a restart."""
        matched = Kept(await context.state("matched", max_entries=MAX_ENTRIES))
        return IntervalMatcher(self.matching(), sides, matched)
