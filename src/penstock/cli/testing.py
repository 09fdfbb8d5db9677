"""Run the tests that stand beside a stream: rows in, rows out, on a clock that jumps."""

from __future__ import annotations

import difflib
import json
import math
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from ..component import Branch, Codec, Input, Output
from ..config.configuration import Configuration, load
from ..config.document import Document, read_document
from ..delivery import Batch
from ..engine import Engine
from ..errors import ConfigError, PenstockError
from ..options import Options
from ..runtime.branches import find_leaves
from ..stream import Restart, Stream
from ..testing.clock import EPOCH, FakeClock, run_jumping

_SUFFIX = ".test"


def _as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime | date) else value


class Expected(Options):
    """A row that is expected among the refused ones; what is left out may be anything."""

    stage: str | None = None
    """Where it is refused, such as `decode`, `0.sql` or `output`."""
    reason: str | None = None
    """A part of the reason."""
    payload: str | None = None
    """The payload as it came, or the row as JSON."""


class Test(Options):
    """Rows in, and the rows that are to come out."""

    name: str
    """What it tests."""
    stream: str | None = None
    """The `id` of the stream; not needed where the file has only one."""
    now: Annotated[datetime | None, BeforeValidator(_as_text)] = None
    """The time at which it begins, by the clock of windows, limits and caches; it moves only when all wait."""
    input: list[Any]
    """What comes in, one after the other: a mapping is a row, a text is a payload for the codec of the input."""
    output: list[dict[str, Any]] | dict[str, list[dict[str, Any]]] = []
    """The rows that are to be written; where there are several outputs, the rows of each by its name."""
    errors: list[Expected] = []
    """The rows that are to be refused."""
    ordered: bool = True
    """Whether the rows are to come in this order."""


class Tests(Options):
    """A file of tests."""

    file: Path | None = None
    """The configuration that is tested, beside this file; by default the one of its name without `.test`."""
    tests: list[Test] = Field(min_length=1)
    """The tests."""


def run_tests(files: Sequence[Path]) -> int:
    """Run the tests of some files and say how each went; returns the exit code."""
    failures = count = 0
    for file in files:
        path = _tests_of(file)
        tests, configuration = _read(path)
        for test in tests.tests:
            count += 1
            faults = list(_faults(test, configuration))
            failures += bool(faults)
            mark = typer.style("FAIL", fg="red") if faults else typer.style("ok  ", fg="green")
            typer.echo(f"{mark} {path}: {test.name}")
            for line in faults:
                typer.echo(f"     {line}")
    typer.echo(f"{count - failures} of {count} tests passed")
    return 1 if failures else 0


def _tests_of(file: Path) -> Path:
    if file.stem.endswith(_SUFFIX):
        return file
    path = file.with_name(f"{file.stem}{_SUFFIX}{file.suffix}")
    if not path.exists():
        raise ConfigError(f"has no tests: expected {path.name} beside it", file=str(file))
    return path


def _read(path: Path) -> tuple[Tests, Configuration]:
    document = read_document(path)
    try:
        tests = Tests.model_validate(document.value)
    except ValidationError as invalid:
        raise _first_error(document, invalid) from None
    tested = tests.file or Path(path.name.replace(_SUFFIX, "", 1))
    return tests, load(path.parent / tested)


def _first_error(document: Document, invalid: ValidationError) -> ConfigError:
    error = invalid.errors(include_url=False, include_input=False)[0]
    return document.error(str(error["msg"]), tuple(error["loc"]))


def _faults(test: Test, configuration: Configuration) -> Iterator[str]:
    """Yield what is not as expected, a line each; nothing if all is."""
    streams = {stream.id: stream for stream in configuration.all_streams()}
    if test.stream is None and len(streams) > 1:
        raise ConfigError(f"test {test.name!r}: name its `stream`, one of {', '.join(streams)}")
    if test.stream is not None and test.stream not in streams:
        raise ConfigError(
            f"test {test.name!r}: no stream is called {test.stream!r}; expected one of {', '.join(streams)}"
        )
    stream = streams[test.stream] if test.stream is not None else next(iter(streams.values()))
    taken = _Taken(stream)
    try:
        taken.run(test)
    except PenstockError as error:
        yield f"the stream failed: {error}"
    expected = test.output if isinstance(test.output, dict) else None
    if expected is None and test.output and len(taken.names) > 1:
        raise ConfigError(f"test {test.name!r}: give `output` by name, for {', '.join(taken.names)}")
    if expected is None:
        expected = {taken.names[0]: test.output} if isinstance(test.output, list) else {}
    for name in expected:
        if name not in taken.names:
            raise ConfigError(
                f"test {test.name!r}: no output is called {name!r}; expected one of {', '.join(taken.names)}"
            )
    for name in taken.names:
        where = "output" if len(taken.names) == 1 else f"output {name}"
        yield from _compare(where, expected.get(name, []), taken.rows(name), test.ordered)
    yield from _compare_errors(test.errors, taken.errors())


class _Taken:
    """A stream with its input and outputs taken away."""

    def __init__(self, stream: Stream) -> None:
        from ..outputs import memory

        self._memory, self._stream, self._prefix = memory, stream, uuid.uuid4().hex
        leaves = find_leaves(stream.output)
        self._keys = {leaf.name.removeprefix("output").removeprefix(".") or "output": leaf.name for leaf in leaves}
        self.names = list(self._keys)

    def run(self, test: Test) -> None:
        """Run the stream over the rows of a test."""
        keys = iter([f"{self._prefix}/{leaf}" for leaf in self._keys.values()])
        stream = self._stream.model_copy(
            update={
                "input": self._input(test.input),
                "output": _capture(self._stream.output, keys),
                "error_output": self._memory.Memory(key=f"{self._prefix}/errors"),
                "durability": None,
                "checkpoint": "state",
                "restart": Restart(attempts=0),
            }
        )
        start = (
            EPOCH if test.now is None else (test.now if test.now.tzinfo else test.now.replace(tzinfo=UTC)).timestamp()
        )
        with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:

            async def main() -> None:
                await Engine([stream], state="memory", data=Path(folder), clock=FakeClock(start)).run()

            run_jumping(main())

    def _input(self, rows: Sequence[Any]) -> Input:
        messages: list[Any] = []
        for row in rows:
            messages.append(_as_batch(row) if isinstance(row, Mapping) else str(row))
        return Input.parse({"type": "memory", "messages": messages, "codec": self._stream.input.payload_codec()})

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return what was written to an output."""
        return _as_rows(self._memory.kept.pop(f"{self._prefix}/{self._keys[name]}", []))

    def errors(self) -> list[dict[str, Any]]:
        """Return the rows that were refused."""
        return _as_rows(self._memory.kept.pop(f"{self._prefix}/errors", []))


class _Captured(Output):
    """An output that stands for others, of which each keeps its rows in memory."""

    _inner: list[Branch] = PrivateAttr()

    def branches(self) -> Sequence[Branch]:
        return self._inner


def _capture(output: Output, keys: Iterator[str]) -> Output:
    branches = output.branches()
    if not branches:
        found = Output.parse({"type": "memory", "key": next(keys)})
        return found.model_copy(update={"name": output.name or output.type_name})
    captured = _Captured(name=output.name or output.type_name)
    captured._inner = [
        branch if branch.output is None else branch._replace(output=_capture(branch.output, keys))
        for branch in branches
    ]
    return captured


def _as_batch(row: Mapping[str, Any]) -> Batch:
    text = json.dumps(row, default=_as_text)
    return Codec.find("json")().decode(pa.array([text.encode()], pa.binary()))


def _as_rows(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    return [json.loads(text) for batch in batches for text in Codec.find("json")().encode(batch).to_pylist()]


def _compare(where: str, expected: Sequence[Any], found: Sequence[Any], ordered: bool) -> Iterator[str]:
    wanted = [json.loads(json.dumps(row, default=_as_text)) for row in expected]
    if _are_same(wanted, list(found)) or (not ordered and Counter(map(_line, wanted)) == Counter(map(_line, found))):
        return
    diff = difflib.unified_diff(
        [_line(row) for row in wanted], [_line(row) for row in found], f"{where}: expected", "found", lineterm="", n=1
    )
    yield from diff


def _line(row: Any) -> str:
    present = {key: value for key, value in row.items() if value is not None}
    return json.dumps(present, sort_keys=True, ensure_ascii=False)


def _are_same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same; numbers with a fraction may differ by rounding, null is as absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_are_same(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_are_same(a, b) for a, b in zip(one, other, strict=True))
    if float in (type(one), type(other)) and {type(one), type(other)} <= {int, float}:
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


def _compare_errors(expected: Sequence[Expected], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for letter, wanted in zip(found, expected, strict=False):
        if wanted.stage not in (None, letter["stage"]):
            yield f"refused: expected by {wanted.stage}, found by {letter['stage']}: {letter['reason']}"
        elif wanted.reason is not None and wanted.reason not in letter["reason"]:
            yield f"refused: expected because of {wanted.reason!r}, found {letter['reason']!r}"
        elif wanted.payload not in (None, letter["payload"]):
            yield f"refused: expected {wanted.payload!r}, found {letter['payload']!r}"
    for letter in found[len(expected) :]:
        yield f"refused, which nobody expects: {letter['payload']!r} by {letter['stage']}: {letter['reason']}"
    for wanted in expected[len(found) :]:
        yield f"not refused, though expected: {wanted.model_dump_json(exclude_none=True)}"
