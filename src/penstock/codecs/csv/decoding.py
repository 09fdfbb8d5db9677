"""Records of comma-separated values to batches whose schema is learned and stays."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pyarrow_csv

from ...delivery import Batch
from ...errors import PermanentError
from ...framing import Framing, join
from .inference import narrowest, wider

_EXCERPT = 120


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
        return self._typed(self._read(payloads, names, one_each=True))

    def _documents(self, payloads: pa.BinaryArray) -> Batch:
        found = [self._cut_header(payload) for payload in payloads.to_pylist()]
        learned: dict[str, None] = dict.fromkeys(self._learned)
        parts = []
        for names, group in groupby(found, key=lambda document: document[0]):
            bodies = pa.array([body for _, body in group if body.strip()], pa.binary())
            parts.append(self._read(bodies, list(names), one_each=False))
            learned |= dict.fromkeys(parts[-1])
        tables = [pa.table(part) for part in parts]
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        rows = table.num_rows
        return self._typed(
            {
                name: table.column(name).chunk(0)
                if name in table.column_names and rows
                else pa.nulls(rows, pa.string())
                for name in learned
            }
        )

    def _cut_header(self, payload: bytes) -> tuple[tuple[str, ...], bytes]:
        text = payload.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        quote = self._options.quote.encode()
        end = text.find(b"\n")
        while end >= 0 and text.count(quote, 0, end) % 2:
            end = text.find(b"\n", end + 1)
        head, body = (text, b"") if end < 0 else (text[:end], text[end + 1 :])
        try:
            names = next(self._reader(head), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise PermanentError(f"the header cannot be read: {error}: {_excerpt(payload)}") from error
        if not names:
            raise PermanentError("the payload is empty: expected a header with the names of the columns")
        names = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PermanentError(f"two columns are called `{twice}`: {_excerpt(payload)}")
        return tuple(names), body

    def _reader(self, line: bytes) -> Iterator[list[str]]:
        options = self._options
        text = io.StringIO(line.decode(), newline="")
        return csv.reader(text, delimiter=options.delimiter, quotechar=options.quote, strict=True)

    def _count_fields(self, payloads: pa.BinaryArray) -> int:
        first = next((line for line in payloads.to_pylist() if line.strip()), b"")
        try:
            return max(len(next(self._reader(first), [])), 1)
        except (UnicodeDecodeError, csv.Error) as error:
            raise PermanentError(f"the record cannot be read: {error}: {_excerpt(first)}") from error

    def _read(self, payloads: pa.BinaryArray, names: Sequence[str], *, one_each: bool) -> dict[str, pa.Array]:
        """Return the columns wanted as text."""
        options = self._options
        quotes = pc.count_substring(payloads, options.quote)
        if pc.any(pc.not_equal(pc.bit_wise_and(quotes, 1), 0)).as_py():
            raise PermanentError(f"a quote is never closed: {_excerpt(_first(payloads))}")
        blank = pc.is_in(payloads, pa.array([b"\n", b"\r\n"], pa.binary()))
        payloads = payloads.filter(pc.invert(blank))
        kept = self._select(names)
        if not len(payloads):
            return {name: pa.nulls(0, pa.string()) for name in kept}
        if pc.any(pc.equal(pc.binary_length(payloads), 0)).as_py():
            raise PermanentError(f"the payload is empty: expected a record of {len(names)} fields")
        try:
            table = _read_text(join(Framing.LINES, payloads), options, list(names), kept)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise PermanentError(f"{error}"[: 2 * _EXCERPT]) from error
        if one_each and table.num_rows < len(payloads):
            raise PermanentError(f"records run into one another: {_excerpt(_first(payloads))}")
        return {name: table.column(name).combine_chunks() for name in kept}

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


def _read_text(data: pa.Buffer, options: Options, names: list[str], kept: list[str]) -> pa.Table:
    return pyarrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow_csv.ReadOptions(use_threads=False, block_size=data.size + 1, column_names=names),
        parse_options=pyarrow_csv.ParseOptions(
            delimiter=options.delimiter, quote_char=options.quote, newlines_in_values=True
        ),
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
