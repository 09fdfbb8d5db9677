import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.component import Output
from penstock.metadata import Origin, attach
from penstock.outputs.stdout import Stdout
from penstock.testing.contexts import lend_context
from penstock.testing.suites import OutputSuite


def values(*payloads: bytes | None) -> pa.RecordBatch:
    return pa.record_batch({"__value__": pa.array(payloads, pa.binary())})


async def write(output: Stdout, directory: Path, *batches: pa.RecordBatch) -> None:
    async with lend_context(directory) as context, output.open(context) as writer:
        await writer.write(batches)


async def test_payloads_are_printed_a_line_each(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    await write(Stdout(), tmp_path, values(b"a", None, b""), values(), values(b"\xff\xfe"))
    assert capfdbinary.readouterr().out == b"a\n\n\xff\xfe\n"


async def test_line_breaks_may_be_left_out(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    await write(Stdout(append_newline=False), tmp_path, values(b"a", b"b"), values(b"c"))
    assert capfdbinary.readouterr().out == b"abc"


async def test_rows_without_a_payload_are_printed_as_json(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    batch = attach(pa.record_batch({"n": [1, 2]}), Origin("test"))
    await write(Stdout(), tmp_path, batch)
    assert capfdbinary.readouterr().out.replace(b" ", b"") == b'{"n":1}\n{"n":2}\n'


async def test_it_works_where_the_standard_output_is_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    await write(Stdout(), tmp_path, values("ü".encode()))
    assert text.getvalue() == "ü\n"


SCRIPT = """
import asyncio, pyarrow as pa
from pathlib import Path
from penstock.errors import PenstockError
from penstock.outputs.stdout import Stdout
from penstock.testing.contexts import lend_context

async def main():
    async with lend_context(Path(".")) as context, Stdout().open(context) as writer:
        input()
        await writer.write([pa.record_batch({"__value__": pa.array([b"x"], pa.binary())})])

try:
    asyncio.run(main())
except PenstockError as error:
    raise SystemExit("stopped: " + str(error))
"""


def test_a_closed_pipe_stops_with_a_clear_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(b"\n", timeout=60)
    assert process.returncode == 1
    assert errors.decode().strip().startswith("stopped: nobody reads the standard output")


class TestStdout(OutputSuite):
    readable = False

    @pytest.fixture
    def component(self) -> Output:
        return Output.parse("stdout")
