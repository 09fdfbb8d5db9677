"""What other people leave in a folder holds up no other file: odd entries, odd names, files that nobody can read."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from penstock.inputs.file import values
from penstock.inputs.file.content import LocalContent

from .files import Reading, followed

FAST = {"follow": True, "poll_interval": "20ms", "settle_time": "100ms"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def circle(folder: Path) -> None:
    os.symlink("a.json", folder / "a.json")


def dangling(folder: Path) -> None:
    os.symlink("nowhere", folder / "a.json")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "a.json")


def subfolder(folder: Path) -> None:
    (folder / "a.json").mkdir()


def listener(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket must be short
        try:
            opened.bind("a.json")
        finally:
            os.chdir(here)


@pytest.mark.parametrize("make", [circle, dangling, pipe, subfolder, listener])
@pytest.mark.parametrize("path", ["{folder}/*.json", "{folder}/**", "{folder}"])
@pytest.mark.parametrize("follow", [False, True])
async def test_an_entry_that_is_no_file_holds_up_no_file(
    folder: Path, make: Callable[[Path], None], path: str, follow: bool
) -> None:
    make(folder)
    (folder / "b.json").write_text('{"id":1}\n')
    options = {"path": path.format(folder=folder), "format": "json"}
    if not follow:
        assert await Reading(options, folder.parent).all() == [{"id": 1}]
        return
    async with followed(Reading({**options, **FAST}, folder.parent)) as follower:
        await follower.until([{"id": 1}])


@pytest.mark.parametrize(
    "name", ["new\nline.json", "😀.json", "spa ce.json", "'quoted\".json", os.fsdecode(b"\xff\xfe.json")]
)
async def test_a_file_of_any_name_is_read_and_its_name_is_told(folder: Path, name: str) -> None:
    (folder / name).write_text('{"id":1}\n')
    reading = Reading({"path": f"{folder}/*", "format": "json"}, folder.parent)
    ((told, _),) = await reading.origins()
    told["name"].encode()
    json.dumps(reading.store.positions).encode()
    assert await reading.all() == [], "its place is kept"


@pytest.mark.parametrize("name", ["bad.parquet", os.fsdecode(b"\xff.parquet")])
async def test_a_damaged_file_of_any_name_is_refused_with_its_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"PAR1garbagePAR1")
    (folder / "ok.json").write_text('{"id":1}\n')
    rows = await Reading({"path": f"{folder}/*"}, folder.parent).all()
    ((_, reason),) = [row for row in rows if isinstance(row, tuple)]
    assert ".parquet cannot be read" in reason.encode().decode()
    assert {"id": 1} in rows


async def test_a_value_that_is_nested_too_deep_holds_up_no_file(folder: Path) -> None:
    (folder / "a.json").write_text('{"x":' + "[" * 5000 + "]" * 5000 + "}\n" + '{"id":1}\n')
    (folder / "b.json").write_text('{"id":2}\n')
    found: list[Any] = []
    reading = Reading({"path": f"{folder}/*", "format": "text"}, folder.parent)
    found += await reading.all()
    assert found[1:] == [b'{"id":1}', b'{"id":2}']
    assert values.are_lines(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}\n", final=True)


@pytest.mark.parametrize("error", [RecursionError("deep"), ValueError("odd"), IndexError("short"), TypeError("none")])
async def test_what_a_reader_did_not_expect_costs_its_file_alone(
    folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.txt").write_text("bad\n")
    (folder / "b.txt").write_text("good\n")
    read_at = LocalContent.read_at

    def fail(self: LocalContent, offset: int, size: int) -> bytes:
        data = read_at(self, offset, size)
        if data.startswith(b"bad"):
            raise error
        return data

    monkeypatch.setattr(LocalContent, "read_at", fail)
    failed, good = await Reading({"path": f"{folder}/*"}, folder.parent).all()
    assert failed[0] == "failed"
    assert "a.txt cannot be read" in failed[1]
    assert good == b"good"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
@pytest.mark.parametrize("mode", [0o000, 0o400])
async def test_a_folder_that_may_not_be_listed_holds_up_no_other(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.json").write_text(json.dumps({"id": name}) + "\n")
    (folder / "a").chmod(mode)
    try:
        async with followed(Reading({"path": f"{folder}/{{table}}/*", **FAST}, folder.parent)) as follower:
            await follower.until([{"id": "b"}])
            assert f"{folder}/a cannot be listed" in caplog.text
            (folder / "a").chmod(0o700)
            await follower.until([{"id": "b"}, {"id": "a"}])
    finally:
        (folder / "a").chmod(0o700)


async def test_a_folder_that_cannot_be_listed_holds_up_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.json").write_text(json.dumps({"id": name}) + "\n")
    scandir, is_closed = os.scandir, True

    def refused(path: str) -> Any:
        if is_closed and str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    async with followed(Reading({"path": f"{folder}/{{table}}/*", **FAST}, folder.parent)) as follower:
        await follower.until([{"id": "b"}])
        assert caplog.text.count(f"{folder}/a cannot be listed") == 1
        is_closed = False
        await follower.until([{"id": "b"}, {"id": "a"}])
        assert f"{folder}/a can be listed again" in caplog.text


async def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(folder: Path) -> None:
    (folder / "a.txt").write_text("1\n")
    reading = Reading({"path": f"{folder}/*", **FAST}, folder.parent)
    async with followed(reading) as follower:
        await follower.until([b"1"])
        os.mkfifo(folder / "pipe")
        os.rename(folder / "pipe", folder / "a.txt")
        (folder / "b.txt").write_text("2\n")
        await follower.until([b"1", b"2"])
    with pytest.raises(FileNotFoundError):
        LocalContent(str(folder / "a.txt"))


async def test_a_disk_that_fails_for_a_while_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.txt").write_text("1\n")
    pread, fails = os.pread, 3

    def failing(*arguments: Any) -> bytes:
        nonlocal fails
        if fails:
            fails -= 1
            raise OSError(5, "Input/output error")
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", failing)
    async with followed(Reading({"path": f"{folder}/*", **FAST}, folder.parent)) as follower:
        await follower.until([b"1"])


async def test_a_record_that_contains_itself_refuses_its_file_with_the_reason(folder: Path) -> None:
    link = {"name": "next", "type": ["null", "Node"], "default": None}
    schema = {"type": "record", "name": "Node", "fields": [{"name": "value", "type": "int"}, link]}
    with (folder / "a.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [{"value": 1, "next": {"value": 2, "next": None}}])
    (folder / "b.json").write_text('{"id":1}\n')
    async with followed(Reading({"path": f"{folder}/*", **FAST}, folder.parent)) as follower:
        await follower.when(lambda: len(follower.rows) == 2)
    (reason,) = [row[1] for row in follower.rows if isinstance(row, tuple)]
    assert "a.avro: the Avro schema contains itself, which no column type can" in reason
