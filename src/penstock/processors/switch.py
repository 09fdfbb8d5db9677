"""Process rows in one of several ways, by the conditions that they meet."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from ..absence import mark_all
from ..component import Process, Processor
from ..context import Context
from ..delivery import Batch
from ..errors import ConnectionLost, PermanentError, RowsRejected, TransientError
from ..metadata import PREFIX
from ..options import Options
from ..selection import take
from ..sql.choice import MAX_CONDITIONS, FirstOf, check_condition

_ROW = f"{PREFIX}row"
"""The column with the index of the row that a row comes of, which row-wise processors keep as they keep metadata."""


class Case(Options):
    """What happens to some of the rows."""

    when: str | None = None
    """The SQL condition that a row meets; without one, which only the last case may be, all that are left."""
    processors: list[Processor] = []
    """What happens to these rows, in order; nothing if there are none."""

    @field_validator("when")
    @classmethod
    def _is_condition(cls, value: str | None) -> str | None:
        if value is not None:
            check_condition(value)
        return value

    @model_validator(mode="after")
    def _keeps_to_itself(self) -> Case:
        for processor in self.processors:
            if processor.regroups() is not None:
                raise ValueError(f"{processor.type_name!r} regroups deliveries, which it cannot do within a case")
        return self


class Switch(Processor, type="switch"):
    """Process each row by the processors of the first case whose condition it meets.

    Rows that meet no condition pass as they are. The rows come out in the order in which they came in, whatever case
    they took; only where a case groups or remembers rows (a `sql` query with an aggregate, `python`, `dedupe`) do its
    rows come behind those of the cases before it. Columns that only one case makes are absent from the rows of the
    others.

    A condition is SQL over the columns of one row. A row whose condition cannot be computed is refused, and so is each
    row that a processor of its case refuses; the others go on.

    Example::

        type: switch
        cases:
          - when: kind = 'temperature'
            processors:
              - {type: map, columns: {value: (value - 32) / 1.8}}
          - when: kind = 'heartbeat'
            processors:
              - {type: filter, condition: "false"}
    """

    cases: Annotated[list[Case], Field(min_length=1, max_length=MAX_CONDITIONS)]
    """The cases, in order: the first one whose condition a row meets takes it."""

    @model_validator(mode="after")
    def _check(self) -> Switch:
        if any(case.when is None for case in self.cases[:-1]):
            raise ValueError("a case without `when` takes all rows, so it has to be the last one")
        return self

    @cached_property
    def _choose(self) -> FirstOf:
        return FirstOf([case.when or "true" for case in self.cases])

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Open the processors of all cases."""
        async with AsyncExitStack() as stack:
            cases = []
            for at, case in enumerate(self.cases):
                steps = []
                for index, processor in enumerate(case.processors):
                    name = f"{at}.{index}.{processor.name or processor.type_name}"
                    lent = replace(context, columns=None, states=context.states.part(name))
                    process = await stack.enter_async_context(processor.open(lent))
                    steps.append(_Step(name, process, processor.row_wise()))
                cases.append(steps)
            switching = _Switching(self._choose, cases)
            yield switching.on_loop if switching.awaits else switching.in_thread

    def row_wise(self) -> bool:
        """Tell whether all processors of all cases work row by row."""
        return all(processor.row_wise() for processor in self._processors())

    def looks_up(self) -> Sequence[str]:
        """Return the names of the temporary tables that any processor looks rows up in."""
        return [name for processor in self._processors() for name in processor.looks_up()]

    def multiplies(self) -> bool:
        """Tell whether a processor may make several rows out of one."""
        return any(processor.multiplies() for processor in self._processors())

    def reads_metadata(self) -> bool:
        """Tell whether a condition or a processor reads a ``__meta_*`` column."""
        named = any(PREFIX in (case.when or "").lower() for case in self.cases)
        return named or any(processor.reads_metadata() for processor in self._processors())

    def _processors(self) -> Iterator[Processor]:
        return (processor for case in self.cases for processor in case.processors)


class _Step:
    """An open processor of a case."""

    def __init__(self, name: str, process: Process, row_wise: bool) -> None:
        self.name, self.row_wise = name, row_wise
        self._process: Any = process
        self.awaits = inspect.iscoroutinefunction(process)

    async def __call__(self, batch: Batch, in_thread: bool) -> Sequence[Batch]:
        if self.awaits:
            found = await self._process(batch)
        else:
            found = self._process(batch) if in_thread else await asyncio.to_thread(self._process, batch)
        if not isinstance(found, list | tuple) or not all(isinstance(one, pa.RecordBatch) for one in found):
            raise PermanentError(f"expected a list of RecordBatches, not {type(found).__name__}")
        return [one for one in found if one.num_rows]


class _Switching:
    """The open processors of all cases."""

    def __init__(self, choose: FirstOf, cases: Sequence[Sequence[_Step]]) -> None:
        self._choose, self._cases = choose, cases
        self.awaits = any(step.awaits for steps in cases for step in steps)

    def in_thread(self, batch: Batch) -> Sequence[Batch]:
        """Process a batch where no step has to be awaited."""
        return _run_now(self._process(batch, True))

    async def on_loop(self, batch: Batch) -> Sequence[Batch]:
        """Process a batch on the event loop, and in threads what need not be awaited."""
        return await self._process(batch, False)

    async def _process(self, batch: Batch, in_thread: bool) -> Sequence[Batch]:
        if not batch.num_rows:
            return []
        chosen = self._choose(batch) if in_thread else await asyncio.to_thread(self._choose, batch)
        refused: dict[int, str] = {}
        made: list[Batch] = []
        name = _ROW
        while name in batch.schema.names:  # within another switch
            name += "_"
        for at in pc.unique(chosen).sort().to_pylist():
            rows = pc.indices_nonzero(pc.equal(chosen, at)).cast(pa.int64())
            part = batch if len(rows) == batch.num_rows else take(batch, rows)
            run = _Run(name, rows, refused, in_thread)
            made += await run.through(self._cases[at] if at < len(self._cases) else [], part)
        if refused:
            raise RowsRejected(refused)
        return _in_order(made, name)


class _Run:
    """The rows of one case on their way."""

    def __init__(self, name: str, rows: pa.Int64Array, refused: dict[int, str], in_thread: bool) -> None:
        self._name, self._rows, self._refused, self._in_thread = name, rows, refused, in_thread

    async def through(self, steps: Sequence[_Step], part: Batch) -> list[Batch]:
        """Return what becomes of the rows; note what is refused."""
        waiting = [part.append_column(self._name, self._rows)]
        for step in steps:
            waiting, todo = [], waiting[::-1]
            while todo:
                batch = todo.pop()
                if not step.row_wise and self._name in batch.schema.names:
                    batch = batch.drop_columns([self._name])
                try:
                    waiting += await step(batch, self._in_thread)
                except (TransientError, ConnectionLost):
                    raise
                except Exception as error:
                    todo += reversed(self._after_failure(step, batch, error))
        return waiting

    def _after_failure(self, step: _Step, batch: Batch, error: Exception) -> list[Batch]:
        """Return what is to be processed again, and note the rows that are refused."""
        text = str(error) or type(error).__name__
        reason = f"{step.name}: {text if isinstance(error, PermanentError) else f'{type(error).__name__}: {text}'}"
        known = batch.column(self._name) if self._name in batch.schema.names else None
        if known is None and batch.num_rows == len(self._rows):
            known = self._rows
        if known is not None and isinstance(error, RowsRejected):
            self._refused.update((known[at].as_py(), f"{step.name}: {why}") for at, why in error.reasons.items())
            return []
        if step.row_wise and batch.num_rows > 1:
            middle = batch.num_rows // 2
            return [batch.slice(0, middle), batch.slice(middle)]
        self._refused.update(dict.fromkeys((self._rows if known is None else known).to_pylist(), reason))
        return []


def _in_order(made: Sequence[Batch], name: str) -> list[Batch]:
    """Return the rows in the order of those that they come of, in as few batches as their columns allow."""
    places = [batch.column(name).to_numpy() if name in batch.schema.names else None for batch in made]
    batches = [batch.drop_columns([name]) if name in batch.schema.names else batch for batch in made]
    ordered = [at for at, place in enumerate(places) if place is not None]
    behind = [batch for batch, place in zip(batches, places, strict=True) if place is None]
    if len(ordered) < 2:
        return [*(batches[at] for at in ordered), *behind]
    order = np.concatenate([places[at] for at in ordered])
    sorting = np.argsort(order, kind="stable")
    whole = _joined([batches[at] for at in ordered])
    if whole is not None:
        return [take(whole, pa.array(sorting)), *behind]
    return [*_runs([batches[at] for at in ordered], sorting), *behind]


def _joined(batches: Sequence[Batch]) -> Batch | None:
    """Return all rows as one batch, columns that some do not have absent from their rows; None if types differ."""
    types: dict[str, pa.Field] = {}
    for batch in batches:
        for field in batch.schema:
            if types.setdefault(field.name, field).type != field.type:
                return None
    complete = []
    for batch in batches:
        missing = [name for name in types if name not in batch.schema.names]
        rows = batch.num_rows
        filled = mark_all(batch, missing)
        for name in missing:
            if name not in filled.schema.names:
                filled = filled.append_column(types[name].with_nullable(True), pa.nulls(rows, types[name].type))
        complete.append(filled)
    table = pa.concat_tables([pa.Table.from_batches([one]) for one in complete], promote_options="default")
    return table.combine_chunks().to_batches()[0]


def _runs(batches: Sequence[Batch], sorting: np.ndarray[Any, Any]) -> list[Batch]:
    """Return the rows in order as runs that stand one behind the other in one batch."""
    sources = np.repeat(np.arange(len(batches)), [batch.num_rows for batch in batches])[sorting]
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    edges = np.flatnonzero(np.diff(sources)) + 1
    return [
        take(batches[sources[first]], pa.array(sorting[first:end] - starts[sources[first]]))
        for first, end in zip([0, *edges], [*edges, len(sorting)], strict=True)
    ]


def _run_now(work: Coroutine[Any, Any, Sequence[Batch]]) -> Sequence[Batch]:
    """Run a coroutine that awaits nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        found: Sequence[Batch] = done.value
        return found
    raise AssertionError("a step that runs in a thread has awaited something")
