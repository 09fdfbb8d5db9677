"""Drop rows whose key was seen before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from ..component import Process, Processor
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import PermanentError, RowsRejected
from ..keyedstate import KeyedState
from ..selection import keep

_MAX_PLAIN_KEY = 64
"""Characters of a key that is kept as it is; a longer one is kept as its digest, which is longer than that."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Dedupe(Processor, type="dedupe"):
    """Drop rows whose key was seen before, in this run or an earlier one.

    The first row of each key is kept, in the order of reading. Which keys were seen survives restarts: it is saved
    with the positions of the rows, so a crash neither lets a duplicate through nor drops a row that was not written.
    An input that keeps no position, such as `http`, needs `durability` for that.

    Numbers, texts, times and bytes can be keys; `1` and `"1"` are the same one.

    Example::

        type: dedupe
        key: [device, id]
        window: 24h
    """

    key: Annotated[list[str], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[str])]
    """The column, or the columns, that tell what is the same."""
    window: Duration | None = Field(None, gt=0)
    """How long a key is remembered after its first row was processed; without it, as long as `max_keys` allows."""
    max_keys: int = Field(1_000_000, ge=1)
    """How many keys are remembered at most, in memory and in the state; beyond that the oldest are forgotten."""
    missing: Literal["refuse", "keep"] = "refuse"
    """What becomes of rows that lack one of the columns, or have null there."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Load the keys that were seen."""
        seen = await context.state(ttl=self.window, max_entries=self.max_keys)
        yield lambda batch: self._drop_seen(batch, seen)

    def _drop_seen(self, batch: Batch, seen: KeyedState) -> Sequence[Batch]:
        keys = _keys(batch, self.key)
        if keys.null_count and self.missing == "refuse":
            rows = pc.indices_nonzero(keys.is_null()).to_pylist()
            raise RowsRejected(dict.fromkeys(rows, f"it lacks a value of the key ({', '.join(self.key)})"))
        encoded = keys.dictionary_encode()
        texts = [_shorten(text) for text in encoded.dictionary.to_pylist()]
        known = seen.find(texts)
        firsts = np.full(len(texts) + 1, -1, np.int64)
        codes = encoded.indices.fill_null(len(texts)).to_numpy()
        firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        is_new = np.fromiter((text not in known for text in texts), np.bool_, len(texts))
        seen.put_all(dict.fromkeys(text for text in texts if text not in known))
        kept = np.zeros(batch.num_rows, np.bool_)
        kept[firsts[:-1][is_new]] = True
        kept[codes == len(texts)] = True
        rest = batch if kept.all() else keep(batch, pa.array(kept))
        return [rest] if rest.num_rows else []


def _keys(batch: Batch, columns: Sequence[str]) -> pa.StringArray:
    """Return one text for each row, which is the same where the columns are; null where one of them is."""
    if any(name not in batch.schema.names for name in columns):
        return pa.nulls(batch.num_rows, pa.string())
    texts = [_texts(batch.column(name), name) for name in columns]
    if len(texts) == 1:
        return texts[0]
    escaped = [pc.replace_substring(pc.replace_substring(each, "\\", "\\\\"), "|", "\\|") for each in texts]
    return pc.binary_join_element_wise(*escaped, "|")


def _texts(column: pa.Array, name: str) -> pa.StringArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if cell is None else cell.hex() for cell in column.to_pylist()], pa.string())
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        raise PermanentError(f"column {name!r} is of type {kind}, which cannot be a key") from None


def _shorten(text: str) -> str:
    is_plain = len(text) <= _MAX_PLAIN_KEY and "\0" not in text
    return text if is_plain else f"sha256:{sha256(text.encode()).hexdigest()}"
