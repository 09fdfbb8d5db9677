"""Call a Python function with each batch."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from pydantic import Field, model_validator

from ..component import Process, Processor
from ..context import Context
from ..delivery import Batch
from ..duration import Duration
from ..errors import ConfigError, PenstockError, PermanentError
from ..metadata import PREFIX, keep_metadata
from ..runtime.threads import Workers

_SCRIPT = "<script>"


class Python(Processor, type="python"):
    """Call a Python function with each batch, a ``pyarrow.RecordBatch``.

    The function returns a RecordBatch, a Table or a list of them; an empty list or None filters the batch. What it
    raises refuses the batch, with the line of the script, unless it is one of the errors of ``penstock.errors``.
    ``__meta_*`` columns that it left out are put back where it returned as many rows as it was given.

    It comes from an inline ``script``, which runs in a namespace of its own, or from a ``module``. A plain function
    runs in a thread, several at once. After ``timeout`` the rows are refused; as a thread cannot be ended, the
    stream fails when eight calls are stuck. An ``async def`` function runs on the event loop, which it must not
    block, and is cancelled after ``timeout``.

    Example::

        type: python
        function: double
        script: |
          import pyarrow.compute as pc

          def double(batch):
              return batch.set_column(0, "value", pc.multiply(batch.column(0), 2))
    """

    function: str = Field(min_length=1)
    """The name of the function."""
    script: str | None = None
    """The Python source that defines it."""
    module: str | None = None
    """The module that defines it; `__main__` stands for the script."""
    python_path: tuple[str, ...] = ()
    """Directories in which modules are looked for first, in this order."""
    timeout: Duration = Field(60.0, gt=0)
    """How long a call may take."""
    timeout_ms: int | None = Field(None, gt=0)
    """The same in milliseconds."""

    @model_validator(mode="after")
    def _check(self) -> Python:
        if (self.script is None) == (self._module is None):
            raise ValueError("expected either a `script` or a `module`")
        if self.timeout_ms is not None and "timeout" in self.model_fields_set:
            raise ValueError("expected either `timeout` or `timeout_ms`")
        if self.script is not None:
            try:
                compile(self.script, _SCRIPT, "exec")
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None)
                where = f" at line {line}" if line else ""
                raise ValueError(f"script: {getattr(error, 'msg', error)}{where}") from error
        return self

    @property
    def _module(self) -> str | None:
        return None if self.module == "__main__" else self.module

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Load the function; raises ConfigError if there is none."""
        function = await asyncio.to_thread(self._load)
        timeout = self.timeout if self.timeout_ms is None else self.timeout_ms / 1000
        workers = Workers(f"{context.name}.{self.function}", timeout)

        async def process(batch: Batch) -> Sequence[Batch]:
            try:
                if inspect.iscoroutinefunction(function):
                    async with asyncio.timeout(timeout):
                        found = await self._called_async(function, batch)
                else:
                    found = await workers.call(lambda: self._called(function, batch))
            except TimeoutError as late:
                raise PermanentError(f"{self.function}() did not return within {timeout:g} s") from late
            return self._batches(found, batch)

        try:
            yield process
        finally:
            workers.close()

    def row_wise(self) -> bool:
        """Tell that a batch may not be halved: the function may look at all of its rows."""
        return False

    def reads_metadata(self) -> bool:
        """Tell whether the source of the function names a ``__meta_*`` column, or cannot be read."""
        if self.script is not None:
            return PREFIX in self.script
        source = self._source_file()
        return source is None or PREFIX in source.read_text(errors="replace")

    def _source_file(self) -> Path | None:
        place = Path(*str(self._module).split("."))
        for directory in (*self.python_path, *sys.path):
            for path in (Path(directory, place.with_suffix(".py")), Path(directory, place, "__init__.py")):
                if path.is_file():
                    return path
        return None

    def _load(self) -> Callable[[Batch], Any]:
        added = [directory for directory in self.python_path if directory not in sys.path]
        sys.path[:0] = added
        try:
            function = getattr(self._loaded_module(), self.function, None)
        except Exception as error:
            raise ConfigError(f"{self._origin()} cannot be loaded: {self._raised(error)}") from error
        if not callable(function):
            raise ConfigError(f"{self._origin()} has no function {self.function!r}")
        return function  # type: ignore[no-any-return]

    def _loaded_module(self) -> ModuleType:
        if self.script is None:
            return importlib.import_module(str(self._module))
        module = ModuleType(f"penstock_script_{self.function}")
        exec(compile(self.script, _SCRIPT, "exec"), module.__dict__)
        return module

    def _called(self, function: Callable[[Batch], Any], batch: Batch) -> Any:
        try:
            return function(batch)
        except PenstockError:
            raise
        except (Exception, SystemExit) as error:
            raise PermanentError(f"{self.function}() raised {self._raised(error)}") from error

    async def _called_async(self, function: Callable[[Batch], Any], batch: Batch) -> Any:
        try:
            return await function(batch)
        except PenstockError:
            raise
        except Exception as error:
            raise PermanentError(f"{self.function}() raised {self._raised(error)}") from error

    def _origin(self) -> str:
        return "the script" if self.script is not None else f"module {self._module!r}"

    def _raised(self, error: BaseException) -> str:
        """Say what was raised and at which line of the script, or of which file."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        own = [frame for frame in frames if frame.filename == _SCRIPT] or frames[-1:]
        where = (
            f" ({'script' if own[-1].filename == _SCRIPT else own[-1].filename}, line {own[-1].lineno})" if own else ""
        )
        return f"{type(error).__name__}: {error}{where}"

    def _batches(self, found: Any, source: Batch) -> list[Batch]:
        batches: list[Batch] = []
        for part in found if isinstance(found, list | tuple) else [] if found is None else [found]:
            if isinstance(part, pa.RecordBatch):
                batches.append(part)
            elif isinstance(part, pa.Table):
                batches += part.to_batches()
            else:
                inside = " in a list" if part is not found else ""
                raise PermanentError(
                    f"{self.function}() returned {type(part).__name__}{inside}; "
                    "expected a RecordBatch, a Table, a list of them or None"
                )
        if sum(batch.num_rows for batch in batches) != source.num_rows:
            return batches
        starts = [sum(batch.num_rows for batch in batches[:at]) for at in range(len(batches))]
        return [keep_metadata(source.slice(start, b.num_rows), b) for start, b in zip(starts, batches, strict=True)]
