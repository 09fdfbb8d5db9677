"""Payloads as they are: one text column."""

from __future__ import annotations

import codecs

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from .. import iso8601
from ..component import Codec
from ..delivery import Batch
from ..errors import PermanentError

_EXCERPT = 120
_UTF8 = codecs.lookup("utf-8").name


class Text(Codec, type="text"):
    """Payloads as they are: one text column.

    Line ends at the end of a payload are cut off, and blank lines are no rows. A payload that is not text in the
    given encoding is refused. Written, each row is the text of that column, null an empty one; other columns are
    left out.

    Example::

        type: text
        column: line
    """

    column: str = Field(default="text", min_length=1)
    """The name of the column."""
    encoding: str = "utf-8"
    """How characters are written as bytes, for example `latin-1`."""

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str) -> str:
        try:
            codecs.lookup(name)
            "".encode(name)
        except LookupError as error:
            raise ValueError(f"no text encoding is called {name!r}") from error
        return name

    def check_lines(self) -> None:
        """Raise ValueError for UTF-16, UTF-32, EBCDIC and the like, in which a newline is not the byte 0x0A alone."""
        try:
            has_newlines = b"a\nb".decode(self.encoding) == "a\nb"
        except UnicodeError:
            has_newlines = False
        if not has_newlines:
            raise ValueError(f"{self.encoding} has no lines that end in the byte 0x0A: expected another `framing`")

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return a row for each payload that is not blank; raises PermanentError if one is not text."""
        return pa.record_batch({self.column: _without_ends(self._read(payloads))})

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return the text of each row; raises PermanentError if the column is missing or is not text."""
        if self.column not in batch.schema.names:
            raise PermanentError(f"there is no column `{self.column}`: the batch has {', '.join(batch.schema.names)}")
        array = batch.column(self.column)
        try:
            texts = (array if pa.types.is_string(array.type) else iso8601.plain(array)).cast(pa.string()).fill_null("")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PermanentError(f"column `{self.column}` of type {array.type} is not text: {error}") from error
        if self._is_utf8():
            return texts.cast(pa.binary())
        try:
            return pa.array([text.encode(self.encoding) for text in texts.to_pylist()], pa.binary())
        except UnicodeEncodeError as error:
            raise PermanentError(f"column `{self.column}` cannot be written as {self.encoding}: {error}") from error

    def _is_utf8(self) -> bool:
        return codecs.lookup(self.encoding).name == _UTF8

    def _read(self, payloads: pa.BinaryArray) -> pa.StringArray:
        try:
            if self._is_utf8():
                return payloads.cast(pa.string())
            return pa.array([payload.decode(self.encoding) for payload in payloads.to_pylist()], pa.string())
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            first = payloads[0].as_py()[: 4 * _EXCERPT].decode(errors="replace")[:_EXCERPT]
            raise PermanentError(f"the payload is not {self.encoding}: {first}") from error


def _without_ends(texts: pa.StringArray) -> pa.StringArray:
    if not pc.any(pc.ends_with(texts, "\n")).as_py():
        return texts
    texts = texts.filter(pc.invert(pc.is_in(texts, pa.array(["\n", "\r\n"]))))
    return pc.replace_substring_regex(texts, r"\r?\n\z", "")
