"""Make one delivery of several, without losing a row, a value or the order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import pyarrow as pa

from ..absence import mark_all
from ..delivery import Batch, Delivery, Loan, merge
from ..errors import PermanentError
from ..statelog import ComponentState

Merge: TypeAlias = Callable[[Sequence[Delivery]], Awaitable[list[Delivery]]]
"""Makes of the deliveries of a group what is handed out, which settles them."""
_IN_A_THREAD = 8 << 20
"""Bytes from which copying is left to a thread, so that the event loop goes on meanwhile."""


async def merged(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return the deliveries as one, or as few as can be made where schemas or values do not fit together."""
    if len(deliveries) < 2:
        return list(deliveries)
    batches = [delivery.batch for delivery in deliveries]
    if len(batches) > 1024 or sum(batch.nbytes for batch in batches) > _IN_A_THREAD:
        parts = await asyncio.to_thread(concatenated, batches)
    else:
        parts = concatenated(batches)
    result: list[Delivery] = []
    first = 0
    for batch, count in parts:
        group = deliveries[first : first + count]
        result.append(group[0] if count == 1 else merge(batch, group))
        first += count
    return result


def concatenated(batches: Sequence[Batch]) -> list[tuple[Batch, int]]:
    """Return the rows of all batches in order, each result with how many of the batches it is made of."""
    result: list[tuple[Batch, int]] = []
    for group in _alike(batches):
        result += _concatenated(group)
    return result


def handed_out(
    absorbed: Sequence[Delivery], own: Loan, states: ComponentState, results: Sequence[tuple[Batch, str | None]]
) -> list[Delivery]:
    """Return what is refused, with its reason, and behind it all that is written, in as few deliveries as can be.

    They share the loans of what was ``absorbed`` and the buffer's ``own``. The state is saved with the last of them:
    what was written before in a transaction of its own would be written once more after a crash.
    """
    whole = Delivery(pa.record_batch({}), [own, *(loan for delivery in absorbed for loan in delivery.loans)])
    states.enter(whole)
    refused = [one for one in results if one[1] is not None]
    written = concatenated([batch for batch, reason in results if reason is None])
    finished = [*refused, *((batch, None) for batch, _ in written)]
    parts = whole.split([batch for batch, _ in finished]) if finished else [whole]
    for part, (_, reason) in zip(parts, finished, strict=False):
        part.error = PermanentError(reason) if reason is not None else None
    return parts


def _alike(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Neighbours whose schemas fit together."""
    groups: list[list[Batch]] = []
    schema: pa.Schema | None = None
    last: pa.Schema | None = None
    for batch in batches:
        if schema is not None and (batch.schema is last or batch.schema.equals(last)):
            groups[-1].append(batch)
            continue
        both = unified(schema, batch.schema) if schema is not None else None
        if both is not None:
            groups[-1].append(batch)
        else:
            groups.append([batch])
        schema, last = both or batch.schema, batch.schema
    return groups


def unified(one: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    """Return the schema that holds the rows of both as they are; None if there is none.

    Missing columns are filled with nulls and noted as absent, null becomes any type and a number a wider one; text
    stays text.
    """
    try:
        both = pa.unify_schemas([one, other], promote_options="permissive")
    except pa.ArrowException:
        return None
    for schema in (one, other):
        for field in schema:
            kind = both.field(field.name).type
            if _is_text(field.type) and not _is_text(kind):
                return None
    return both


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _concatenated(batches: Sequence[Batch]) -> list[tuple[Batch, int]]:
    if len(batches) == 1:
        return [(batches[0], 1)]
    try:
        return [(_concatenate(batches), len(batches))]
    except pa.ArrowException:
        # A value does not fit the common type, or texts exceed 2 GiB: fewer together, down to each as it came.
        half = len(batches) // 2
        return _concatenated(batches[:half]) + _concatenated(batches[half:])


def _concatenate(batches: Sequence[Batch]) -> Batch:
    first = batches[0].schema
    if all(batch.schema is first or batch.schema.equals(first) for batch in batches):
        return pa.concat_batches(batches)
    names = dict.fromkeys(name for batch in batches for name in batch.schema.names)
    batches = [mark_all(batch, list(names)) for batch in batches]
    table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")
    return pa.concat_batches(table.to_batches()) if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
