"""Compressed files: padded, put together of several, cut off, damaged; what is left of them is read all the same."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.inputs.http.bodies import decompress

from .files import Reading

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pa.Codec("zstd").compress(data, asbytes=True)),
}
LINES = [b"%d %d" % (number, random.Random(number).getrandbits(64)) for number in range(20_000)]
TEXT = b"\n".join(LINES) + b"\n"


def read(folder: Path, packed: bytes, extension: str, **options: object) -> list[object]:
    (folder / f"a.log{extension}").write_bytes(packed)
    return asyncio.run(Reading({"path": str(folder), "format": "text", **options}, folder.parent).all())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("extension", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("padding", [1, 4, 1024, 1 << 17])
def test_zeros_behind_the_end_are_no_damage(folder: Path, extension: str, padding: int) -> None:
    assert read(folder, PACK[extension](TEXT) + bytes(padding), extension) == LINES


@pytest.mark.parametrize("extension", list(PACK))
def test_files_put_together_of_several_are_read_to_the_end(folder: Path, extension: str) -> None:
    cuts = [TEXT[:5], b"", TEXT[5:70_001], TEXT[70_001:]]  # within lines, and one of nothing
    assert read(folder, b"".join(map(PACK[extension], cuts)), extension, chunk_size=4096) == LINES


@pytest.mark.parametrize("extension", list(PACK))
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_what_is_left_of_a_damaged_file_is_read(folder: Path, extension: str, damage: str) -> None:
    packed = PACK[extension](TEXT)
    packed = packed[: len(packed) * 3 // 4] if damage == "cut" else packed + b"garbage" * 100
    *rows, told = read(folder, packed, extension)
    assert isinstance(told, tuple)
    assert f"a.log{extension}" in told[1]
    assert rows == LINES[: len(rows)]  # no line is torn
    least = {".bz2": 0.0, ".zst": 0.4}.get(extension, 0.7)  # these come in blocks
    assert len(rows) >= (least if damage == "cut" else 1) * len(LINES)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(PACK)), st.integers(1, 1 << 20), st.integers(16, 4096))
def test_no_line_is_altered_wherever_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, extension: str, place: int, size: int
) -> None:
    packed = PACK[extension](TEXT[:50_000])
    packed = packed[: -(place % len(packed)) or None]
    rows = read(tmp_path_factory.mktemp("cut"), packed, extension, chunk_size=size)
    lines = [row for row in rows if isinstance(row, bytes)]
    assert lines == TEXT[:50_000].split(b"\n")[: len(lines)]


@pytest.mark.parametrize("padding", [0, 1, 4096, 1 << 17])
def test_a_padded_body_is_gzip(padding: int) -> None:
    assert decompress(gzip.compress(TEXT) + bytes(padding), b"gzip", 1 << 20) == TEXT
    both = gzip.compress(TEXT) + bytes(padding) + gzip.compress(TEXT) + bytes(padding)
    assert decompress(both, b"gzip", 1 << 20) == TEXT + TEXT
