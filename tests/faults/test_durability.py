"""The write-ahead log between an input of files and what follows: rows are what they would be without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from .streams import ERRORS, letters, numbers, parquet, run, run_on

CONTENT: dict[str, str] = {
    "in.json": '{"n": 1, "t": "a"}\n{"n": 2, "t": "b"}\n',
    "in.csv": "n,t\n1,a\n2,b\n",
}


@pytest.mark.parametrize("name", CONTENT)
async def test_files_are_decoded_before_they_are_logged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONTENT[name])
    source: dict[str, Any] = {"type": "file", "path": str(tmp_path / name)}
    assert await run(tmp_path, input=source, durability={}) == [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}]


async def test_what_cannot_be_decoded_is_refused_beside_the_log(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"n": 1}\nnonsense\n{"n": 2}\n')
    source: dict[str, Any] = {"type": "file", "path": str(tmp_path / "in.json")}
    assert await run(tmp_path, input=source, durability={}, error_output=ERRORS) == [{"n": 1}, {"n": 2}]
    assert [(letter["payload"], letter["stage"]) for letter in letters()] == [("nonsense", "decode")]


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_file_behind_a_log_is_not_read_twice(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "in.json").write_text("".join(f'{{"n": {n}}}\n' for n in range(500)))
    source: dict[str, Any] = {"type": "file", "path": str(tmp_path / "in.json"), "chunk_size": 400}
    options: dict[str, Any] = {"input": source, "durability": {}, "checkpoint": checkpoint}
    assert numbers(await run(tmp_path, **options)) == list(range(500))
    assert numbers(await run_on(tmp_path, **options)) == list(range(500))


async def test_a_damaged_file_behind_a_log_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = parquet(folder / "a.parquet", pa.table({"n": list(range(100))}))
    (folder / "b.parquet").write_bytes(whole[: len(whole) // 2])
    source = {"type": "file", "path": str(folder), "format": "parquet"}
    assert numbers(await run(tmp_path, input=source, durability={}, error_output=ERRORS)) == list(range(100))
    assert len(letters()) == 1
