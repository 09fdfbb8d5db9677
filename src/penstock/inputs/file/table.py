"""Decoders of CSV records: one for each distinct header, so that what it learns serves all files alike."""

from __future__ import annotations

import csv
import threading
from collections.abc import Sequence

from ...component import Codec
from ...delivery import Decoder
from ...errors import PermanentError


class RecordDecoders:
    """Makes and keeps the decoders of CSV records."""

    def __init__(self, delimiter: str, columns: frozenset[str] | None) -> None:
        self._delimiter, self._columns = delimiter, columns
        self._decoders: dict[tuple[bytes, str], Decoder] = {}
        self._lock = threading.Lock()

    def of(self, header: bytes, delimiter: str | None) -> Decoder:
        """Return the decoder of records below a header; without one columns are called ``column_1`` and so on.

        Raises PermanentError for a header that is not text.
        """
        delimiter = delimiter if delimiter is not None and self._delimiter == "," else self._delimiter
        with self._lock:
            if (header, delimiter) not in self._decoders:
                self._decoders[header, delimiter] = self._make(header, delimiter)
            return self._decoders[header, delimiter]

    def _make(self, header: bytes, delimiter: str) -> Decoder:
        options: dict[str, object] = {"delimiter": delimiter, "header": False}
        if header:
            options["columns"] = _names(header, delimiter)
        return Codec.find("csv").model_validate(options).decoder(self._columns)


def _names(header: bytes, delimiter: str) -> list[str]:
    """The names of the columns; what has no name is called by its number, what has one twice is numbered too."""
    try:
        record = next(csv.reader([header.decode()], delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise PermanentError(f"the header cannot be read: {error}") from error
    names: list[str] = []
    for number, name in enumerate(record, 1):
        names.append(_new(name.strip() or f"column_{number}", names))
    return names


def _new(name: str, taken: Sequence[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
