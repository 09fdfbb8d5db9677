"""Programs of VRL: what can be told from their text, and compiling and running them by the library.

The language: https://vector.dev/docs/reference/vrl/. The library overflows the stack of the process on programs that
are nested too deeply, so that each is compiled in a process of its own first.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from functools import lru_cache
from typing import Any

from vrl_python import VRLRuntime

from ...errors import ConfigError, PermanentError
from .overflow import checked, overflow_in
from .tokens import Token, tokens

MAX_PROGRAM_SIZE = 256 * 1024
"""How many characters a program may have."""
COMPILE_TIMEOUT = 60.0
"""How long the compiler may take, in seconds."""
HOST_FUNCTIONS = frozenset(
    ["get_env_var", "get_hostname", "get_timezone_name", "http_request", "dns_lookup", "reverse_dns"]
)
"""Functions that tell of this machine, or speak with others."""

_SEGMENT = re.compile(r"""[A-Za-z0-9_@]+|"(?:\\.|[^"\\])*\"""")
_ABORTED = re.compile(r"│ +\^+ aborted$", re.MULTILINE)
_HEAD = re.compile(r"error\[E000\]: (.*?)\n", re.DOTALL)
_PLACE = re.compile(r"┌─ :(\d+):(\d+)")
_COMPILE = """
import sys, threading
from vrl_python import VRLRuntime
text = sys.stdin.read()
def compile():
    try:
        VRLRuntime().execute(text, {})
    except (ValueError, RuntimeError):
        pass
thread = threading.Thread(target=compile)
thread.start()
thread.join()
"""


class Aborted(Exception):
    """The program gave up on the row by ``abort``."""


class Program:
    """A compiled program. May be run from several threads at once."""

    def __init__(self, text: str, timezone: str) -> None:
        self._text, self._timezone = text, timezone
        self._threads = threading.local()
        self.fields = fields(text)
        self._runtime(text)
        self._checked = self._with_checks()

    def __deepcopy__(self, memo: Any) -> Program:
        return self

    def run(self, event: dict[str, Any]) -> Any:
        """Return what becomes of an event; raises Aborted, or PermanentError with the line."""
        if self._checked is not None:
            try:
                return self._executed(self._checked, event)
            except RuntimeError as error:
                if (said := overflow_in(str(error))) is not None:
                    raise PermanentError(said) from None
        try:
            return self._executed(self._text, event)
        except RuntimeError as error:
            said = str(error)
            if _ABORTED.search(said):
                raise Aborted(_head(said)) from None
            raise PermanentError(f"the program failed: {_head(said)}{_place(said)}") from None

    def _executed(self, text: str, event: dict[str, Any]) -> Any:
        try:
            return self._runtime(text).execute(text, event).processed_event
        except TypeError as error:
            raise PermanentError(f"the program cannot be given such a row: {error}") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of the library, and derived from BaseException
                raise
            raise PermanentError(f"the program failed: {error}") from None

    def _with_checks(self) -> str | None:
        """Return the program with its operations checked, those that still compile; None if there are none."""
        whole = checked(self._text)
        if not whole.operations:
            return None
        try:
            _try_elsewhere(whole.text)
        except ConfigError:
            return None
        if self._compiles(whole.text):
            return whole.text
        some = checked(self._text, {at for at in whole.operations if self._compiles(checked(self._text, {at}).text)})
        return some.text if some.operations and self._compiles(some.text) else None

    def _compiles(self, text: str) -> bool:
        try:
            VRLRuntime(self._timezone).compile(text)
        except ValueError:
            return False
        return True

    def _runtime(self, text: str) -> VRLRuntime:
        """Return the runtime of this thread for a text: one holds one program, and compiles it once."""
        runtimes: dict[str, VRLRuntime] | None = getattr(self._threads, "runtimes", None)
        if runtimes is None:
            runtimes = self._threads.runtimes = {}
        if text not in runtimes:
            runtime = VRLRuntime(self._timezone)
            runtime.compile(text)
            runtimes[text] = runtime
        return runtimes[text]


@lru_cache(maxsize=256)
def compile_program(text: str, timezone: str, *, allow_host: bool) -> Program:
    """Return a program; raises ConfigError with line and place of what is wrong, or for what it may not call."""
    if len(text) > MAX_PROGRAM_SIZE:
        raise ConfigError(f"a program has at most {MAX_PROGRAM_SIZE} characters, this one {len(text)}")
    if not allow_host:
        _refuse_host_functions(text)
    _try_elsewhere(text)
    try:
        return Program(text, timezone)
    except ValueError as error:
        raise ConfigError(_diagnosis(str(error))) from None


def fields(text: str) -> frozenset[str] | None:
    """Return the fields of the event that a program names; None if it may look at all of them."""
    found: set[str] = set()
    before: Token | None = None
    for token in tokens(text):
        is_continued = (
            before is not None
            and before.end == token.start
            and (before.kind in ("word", "string") or before.text in (")", "]", "}"))
        )
        if token.kind == "symbol" and token.text == "." and not is_continued:
            segment = _SEGMENT.match(text, token.start + 1)
            if segment is None:
                return None
            found.add(_unquoted(segment[0]))
        before = token
    return frozenset(found)


def _refuse_host_functions(text: str) -> None:
    found = list(tokens(text))
    for before, token, after in zip([None, *found], found, found[1:], strict=False):
        is_field = before is not None and before.text == "." and before.end == token.start
        if token.kind == "word" and token.text in HOST_FUNCTIONS and after.text in ("(", "!") and not is_field:
            line = text.count("\n", 0, token.start) + 1
            raise ConfigError(f"line {line}: {token.text} asks this machine or another: write `allow_host: true`")


def _unquoted(segment: str) -> str:
    return re.sub(r"\\(.)", r"\1", segment[1:-1]) if segment.startswith('"') else segment


@lru_cache(maxsize=256)
def _try_elsewhere(text: str) -> None:
    """Raise ConfigError for a program that ends the process which compiles it."""
    command = [sys.executable, "-c", _COMPILE]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=COMPILE_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"the program is not compiled within {COMPILE_TIMEOUT:g} s") from None
    if done.returncode < 0:
        raise ConfigError("the program is nested too deeply to be compiled")


def _head(said: str) -> str:
    found = _HEAD.search(said)
    return found[1].strip() if found else said.strip().splitlines()[0]


def _place(said: str) -> str:
    found = _PLACE.search(said)
    return f" (line {found[1]}, column {found[2]})" if found else ""


def _diagnosis(said: str) -> str:
    """Return the first error with its line and caret, without the addresses of the documentation."""
    first = said.strip().split("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if not line.lstrip().startswith("="))
