"""Programs of VRL: what can be told from their text, and compiling and running them by the library.

The language: https://vector.dev/docs/reference/vrl/. The library overflows the stack of the process on programs that
are nested too deeply, so that each is compiled in a process of its own first.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from vrl_python import VRLRuntime

from ...errors import ConfigError, PermanentError

MAX_PROGRAM_SIZE = 256 * 1024
"""How many characters a program may have."""
COMPILE_TIMEOUT = 60.0
"""How long the compiler may take, in seconds."""
HOST_FUNCTIONS = frozenset(
    ["get_env_var", "get_hostname", "get_timezone_name", "http_request", "dns_lookup", "reverse_dns"]
)
"""Functions that tell of this machine, or speak with others."""

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>[srt]?'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<number>\d[\d_]*(?:\.\d[\d_]*)?)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)
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
        self._runtime()

    def __deepcopy__(self, memo: Any) -> Program:
        return self

    def run(self, event: dict[str, Any]) -> Any:
        """Return what becomes of an event; raises Aborted, or PermanentError with the line."""
        try:
            return self._runtime().execute(self._text, event).processed_event
        except RuntimeError as error:
            said = str(error)
            if _ABORTED.search(said):
                raise Aborted(_head(said)) from None
            raise PermanentError(f"the program failed: {_head(said)}{_place(said)}") from None
        except TypeError as error:
            raise PermanentError(f"the program cannot be given such a row: {error}") from None

    def _runtime(self) -> VRLRuntime:
        """Return the runtime of this thread: one holds one program, and compiles it once."""
        found: VRLRuntime | None = getattr(self._threads, "runtime", None)
        if found is None:
            found = VRLRuntime(self._timezone)
            found.compile(self._text)
            self._threads.runtime = found
        return found


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
    before: _Token | None = None
    for token in _tokens(text):
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
    tokens = list(_tokens(text))
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        is_field = before is not None and before.text == "." and before.end == token.start
        if token.kind == "word" and token.text in HOST_FUNCTIONS and after.text in ("(", "!") and not is_field:
            line = text.count("\n", 0, token.start) + 1
            raise ConfigError(f"line {line}: {token.text} asks this machine or another: write `allow_host: true`")


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match[0], match.start(), match.end())


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
