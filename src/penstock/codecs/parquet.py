"""Parquet files."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.parquet

from ..component import Codec
from ..delivery import Batch, Decoder
from ..errors import PermanentError
from .arrow import single, unite


class Parquet(Codec, type="parquet"):
    """Parquet files.

    A payload is a whole file and may hold any number of rows. Payloads with different columns become one batch that
    has all of them. Written, a whole batch is ONE payload.

    Example::

        type: parquet
        compression: zstd
    """

    compression: Literal["zstd", "snappy", "gzip", "none"] = "zstd"
    """How what is written is compressed."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads; raises PermanentError if one is damaged or cut off."""
        return unite([_read(payload.as_buffer()) for payload in payloads])

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder that reads no other columns than ``columns``."""
        return lambda payloads: unite([_read(payload.as_buffer(), columns) for payload in payloads])

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one payload for all rows, none for none; raises PermanentError for what Parquet cannot hold."""
        sink = pa.BufferOutputStream()
        try:
            pa.parquet.write_table(pa.Table.from_batches([batch]), sink, compression=self.compression)
        except (pa.ArrowException, ValueError) as error:
            raise PermanentError(f"the batch cannot be written as Parquet: {str(error)[:240]}") from error
        return single(sink.getvalue(), batch)


def _read(payload: pa.Buffer, columns: frozenset[str] | None = None) -> pa.Table:
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(payload))
        names = file.schema_arrow.names
        wanted = None if columns is None else [name for name in names if name.lower() in columns] or names[:1]
        table = file.read(columns=wanted, use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PermanentError(f"the payload is no Parquet file, or is damaged: {str(error)[:120]}") from error
    return table
