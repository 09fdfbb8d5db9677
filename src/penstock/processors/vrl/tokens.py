"""The words and signs of a program of VRL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>[srt]?'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
      | (?P<number>\d[\d_]*(?:\.\d[\d_]*)?)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word or sign, and where it stands."""

    kind: str
    text: str
    start: int
    end: int


def tokens(text: str) -> Iterator[Token]:
    """Yield what is neither space nor comment."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match[0], match.start(), match.end())
