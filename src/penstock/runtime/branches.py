"""The outputs that the output of a stream stands for, and which of them each row goes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ..component import Output
from ..delivery import Batch
from ..errors import ConfigError, RowsRejected
from ..metadata import PREFIX
from ..selection import keep

CHOSEN = f"{PREFIX}outputs"
"""The column of a number whose bit ``n`` is set where the row goes to leaf ``n``."""


MAX_LEAVES = 60
"""How many outputs a stream may have, and cases that refuse rows: each is a bit of a whole number."""


class Leaf(NamedTuple):
    """An output that writes itself."""

    name: str
    """How logs, metrics and dead letters call it: ``output``, or that with the names of the branches behind it."""
    output: Output
    conditions: Sequence[str]
    """What a row has to meet to go there, all of it."""
    labels: Sequence[str] = ()
    """The same as people read it."""


class _Refusal(NamedTuple):
    conditions: Sequence[str]


def find_leaves(output: Output) -> list[Leaf]:
    """Return the outputs that write; itself for one that stands for no others."""
    return [leaf for leaf in _walk("output", output, (), ()) if isinstance(leaf, Leaf)]


def _walk(name: str, output: Output, conditions: Sequence[str], labels: Sequence[str]) -> Iterator[Leaf | _Refusal]:
    branches = output.branches()
    if not branches:
        yield Leaf(name, output, conditions, labels)
    names: Counter[str] = Counter()
    for branch in branches:
        met = conditions if branch.when is None else (*conditions, branch.when)
        if branch.output is None:
            yield _Refusal(met)
            continue
        said = (*labels, branch.label) if branch.label else labels
        own = branch.output.name or branch.output.type_name
        names[own] += 1
        yield from _walk(f"{name}.{own if names[own] == 1 else f'{own}-{names[own]}'}", branch.output, met, said)


def routing(output: Output) -> Callable[[Batch], Sequence[Batch]] | None:
    """Return what adds the column ``CHOSEN`` to a batch; None if every row goes to every leaf.

    It raises RowsRejected for rows that no case takes.
    """
    ends = list(_walk("output", output, (), ()))
    if not any(end.conditions for end in ends):
        return None
    if len(ends) > MAX_LEAVES:
        raise ConfigError(f"an output stands for {len(ends)} outputs in all; expected {MAX_LEAVES} at most")
    from ..sql.choice import AllOf  # DataFusion takes 50 MB

    # Leaves first, so that their bits are their places among the leaves.
    ends.sort(key=lambda end: isinstance(end, _Refusal))
    leaves = sum(isinstance(end, Leaf) for end in ends)
    choose = AllOf([" AND ".join(f"({sql})" for sql in end.conditions) or "true" for end in ends])

    def route(batch: Batch) -> Sequence[Batch]:
        chosen = choose(batch)
        refused = pc.greater_equal(chosen, 1 << leaves)
        if leaves < len(ends) and pc.any(refused).as_py():
            rows = pc.indices_nonzero(refused).to_pylist()
            raise RowsRejected(dict.fromkeys(rows, "no case of the output takes it: it meets no condition"))
        return [batch.append_column(CHOSEN, chosen)]

    return route


def select_rows(batch: Batch, leaf: int) -> tuple[Batch, pa.Array | None]:
    """Return the rows that go to a leaf, and their indexes in the batch; None for these if it has all rows."""
    if CHOSEN not in batch.schema.names:
        return batch, None
    goes = pc.not_equal(pc.bit_wise_and(batch.column(CHOSEN), 1 << leaf), 0)
    rows = batch.drop_columns([CHOSEN])
    if pc.all(goes, min_count=0).as_py():
        return rows, None
    return keep(rows, goes), pc.indices_nonzero(goes)
