"""Logs in archives, and in the buffer of another program, are imported once and lead nowhere else."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.apps.conversations.archives import is_archive, unpacked
from penstock.errors import PermanentError

from .conftest import SAMPLES

LOGS = {f"home/me/.claude/projects/{one.parent.name}/{one.name}": one.read_bytes() for one in SAMPLES.glob("*/*.jsonl")}
HOSTILE = {"../../evil.jsonl": b'{"type":"user"}\n', "/etc/evil.jsonl": b"{}\n", "shop/notes.txt": b"no log"}


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in (LOGS | HOSTILE).items():
            made.writestr(name, content)


def tarred(path: Path, mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name, content in (LOGS | HOSTILE).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("shop/passwd.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)


def zstandard(path: Path) -> None:
    tarred(path.with_suffix(".plain"), "w")
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(path.with_suffix(".plain").read_bytes())


@pytest.mark.parametrize(("name", "make"), [("l.zip", zipped), ("l.tar.gz", tarred), ("l.tar.zst", zstandard)])
def test_an_archive_has_its_logs_by_project_and_nothing_outside_of_it(name: str, make: object, tmp_path: Path) -> None:
    archive = tmp_path / name
    make(archive)  # type: ignore[operator]
    assert is_archive(archive)
    data = tmp_path / "deep" / "data"
    with unpacked(archive, data) as folder:
        found = {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    wanted = {f"{Path(name).parent.name}/{Path(name).name}": content for name, content in LOGS.items()}
    assert {name: found[name] for name in wanted} == wanted
    assert set(found) - set(wanted) == {"evil.jsonl", "etc/evil.jsonl"}
    assert not folder.exists()
    assert not list(tmp_path.glob("**/evil.jsonl"))
    with unpacked(archive, data) as again:
        assert again == folder  # lines are known by the path of their file


def test_one_compressed_log_is_an_archive_too(tmp_path: Path) -> None:
    archive = tmp_path / "session.jsonl.gz"
    archive.write_bytes(gzip.compress(b'{"type":"user"}\n'))
    with unpacked(archive, tmp_path) as folder:
        assert [one.read_bytes() for one in folder.rglob("*.jsonl")] == [b'{"type":"user"}\n']


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar.gz", "cut.tar.zst", "cut.jsonl.gz"])
def test_an_archive_that_is_cut_says_so_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    {"cut.zip": zipped, "cut.tar.gz": tarred, "cut.tar.zst": zstandard}.get(
        name, lambda path: path.write_bytes(gzip.compress(b"{}\n" * 1000))
    )(whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(PermanentError, match="cannot be read"), unpacked(tmp_path / name, tmp_path):
        pass
    assert not list((tmp_path / "imports").iterdir())


def test_of_a_buffer_what_files_no_longer_have_is_taken(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.touch()
    with sqlite3.connect(tmp_path / "buffer.db") as made:
        made.execute("CREATE TABLE file_positions (file_path TEXT PRIMARY KEY, position INTEGER, updated_at TEXT)")
        made.execute(
            "CREATE TABLE pending_entries (id INTEGER PRIMARY KEY, project_id TEXT, session_id TEXT, source_file TEXT,"
            " entry_json TEXT, created_at TEXT, synced INTEGER DEFAULT 0)"
        )
        for number, source in enumerate(("/gone/projects/shop/s.jsonl", str(there), "/gone/projects/shop/s.jsonl")):
            entry = json.dumps({"type": "user", "n": number, "text": "a\nb"})
            made.execute(
                "INSERT INTO pending_entries (project_id, source_file, entry_json) VALUES ('shop', ?, ?)",
                (source, entry),
            )
    made.close()
    assert is_archive(tmp_path / "buffer.db")
    with unpacked(tmp_path / "buffer.db", tmp_path / "data") as folder:
        [log] = folder.rglob("*.jsonl")
        assert log.relative_to(folder) == Path("shop/s.jsonl")
        assert [json.loads(one)["n"] for one in log.read_bytes().splitlines()] == [0, 2]
