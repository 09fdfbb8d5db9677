"""Turn lists into rows, and structs into columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, model_validator

from ..component import Processor
from ..delivery import Batch
from ..errors import PermanentError
from ..metadata import PREFIX
from ..selection import take, take_values


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
_Names = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])]


class Unnest(Processor, type="unnest"):
    """Turn each item of a list into a row, and each field of a struct into a column.

    ``rows`` names columns of lists or maps: a row becomes as many rows as its list has items, with the item in the
    place of the list, and the other columns, ``__meta_*`` too, are repeated. Several lists are unnested one after the
    other, which gives each item of one with each item of the other. An item of a map is a struct of ``key`` and
    ``value``. ``columns`` names columns of structs, whose fields take their place; it comes after ``rows``, so a list
    of structs is named in both.

    A column that is missing, of another type, or whose fields would be called like columns there are, refuses the rows.

    Example::

        type: unnest
        rows: items
        columns: items
        prefix: item_
    """

    rows: _Names = []
    """The columns of lists or maps whose items become rows."""
    columns: _Names = []
    """The columns of structs whose fields become columns."""
    prefix: str = ""
    """What the names of the new columns begin with, before the name of the field."""
    empty: Literal["keep", "drop"] = "keep"
    """What becomes of a row whose list is empty or null: one row with null, or none."""
    position: str | None = None
    """A column to add with the place of the item in its list, from 0; null where the list was empty."""

    @model_validator(mode="after")
    def _check(self) -> Unnest:
        if not self.rows and not self.columns:
            raise ValueError("expected `rows` (columns of lists), `columns` (columns of structs) or both")
        if self.position is not None and len(self.rows) != 1:
            raise ValueError("`position` is that of an item in one list: name one column in `rows`")
        for name in (*self.rows, *self.columns, self.position or "", self.prefix):
            if name.startswith(PREFIX):
                raise ValueError(f"{name!r} is metadata, which stays as it is")
        return self

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Return the batch with its lists and structs unnested."""
        if not batch.num_rows:
            return []
        for name in self.rows:
            batch = self._unnest_rows(batch, name)
        for name in self.columns:
            batch = self._unnest_columns(batch, name)
        return [batch] if batch.num_rows else []

    def _unnest_rows(self, batch: Batch, name: str) -> Batch:
        lists = _lists(_column(batch, name), name)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        items, rows = lists.flatten(), np.repeat(np.arange(len(lengths)), lengths)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        taken, places = pa.array(np.arange(len(rows))), pa.array(places, pa.int64())
        if self.empty == "keep" and not lengths.all():
            rows, taken, places = _with_empty(lengths, rows, places)
            items = take_values(items, taken)
        whole = take(batch, pa.array(rows))
        at = batch.schema.get_field_index(name)
        whole = whole.set_column(at, pa.field(name, items.type), items)
        if self.position is None:
            return whole
        if self.position in whole.schema.names:
            raise PermanentError(f"there is a column {self.position!r} already: give `position` another name")
        return whole.append_column(self.position, places)

    def _unnest_columns(self, batch: Batch, name: str) -> Batch:
        struct = _column(batch, name)
        if not pa.types.is_struct(struct.type):
            raise PermanentError(f"column {name!r} is {struct.type}: expected a struct, whose fields become columns")
        added = [pa.field(f"{self.prefix}{field.name}", field.type) for field in struct.type]
        at = batch.schema.get_field_index(name)
        fields, arrays = list(batch.schema), list(batch.columns)
        fields[at : at + 1], arrays[at : at + 1] = added, struct.flatten()
        names = [field.name for field in fields]
        for field in added:
            if names.count(field.name) > 1:
                raise PermanentError(
                    f"a field of column {name!r} would be a second column {field.name!r}: give a `prefix`"
                )
            if field.name.startswith(PREFIX):
                raise PermanentError(f"a field of column {name!r} is called {field.name!r}, like metadata")
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def row_wise(self) -> bool:
        """Tell that each row is unnested by itself: always."""
        return True

    def multiplies(self) -> bool:
        """Tell whether a row may become several while another one becomes none."""
        return bool(self.rows) and self.empty == "drop"


def _with_empty(lengths: np.ndarray, rows: np.ndarray, places: pa.Array) -> tuple[np.ndarray, pa.Array, pa.Array]:
    """Return rows, items and places with one more for each empty list, of which item and place are null."""
    counts = np.maximum(lengths, 1)
    every = np.repeat(np.arange(len(lengths)), counts)
    is_empty = np.repeat(lengths == 0, counts)
    taken = np.zeros(len(every), np.int64)
    taken[~is_empty] = np.arange(len(rows))
    taken_array = pa.array(taken, mask=is_empty)
    return every, taken_array, places.take(taken_array)


def _column(batch: Batch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise PermanentError(f"there is no column {name!r} to unnest, among {', '.join(batch.schema.names)}")
    return batch.column(name)


def _lists(column: pa.Array, name: str) -> pa.ListArray:
    """Return a column of lists of any kind as one of lists, whose items are alike."""
    kind = column.type
    if pa.types.is_map(kind):
        return column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if any(is_kind(kind) for is_kind in _LISTS):
        return column
    if pa.types.is_fixed_size_list(kind):
        return column.cast(pa.list_(kind.value_type))
    if pa.types.is_null(kind):
        return column.cast(pa.list_(pa.null()))
    raise PermanentError(f"column {name!r} is {kind}: expected a list or a map, whose items become rows")
