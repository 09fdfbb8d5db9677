"""The options that joins of two inputs in event time share, and how such a join is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..component import Buffer, Queue
from ..context import Context
from ..duration import Duration
from ._event_time import Unit
from ._event_time_buffer import MAX_ENTRIES, to_micros
from ._joined_inputs import JoinedInputs, JoinTiming, LateRows
from ._joined_side import JoinedSide
from ._kept import Kept
from ._matching import Matcher, Matching, Unmatched

Columns = Annotated[
    list[str],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]


class JoinBuffer(Buffer):
    """A join of two inputs of `multiple_inputs`, by key and by the time in a column of each row."""

    left: str = Field(min_length=1)
    """The `name` of the input on the left."""
    right: str = Field(min_length=1)
    """The `name` of the input on the right."""
    key: Columns
    """The columns in which both rows must be equal; null is equal to nothing."""
    right_key: Columns | None = None
    """The same columns by their names on the right, where those differ."""
    timestamp_field: str = Field(min_length=1)
    """The column with the time of a row: a timestamp, a number or a text in ISO 8601."""
    right_timestamp_field: str | None = None
    """The same column by its name on the right, where that differs."""
    timestamp_unit: Unit = "ms"
    """The unit of an integer since 1970; a float is in seconds."""
    out_of_orderness: Duration = Field(0.0, ge=0)
    """How much older than the newest row of its input a row may be and still be on time."""
    idle_timeout: Duration | None = Field(None, gt=0)
    """After how much time without rows an input, or a partition of it, is no longer waited for."""
    ttl: Duration | None = Field(None, gt=0)
    """How long a row waits at most, by the time of its own input."""
    late: LateRows = "route"
    """What becomes of rows older than the watermark of their input: the error output, dropped and counted, or joined
    with what is still held."""
    unmatched: Unmatched = "route"
    """What becomes of rows that nothing matches, where they are not in the result: the error output, or dropped and
    counted."""
    max_rows: int = Field(10_000_000, gt=0)
    """How many rows are held at most."""
    overflow: Literal["stop", "release"] = "stop"
    """What happens past `max_rows`: the stream stops, or the oldest rows go out as if nothing could match them."""

    @model_validator(mode="after")
    def _has_two_sides(self) -> JoinBuffer:
        if self.left == self.right:
            raise ValueError("`left` and `right` name the same input")
        if not self.key:
            raise ValueError("`key` names no column")
        if self.right_key is not None and len(self.right_key) != len(self.key):
            raise ValueError(f"`key` has {len(self.key)} columns and `right_key` {len(self.right_key)}")
        return self

    def matching(self) -> Matching:
        """Return what is joined."""
        raise NotImplementedError

    async def matcher(self, context: Context, sides: tuple[JoinedSide, JoinedSide]) -> Matcher:
        """Return what joins, with what it kept before a restart."""
        raise NotImplementedError

    @property
    def keys(self) -> tuple[list[str], list[str]]:
        """The columns of the key on both sides."""
        return self.key, self.right_key or self.key

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        """Yield a queue that goes on with the rows that were held before a restart."""
        left = JoinedSide(self.left, Kept(await context.state("left", max_entries=MAX_ENTRIES)))
        right = JoinedSide(self.right, Kept(await context.state("right", max_entries=MAX_ENTRIES)))
        timing = JoinTiming(
            name=self.type_name,
            columns=(self.timestamp_field, self.right_timestamp_field or self.timestamp_field),
            unit=self.timestamp_unit,
            out_of_orderness=to_micros(self.out_of_orderness),
            idle_timeout=self.idle_timeout,
            late=self.late,
            max_rows=self.max_rows,
            overflow=self.overflow,
        )
        matcher = await self.matcher(context, (left, right))
        yield JoinedInputs(timing, self.matching(), matcher, await context.checkpoint("join"), context)

    def columns_read(self) -> frozenset[str]:
        """Return the columns of key and time."""
        times = {self.timestamp_field, self.right_timestamp_field or self.timestamp_field}
        return frozenset({*self.keys[0], *self.keys[1], *times})

    def tables_read(self) -> frozenset[str] | None:
        """Return the names of both inputs."""
        return frozenset({self.left, self.right})

    def reads_metadata(self) -> bool:
        """Tell that it needs the name of the input that rows came from."""
        return True

    def columns_needed(self, behind: frozenset[str] | None) -> frozenset[str] | None:
        """Return the columns that matter of what is put: those behind it, by their names on either side."""
        if behind is None:
            return None
        prefix = f"{self.right}_"
        return behind | {name.removeprefix(prefix) for name in behind} | self.columns_read()
