"""Logs in archives, and in the buffer of another program, laid out as files that are then read like any others."""

from __future__ import annotations

import gzip
import re
import shutil
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa

from ...errors import PermanentError

MIN_FREE_BYTES = 200_000_000
"""What is left free on the disk while an archive is unpacked."""
_BLOCK_SIZE = 1 << 20
_COMPRESSED = (".gz", ".zst", ".zstd")
_TAR = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tzst)$|\.tar\.(?:gz|bz2|xz|zstd?)$", re.IGNORECASE)
_PART = re.compile(r'[\x00-\x1f<>:"|?*\\]')


def is_archive(path: Path) -> bool:
    """Tell whether a path is a file that holds logs without being one."""
    name = path.name.lower()
    return path.is_file() and (
        name.endswith((".zip", *_COMPRESSED)) or _TAR.search(name) is not None or is_buffer(path)
    )


def is_buffer(path: Path) -> bool:
    """Tell whether a file is the buffer of claude-mongo-sync: an SQLite file with entries that it has read."""
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return False
    try:
        with closing(_open_buffer(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return False
    return {"file_positions", "pending_entries"} <= tables


@contextmanager
def unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """Yield a folder with the logs of an archive; it is removed afterwards; raises PermanentError.

    It has the same path each time, as lines are known by the path of their file.
    """
    archive = archive.resolve()
    digest = blake2b(str(archive).encode(), digest_size=6).hexdigest()
    target = folder / "imports" / f"{archive.name.partition('.')[0][:60]}-{digest}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, mode=0o700)
    try:
        for name, file in _members(archive):
            _write(file, target.joinpath(*_safe(name)), archive)
        yield target
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, sqlite3.DatabaseError, zlib.error) as error:
        raise PermanentError(f"{archive} cannot be read: {error}") from error
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the logs of an archive, each with its path in it; links and devices in it are passed over."""
    name = archive.name.lower()
    if is_buffer(archive):
        yield from _entries(archive)
    elif name.endswith(".zip"):
        with zipfile.ZipFile(archive) as found:
            for member in found.infolist():
                if _is_log(member.filename) and not member.is_dir():
                    with found.open(member) as file:
                        yield from _plain(member.filename, file)
    elif _TAR.search(name):
        with _open_tar(archive) as tar:
            for entry in tar:
                if entry.isfile() and _is_log(entry.name) and (content := tar.extractfile(entry)) is not None:
                    yield from _plain(entry.name, content)
    else:
        with archive.open("rb") as file:
            yield from _plain(archive.name, file)


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.name.lower().endswith((".zst", ".zstd", ".tzst")):
        with (
            pa.CompressedInputStream(pa.OSFile(str(archive)), "zstd") as file,
            tarfile.open(fileobj=file, mode="r|") as tar,
        ):
            yield tar
        return
    with tarfile.open(archive, mode="r|*") as tar:
        yield tar


def _plain(name: str, file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    lowered = name.lower()
    if lowered.endswith(".gz"):
        with gzip.open(file) as plain:
            yield name[:-3], plain  # type: ignore[misc]
    elif lowered.endswith((".zst", ".zstd")):
        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as plain:
            yield name[: name.rfind(".")], plain
    else:
        yield name, file


def _is_log(name: str) -> bool:
    lowered = name.lower()
    return any(lowered.endswith(f".jsonl{suffix}") for suffix in ("", *_COMPRESSED))


def _safe(name: str) -> list[str]:
    """Return the parts of a path within an archive, none of which leads out of it."""
    parts = [_PART.sub("_", part)[:200] for part in PurePosixPath(name.replace("\\", "/")).parts]
    kept = [part for part in parts if part not in ("", "/", ".", "..")] or ["log.jsonl"]
    if "projects" in kept[:-2]:  # what stands above the folder of projects is of the machine that made the archive
        kept = kept[kept.index("projects") + 1 :]
    return kept


def _write(file: IO[bytes], target: Path, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with target.open("ab") as copy:
        while block := file.read(_BLOCK_SIZE):
            copy.write(block)
            if shutil.disk_usage(target.parent).free < MIN_FREE_BYTES:
                raise PermanentError(f"{archive} is too large for the disk: unpacking it was given up")


def _open_buffer(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def _entries(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield what a buffer has of files that are no longer there: those that are there are read themselves."""
    with closing(_open_buffer(path)) as connection:
        files: Any = connection.execute("SELECT DISTINCT source_file, project_id FROM pending_entries ORDER BY 1")
        for source, project in files.fetchall():
            if Path(source).exists():
                continue
            found = "SELECT entry_json FROM pending_entries WHERE source_file = ? AND project_id = ? ORDER BY id"
            entries = connection.execute(found, (source, project))
            yield f"{project}/{PurePosixPath(source).name}", _Lines(text for (text,) in entries)  # type: ignore[misc]


class _Lines:
    """Texts as the lines of a file that is only read."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts

    def read(self, _: int = -1) -> bytes:
        """Return the next line; nothing at the end."""
        text = next(self._texts, None)
        return b"" if text is None else text.replace("\n", " ").encode("utf-8", "surrogatepass") + b"\n"
