"""The python processor: what a function may return, raise and how long it may take."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.component import Processor
from penstock.errors import ConfigError, PenstockError, PermanentError, TransientError
from penstock.processors.python import Python
from penstock.testing.contexts import lend_context
from penstock.testing.suites.processors import ProcessorSuite
from penstock.testing.waiting import until

BATCH = pa.record_batch({"a": [1, 2], "__meta_source": ["x", "y"]})


def python(script: str, **options: Any) -> Python:
    found = Processor.parse({"type": "python", "function": "work", "script": script, **options})
    assert isinstance(found, Python)
    return found


@asynccontextmanager
async def opened(processor: Processor, directory: Path) -> AsyncIterator[Any]:
    async with lend_context(directory) as context, processor.open(context) as process:
        yield process


async def result_of(script: str, directory: Path, **options: Any) -> Sequence[pa.RecordBatch]:
    async with opened(python(script, **options), directory) as process:
        found: Sequence[pa.RecordBatch] = await process(BATCH)
        return found


class TestFunction(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return python("def work(batch):\n    return batch.select(['id'])")


class TestCoroutine(ProcessorSuite):
    @pytest.fixture
    def component(self) -> Processor:
        return python("import asyncio\nasync def work(batch):\n    await asyncio.sleep(0.001)\n    return [batch]")


@pytest.mark.parametrize(
    ("returned", "rows"),
    [
        ("batch", [[1, 2]]),
        ("pa.Table.from_batches([batch, batch])", [[1, 2], [1, 2]]),
        ("[batch, batch]", [[1, 2], [1, 2]]),
        ("(batch.slice(0, 1), batch.slice(1))", [[1], [2]]),
        ("[]", []),
        ("None", []),
    ],
)
async def test_r14_what_a_function_may_return(returned: str, rows: list[list[int]], tmp_path: Path) -> None:
    found = await result_of(f"import pyarrow as pa\ndef work(batch):\n    return {returned}", tmp_path)
    assert [batch.column("a").to_pylist() for batch in found] == rows


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("5", "work\\(\\) returned int; expected a RecordBatch"),
        ("[batch, 'x']", "returned str in a list"),
        ("{'a': [1]}", "returned dict"),
    ],
)
async def test_anything_else_is_refused(returned: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=message):
        await result_of(f"def work(batch):\n    return {returned}", tmp_path)


async def test_metadata_is_put_back_where_the_rows_are_the_same(tmp_path: Path) -> None:
    (found,) = await result_of("def work(batch):\n    return batch.select(['a'])", tmp_path)
    assert found.to_pydict() == {"a": [1, 2], "__meta_source": ["x", "y"]}
    found = await result_of("def work(batch):\n    b = batch.select(['a'])\n    return [b[:1], b[1:]]", tmp_path)
    assert [batch.column("__meta_source").to_pylist() for batch in found] == [["x"], ["y"]]
    (found,) = await result_of("def work(batch):\n    return batch.select(['a'])[:1]", tmp_path)
    assert found.schema.names == ["a"]


async def test_what_it_raises_is_named_with_the_line_of_the_script(tmp_path: Path) -> None:
    script = "import json\n\ndef work(batch):\n    x = 1\n    return json.loads('{')\n"
    with pytest.raises(PermanentError, match=r"work\(\) raised JSONDecodeError: .* \(script, line 5\)"):
        await result_of(script, tmp_path)
    with pytest.raises(PermanentError, match=r"raised SystemExit: 3 \(script, line 3\)"):
        await result_of("import sys\ndef work(batch):\n    sys.exit(3)", tmp_path)
    with pytest.raises(PermanentError, match=r"raised KeyError: 'x' \(script, line 2\)"):
        await result_of("async def work(batch):\n    {}['x']", tmp_path)


async def test_errors_of_this_package_pass(tmp_path: Path) -> None:
    script = "from penstock.errors import TransientError\ndef work(batch):\n    raise TransientError('later')"
    with pytest.raises(TransientError, match="later"):
        await result_of(script, tmp_path)


async def test_r14_each_script_has_a_namespace_of_its_own(tmp_path: Path) -> None:
    script = "import pyarrow as pa\nn = {n}\ndef work(batch):\n    return pa.record_batch({{'n': [n]}})"
    async with opened(python(script.format(n=1)), tmp_path) as one, opened(python(script.format(n=2)), tmp_path) as two:
        assert (await one(BATCH))[0].to_pydict() == {"n": [1]}
        assert (await two(BATCH))[0].to_pydict() == {"n": [2]}
    assert not hasattr(sys.modules["__main__"], "work")


def waiting_for(gate: Path, condition: str) -> str:
    """A script whose calls return only once there is a file, where ``condition`` holds."""
    return f"""
import pathlib, time
def work(batch):
    while {condition} and not pathlib.Path({str(gate)!r}).exists():
        time.sleep(0.01)
    return batch
"""


async def test_r14_a_call_that_takes_too_long_is_refused_and_replaced(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(python(waiting_for(gate, "batch.num_rows > 1"), timeout="1s"), tmp_path) as process:
        with pytest.raises(PermanentError, match=r"work\(\) did not return within 1 s"):
            await process(BATCH)
        assert (await process(BATCH.slice(0, 1)))[0].num_rows == 1
        gate.touch()


async def test_a_coroutine_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    script = "import asyncio\nasync def work(batch):\n    await asyncio.sleep(30)"
    with pytest.raises(PermanentError, match=r"did not return within 0.02 s"):
        await result_of(script, tmp_path, timeout_ms=20)


async def test_stuck_threads_are_limited(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with opened(python(waiting_for(gate, "True"), timeout="10ms"), tmp_path) as process:
        for _ in range(8):
            with pytest.raises(PermanentError):
                await process(BATCH)
        with pytest.raises(PenstockError, match="8 calls have not returned") as refused:
            await process(BATCH)
        assert not isinstance(refused.value, PermanentError)
        gate.touch()

        async def is_taken() -> bool:
            try:
                await process(BATCH)
            except PermanentError:  # it did not return in time, on a busy machine
                return True
            except PenstockError:
                return False
            return True

        await until(is_taken)
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "test.work"])


async def test_r14_several_calls_run_at_once(tmp_path: Path) -> None:
    script = "import threading\nmeet = threading.Barrier(6).wait\ndef work(batch):\n    meet()\n    return batch"
    async with opened(python(script), tmp_path) as process:
        await asyncio.gather(*(process(BATCH) for _ in range(6)))


async def test_a_module_is_found_in_the_order_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    source = "import pyarrow as pa\ndef work(batch):\n    return pa.record_batch({{'from': ['{name}']}})\n"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "order_of_path.py").write_text(source.format(name=name))
    path = [str(tmp_path / "first"), str(tmp_path / "second")]
    processor = Processor.parse({"type": "python", "function": "work", "module": "order_of_path", "python_path": path})
    assert not processor.reads_metadata()
    async with opened(processor, tmp_path) as process:
        assert (await process(BATCH))[0].to_pydict() == {"from": ["first"]}
    assert sys.path[:2] == path
    del sys.modules["order_of_path"]


def test_whether_metadata_is_read(tmp_path: Path) -> None:
    assert python("def work(b):\n    return b.select(['__meta_source'])").reads_metadata()
    assert not python("def work(b):\n    return b").reads_metadata()
    (tmp_path / "reads.py").write_text("COLUMN = '__meta_key'")
    assert Python(function="work", module="reads", python_path=(str(tmp_path),)).reads_metadata()
    assert Python(function="work", module="cannot.be.found").reads_metadata()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"script": "def work(:"}, "script: invalid syntax at line 1"),
        ({}, "either a `script` or a `module`"),
        ({"script": "x = 1", "module": "json"}, "either a `script` or a `module`"),
        ({"script": "x = 1", "timeout": "1s", "timeout_ms": 4}, "either `timeout` or"),
        ({"script": "x = 1", "timeout": "0s"}, "timeout"),
    ],
)
def test_wrong_options_are_found_when_the_stream_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Processor.parse({"type": "python", "function": "work", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"script": "x = 1"}, "the script has no function 'work'"),
        ({"script": "work = 1", "module": "__main__"}, "the script has no function 'work'"),
        ({"script": "x = 1\nimport nothing_of_that_name"}, "No module named .* \\(script, line 2\\)"),
        ({"module": "nothing_of_that_name"}, "module 'nothing_of_that_name' cannot be loaded"),
        ({"module": "json"}, "module 'json' has no function 'work'"),
    ],
)
async def test_what_cannot_be_loaded_is_a_wrong_configuration(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        async with opened(Processor.parse({"type": "python", "function": "work", **options}), tmp_path):
            pass
