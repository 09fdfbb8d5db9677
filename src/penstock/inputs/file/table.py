"""Decoders of CSV records: one for each distinct header, so that what it learns serves all files alike."""

from __future__ import annotations

import threading

from ...component import Codec
from ...delivery import Decoder
from ...records import column_names


class RecordDecoders:
    """Makes and keeps the decoders of CSV records."""

    def __init__(self, columns: frozenset[str] | None) -> None:
        self._columns = columns
        self._decoders: dict[tuple[bytes, str], Decoder] = {}
        self._lock = threading.Lock()

    def of(self, header: bytes, delimiter: str) -> Decoder:
        """Return the decoder of records below a header; without one columns are called ``column_1`` and so on.

        Raises PermanentError for a header that is not text.
        """
        with self._lock:
            if (header, delimiter) not in self._decoders:
                self._decoders[header, delimiter] = self._make(header, delimiter)
            return self._decoders[header, delimiter]

    def _make(self, header: bytes, delimiter: str) -> Decoder:
        options: dict[str, object] = {"delimiter": delimiter, "header": False}
        if header:
            options["columns"] = column_names(header, delimiter)
        return Codec.find("csv").model_validate(options).decoder(self._columns)
