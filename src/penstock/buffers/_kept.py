"""Keep partial results in keyed state: changes as they come, and now and then all of it anew."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ..keyedstate import KeyedState

MAX_PIECE_SIZE = 600_000
"""Bytes of a table in one value of the state, before it becomes text."""
PIECE_ROWS = 16_384
"""Rows of a piece, where they are not too large."""
MIN_REWRITTEN = 65_536
"""How many rows of changes there are at least before everything is written anew."""
_IPC = pa.ipc.IpcWriteOptions(compression="zstd")


class Kept:
    """What is kept of open windows, in keyed state: a base, and the changes since, each with what was over then.

    A change is written once, and everything is written anew when the changes are as many as what is kept: so a row is
    written twice on average, however large the state is.
    """

    def __init__(self, state: KeyedState) -> None:
        self._state = state
        self._next = 0
        self._names: list[str] = []
        self._changed_rows = 0

    def load(self) -> Iterator[tuple[pa.Table | None, dict[str, Any]]]:
        """Yield the base and each change, in order, with what was noted beside it."""
        self._names = sorted(name for name in self._state if name != "last")
        base: list[pa.Table] = []
        for name in self._names:
            value = self._state.get(name)
            table = _read(value["table"])
            if value["note"] is None:
                base.append(table)
                continue
            if base:
                yield pa.concat_tables(base), {}
                base = []
            self._changed_rows += table.num_rows
            yield table, value["note"]
        if base:
            yield pa.concat_tables(base), {}
        last = self._state.get("last")
        if last is not None:
            self._next = last["next"]
            yield None, last["note"]

    def add(self, change: pa.Table | None, note: dict[str, Any]) -> None:
        """Note a change, and what is over now."""
        pieces = list(_pieces(change)) if change is not None and change.num_rows else []
        for at, piece in enumerate(pieces):
            self._put(piece, note if at == len(pieces) - 1 else {})
        self._changed_rows += change.num_rows if change is not None else 0
        self._state.put("last", {"next": self._next, "note": note})

    def rewrite(self, whole: pa.Table | None, note: dict[str, Any]) -> None:
        """Write everything anew, if there are as many changes as that is worth."""
        rows = whole.num_rows if whole is not None else 0
        if self._changed_rows < max(rows, MIN_REWRITTEN) and (rows or not self._names):
            return
        for name in self._names:
            self._state.delete(name)
        self._names, self._changed_rows = [], 0
        for piece in _pieces(whole) if whole is not None and rows else ():
            self._put(piece, None)
        self._state.put("last", {"next": self._next, "note": note})

    def _put(self, piece: bytes, note: dict[str, Any] | None) -> None:
        name = f"{self._next:012}"
        self._state.put(name, {"table": base64.b64encode(piece).decode(), "note": note})
        self._names.append(name)
        self._next += 1


def _pieces(table: pa.Table, rows: int = PIECE_ROWS) -> Iterator[bytes]:
    """Yield a table in pieces that fit one value."""
    for start in range(0, table.num_rows, rows):
        piece = table.slice(start, rows)
        written = _write(piece)
        if len(written) <= MAX_PIECE_SIZE or piece.num_rows < 2:
            yield written
        else:
            yield from _pieces(piece, -(-piece.num_rows // 2))


def _write(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_IPC) as writer:
        writer.write_table(table.combine_chunks())
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read(text: str) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(base64.b64decode(text))).read_all()
