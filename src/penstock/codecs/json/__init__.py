"""JSON objects, one or several to a payload."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pyarrow as pa

from ...component import Codec
from ...delivery import Batch, Decoder
from ...framing import contents
from .decoding import LearningDecoder, decode_exactly
from .encoding import Ending, encode_rows


class Json(Codec, type="json"):
    """JSON objects, one or several to a payload.

    A payload is one object, an array of objects, or several of either, one after another; each object is a row.
    The columns are inferred from all payloads of a batch, and while a stream runs they stay: a column that a batch
    lacks is null in it, a new one comes last, integers become float64 once a fraction was seen. Where somebody reads
    ``__meta_ext``, that holds for each value of it apart: a table in a path has columns of its own. A key that an
    object lacks is told apart from one that is null, in the column ``__meta_absent``. Text is never taken
    for a time. Integers that exceed 64 bits become decimals, those that exceed 38 digits text. Objects become
    structs, arrays lists; of equal keys the last counts. What is not JSON, not UTF-8, no object, nested more than
    48 levels deep, of two kinds in one column, or named with a NUL character is refused; so is a text with half of a
    surrogate pair, as ``"\\ud83d"``, which is not a character.

    A number with a fraction or an exponent is a 64-bit floating point number, as nearly every reader of JSON takes it:
    digits beyond its 17 are rounded, and what exceeds it, or would be zero though it is not (``1e400``, ``1e-400``), is
    refused. Amounts that need more are written as text.

    Written, each row is an object without its nulls, so that who reads it cannot tell a null from a field that the
    row lacks: an upsert behind it leaves the old value in place. With ``nulls`` they are told apart: a null is written
    as ``null``, and only what the row lacks is left out; within nested objects nulls are always left out.

    Times are ISO 8601, in UTC with a ``Z`` if they have a zone, years beyond 0 to 9999 with a sign and six digits, as
    in ``+010000-01-01T00:00:00``; durations are like ``PT1.5S``, intervals like ``P1M2DT3S``; decimals keep every
    digit; bytes are text, or base64 where they are not UTF-8; NaN and infinity count as null.

    Example::

        type: json
    """

    tells_absent: ClassVar[bool] = True

    pretty: bool = False
    """Whether each object is written over several indented lines."""
    nulls: bool = False
    """Whether a field that is null is written as `null`; if not, it is left out."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return a row for each object; raises PermanentError if a payload holds anything else."""
        return decode_exactly(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder whose schema only ever grows; of other columns than ``columns`` it may return none."""
        return LearningDecoder(columns)

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one object for each row; raises PermanentError for a type that JSON cannot express."""
        encoded = encode_rows(batch, Ending.NONE, nulls=self.nulls)
        if not self.pretty:
            return encoded
        return pa.array([msgspec.json.format(row, indent=2) for row in encoded.to_pylist()], pa.binary())

    def encode_lines(self, batch: Batch) -> pa.Buffer:
        """Return all rows as one text of lines, each ended by a newline."""
        if not self.pretty:
            return contents(encode_rows(batch, Ending.NEWLINE, nulls=self.nulls))
        return pa.py_buffer(b"".join(row + b"\n" for row in self.encode(batch).to_pylist()))
