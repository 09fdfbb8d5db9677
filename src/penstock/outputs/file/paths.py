"""Paths with the values of columns and the time in them."""

from __future__ import annotations

import hashlib
import os
import re
import string
from datetime import datetime
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from ... import iso8601
from ...delivery import Batch
from ...errors import PermanentError

NULL = "__HIVE_DEFAULT_PARTITION__"
EMPTY = "__empty__"
MAX_NAME_LENGTH = 120
_SAFE = " +,=@"
_NUMBERED = re.compile(r"-(?=\d{6,}$)")


class Template:
    """A path such as ``out/%Y-%m-%d/{sensor}/data.json``; raises ValueError if it cannot be read."""

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        for literal, column, form, conversion in string.Formatter().parse(text):
            if column == "" or form or conversion:
                raise ValueError(f"{text!r}: expected the name of a column between the braces")
            self._parts.append((literal, column))
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))
        if not self._parts or text.endswith("/"):
            raise ValueError(f"{text!r} names no file")

    @property
    def fixed(self) -> bool:
        """Whether it always gives the same path."""
        return not self.columns and not any("%" in literal.replace("%%", "") for literal, _ in self._parts)

    @property
    def ending(self) -> str:
        """The text after the last value."""
        return self._parts[-1][0] if self._parts[-1][1] is None else ""

    @property
    def folder(self) -> str:
        """The folder that all paths share."""
        literal = self._parts[0][0]
        if not self.fixed:
            literal = literal.replace("%%", "\0").partition("%")[0].replace("\0", "%%")
        return os.path.dirname(literal.replace("%%", "%"))

    def split(self, batch: Batch, now: datetime) -> list[tuple[str, Batch]]:
        """Return each path with its rows, in order of first appearance; raises PermanentError without its column."""
        if not self.columns:
            return [(self._path(now, {}), batch)]
        codes = np.zeros(batch.num_rows, np.int64)
        values: list[list[str | None]] = []
        for column in self.columns:
            encoded = _texts(batch, column).dictionary_encode(null_encoding="encode")
            values.append(encoded.dictionary.to_pylist())
            codes = codes * len(values[-1]) + encoded.indices.to_numpy()
        _, first, group = np.unique(codes, return_index=True, return_inverse=True)
        order = np.argsort(group, kind="stable")
        bounds = np.append(np.searchsorted(group[order], np.arange(len(first))), batch.num_rows)
        rows = batch if len(first) == 1 else batch.take(pa.array(order))
        found = []
        for index in np.argsort(first):
            code, names = int(codes[first[index]]), {}
            for column, texts in zip(reversed(self.columns), reversed(values), strict=True):
                code, at = divmod(code, len(texts))
                names[column] = segment(texts[at])
            found.append((self._path(now, names), rows.slice(bounds[index], bounds[index + 1] - bounds[index])))
        return found

    def _path(self, now: datetime, names: dict[str, str]) -> str:
        return "".join(
            (now.strftime(literal) if "%" in literal else literal) + (names[column] if column is not None else "")
            for literal, column in self._parts
        )


def _texts(batch: Batch, column: str) -> pa.StringArray:
    if column not in batch.schema.names:
        raise PermanentError(f"the path needs the column {column!r}; there are {', '.join(batch.schema.names)}")
    try:
        return iso8601.plain(batch.column(column)).cast(pa.string())
    except pa.ArrowException as error:
        kind = batch.schema.field(column).type
        raise PermanentError(f"the path needs {column!r} as text, which {kind} does not give: {error}") from error


def segment(value: str | None) -> str:
    """Write a value so that it is one harmless part of a path: never a folder of its own making, never too long."""
    if value is None:
        return NULL
    if not value:
        return EMPTY
    text = quote(value, safe=_SAFE).replace("~", "%7E")
    if text.startswith("."):
        text = "%2E" + text[1:]
    text = _NUMBERED.sub("%2D", text)
    if len(text) > MAX_NAME_LENGTH:
        text = f"{text[: MAX_NAME_LENGTH - 17]}~{hashlib.sha256(value.encode()).hexdigest()[:16]}"
    return text


def numbered(path: str, ending: str, number: int) -> str:
    """Return the path of the ``number``-th file: the path itself, then ``out-000002.json`` and so on."""
    if number == 1:
        return path
    return f"{path[: len(path) - len(ending)]}-{number:06d}{ending}"


def last_number(path: str, ending: str) -> int:
    """Return the highest number of the files there are; 0 if there are none."""
    return max(numbers(path, ending), default=0)


def numbers(path: str, ending: str) -> list[int]:
    """Return the numbers of the files there are."""
    folder, name = os.path.split(path)
    stem = name[: len(name) - len(ending)]
    pattern = re.compile(re.escape(stem) + r"(?:-(\d{6,}))?" + re.escape(ending))
    try:
        names = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    return sorted(int(match[1] or 1) for match in map(pattern.fullmatch, names) if match)
