"""A folder of bodies and receipts, and the folder in which they arrive."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from ...clients.disk import make_folder, sync_folder
from ...errors import PermanentError, TransientError
from ...identifiers import month_of, parse_id

ABANDONED_AFTER = 3600.0
"""Seconds after which what a reception left behind belongs to a process that has died."""
_MARK = ".unsent"


class Folder:
    """Bodies and receipts as files, readable by their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def location(self, identifier: str) -> str:
        """Return where a body is."""
        return f"{month_of(identifier)}/{identifier}"

    def keep(self, arrived: Path, identifier: str) -> None:
        """Move a body that is durable to its place; its name is durable once its receipt is written."""
        path = self._path(identifier)
        with classifying(f"keep the body {identifier}"):
            make_folder(str(path.parent), 0o700)
            arrived.rename(path)

    def write(self, identifier: str, receipt: bytes) -> None:
        """Write a receipt in place of the one there is, durable; a reader sees the one or the other."""
        path = self._path(identifier, ".json")
        with classifying(f"note what was accepted as {identifier}"):
            with tempfile.NamedTemporaryFile(prefix=identifier, dir=self._folder / "arriving", delete=False) as file:
                try:
                    file.write(receipt)
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(file.name, path)
                except BaseException:
                    os.unlink(file.name)
                    raise
            sync_folder(str(path.parent))

    def read(self, identifier: str) -> bytes | None:
        """Return a receipt, None if there is none."""
        with classifying(f"read what was accepted as {identifier}"), suppress(FileNotFoundError):
            return self._path(identifier, ".json").read_bytes()
        return None

    def open(self, identifier: str) -> BinaryIO:
        """Open a body."""
        with classifying(f"read the raw body of ingest {identifier}"):
            try:
                return self._path(identifier).open("rb")
            except FileNotFoundError:
                raise PermanentError(f"the raw body of ingest {identifier} is not in {self._folder}") from None

    def months(self) -> Sequence[str]:
        """Return the months in which bodies came."""
        found = self._folder.glob("[0-9][0-9][0-9][0-9]/[0-9][0-9]")
        return [str(path.relative_to(self._folder)) for path in found]

    def names(self, month: str) -> Iterator[str]:
        """Yield the ids of a month that have a receipt, in no order."""
        return (file.stem for file in (self._folder / month).glob("*.json"))

    def remove(self, identifier: str) -> None:
        """Remove a body, and its receipt after it: a body without one would never be found again."""
        with classifying(f"remove the body {identifier}"):
            gone = [_unlink(path) for path in (self._path(identifier), self._path(identifier, ".json"))]
            if any(gone):
                sync_folder(str(self._path(identifier).parent))

    def _path(self, identifier: str, suffix: str = "") -> Path:
        return self._folder / month_of(identifier) / f"{identifier}{suffix}"


class Spool:
    """The folder in which bodies arrive, and in which those are marked that have not been handed on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, identifier: str) -> Path:
        """Return the file into which a body arrives."""
        return self._folder / identifier

    def open(self, identifier: str) -> int:
        """Open the file into which a body arrives."""
        self._make()
        return os.open(self.path(identifier), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def temporary(self) -> BinaryIO:
        """Return an open file that has no name and goes when it is closed."""
        self._make()
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))

    def remove(self, identifier: str) -> None:
        """Remove what has arrived of a body."""
        self.path(identifier).unlink(missing_ok=True)

    def mark(self, identifier: str) -> None:
        """Mark a body as not handed on; durable."""
        with classifying(f"note what was accepted as {identifier}"):
            self._make()
            (self._folder / f"{identifier}{_MARK}").touch(0o600)
            sync_folder(str(self._folder))

    def unmark(self, identifier: str) -> None:
        """Remove the mark of a body."""
        (self._folder / f"{identifier}{_MARK}").unlink(missing_ok=True)

    def marked(self) -> list[str]:
        """Return the ids of the marked bodies, the oldest first."""
        return sorted(file.stem for file in self._folder.glob(f"*{_MARK}") if _is_id(file.stem))

    def is_abandoned(self, identifier: str) -> bool:
        """Tell whether a mark without a receipt belongs to a process that has died."""
        return _is_old(self._folder / f"{identifier}{_MARK}")

    def clean(self) -> None:
        """Remove what processes that have died left half-written; the folder is closed to others."""
        with suppress(OSError):  # It may not be there yet, or not be ours.
            self._folder.parent.chmod(0o700)
        for file in self._folder.glob("*"):
            if file.suffix != _MARK and _is_old(file):
                file.unlink(missing_ok=True)

    def _make(self) -> None:
        make_folder(str(self._folder), 0o700)


@contextmanager
def classifying(action: str) -> Iterator[None]:
    """Raise an error of the disk as TransientError; ``action`` says what was tried."""
    try:
        yield
    except OSError as error:
        raise TransientError(f"cannot {action}: {error.strerror or error}") from error


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER
    except FileNotFoundError:
        return False


def _is_id(text: str) -> bool:
    try:
        return parse_id(text) == text
    except ValueError:
        return False
