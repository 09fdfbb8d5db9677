"""What a request body holds: payloads or rows, checked before they are accepted."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from enum import Enum, StrEnum
from functools import lru_cache
from typing import TypeAlias

import msgspec
import pyarrow as pa

from ...component import Codec
from ...delivery import Batch
from ...errors import PermanentError
from ...framing import Framing, split
from ...metadata import PREFIX, VALUE
from ...surrogates import mask_unpaired

Rows: TypeAlias = list[bytes] | Batch
"""Payloads, or rows that needed no codec."""

_values = msgspec.json.Decoder(msgspec.Raw).decode_lines
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_value = msgspec.json.Decoder(msgspec.Raw).decode
_BLANK = b" \t\r\n"
_MAX_MEMBERS = 4096
_NOT_ZERO = re.compile(rb"[^\0]")


class BodyFraming(StrEnum):
    """How the payloads of one body follow one another."""

    AUTO = "auto"
    LINES = "lines"
    WHOLE = "whole"
    LENGTH_DELIMITED = "length_delimited"


class Media(Enum):
    """What a body says it is, and whether that is rows already."""

    JSON = "json", False
    ARROW = "arrow", True
    CSV = "csv", True
    PARQUET = "parquet", True
    UNSAID = "unsaid", False
    OTHER = "other", False

    def __init__(self, label: str, is_table: bool) -> None:
        self.label, self.is_table = label, is_table


class Refusal(Exception):
    """A request is not accepted; says with which status and why."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


_MEDIA = {
    b"": Media.UNSAID,
    b"application/x-www-form-urlencoded": Media.UNSAID,  # what curl says of anything
    b"application/json": Media.JSON,
    b"text/json": Media.JSON,
    b"application/x-ndjson": Media.JSON,
    b"application/ndjson": Media.JSON,
    b"application/jsonl": Media.JSON,
    b"application/x-jsonlines": Media.JSON,
    b"application/vnd.apache.arrow.stream": Media.ARROW,
    b"text/csv": Media.CSV,
    b"application/vnd.apache.parquet": Media.PARQUET,
    b"application/x-parquet": Media.PARQUET,
}


@lru_cache(256)
def media(content_type: bytes) -> Media:
    """Read a ``Content-Type`` header."""
    name = content_type.partition(b";")[0].strip().lower()
    if name.endswith(b"+json"):
        return Media.JSON
    return _MEDIA.get(name, Media.OTHER)


def parse(body: bytes, kind: Media, framing: BodyFraming, json: bool, limit: int) -> Rows:
    """Return what a body holds; with ``json`` it is to be JSON whatever it says; raises Refusal."""
    if not body:
        raise Refusal(400, "the body is empty")
    if framing is BodyFraming.AUTO and kind.is_table:
        return _table(body, kind, limit)
    objects, json = json, json or kind is Media.JSON
    if framing is BodyFraming.AUTO:
        body = body.removeprefix(b"\xef\xbb\xbf")
        if not json and not (kind is Media.UNSAID and body.lstrip(_BLANK)[:1] in (b"{", b"[")):
            return [body]
        payloads = _json(body)
        if objects:
            _require_objects(payloads)
        return payloads
    try:
        payloads = split(Framing(framing.value), body, final=True)[0].to_pylist()
    except PermanentError as error:
        raise Refusal(400, str(error)) from error
    if json:
        _check(payloads)
    return payloads


def _json(body: bytes) -> list[bytes]:
    """The elements of an array, or the values that follow one another."""
    try:
        if not body.isascii():
            str(body, "utf-8")
        payloads = _separate(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, _explained(error, body)) from error
    if not payloads and not body.strip(_BLANK):
        raise Refusal(400, "the body is empty")
    return payloads


def _separate(body: bytes) -> list[bytes]:
    """Take the values apart; one with half of a surrogate pair is left to its codec, which refuses it alone."""
    read = _elements if body.lstrip(_BLANK)[:1] == b"[" else _values
    try:
        return [bytes(raw) for raw in read(body)]
    except msgspec.DecodeError:
        masked = mask_unpaired(body)
        if masked == body:
            raise
        views = [pa.py_buffer(raw) for raw in read(masked)]
        begin = pa.py_buffer(masked).address
        return [body[view.address - begin : view.address - begin + view.size] for view in views]


def _check(payloads: list[bytes]) -> None:
    for index, payload in enumerate(payloads):
        try:
            str(payload, "utf-8")
            _value(mask_unpaired(payload))
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"payload {index + 1}: {_explained(error, payload)}") from error


def _require_objects(payloads: list[bytes]) -> None:
    for index, payload in enumerate(payloads):
        if payload.lstrip(_BLANK)[:1] != b"{":
            raise Refusal(400, f"row {index + 1} is not a JSON object")


def _explained(error: Exception, body: bytes) -> str:
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not UTF-8 (byte {error.start}, line {_line(body, error.start)})"
    message = str(error)
    if found := re.search(r"\(byte (\d+)\)", message):
        message = f"{message[:-1]}, line {_line(body, int(found[1]))})"
    elif "truncated" in message:
        message = f"JSON is malformed: it ends within a value (byte {len(body)})"
    return message


def _line(body: bytes, position: int) -> int:
    return body.count(b"\n", 0, position) + 1


def _table(body: bytes, kind: Media, limit: int) -> Batch:
    try:
        table = _TABLES[kind](body, limit)
        table.validate(full=True)
    except (PermanentError, pa.ArrowException, OSError, ValueError, struct.error, IndexError, OverflowError) as error:
        raise Refusal(400, f"the body is not {_NAMES[kind]}: {str(error).splitlines()[0]}") from error
    for name in table.schema.names:
        if name == VALUE or name.startswith(PREFIX):
            raise Refusal(400, f"the column name {name!r} is reserved")
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:
        raise Refusal(413, "the body has too many rows")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _arrow(body: bytes, limit: int) -> pa.Table:
    _bound_compressed(body, limit)
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def _csv(body: bytes, limit: int) -> pa.Table:
    return pa.Table.from_batches([Codec.find("csv")().decode(pa.array([body], pa.binary()))])


def _parquet(body: bytes, limit: int) -> pa.Table:
    from pyarrow import parquet

    file = parquet.ParquetFile(pa.BufferReader(body))
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    size = sum(max(group.total_byte_size, group.num_rows) for group in groups)
    batches = []
    if size <= limit:
        size = 0
        for batch in file.iter_batches(8192):
            size += batch.nbytes
            if size > limit:
                break
            batches.append(batch)
    if size > limit:
        raise Refusal(413, f"the rows take more than {limit} bytes")
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _bound_compressed(body: bytes, limit: int) -> None:
    """Raise Refusal if the compressed buffers of an Arrow stream say that they grow beyond ``limit``."""
    size = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type in {"record batch", "dictionary"} and message.body is not None:
            size += _grown(message.metadata.to_pybytes(), memoryview(message.body))
    if size > limit:
        raise Refusal(413, f"the rows take more than {limit} bytes")


def _grown(metadata: bytes, body: memoryview) -> int:
    """The size of the decompressed buffers of one message, found in its flatbuffer and before each buffer."""

    def field(table: int, slot: int) -> int:
        fields = table - struct.unpack_from("<i", metadata, table)[0]
        at = 4 + 2 * slot
        (size,) = struct.unpack_from("<H", metadata, fields)
        offset = struct.unpack_from("<H", metadata, fields + at)[0] if at < size else 0
        return table + offset if offset else 0

    def follow(at: int) -> int:
        return at + int(struct.unpack_from("<I", metadata, at)[0])

    root = follow(0)
    batch = follow(field(root, 2))
    if metadata[field(root, 1)] == 2:  # a dictionary wraps its batch
        batch = follow(field(batch, 1))
    if not field(batch, 3):
        return 0
    buffers = follow(field(batch, 2))
    (count,) = struct.unpack_from("<I", metadata, buffers)
    places = struct.iter_unpack("<qq", metadata[buffers + 4 : buffers + 4 + 16 * count])
    return sum(max(0, struct.unpack_from("<q", body, offset)[0]) for offset, length in places if length)


_TABLES: dict[Media, Callable[[bytes, int], pa.Table]] = {
    Media.ARROW: _arrow,
    Media.CSV: _csv,
    Media.PARQUET: _parquet,
}
_NAMES = {Media.ARROW: "an Arrow stream", Media.CSV: "CSV", Media.PARQUET: "Parquet"}
ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate", b"zstd", b"br"})
"""The values of ``Content-Encoding`` that are understood."""


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a content encoding; raises Refusal as soon as the result is longer than ``limit``."""
    try:
        if encoding in {b"zstd", b"br"}:
            with pa.CompressedInputStream(pa.BufferReader(body), "zstd" if encoding == b"zstd" else "brotli") as stream:
                plain: bytes = stream.read(limit + 1)
        else:
            plain = _inflate(body, limit)
    except (zlib.error, pa.ArrowException, OSError, EOFError) as error:
        raise Refusal(400, f"the body is not {encoding.decode()}: {error}") from error
    if len(plain) > limit:
        raise Refusal(413, f"the body is longer than {limit} bytes when decompressed")
    return plain


def _behind_zeros(body: bytes, at: int) -> int:
    """Where something other than zeros follows: gzip may be padded with them."""
    found = _NOT_ZERO.search(body, at)
    return found.start() if found is not None else len(body)


def _inflate(body: bytes, limit: int) -> bytes:
    view, at, parts, room = memoryview(body), 0, [], limit + 1
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(wbits=47)
        while not member.eof and room > 0:
            piece = view[at : at + 65536]
            if not piece:
                raise EOFError("it ends too early")
            at += len(piece)
            parts.append(member.decompress(piece, room))
            room -= len(parts[-1])
        at = _behind_zeros(body, at - len(member.unused_data))
        if room <= 0 or at >= len(view):
            return b"".join(parts)
    raise Refusal(400, f"the body has more than {_MAX_MEMBERS} gzip members")
