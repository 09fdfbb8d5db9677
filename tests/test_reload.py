"""A changed configuration is applied while its streams run: what is the same goes on, and no row is lost or doubled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock import ConfigError, Engine, load
from penstock.outputs import memory
from penstock.testing.waiting import until


def rows(file: Path, count: int) -> dict[str, Any]:
    file.write_text("".join(f'{{"n": {n}}}\n' for n in range(count)))
    return {"type": "file", "path": str(file), "codec": "json", "batch_rows": 10, "chunk_size": 128, "follow": True}


class File:
    """A configuration file that a running engine reads again."""

    def __init__(self, folder: Path) -> None:
        self.path, self.options = (
            folder / "streams.json",
            {"data": str(folder / "data"), "health_check": {"enabled": False}},
        )

    def write(self, *streams: dict[str, Any], **options: Any) -> None:
        self.path.write_text(json.dumps({**self.options, "streams": streams, **options}))


@asynccontextmanager
async def running(file: File) -> AsyncIterator[Engine]:
    configuration, stop = await asyncio.to_thread(load, file.path), asyncio.Event()
    engine = Engine.of(configuration, read=lambda: load(file.path))
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.is_running or task.done())
    try:
        yield engine
    finally:
        stop.set()
        await task


async def test_the_same_goes_on_and_the_rest_begins_ends_or_is_replaced(tmp_path: Path) -> None:
    file, memory_of = File(tmp_path), lambda key: {"type": "memory", "key": key}
    for key in ("kept", "old", "new", "gone", "added"):
        memory.clear(key)
    source = rows(tmp_path / "rows.jsonl", 3000)
    kept = {"id": "kept", "input": source, "output": memory_of("kept")}
    changed = {"id": "changed", "input": source, "output": memory_of("old")}
    file.write(kept, changed, {"id": "gone", "input": source, "output": memory_of("gone")})
    async with running(file) as engine:
        await until(lambda: memory.rows("old") and memory.rows("kept"))
        before = engine.supervised[0]
        file.write(
            {**changed, "output": memory_of("new")},
            kept,
            {"id": "added", "input": source, "output": memory_of("added")},
        )
        changes = await engine.reload()
        assert changes == (["added"], ["changed"], ["gone"], ["kept"])
        assert str(changes) == "started: added; changed: changed; ended: gone; 1 kept running"
        assert [one.name for one in engine.supervised] == ["changed", "kept", "added"]
        assert engine.supervised[1] is before
        await until(lambda: len(memory.rows("old")) + len(memory.rows("new")) >= 3000)
        await until(lambda: len(memory.rows("kept")) >= 3000 and len(memory.rows("added")) >= 3000)
    assert [row["n"] for row in memory.rows("old") + memory.rows("new")] == list(range(3000))
    assert [row["n"] for row in memory.rows("kept")] == list(range(3000))
    assert [row["n"] for row in memory.rows("gone")] == list(range(len(memory.rows("gone"))))


async def test_a_file_that_is_not_valid_changes_nothing(tmp_path: Path) -> None:
    file = File(tmp_path)
    good = {"id": "one", "input": {"type": "generate", "context": "{}", "interval": "5ms"}, "output": "drop"}
    file.write(good)
    async with running(file) as engine:
        before, configuration = engine.supervised, engine.configuration
        file.path.write_text("{")
        with pytest.raises(ConfigError, match="not valid JSON"):
            await engine.reload()
        file.write(good, {"id": "two", "input": "nothing", "output": "drop"})
        with pytest.raises(ConfigError, match="no input is called 'nothing'"):
            await engine.reload()
        for option, value in (("data", str(tmp_path / "other")), ("state", "memory"), ("logging", {"level": "debug"})):
            file.path.write_text(json.dumps({**file.options, "streams": [good], option: value}))
            with pytest.raises(ConfigError, match=f"{option}: .*next start"):
                await engine.reload()
        file.path.unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            await engine.reload()
        assert engine.supervised == before
        assert engine.configuration is configuration
        assert before[0].state == "running"


async def test_functions_of_a_file_that_is_not_valid_are_forgotten(tmp_path: Path) -> None:
    script = "from penstock.udf import scalar\n@scalar\ndef {name}(x: int) -> int:\n    return x + {add}\n"
    memory.clear("functions")
    file = File(tmp_path)

    def stream(query: str) -> dict[str, Any]:
        source = {"type": "generate", "context": '{"n": 1}', "interval": "1ms"}
        steps = ["json_to_arrow", {"type": "sql", "query": query}]
        return {
            "id": "one",
            "input": source,
            "pipeline": {"processors": steps},
            "output": {"type": "memory", "key": "functions"},
        }

    good = stream("SELECT reloaded(n) AS n FROM flow")
    file.write(good, functions=[{"script": script.format(name="reloaded", add=1)}])
    async with running(file) as engine:
        await until(lambda: memory.rows("functions"))
        file.write(good, stream("SELECT"), functions=[{"script": script.format(name="reloaded", add=100)}])
        with pytest.raises(ConfigError):
            await engine.reload()
        count = len(memory.rows("functions"))
        await until(lambda: len(memory.rows("functions")) > count + 20)
        assert {row["n"] for row in memory.rows("functions")} == {2}
        file.write(good, functions=[{"script": script.format(name="reloaded", add=100)}])
        assert (await engine.reload()).changed == ["one"]
        await until(lambda: memory.rows("functions")[-1]["n"] == 101)


async def test_a_process_without_streams_waits_for_them(tmp_path: Path) -> None:
    file = File(tmp_path)
    file.write()
    memory.clear("late")
    async with running(file) as engine:
        file.write(
            {"id": "one", "input": {"type": "memory", "messages": ["a"]}, "output": {"type": "memory", "key": "late"}}
        )
        assert (await engine.reload()).started == ["one"]
        await until(lambda: memory.rows("late"))


async def test_a_changed_secret_is_a_change_and_a_moved_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    text = (
        "data: {data}\nhealth_check: {{enabled: false}}\n{more}streams:\n"
        "  - id: one\n    input: {{type: generate, context: '{{}}', interval: 1h}}\n"
        "    output: {{type: http, url: 'http://127.0.0.1:1', auth: {{type: bearer, token: {token}}}}}\n"
    )
    path.write_text(text.format(data=tmp_path, more="", token="a"))
    engine, stop = Engine.of(await asyncio.to_thread(load, path), read=lambda: load(path)), asyncio.Event()
    task = asyncio.create_task(engine.run(stop))
    await until(lambda: engine.supervised and engine.supervised[0].state == "running")
    path.write_text(text.format(data=tmp_path, more="# a comment\n", token="a"))
    assert str(await engine.reload()) == "nothing has changed"
    assert engine.supervised[0].stream.source.line == 5
    path.write_text(text.format(data=tmp_path, more="", token="b"))
    assert (await engine.reload()).changed == ["one"]
    stop.set()
    await task
