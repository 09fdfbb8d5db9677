"""Records of comma-separated values to batches whose schema is learned and stays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pyarrow_csv

from ...delivery import Batch
from ...errors import PermanentError
from ...framing import Framing, ends_in_newline, join, offsets
from ...records import column_names, find_head, find_records
from .inference import narrowest, wider

_EXCERPT = 120
_BLANK = pa.array([b"\n", b"\r\n", b"\r"], pa.binary())


class Options(Protocol):
    """What of the codec's options tells how to read."""

    @property
    def delimiter(self) -> str: ...

    @property
    def quote(self) -> str: ...

    @property
    def header(self) -> bool: ...

    @property
    def columns(self) -> list[str] | None: ...

    @property
    def model_fields_set(self) -> set[str]: ...


class Decoding:
    """Decodes payloads; the types it has seen it keeps, so that batches look alike."""

    def __init__(self, options: Options, columns: frozenset[str] | None) -> None:
        self._options = options
        self._wanted = None if columns is None else frozenset(name.lower() for name in columns)
        self._learned: dict[str, pa.DataType] = {}
        self._lock = threading.Lock()

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads, in order; raises PermanentError if any of them cannot be read."""
        options = self._options
        if not len(payloads):
            names = self._select(options.columns or list(self._learned))
            return self._typed({name: pa.nulls(0, pa.string()) for name in names})
        if options.columns is None and options.header:
            return self._documents(payloads)
        names = options.columns or [f"column_{number}" for number in range(1, self._count_fields(payloads) + 1)]
        return self._typed(self._read(payloads, names, options.delimiter, one_each=True))

    def _documents(self, payloads: pa.BinaryArray) -> Batch:
        found = [self._cut_header(payload) for payload in payloads.to_pylist()]
        learned: dict[str, None] = dict.fromkeys(self._learned)
        parts = []
        for (delimiter, names), group in groupby(found, key=lambda document: document[0]):
            bodies = pa.array([body for _, body in group if body.strip()], pa.binary())
            parts.append(self._read(bodies, list(names), delimiter, one_each=False))
            learned |= dict.fromkeys(parts[-1])
        tables = [pa.table(part) for part in parts]
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        found_columns = dict(zip(table.column_names, table.columns, strict=True)) if table.num_rows else {}
        absent = pa.nulls(table.num_rows, pa.string())
        return self._typed(
            {name: found_columns[name].chunk(0) if name in found_columns else absent for name in learned}
        )

    def _cut_header(self, payload: bytes) -> tuple[tuple[str, tuple[str, ...]], bytes]:
        """Return the delimiter and the names of the columns of a document, and what follows its header."""
        text, options = payload.removeprefix(b"\xef\xbb\xbf"), self._options
        given = options.delimiter if "delimiter" in options.model_fields_set else None
        head = find_head(text, given, options.quote, final=True)
        if head is None or not head.record:
            raise PermanentError("the payload is empty: expected a header with the names of the columns")
        try:
            names = column_names(head.record, head.delimiter, options.quote)
        except PermanentError as error:
            raise PermanentError(f"{error}: {_excerpt(payload)}") from error
        return (head.delimiter, tuple(names)), text[head.size :]

    def _count_fields(self, payloads: pa.BinaryArray) -> int:
        first = next((line for line in payloads.to_pylist() if line.strip()), b"")
        return max(len(column_names(first, self._options.delimiter, self._options.quote)), 1)

    def _read(
        self, payloads: pa.BinaryArray, names: Sequence[str], delimiter: str, *, one_each: bool
    ) -> dict[str, pa.Array]:
        """Return the columns wanted as text."""
        payloads = payloads.filter(pc.invert(pc.is_in(payloads, _BLANK)))
        kept = self._select(names)
        if not len(payloads):
            return {name: pa.nulls(0, pa.string()) for name in kept}
        if pc.any(pc.equal(pc.binary_length(payloads), 0)).as_py():
            raise PermanentError(f"the payload is empty: expected a record of {len(names)} fields")
        data = join(Framing.LINES, payloads)
        self._check_quotes(payloads, data.to_pybytes(), delimiter)
        try:
            table = _read_text(data, delimiter, self._options.quote, list(names), kept)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise PermanentError(f"{error}"[: 2 * _EXCERPT]) from error
        if one_each and table.num_rows < len(payloads):
            raise PermanentError(f"records run into one another: {_excerpt(_first(payloads))}")
        return {name: column.combine_chunks() for name, column in zip(kept, table.columns, strict=True)}

    def _check_quotes(self, payloads: pa.BinaryArray, data: bytes, delimiter: str) -> None:
        """Raise PermanentError if a quote is not closed within its payload."""
        quote = self._options.quote
        if quote.encode() not in data:
            return
        found = find_records(data, delimiter, quote, final=True)
        lengths = np.diff(offsets(payloads)) + ~ends_in_newline(payloads)
        if found.unclosed or not np.isin(np.cumsum(lengths), found.ends).all():
            raise PermanentError(f"a quote is never closed: {_excerpt(_first(payloads))}")

    def _select(self, names: Sequence[str]) -> list[str]:
        if self._wanted is None:
            return list(names)
        return [name for name in names if name.lower() in self._wanted] or list(names)[:1]

    def _typed(self, columns: dict[str, pa.Array]) -> Batch:
        with self._lock:
            known = dict(self._learned)
        arrays = {name: narrowest(array, known.get(name, pa.null())) for name, array in columns.items()}
        with self._lock:
            for name, array in arrays.items():
                self._learned[name] = wider(self._learned.get(name, pa.null()), array.type)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _read_text(data: pa.Buffer, delimiter: str, quote: str, names: list[str], kept: list[str]) -> pa.Table:
    return pyarrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow_csv.ReadOptions(use_threads=False, block_size=data.size + 1, column_names=names),
        parse_options=pyarrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote, newlines_in_values=True),
        convert_options=pyarrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=kept,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _first(payloads: pa.BinaryArray) -> bytes:
    found: bytes = payloads[0].as_py()
    return found


def _excerpt(payload: bytes) -> str:
    text = payload[: 4 * _EXCERPT].decode(errors="replace")
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 3] + "..."
