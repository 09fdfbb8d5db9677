"""Rows as the bytes of a file that grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...component import Codec
from ...delivery import Batch
from ...errors import PermanentError, RowsRejected
from ...framing import Framing, join
from ...metadata import VALUE, without_metadata

if TYPE_CHECKING:
    from . import File

_LINE_BREAK_REASON = (
    "the payload has a line break within, which `framing: lines` cannot hold: expected `length_delimited`"
)


def encoded(config: File, batch: Batch) -> pa.Buffer:
    """Return the payloads of a batch, framed."""
    codec = config.codec or (Codec.find("json")() if VALUE not in batch.schema.names else None)
    if codec is not None and config.framing is Framing.LINES:
        lines = codec.encode_lines(without_metadata(batch, keep_absent=codec.tells_absent))
        if lines is not None:
            return lines
    payloads = config.payloads(batch)
    data = join(config.framing, payloads)
    if config.framing is Framing.LINES and config.codec is not None and _newlines(data) != len(payloads):
        raise PermanentError(_LINE_BREAK_REASON)
    return data


def refuse_line_breaks(config: File, batch: Batch) -> None:
    """Raise RowsRejected for payloads that would read back as several lines."""
    if config.framing is not Framing.LINES or config.codec is not None or VALUE not in batch.schema.names:
        return
    values = batch.column(VALUE).cast(pa.binary())
    broken = pc.match_substring_regex(values, pattern=r"(?s)\n.")
    if pc.any(broken).as_py():
        rows = np.flatnonzero(broken.fill_null(False).to_numpy(zero_copy_only=False))
        raise RowsRejected({int(row): _LINE_BREAK_REASON for row in rows})


def _newlines(data: pa.Buffer) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == 0x0A))


def ordered(batch: Batch, names: list[str]) -> Batch:
    """Return the columns in the order of ``names``, with nulls for those the batch does not have."""
    if batch.schema.names == names:
        return batch
    have = set(batch.schema.names)
    nulls = pa.nulls(batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([batch.column(name) if name in have else nulls for name in names], names)
