"""Print the rows of a query, as they come."""

from __future__ import annotations

import csv
import datetime
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..application import Installation
from ..clients.view import Selection, select, tables
from ..errors import PenstockError
from ..platform.ownership import files_beside, rows_database

_SAMPLE = 200
"""How many rows decide how wide the columns of a table are."""
_WIDEST = 60


def print_rows(data: Path, sql: str, format: str) -> None:
    """Print the result of a query; raises PenstockError, naming the tables there are where one is missing."""
    installation = _installation(data)
    where = rows_database(installation)
    try:
        _print(select(where, sql, beside=files_beside(installation)), format)
    except PenstockError as error:
        message = str(error)
        if message.startswith("there is no database"):
            raise PenstockError(f"nothing is stored in {data} yet: run `penstock up` and post a row") from error
        missing = "no such table" in message or "does not exist" in message
        raise PenstockError(f"{message}; {tables(where).listed()}" if missing else message) from error


def print_tables(data: Path, format: str) -> None:
    """Print the tables and their columns."""
    try:
        found = tables(rows_database(_installation(data)))
    except PenstockError as error:
        if not str(error).startswith("there is no database"):
            raise
        raise PenstockError(f"nothing is stored in {data} yet: run `penstock up` and post a row") from error
    _print(Selection(["table", "columns"], iter([(name, ", ".join(found[name])) for name in found])), format)


def _installation(data: Path) -> Installation:
    return Installation(data, database=os.environ.get("PENSTOCK_DATABASE_URL", ""))


def _print(selection: Selection, format: str) -> None:
    {"csv": _csv, "json": _json, "table": _table}[format](selection)
    sys.stdout.flush()


def _csv(selection: Selection) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(selection.columns)
    writer.writerows([_plain(cell) for cell in row] for row in selection.rows)


def _json(selection: Selection) -> None:
    for row in selection.rows:
        plain = dict(zip(selection.columns, map(_plain, row), strict=True))
        sys.stdout.write(json.dumps(plain, ensure_ascii=False, default=str) + "\n")


def _table(selection: Selection) -> None:
    """Align the columns by the first rows; longer cells of later rows stick out rather than being cut."""
    sample = [_cells(row) for row in islice(selection.rows, _SAMPLE)]
    lines = [selection.columns, *sample]
    widths = [min(_WIDEST, max(len(line[index]) for line in lines)) for index in range(len(selection.columns))]
    sys.stdout.write(_line(selection.columns, widths))
    sys.stdout.write(_line(["-" * width for width in widths], widths))
    count = 0
    for row in chain(sample, map(_cells, selection.rows)):
        sys.stdout.write(_line(row, widths))
        count += 1
    if sys.stdout.isatty():
        sys.stdout.write(f"({count} row{'' if count == 1 else 's'})\n")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() + "\n"


def _cells(row: Sequence[Any]) -> list[str]:
    return ["" if cell is None else _one_line(str(_plain(cell))) for cell in row]


def _one_line(text: str) -> str:
    """Show line breaks and what would steer the terminal as escapes."""
    return text if text.isprintable() else "".join(_escape(text))


def _escape(text: str) -> Iterator[str]:
    for character in text:
        yield character if character.isprintable() else ascii(character)[1:-1]


def _plain(cell: Any) -> Any:
    if isinstance(cell, bytes | memoryview):
        return bytes(cell).hex()
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return cell
