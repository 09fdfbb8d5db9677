"""Records of comma-separated values."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from ...component import Codec
from ...delivery import Batch, Decoder
from ...errors import PermanentError
from ..json.encoding import as_texts
from .decoding import Decoding


class Csv(Codec, type="csv"):
    """Records of comma-separated values.

    With ``columns`` a payload is one record, or several lines of them. Without, and with ``header``, each payload is
    a whole document that begins with the names of its columns; without either, columns are called ``column_1``,
    ``column_2`` and so on. The file input reads the header of each file itself.

    A quote counts only at the start of a field, so ``5" pipe`` is text like any other. A record ends with a line
    feed, a carriage return or both. A quote that is not closed within 1 MiB, or at all, costs the line it is in. A
    column without a name is called by its number, and a second one of the same name is numbered, as ``name_2``.
    Where ``delimiter`` is left out, a document may tell it in a first line such as ``sep=;``, or by a header that
    holds semicolons or tabs and no comma.

    The type of a column is inferred from all records of a batch: true and false are Bool, integers Int64 or, beyond
    64 bits, decimals, fractions Float64, anything else text. A field is a number only if it is exactly that: leading
    zeros, a plus sign, ``-0``, a point without a digit on both sides, exponents such as ``1E5``, which may be names
    of articles, and more digits than the type can hold make it text, and so does what looks like a time. Of a
    fraction only the notation may change: 1.10 is the number 1.1, 2.5e-07 the number 2.5e-7. An empty field is null,
    a quoted empty one is empty text. While a stream runs, a type once widened stays so. Records with too few or too
    many fields, quotes left open and what is not UTF-8 are refused.

    Written, nulls are empty fields, NaN and infinity ``nan``, ``inf`` and ``-inf``; nested values are JSON, times and
    durations ISO 8601. Each payload is one record, preceded by the header where each is to be a document; use
    ``header: false`` for the lines of a file.

    Example::

        type: csv
        delimiter: ";"
        header: false
        columns: [sensor, temperature]
    """

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """What stands between two fields."""
    quote: str = Field(default='"', min_length=1, max_length=1)
    """What encloses fields that hold a delimiter, a quote (then doubled) or a line break."""
    header: bool = True
    """Whether a payload begins with the names of the columns, where `columns` does not give them."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """The names of the columns; payloads then have no header."""

    @model_validator(mode="after")
    def _check(self) -> Csv:
        if self.delimiter == self.quote or {self.delimiter, self.quote} & {"\n", "\r"}:
            raise ValueError("delimiter and quote must differ from one another and from line breaks")
        if not (self.delimiter + self.quote).isascii():
            raise ValueError("delimiter and quote must be ASCII")
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            raise ValueError("each column needs a name of its own")
        return self

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all records; raises PermanentError if any record cannot be read."""
        return Decoding(self, None)(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder whose types only ever widen."""
        return Decoding(self, columns)

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one record for each row; raises PermanentError for a type that has no text."""
        if not batch.num_columns:
            raise PermanentError("there are no columns to write: expected at least one")
        if self.columns is not None:
            missing = [name for name in self.columns if name not in batch.schema.names]
            if missing:
                raise PermanentError(
                    f"there is no column `{missing[0]}`: the batch has {', '.join(batch.schema.names)}"
                )
            batch = batch.select(self.columns)
        fields = [self._fields(array, name) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
        if len(fields) == 1:
            fields = [fields[0].fill_null(self.quote * 2)]
        if self.columns is None and self.header:
            fields[0] = pc.binary_join_element_wise(self._header_of(batch), fields[0].fill_null(""), _text(""))
        written = pc.binary_join_element_wise(
            *fields, _text(self.delimiter), null_handling="replace", null_replacement=""
        )
        return written.cast(pa.large_binary()).cast(pa.binary())

    def _header_of(self, batch: Batch) -> pa.Scalar:
        names = self._quoted(pa.array(batch.schema.names, pa.large_string()))
        return _text(self.delimiter.join(names.to_pylist()) + "\n")

    def _fields(self, array: pa.Array, name: str) -> pa.Array:
        try:
            return self._quoted(_plain(array))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, PermanentError) as error:
            raise PermanentError(f"column `{name}` of type {array.type} cannot be written as CSV: {error}") from error

    def _quoted(self, array: pa.Array) -> pa.Array:
        array = array.cast(pa.large_string())
        # At its beginning a document may have a mark of its encoding, or say what separates its fields.
        special = pc.match_substring_regex(array, "^(?:\ufeff|(?i:sep)=)")
        needed = pc.or_(pc.equal(array, ""), special)
        data = _bytes_of(array)
        for character in (self.delimiter, self.quote, "\n", "\r"):
            if (data == ord(character)).any():
                needed = pc.or_(needed, pc.match_substring(array, character))
        if not pc.any(needed).as_py():
            return array
        escaped = pc.replace_substring(array, self.quote, self.quote * 2)
        quote = _text(self.quote)
        return pc.if_else(needed, pc.binary_join_element_wise(quote, escaped, quote, _text("")), array)


def _bytes_of(array: pa.LargeStringArray) -> np.ndarray:
    data = array.buffers()[2]
    return np.zeros(0, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def _plain(array: pa.Array) -> pa.Array:
    """Each value as text without any quotes."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(array.cast(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    written = as_texts(array)
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(array), written, array.cast(pa.large_string()))
    if pa.types.is_temporal(kind):
        return pc.utf8_slice_codeunits(written, 1, -1)
    if not pc.any(pc.starts_with(written, '"')).as_py():
        return written
    return pa.array([None if text is None else str(msgspec.json.decode(text)) for text in written.to_pylist()])
