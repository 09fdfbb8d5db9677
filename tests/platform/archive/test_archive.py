"""Bodies that are kept verbatim: whole or not at all, private, found again after a crash, removed for good."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from penstock.application import Application, Installation
from penstock.errors import ConfigError, PermanentError, TransientError
from penstock.identifiers import new_id
from penstock.platform.application import Platform
from penstock.platform.archive import Archive, Receipt, folder, reception
from penstock.platform.archive.folder import ABANDONED_AFTER, Folder
from penstock.testing.contexts import lend_context


class Note(Receipt, frozen=True, kw_only=True, omit_defaults=True):
    """What a small application knows of a body."""

    attempt: int = 1


Notes: TypeAlias = Archive[Note]


@pytest.fixture
def archive(tmp_path: Path) -> Notes:
    return Archive(tmp_path / "raw", Note)


@pytest.fixture
def remote(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Notes:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Archive(tmp_path / "raw", Note, f"s3://penstock/{tmp_path.name}/raw/")


def promise(**more: Any) -> Note:
    return Note(id="", raw="", bytes=0, sha256="", **more)


async def put(archive: Notes, *chunks: bytes, ingest: str | None = None) -> Note:
    ingest = ingest or new_id()
    async with archive.receive(ingest) as body:
        for chunk in chunks:
            await body.write(chunk)
        return await body.keep(promise())


async def receipt_of(archive: Notes, ingest: str) -> Note | None:
    return await asyncio.to_thread(archive.receipt, ingest)


async def everything(found: Callable[[], Iterable[Note]]) -> list[Note]:
    return await asyncio.to_thread(lambda: list(found()))


async def body_of(archive: Notes, location: str) -> bytes:
    return await asyncio.to_thread(read, archive, location)


def read(archive: Archive[Any], location: str) -> bytes:
    with archive.open(location) as body:
        return body.read()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_body_is_kept_verbatim_with_its_hash(archive: Notes, tmp_path: Path) -> None:
    accepted = await put(archive, b'{"data":', b"", b" {}}\n")
    month = datetime.now(UTC).strftime("%Y/%m")
    assert accepted.raw == f"{month}/{accepted.id}"
    assert (accepted.bytes, accepted.sha256) == (13, hashlib.sha256(b'{"data": {}}\n').hexdigest())
    assert await body_of(archive, accepted.raw) == b'{"data": {}}\n'
    assert await receipt_of(archive, accepted.id) == accepted
    assert files(tmp_path / "raw" / month) == [accepted.id, f"{accepted.id}.json"]


async def test_a_large_body_is_written_as_it_comes(archive: Notes, tmp_path: Path) -> None:
    chunk = os.urandom(65_536)
    ingest = new_id()
    async with archive.receive(ingest) as body:
        for _ in range(400):
            await body.write(chunk)
            assert body._held < reception.BLOCK_SIZE + len(chunk)
        accepted = await body.keep(promise())
    assert accepted.bytes == 400 * 65_536
    assert accepted.sha256 == hashlib.sha256(chunk * 400).hexdigest()
    assert await body_of(archive, accepted.raw) == chunk * 400


async def test_an_opened_body_can_be_sought(archive: Notes) -> None:
    accepted = await put(archive, b"0123456789")
    with archive.open(accepted.raw) as body:
        body.seek(4)
        assert body.read(2) == b"45"
        body.seek(0)
        assert body.read() == b"0123456789"


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_what_is_not_kept_leaves_nothing(archive: Notes, tmp_path: Path, size: int) -> None:
    ingest = new_id()
    async with archive.receive(ingest) as body:
        await body.write(b"x" * size)
    assert files(tmp_path) == []
    assert await receipt_of(archive, ingest) is None


async def test_a_cancelled_reception_leaves_nothing(
    archive: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, real = asyncio.Event(), Folder.keep
    loop = asyncio.get_running_loop()

    def slowly(self: Folder, arrived: Path, identifier: str) -> None:
        loop.call_soon_threadsafe(begun.set)
        real(self, arrived, identifier)

    monkeypatch.setattr(Folder, "keep", slowly)
    task = asyncio.create_task(put(archive, b"x" * 3_000_000))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "call"), [(reception, "write_all"), (folder, "sync_folder"), (folder, "make_folder")]
)
async def test_a_full_disk_is_transient_and_nothing_is_half_kept(
    archive: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, call: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, call, full)
    with pytest.raises(TransientError, match="No space left"):
        await put(archive, b"x" * 3_000_000)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "ingest",
    [
        "../../etc/passwd",
        "",
        "0194c8a2",
        "7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "{0194c8a2-3f00-7000-8000-000000000000}",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
async def test_only_ids_lead_to_files(archive: Notes, ingest: str) -> None:
    assert await receipt_of(archive, ingest) is None
    with pytest.raises(PermanentError, match="not where a raw body is"):
        archive.open(f"2026/02/{ingest}")
    with pytest.raises(ValueError, match="version 7"):
        async with archive.receive(ingest):
            pass


async def test_a_body_that_is_gone_is_permanent(archive: Notes) -> None:
    accepted = await put(archive, b"x")
    await archive.remove(accepted.id)
    assert await receipt_of(archive, accepted.id) is None
    with pytest.raises(PermanentError, match=accepted.id):
        archive.open(accepted.raw)


async def test_all_receipts_are_listed_in_order(archive: Notes) -> None:
    old = "018cc251-f400-7000-8000-000000000000"  # January 2024
    kept = [await put(archive, b"x") for _ in range(3)]
    await put(archive, b"x", ingest=old)
    assert [accepted.id for accepted in await everything(archive.receipts)] == [
        old,
        *(accepted.id for accepted in kept),
    ]


async def test_what_was_not_handed_on_is_known_after_a_crash(archive: Notes, tmp_path: Path) -> None:
    settled, unsettled = await put(archive, b"1"), await put(archive, b"2")
    await archive.settle(settled.id)
    left = tmp_path / "raw/arriving" / new_id()
    left.write_bytes(b"half a bo")
    arriving = tmp_path / "raw/arriving" / new_id()
    arriving.write_bytes(b"of another process that li")
    os.utime(left, (0, 0))
    after = Archive(tmp_path / "raw", Note)
    assert await asyncio.to_thread(after.recover) == [unsettled.id]
    assert (left.exists(), arriving.exists()) == (False, True)
    handed: list[Note] = []

    async def take(note: Note) -> None:
        handed.append(note)

    await after.replay([unsettled.id], take)
    assert handed == [unsettled]
    assert await asyncio.to_thread(after.recover) == []


async def test_what_is_refused_stays_for_the_next_start(archive: Notes) -> None:
    kept = [await put(archive, b"x") for _ in range(3)]
    await archive.remove(kept[2].id)

    async def take(note: Note) -> None:
        if note == kept[0]:
            raise TransientError("full")

    await archive.replay([note.id for note in kept], take)
    assert await asyncio.to_thread(archive.recover) == [kept[0].id]


@pytest.mark.parametrize("place", ["archive", "remote"])
async def test_a_body_whose_process_died_before_its_receipt_was_written_goes(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A name that is nobody's would keep a person's data for ever."""
    found: Notes = request.getfixturevalue(place)
    identifier = new_id()

    class Died(BaseException):
        """What nothing catches."""

    def die(*_: Any) -> None:
        raise Died

    async with found.receive(identifier) as body:
        await body.write(b"x")
        with monkeypatch.context() as patched:
            patched.setattr(type(found._place), "write", die)
            with pytest.raises(Died):
                await asyncio.to_thread(body._finish, promise())
        body._is_kept = True  # nothing is tidied by a process that is dead
    mark = tmp_path / "raw/arriving" / f"{identifier}.unsent"
    location = found._place.location(identifier)
    assert mark.exists()
    assert await body_of(found, location) == b"x"
    assert await asyncio.to_thread(found.recover) == []
    assert await body_of(found, location) == b"x"  # perhaps it is only just arriving
    os.utime(mark, (mark.stat().st_mtime - ABANDONED_AFTER - 1,) * 2)
    assert await asyncio.to_thread(found.recover) == []
    with pytest.raises(PermanentError):
        await body_of(found, location)
    assert files(tmp_path) == []


async def test_a_damaged_receipt_keeps_nothing_else_back(archive: Notes, tmp_path: Path) -> None:
    broken, whole = await put(archive, b"1"), await put(archive, b"2")
    (tmp_path / "raw" / f"{broken.raw}.json").write_bytes(b"{")
    with pytest.raises(PermanentError, match="cannot be read"):
        await receipt_of(archive, broken.id)
    assert await asyncio.to_thread(archive.recover) == [whole.id]
    assert await body_of(archive, broken.raw) == b"1"


async def test_a_further_attempt_is_noted(archive: Notes) -> None:
    kept = await put(archive, b"x")
    await archive.settle(kept.id)
    again = msgspec.structs.replace(kept, attempt=2)
    await archive.renew(again)
    assert await receipt_of(archive, kept.id) == again
    assert await asyncio.to_thread(archive.recover) == [again.id]
    assert await body_of(archive, again.raw) == b"x"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_only_the_owner_may_read_whatever_the_umask(archive: Notes, tmp_path: Path) -> None:
    await put(archive, b"x" * 3_000_000)
    async with archive.receive(new_id()) as body:
        for _ in range(3):
            await body.write(b"x" * 1_000_000)
        await body._settle()
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "raw", *(tmp_path / "raw").rglob("*"))}
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
        assert sum(path.is_file() for path in modes) == 4  # a body, its receipt, its mark, and what is arriving
    (tmp_path / "raw").chmod(0o755)  # as an older version left it
    await asyncio.to_thread(archive.recover)
    assert stat.S_IMODE((tmp_path / "raw").stat().st_mode) == 0o700


async def test_a_body_is_durable_before_its_receipt_is_and_both_before_the_answer(
    archive: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def name_of(opened: int) -> str:
        path = Path(os.readlink(f"/proc/self/fd/{opened}"))
        return "receipt" if path.name.startswith(identifier) and path.name != identifier else path.name

    def noting(what: str, real: Callable[..., Any], named: Callable[..., str]) -> None:
        def call(*given: Any) -> Any:
            done.append(f"{what} {named(*given)}")
            return real(*given)

        monkeypatch.setattr(os, what, call)

    identifier = new_id()
    noting("fsync", os.fsync, name_of)
    noting("rename", os.rename, lambda _, target: Path(target).name)
    noting("replace", os.replace, lambda _, target: Path(target).suffix)
    await put(archive, b"x", ingest=identifier)
    month = f"{datetime.now(UTC):%m}"
    assert done[-4:] == [f"rename {identifier}", "fsync receipt", "replace .json", f"fsync {month}"]
    assert done.index(f"fsync {identifier}") < done.index("fsync arriving") < done.index(f"rename {identifier}")


KEEPING = """
import asyncio, sys
from pathlib import Path
from penstock.identifiers import new_id
from penstock.platform.application import Platform
from penstock.platform.archive import Archive, Receipt

async def keep(archive, size):
    while True:
        async with archive.receive(identifier := new_id()) as body:
            for _ in range(4):
                await body.write(identifier.encode() * size)
            kept = await body.keep(Receipt(id="", raw="", bytes=0, sha256=""))
        print(kept.id, flush=True)

async def main():
    archive = Archive(Path(sys.argv[1]), Receipt)
    await asyncio.gather(*(keep(archive, size) for size in (1, 100, 30_000)))

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_leaves_whole_bodies_and_each_that_was_answered_for(tmp_path: Path, seed: int) -> None:
    answers = random.Random(seed).randint(1, 60)
    command = [sys.executable, "-c", KEEPING, str(tmp_path / "raw")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answered = [process.stdout.readline().strip() for _ in range(answers)]
        process.send_signal(signal.SIGKILL)
        answered += process.stdout.read().split("\n")[:-1]
    archive = Archive(tmp_path / "raw", Receipt)
    unsettled = archive.recover()
    assert set(answered) <= set(unsettled)
    for receipt in archive.receipts():
        body = read(archive, receipt.raw)
        assert (len(body), hashlib.sha256(body).hexdigest()) == (receipt.bytes, receipt.sha256)
        assert body.startswith(receipt.id.encode())
    for left in (tmp_path / "raw/arriving").iterdir():
        os.utime(left, (0, 0))
    assert archive.recover() == unsettled
    kept = {path.name for path in (tmp_path / "raw").glob("[0-9]*/*/*")}
    assert kept == {name for identifier in unsettled for name in (identifier, f"{identifier}.json")}


async def test_bodies_go_into_an_object_store(remote: Notes, tmp_path: Path) -> None:
    body = os.urandom(6_000_000)
    accepted = await put(remote, body)
    await remote.settle(accepted.id)
    assert accepted.raw.startswith(f"s3://penstock/{tmp_path.name}/raw/20")
    assert files(tmp_path) == []
    assert await body_of(remote, accepted.raw) == body
    assert await receipt_of(remote, accepted.id) == accepted
    second = await put(remote, b"x")
    assert await everything(remote.receipts) == [accepted, second]
    await remote.remove(second.id)
    assert await everything(remote.receipts) == [accepted]
    with pytest.raises(PermanentError, match="not found"):
        remote.open(second.raw)


async def test_a_store_that_is_away_is_transient_and_what_it_may_have_kept_is_removed_later(
    remote: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot keep"):
        await put(Archive(tmp_path / "raw", Note, "s3://penstock/away"), b"x")
    [mark] = files(tmp_path)  # The store may have taken the body, and not said so.
    assert mark.endswith(".unsent")
    os.utime(tmp_path / mark, (0, 0))
    assert await asyncio.to_thread(remote.recover) == []
    assert files(tmp_path) == []


async def test_bodies_from_before_the_object_store_are_still_found(archive: Notes, remote: Notes) -> None:
    old, new = await put(archive, b"old"), await put(remote, b"new")
    assert await everything(remote.receipts) == [old, new]
    assert await body_of(remote, old.raw) == b"old"
    await remote.renew(again := msgspec.structs.replace(old, attempt=2))
    assert await receipt_of(remote, old.id) == again
    assert await body_of(archive, new.raw) == b"new"  # its receipt says where it is
    await remote.remove(old.id)
    assert await everything(remote.receipts) == [new]


@pytest.mark.parametrize("url", ["raw", "ftp://host/raw", "https://host/raw"])
def test_an_address_that_is_not_a_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="object store"):
        Archive(tmp_path, Note, url)


async def test_an_application_is_lent_a_folder_of_its_own(tmp_path: Path) -> None:
    class Keeper(Application, type="keeper"):
        """An application that keeps bodies."""

    try:
        async with lend_context(tmp_path) as context, asyncio.TaskGroup() as tasks:
            stop, log = asyncio.Event(), logging.getLogger("test")
            platform = Platform(Keeper(), Installation(data=tmp_path), context, log, stop, tasks)
            kept = await put(platform.archive(Note), b"x")
    finally:
        del Application._known["keeper"]
    assert (tmp_path / "keeper/raw" / kept.raw).read_bytes() == b"x"
