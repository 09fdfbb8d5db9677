from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.apps.health import raw as module
from penstock.apps.health.acceptance import Accepted
from penstock.apps.health.raw import Raw
from penstock.apps.health.settings import Settings
from penstock.errors import ConfigError, PermanentError, TransientError
from penstock.identifiers import new_id


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw.of(Settings(data=tmp_path))


@pytest.fixture
def remote(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Raw:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Raw.of(Settings(data=tmp_path, raw_url=f"s3://penstock/{tmp_path.name}/raw/"))


def promise(ingest: str, **more: Any) -> Accepted:
    return Accepted(id=ingest, user=7, received_at=datetime(2026, 2, 3, tzinfo=UTC), raw="", bytes=0, sha256="", **more)


async def put(raw: Raw, *chunks: bytes, ingest: str | None = None) -> Accepted:
    ingest = ingest or new_id()
    async with raw.receive(ingest) as writing:
        for chunk in chunks:
            await writing.write(chunk)
        return await writing.keep(promise(ingest))


async def accepted_as(raw: Raw, ingest: str) -> Accepted | None:
    return await asyncio.to_thread(raw.accepted, ingest)


async def everything(found: Callable[[], Iterable[Accepted]]) -> list[Accepted]:
    return await asyncio.to_thread(lambda: list(found()))


async def body_of(raw: Raw, location: str) -> bytes:
    return await asyncio.to_thread(read, raw, location)


def read(raw: Raw, location: str) -> bytes:
    with raw.open(location) as body:
        return body.read()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_body_is_kept_verbatim_with_its_hash(raw: Raw, tmp_path: Path) -> None:
    accepted = await put(raw, b'{"data":', b"", b" {}}\n")
    month = datetime.now(UTC).strftime("%Y/%m")
    assert accepted.raw == f"{month}/{accepted.id}"
    assert (accepted.bytes, accepted.sha256) == (13, hashlib.sha256(b'{"data": {}}\n').hexdigest())
    assert await body_of(raw, accepted.raw) == b'{"data": {}}\n'
    assert await accepted_as(raw, accepted.id) == accepted
    assert files(tmp_path / "health/raw" / month) == [accepted.id, f"{accepted.id}.json"]


async def test_a_large_body_is_written_as_it_comes(raw: Raw, tmp_path: Path) -> None:
    chunk = os.urandom(65_536)
    ingest = new_id()
    async with raw.receive(ingest) as writing:
        for _ in range(400):
            await writing.write(chunk)
            assert writing._held < module.BLOCK + len(chunk)
        accepted = await writing.keep(promise(ingest))
    assert accepted.bytes == 400 * 65_536
    assert accepted.sha256 == hashlib.sha256(chunk * 400).hexdigest()
    assert await body_of(raw, accepted.raw) == chunk * 400


async def test_an_opened_body_can_be_sought(raw: Raw) -> None:
    accepted = await put(raw, b"0123456789")
    with raw.open(accepted.raw) as body:
        body.seek(4)
        assert body.read(2) == b"45"
        body.seek(0)
        assert body.read() == b"0123456789"


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_what_is_not_kept_leaves_nothing(raw: Raw, tmp_path: Path, size: int) -> None:
    ingest = new_id()
    async with raw.receive(ingest) as writing:
        await writing.write(b"x" * size)
    assert files(tmp_path) == []
    assert await accepted_as(raw, ingest) is None


async def test_a_cancelled_reception_leaves_nothing(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, real = asyncio.Event(), Raw._keep
    loop = asyncio.get_running_loop()

    def slowly(self: Raw, accepted: Accepted) -> None:
        loop.call_soon_threadsafe(begun.set)
        real(self, accepted)

    monkeypatch.setattr(Raw, "_keep", slowly)
    task = asyncio.create_task(put(raw, b"x" * 3_000_000))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


@pytest.mark.parametrize("call", ["write_all", "sync_folder"])
async def test_a_full_disk_is_transient_and_nothing_is_half_kept(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, call, full)
    with pytest.raises(TransientError, match="No space left"):
        await put(raw, b"x" * 3_000_000)
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
async def test_only_ids_lead_to_files(raw: Raw, ingest: str) -> None:
    assert await accepted_as(raw, ingest) is None
    with pytest.raises(PermanentError, match="not where a raw body is"):
        raw.open(f"2026/02/{ingest}")
    with pytest.raises(ValueError, match="version 7"):
        async with raw.receive(ingest):
            pass


async def test_a_body_that_is_gone_is_permanent(raw: Raw) -> None:
    accepted = await put(raw, b"x")
    await raw.remove(accepted.id)
    assert await accepted_as(raw, accepted.id) is None
    with pytest.raises(PermanentError, match=accepted.id):
        raw.open(accepted.raw)


async def test_all_that_was_accepted_is_listed_in_order(raw: Raw) -> None:
    old = "018cc251-f400-7000-8000-000000000000"  # January 2024
    kept = [await put(raw, b"x") for _ in range(3)]
    await put(raw, b"x", ingest=old)
    assert [accepted.id for accepted in await everything(raw.list)] == [old, *(accepted.id for accepted in kept)]


async def test_what_was_not_sent_is_known_after_a_crash(raw: Raw, tmp_path: Path) -> None:
    sent, unsent = await put(raw, b"1"), await put(raw, b"2")
    await raw.sent(sent.id)
    left = tmp_path / "health/raw/arriving" / new_id()
    left.write_bytes(b"half a bo")
    os.utime(left, (0, 0))
    after = Raw.of(Settings(data=tmp_path))
    assert await everything(after.unsent) == [unsent]
    assert not left.exists()
    await after.sent(unsent.id)
    assert await everything(after.unsent) == []


async def test_a_further_attempt_is_noted(raw: Raw) -> None:
    accepted = await put(raw, b"x")
    await raw.sent(accepted.id)
    again = Accepted(**{**{name: getattr(accepted, name) for name in accepted.__struct_fields__}, "attempt": 2})
    await raw.again(again)
    assert await accepted_as(raw, accepted.id) == again
    assert await everything(raw.unsent) == [again]
    assert await body_of(raw, again.raw) == b"x"


async def test_bodies_go_into_an_object_store(remote: Raw, tmp_path: Path) -> None:
    body = os.urandom(6_000_000)
    accepted = await put(remote, body)
    await remote.sent(accepted.id)
    assert accepted.raw.startswith(f"s3://penstock/{tmp_path.name}/raw/20")
    assert files(tmp_path) == []
    assert await body_of(remote, accepted.raw) == body
    assert await accepted_as(remote, accepted.id) == accepted
    second = await put(remote, b"x")
    assert await everything(remote.list) == [accepted, second]
    await remote.remove(second.id)
    assert await everything(remote.list) == [accepted]
    with pytest.raises(PermanentError, match="not found"):
        remote.open(second.raw)


async def test_a_store_that_is_away_is_transient_and_nothing_is_kept(
    remote: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(TransientError, match="cannot keep"):
        await put(Raw.of(Settings(data=tmp_path, raw_url="s3://penstock/away")), b"x")
    assert files(tmp_path) == []


@pytest.mark.parametrize("url", ["raw", "ftp://host/raw", "https://host/raw"])
def test_an_address_that_is_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"raw_url|object store"):
        Raw.of(Settings(data=tmp_path, raw_url=url))
