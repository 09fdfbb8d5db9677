"""Input that is malformed, huge, deep, wrongly encoded or changes its mind; processors that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock import Context, PenstockError, Processor
from penstock.component import Process
from penstock.delivery import Batch
from penstock.outputs import memory
from penstock.testing.faults import HANG, Faults, FaultyProcessor

from ..crash.harness import Process as Subprocess
from ..crash.harness import query
from .streams import ERRORS, letters, lines, messages, numbers, parquet, run, run_on, until

GOOD = ['{"n": 1}', '{"n": 2}']
DEEP = "[" * 100_000 + "]" * 100_000
BAD: dict[str, bytes] = {
    "malformed": b'{"n": ',
    "no object": b"[1, 2]",
    "not JSON": b"hello",
    "deeply nested array": DEEP.encode(),
    "deeply nested object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "latin-1": '{"n": "é"}'.encode("latin-1"),
    "UTF-16": '{"n": 5}'.encode("utf-16"),
    "NUL": b'{"n": 5\x00}',
    "half a surrogate": b'{"n": "\xed\xa0\x80"}',
    "NaN": b'{"n": NaN}',
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_payload_that_cannot_be_decoded_is_refused_alone_with_what_it_was(tmp_path: Path, kind: str) -> None:
    bad = BAD[kind]
    batch = pa.RecordBatch.from_pydict({"__value__": pa.array([GOOD[0].encode(), bad, GOOD[1].encode()], pa.binary())})
    from penstock.inputs.memory import Memory

    class Payloads(Memory, type="test_faults_payloads"):
        pass

    source = Payloads.model_construct(messages=[batch], codec=None)
    from penstock.component import Codec

    source = source.model_copy(update={"codec": Codec.parse("json")})
    rows = await run(tmp_path, input=source, error_output=ERRORS)
    assert numbers(rows) == [1, 2]
    (letter,) = letters()
    assert (letter["stage"], letter["stream"]) == ("decode", "stream")
    assert letter["reason"]
    assert len(letter["reason"]) < 2100
    payload = letter["payload"]
    found = base64.b64decode(payload) if letter["encoding"] == "base64" else payload.encode()
    assert found == bad
    assert json.loads(letter["metadata"])["source"] == "memory"


async def test_a_single_value_of_fifty_megabytes_goes_through_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    huge = json.dumps({"n": 3, "text": "x" * 50_000_000})
    path = tmp_path / "in.json"
    path.write_text(f'{{"n": 1}}\n{huge}\n{huge[:-1]}\n{{"n": 4}}\n')
    rows = await run(tmp_path, input={"type": "file", "path": str(path)}, error_output=ERRORS)
    assert numbers(rows) == [1, 3, 4]
    assert len(rows[1]["text"]) == 50_000_000
    assert [len(letter["payload"]) for letter in letters()] == [len(huge) - 1]


async def test_nul_bytes_and_odd_texts_go_through_as_they_are(tmp_path: Path) -> None:
    texts = ["a\0b", "", "\u2028", "😀", "'; DROP TABLE rows; --", "\ufeff"]
    rows = await run(tmp_path, input=lines(tmp_path / "in.json", [{"n": n, "t": t} for n, t in enumerate(texts)]))
    assert [row["t"] for row in rows] == texts


async def test_truncated_parquet_and_other_files_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = parquet(folder / "a.parquet", pa.table({"n": list(range(1000))}))
    (folder / "b.parquet").write_bytes(whole[: len(whole) // 2])
    parquet(folder / "c.parquet", pa.table({"n": pa.array([], pa.int64())}))
    (folder / "d.parquet").write_bytes(b"")
    parquet(folder / "e.parquet", pa.table({"n": [1000]}))
    source = {"type": "file", "path": str(folder), "format": "parquet"}
    rows = await run(tmp_path, input=source, error_output=ERRORS)
    assert numbers(rows) == list(range(1001))
    said = " ".join(letter["reason"] + str(letter["payload"]) + str(letter["metadata"]) for letter in letters())
    assert "b.parquet" in said


@pytest.mark.parametrize("name", ["in.json", "in.csv"])
async def test_an_empty_file_is_no_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("n\n" if name.endswith("csv") else "")
    assert await run(tmp_path, input={"type": "file", "path": str(tmp_path / name)}) == []


async def test_a_schema_that_drifts_reaches_the_database_whole(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"n": n, "value": n} for n in range(100)]
    rows += [{"n": n, "value": n + 0.5, "new": f"x{n}"} for n in range(100, 200)]
    rows += [{"n": n, "value": str(n), "new": None} for n in range(200, 300)]
    rows += [{"n": n, "new": {"a": n}} for n in range(300, 400)]
    for checkpoint in ("state", "output"):
        memory.clear("errors")
        url = f"sqlite:///{tmp_path / checkpoint}.db"
        await run_on(
            tmp_path / checkpoint,
            input=lines(tmp_path / "in.json", rows),
            output={"type": "sql", "url": url, "table_name": "rows"},
            error_output=ERRORS,
            checkpoint=checkpoint,
        )
        statement = "SELECT n FROM rows ORDER BY n"
        written = [n for (n,) in await asyncio.to_thread(query, tmp_path / f"{checkpoint}.db", statement)]
        refused = sorted(json.loads(letter["payload"])["n"] for letter in letters())
        assert sorted(written + refused) == list(range(400)), "each row is written or refused, once"
        assert set(written) >= set(range(200))


class Misbehaving(Processor, type="test_faults_misbehaving"):
    """Does what the test asks for with the batch that holds 13."""

    how: str
    by_row: bool = True

    def process(self, batch: Batch) -> Any:
        if 13 not in batch.column("n").to_pylist():
            return [batch]
        if self.how == "exit":
            sys.exit(3)
        if self.how == "raise":
            raise KeyError("thirteen")
        if self.how == "panic":
            raise type("PanicException", (BaseException,), {})("index out of bounds")
        return {"nothing": None, "text": "text", "table": pa.table({"n": [1]}), "bare": batch, "numbers": [1]}[self.how]

    def row_wise(self) -> bool:
        return self.by_row


@pytest.mark.parametrize("how", ["raise", "exit", "panic", "nothing", "text", "table", "bare", "numbers"])
async def test_a_processor_that_misbehaves_has_its_row_refused_and_the_rest_written(tmp_path: Path, how: str) -> None:
    rows = await run(
        tmp_path,
        input=lines(tmp_path / "in.json", [{"n": n} for n in range(50)]),
        pipeline=[{"type": "test_faults_misbehaving", "how": how}],
        error_output=ERRORS,
    )
    assert numbers(rows) == [n for n in range(50) if n != 13]
    assert [(json.loads(letter["payload"]), letter["stage"]) for letter in letters()] == [
        ({"n": 13}, "0.test_faults_misbehaving")
    ]


async def test_a_processor_on_the_loop_that_exits_is_refused_too(tmp_path: Path) -> None:
    class Exiting(Processor, type="test_faults_exiting"):
        @asynccontextmanager
        async def open(self, context: Context) -> AsyncIterator[Process]:
            async def process(batch: Batch) -> Sequence[Batch]:
                raise SystemExit(3)

            yield process

    assert await run(tmp_path, input=messages(3), pipeline=["test_faults_exiting"], error_output=ERRORS) == []
    assert len(letters()) == 3


async def test_r14_a_script_that_never_returns_is_given_up(tmp_path: Path) -> None:
    script = "import time\ndef work(batch):\n    if batch.column(0)[0].as_py() == 2: time.sleep(20)\n    return batch\n"
    rows = await run(
        tmp_path,
        input=messages(5),
        pipeline=[{"type": "python", "function": "work", "script": script, "timeout": "3s"}],
        error_output=ERRORS,
    )
    assert numbers(rows) == [0, 1, 3, 4]
    assert "did not return within" in letters()[0]["reason"]


def test_a_processor_stuck_in_its_thread_does_not_keep_the_process(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"import pathlib\ndef work(batch):\n    pathlib.Path({str(begun)!r}).touch()\n    return batch"
    query_text = "SELECT count(*) AS c FROM generate_series(1, 100000000000000) AS t(i) WHERE i % 7 = 3"
    stream = {
        "input": messages(1),
        "pipeline": [
            {"type": "python", "function": "work", "script": script},
            {"type": "sql", "query": query_text},
        ],
        "output": "drop",
        "shutdown_timeout": "500ms",
    }
    process = Subprocess(tmp_path, {"streams": [stream]})
    try:
        process.start()
        while not begun.exists():
            assert not process.has_ended(), process.tail()
            time.sleep(0.01)
        code, took = process.terminate()
        assert took < 20  # without the option it may take 30 s
        assert code != 0, "what was not written is no success"
    finally:
        process.close()


async def test_a_stop_while_a_processor_hangs_ends_after_the_shutdown_timeout(tmp_path: Path) -> None:
    stop, processing = asyncio.Event(), Faults({2: HANG})
    options = {"input": messages(5), "pipeline": [FaultyProcessor(processing)], "shutdown_timeout": "300ms"}
    running = asyncio.ensure_future(run(tmp_path, stop, **options))
    await until(lambda: processing.calls > 2)
    stop.set()
    began = time.monotonic()
    with pytest.raises(PenstockError, match="shutdown timeout"):
        await running
    assert time.monotonic() - began < 20  # the processor hangs for ever
    assert sorted(set(numbers(memory.rows("out") + await run_on(tmp_path, input=messages(5))))) == list(range(5))


async def test_values_that_texts_cannot_hold_are_refused_readably(tmp_path: Path) -> None:
    """Nanoseconds, bytes and texts that are no UTF-8 do not keep a dead letter from being written."""
    bad_text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    batch = pa.RecordBatch.from_pydict(
        {
            "at": pa.array([1_234_567_891], pa.timestamp("ns")),
            "took": pa.array([1_234_567_891], pa.duration("ns")),
            "raw": pa.array([b"\xff\0"]),
            "text": bad_text,
            "n": pa.array([13]),
        }
    )
    from penstock.inputs.memory import Memory

    source = Memory.model_construct(messages=[batch], codec=None)
    raising = [{"type": "test_faults_misbehaving", "how": "raise"}]
    assert await run(tmp_path, input=source, pipeline=raising, error_output=ERRORS) == []
    (letter,) = letters()
    assert "thirteen" in letter["reason"]
    assert letter["encoding"] == "base64"
    assert b'"n":13' in base64.b64decode(letter["payload"])


def test_a_slow_output_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Two hundred megabytes of input, and an output that takes its time: the process stays small."""
    path = tmp_path / "in.json"
    row = json.dumps({"n": 1, "text": "x" * 1000}) + "\n"
    with path.open("w") as file:
        for _ in range(200):
            file.write(row * 1000)
    script = "import time\ndef slow(batch):\n    time.sleep(0.05)\n    return batch\n"
    stream = {
        "input": {"type": "file", "path": str(path)},
        "pipeline": [{"type": "python", "function": "slow", "script": script}],
        "output": "drop",
        "max_in_flight": 4,
    }
    process = Subprocess(tmp_path, {"streams": [stream]})
    most = 0
    try:
        process.start()
        while not process.has_ended():
            with suppress(FileNotFoundError, ProcessLookupError):  # it may have ended meanwhile
                status = Path(f"/proc/{process.pid}/status").read_text()
                most = max([most, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))])
            time.sleep(0.02)
        assert process.wait() == 0, process.tail()
    finally:
        process.close()
    print(f"most memory: {most // 1024} MB, page {resource.getpagesize()}")
    assert most < 600 * 1024
