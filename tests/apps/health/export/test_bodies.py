from __future__ import annotations

import gzip
import io
import zlib
from typing import BinaryIO

import pyarrow as pa
import pytest

from penstock.apps.health.export.bodies import decoded
from penstock.apps.health.export.structure import Malformed
from penstock.errors import TransientError

BODY = b'{"data": {"metrics": [' + b", ".join(str(n * 7919 % 10007).encode() for n in range(4000)) + b"]}}"
RAW_DEFLATE = zlib.compressobj(wbits=-15)


def compressed(coding: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, coding) as stream:
        stream.write(BODY)
    return sink.getvalue().to_pybytes()


def read(body: bytes, coding: str = "", limit: int = 10**6, size: int = 1000) -> bytes:
    return drain(io.BytesIO(body), coding, limit, size)


def drain(file: BinaryIO, coding: str, limit: int = 10**6, size: int = 1000) -> bytes:
    reader = decoded(file, coding, limit)
    return b"".join(iter(lambda: reader.read(size), b""))


ENCODED = {
    "": BODY,
    "identity": BODY,
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:]),
    "deflate": zlib.compress(BODY),
    "Deflate": RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush(),
    "zstd": compressed("zstd"),
    "br": compressed("brotli"),
    "gzip, zstd": b"",
}


@pytest.mark.parametrize("coding", ENCODED)
@pytest.mark.parametrize("size", [7, 100_000])
def test_all_codings_are_read(coding: str, size: int) -> None:
    body = ENCODED[coding]
    if coding == "gzip, zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(gzip.compress(BODY))
        body = sink.getvalue().to_pybytes()
    assert read(body, coding, size=size) == BODY


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br"])
def test_what_is_broken_is_malformed(coding: str) -> None:
    body = ENCODED[coding]
    for broken in (body[: len(body) // 2], body[:-3], body[:30] + b"\xff\xff\xff" + body[33:], b"garbage"):
        with pytest.raises(Malformed):
            read(broken, coding)


def test_a_body_that_is_not_as_it_says_is_read_if_that_can_be_told() -> None:
    assert read(ENCODED["gzip"], "") == BODY
    assert read(ENCODED["zstd"], "") == BODY
    assert read(BODY, "gzip") == BODY


@pytest.mark.parametrize("coding", ["lzma", "gzip, gzip, gzip, gzip", "gzip;q=1"])
def test_a_coding_that_nobody_knows_is_malformed(coding: str) -> None:
    with pytest.raises(Malformed, match="expected Content-Encoding gzip, deflate, zstd or br"):
        read(BODY, coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd", ""])
def test_a_bomb_is_not_unpacked(coding: str) -> None:
    with pytest.raises(Malformed, match="more than 20000 bytes once it is decompressed"):
        read(ENCODED[coding], coding, limit=20_000)


def test_a_bomb_within_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 10**7))
    with pytest.raises(Malformed, match="more than 100000 bytes"):
        read(bomb, "gzip, gzip", limit=100_000)


class _Broken(io.BytesIO):
    def __init__(self, body: bytes, error: Exception) -> None:
        super().__init__(body)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 50:
            raise self._error
        return super().read(50 if size is None else min(size, 50))


@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "zstd", "br"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), TransientError("the store is away")])
def test_a_disk_that_fails_is_no_fault_of_the_body(coding: str, error: Exception) -> None:
    file = _Broken(ENCODED[coding], error)
    with pytest.raises(TransientError):
        drain(file, coding)


@pytest.mark.parametrize("body", [b'\xff\xfe{\0"\0', b'{\0"\0\x00\xd8x\0', b"\0\0\xfe\xff\xff\xff\xff\xff"])
def test_a_text_that_is_not_in_its_encoding_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="expected UTF"):
        read(body[:-1] if len(body) == 6 else body)
