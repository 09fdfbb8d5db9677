"""User-defined functions that a configuration brings along."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from pydantic import model_validator

from ..options import Options

_SCRIPT = "<functions>"


class Functions(Options):
    """Python code whose functions SQL may call: those that it decorates with ``penstock.udf``."""

    script: str | None = None
    """The Python source, which runs in a namespace of its own when the file is read."""
    module: str | None = None
    """The module that has them."""
    python_path: tuple[Path, ...] = ()
    """Directories in which the module is looked for first, in this order."""

    @model_validator(mode="after")
    def _load(self) -> Functions:
        if (self.script is None) == (self.module is None):
            raise ValueError("expected either a `script` or a `module`")
        added = [str(directory) for directory in self.python_path if str(directory) not in sys.path]
        sys.path[:0] = added
        try:
            if self.module is not None:
                importlib.import_module(self.module)
            else:
                module = ModuleType("penstock_functions")
                sys.modules[module.__name__] = module  # annotations are looked up there
                exec(compile(str(self.script), _SCRIPT, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            raise ValueError(f"the functions cannot be loaded: {_describe(error)}") from error
        return self


def _describe(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} at line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _SCRIPT]
    where = f" at line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
