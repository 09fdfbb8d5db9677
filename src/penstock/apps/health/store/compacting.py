"""Giving the texts of points the numbers by which PostgreSQL keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table, text

from .. import compact
from .forms import form

_TYPES = {"INTEGER": "int", "BIGINT": "bigint", "SMALLINT": "smallint", "TEXT": "text"}


def compacted(connection: Connection, user: int, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return staged points with numbers in place of texts; the user must be locked.

    What is not known yet is added to the tables of texts.
    """
    columns = {name: rows.column(name) for name in rows.schema.names}
    names = [columns.pop(name) for name in ("metric", "source", "kind", "ordinal", "unit", "original_unit")]
    metric, source, kind, ordinal, unit, original_unit = names
    owner = pa.repeat(pa.scalar(user, pa.int64()), rows.num_rows)
    known = _number(connection, compact.metrics, {"user_id": owner, "metric": metric})
    time, end = (columns[name].cast(pa.int64()) for name in ("time", "end_time"))
    del columns["end_time"]
    formed = form(rows)
    identity = {"source": source, "kind": kind, "span": pc.subtract(end, time), "ordinal": ordinal}
    received = {"form": formed.form, "shift": formed.shift, "original_unit": original_unit}
    return pa.RecordBatch.from_pydict(
        columns
        | {
            "metric_id": known,
            "identity_id": _number(connection, compact.identities, {"metric_id": known, **identity}),
            "unit_id": _number(connection, compact.units, {"metric_id": known, "unit": unit}),
            "form_id": _number(connection, compact.forms, {"metric_id": known, **received}),
            "sent": formed.sent,
            "original": formed.original,
        }
    )


def _number(connection: Connection, table: Table, columns: dict[str, pa.Array]) -> pa.Array:
    """Return the ids of rows of a table of texts; null where what may not be null is."""
    rows, place = _distinct(list(columns.values()))
    told = {name: values.take(pa.array(rows)).to_pylist() for name, values in columns.items()}
    needed = [name for name in columns if not table.c[name].nullable]
    asked = [row for row in range(len(rows)) if all(told[name][row] is not None for name in needed)]
    found: list[int | None] = [None] * len(rows)
    for row, id in zip(
        asked, _ids(connection, table, {name: [told[name][row] for row in asked] for name in told}), strict=True
    ):
        found[row] = id
    return pa.array(found, pa.int32()).take(pa.array(place))


def _ids(connection: Connection, table: Table, told: dict[str, list[Any]]) -> Sequence[int]:
    """Return the ids of distinct rows, in their order; those that are new are added."""
    arrays = ", ".join(f"CAST(:{name} AS {_TYPES[str(table.c[name].type.compile())]}[])" for name in told)
    given = f"unnest({arrays}) WITH ORDINALITY AS s({', '.join(told)}, place)"
    same = " AND ".join(
        f"t.{name} {'IS NOT DISTINCT FROM' if table.c[name].nullable else '='} s.{name}" for name in told
    )
    ask = text(f"SELECT t.id FROM {given} LEFT JOIN {table.name} t ON {same} ORDER BY s.place")  # noqa: S608
    found = list(connection.scalars(ask, told))
    if None not in found:
        return found
    names = ", ".join(told)
    add = f"INSERT INTO {table.name} ({names}) SELECT {', '.join(f's.{name}' for name in told)} FROM {given}"  # noqa: S608
    connection.execute(text(f"{add} WHERE NOT EXISTS (SELECT 1 FROM {table.name} t WHERE {same})"), told)  # noqa: S608
    return list(connection.scalars(ask, told))


def _distinct(columns: Sequence[pa.Array]) -> tuple[Any, Any]:
    """Return a row for each combination of values, and of each row which of these is like it."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        encoded = column.dictionary_encode()
        own = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        if len(encoded.dictionary) > 1 or encoded.null_count:
            _, codes = np.unique(codes * (len(encoded.dictionary) + 1) + own, return_inverse=True)
    _, rows, place = np.unique(codes, return_index=True, return_inverse=True)
    return rows, place
