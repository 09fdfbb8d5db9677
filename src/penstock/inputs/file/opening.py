"""Open one file with the reader of its format."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...component import Codec
from ...delivery import Decoder
from ...framing import Framing
from .avro import Blocks
from .compression import Decompressed
from .containers import ContainerReader, RecordBatches, RowGroups
from .content import Damaged, Rewritten
from .listing import Found, Listing
from .part import FileReader
from .payloads import PayloadReader
from .place import Place
from .splitters import Documents, Framed, Records, Splitter
from .table import RecordDecoders

_CONTAINERS: dict[str, type[RowGroups] | type[RecordBatches]] = {"parquet": RowGroups, "arrow": RecordBatches}
COLUMNAR = ("parquet", "arrow", "avro")
"""The formats whose files are complete only once they are closed."""


@dataclass(frozen=True)
class Opening:
    """How files are opened; one value for all files of an input, so that they share their decoders."""

    listing: Listing
    format: str
    codec: Codec | None
    framing: Framing | None
    chunk_size: int
    batch_rows: int
    columns: frozenset[str] | None
    records: RecordDecoders
    delimiter: str | None
    """What separates the fields of CSV, where the configuration tells."""
    header: bool
    _decoders: dict[str, Decoder] = field(default_factory=dict)

    def __call__(self, found: Found, place: Place) -> FileReader:
        """Open a file at its place; raises Damaged, Rewritten, Removed or Unreadable."""
        format = found.format(self.format)
        if found.compression is not None and format in COLUMNAR:
            raise Damaged(
                f"{found.path} cannot be read: {format} is compressed within, expected no {found.compression}"
            )
        if self.framing is Framing.WHOLE and place.version not in ("", found.version):
            raise Rewritten
        content = self.listing.open(found)
        try:
            born = content.born()
            if place.born and born and place.born != born:
                raise Rewritten
            place = replace(place, born=born, path=found.path)
            if format in _CONTAINERS:
                kind = _CONTAINERS[format]
                return ContainerReader(content, kind, place, found.version, found.path, self.columns, self.batch_rows)
            if found.compression is not None:
                content = Decompressed(content, found.compression)
            splitter = self._splitter(format, found.extension)
            return PayloadReader(content, splitter, place, found.version, found.path, self.chunk_size)
        except BaseException:
            content.close()
            raise

    def _splitter(self, format: str, extension: str) -> Splitter:
        if format == "avro":
            return Blocks()
        if format == "csv":
            delimiter = self.delimiter or ("\t" if extension == ".tsv" else None)
            return Records(self.header, delimiter, self.records.of)
        if format == "json" and self.framing is None:
            return Documents(None if self.codec is not None else self._json())
        framing = self.framing or Framing.LINES
        if format == "json" and self.codec is None:
            return Framed(framing, True, self._json())
        return Framed(framing, self.codec is not None and self.codec.type_name == "json")

    def _json(self) -> Decoder:
        if "json" not in self._decoders:
            self._decoders["json"] = Codec.find("json")().decoder(self.columns)
        return self._decoders["json"]
