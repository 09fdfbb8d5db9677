"""The routes of tables: list them, and browse, count, facet, describe and download one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Response, get
from litestar.params import Parameter

from ...errors import PermanentError
from ..access.scopes import ANY, OPERATOR
from ..tables.browsing import Listing
from ..tables.files import TYPES, Format
from ..tables.places import Place
from ..tables.questions import Facet, Filter, Question, RowShown, Statistics, TableShown, read_filters
from ..tables.questions import Page as Rows
from ..tables.reader import Stopped
from ..web.answers import Page, answer, attachment, documented, flowing
from ..web.errors import ApiError
from ..web.parameters import missing, wrong
from .service import MAX_BODY_BYTES, ROOT, Asked, platform

T = TypeVar("T")

MAX_ROWS = 1000
"""The most rows of a page."""
MAX_STATISTICS = 50
"""For how many columns statistics are made at once."""

PlaceName = Annotated[
    str, Parameter(pattern="^[A-Za-z0-9_.-]{1,200}$", description="The place of the table, as it is listed.")
]
Name = Annotated[str, Parameter(min_length=1, max_length=500, description="The name of the table, as it is listed.")]
Where = Annotated[
    str | None,
    Parameter(
        max_length=8000,
        description='Conditions as JSON: `[["celsius", "gt", 20]]`; eq ne lt le gt ge contains starts null notnull.',
    ),
]
Search = Annotated[
    str | None,
    Parameter(max_length=500, description="Words: by the text index where there is one, else a text in any column."),
]
Columns = Annotated[str | None, Parameter(max_length=20_000, description="The names of columns, as a JSON list.")]
PageCursor = Annotated[
    str | None, Parameter(pattern="^[A-Za-z0-9_-]+$", max_length=8000, description="`next_cursor` of the page before.")
]


class Count(msgspec.Struct):
    """How many rows the conditions leave."""

    rows: int
    is_exact: bool
    """Whether these are all; else there are more."""


def operation(data: Any, description: str, **options: Any) -> dict[str, Any]:
    """Return the options of a route that any key may call, and that shows each what it may see."""
    found = documented(data, description, scope=ANY, limit=OPERATOR.name, **options)
    return found | {"status_code": 200, "request_max_body_size": MAX_BODY_BYTES}


@get(f"{ROOT}/tables", **operation(Listing, "The databases and tables that the caller may see."))
async def list_tables(request: Asked) -> Response[Any]:
    """List tables with their sizes: counted if they are small, else estimated."""
    return answer(await platform(request).tables.list_all(request.user))


@get(f"{ROOT}/tables/{{place:str}}/schema", **operation(TableShown, "The table."))
async def show_table(request: Asked, place: PlaceName, table: Name) -> Response[Any]:
    """Show the columns, indexes and size of a table, and the streams that write into it."""
    return answer(await _ask(request, place, table, platform(request).tables.describe))


@get(f"{ROOT}/tables/{{place:str}}/rows", **operation(Rows, "A page of rows, in the order of the key.", envelope=Page))
async def list_rows(
    request: Asked,
    place: PlaceName,
    table: Name,
    limit: Annotated[int, Parameter(ge=1, le=MAX_ROWS, description="How many rows at most.")] = 100,
    cursor: PageCursor = None,
    sort: Annotated[str | None, Parameter(max_length=500, description="The column that orders the rows.")] = None,
    descending: Annotated[bool, Parameter(description="Whether the largest comes first.")] = False,
    where: Where = None,
    search: Search = None,
    columns: Columns = None,
) -> Response[Any]:
    """Browse the rows of a table page by page; long cells are cut, and wide tables show their first columns."""
    names = _names(columns)

    def read(question: Question) -> tuple[Rows, str | None]:
        return question.page(limit=limit, cursor=cursor, sort=sort, is_descending=descending, names=names)

    rows, more = await _ask(request, place, table, read, where=where, search=search)
    return answer(rows, next_cursor=more)


@get(f"{ROOT}/tables/{{place:str}}/row", **operation(RowShown, "The row, whole."))
async def show_row(
    request: Asked,
    place: PlaceName,
    table: Name,
    key: Annotated[str, Parameter(pattern="^[A-Za-z0-9_-]+$", max_length=8000, description="As a page gives it.")],
) -> Response[Any]:
    """Show one row: all of its cells, where it came from, and the streams that write into the table."""
    row = await _ask(request, place, table, lambda question: question.row(key))
    if row is None:
        raise ApiError(404, "not_found", "there is no such row any more")
    places = await platform(request).tables.places(request.user)
    row.writers = platform(request).tables.writers(places[place], table)
    return answer(row)


@get(f"{ROOT}/tables/{{place:str}}/count", **operation(Count, "How many rows the conditions leave."))
async def count_rows(
    request: Asked, place: PlaceName, table: Name, where: Where = None, search: Search = None
) -> Response[Any]:
    """Count rows up to a bound."""
    return answer(
        Count(*await _ask(request, place, table, lambda question: question.count(), where=where, search=search))
    )


@get(f"{ROOT}/tables/{{place:str}}/facet", **operation(Facet, "The most frequent values of a column."))
async def show_facet(
    request: Asked,
    place: PlaceName,
    table: Name,
    column: Annotated[str, Parameter(max_length=500, description="The name of the column.")],
    where: Where = None,
    search: Search = None,
) -> Response[Any]:
    """Count the values of a column, in a bounded number of rows."""
    return answer(
        await _ask(request, place, table, lambda question: question.facet(column), where=where, search=search)
    )


@get(f"{ROOT}/tables/{{place:str}}/statistics", **operation(list[Statistics], "What is in each column."))
async def show_statistics(
    request: Asked, place: PlaceName, table: Name, columns: Columns = None, where: Where = None, search: Search = None
) -> Response[Any]:
    """Describe the values of columns, in a bounded number of rows: nulls, distinct values, least and most."""
    names = _names(columns)

    def read(question: Question) -> list[Statistics]:
        chosen = names or [column.name for column in question.columns]
        return list(question.statistics(chosen[:MAX_STATISTICS]))

    return answer(await _ask(request, place, table, read, where=where, search=search))


_files = operation(bytes, "The rows as a file.", files=tuple(TYPES.values()))


@get(f"{ROOT}/tables/{{place:str}}/download", **_files)
async def download_table(
    request: Asked,
    place: PlaceName,
    table: Name,
    format: Annotated[Format, Parameter(description="The kind of file.")] = "csv",
    where: Where = None,
    search: Search = None,
) -> Response[Any]:
    """Download the rows of a table that the conditions leave, all of them, as they are read."""
    of = platform(request)
    found = await _place(request, place)
    pieces = of.tables.download(found, table, format, _filters(where), search or "")
    details = {"format": format, "where": where, "search": search}
    await of.gate.audit.record(
        "table_downloaded", caller=request.user, resource=f"{place}/{table}"[:500], details=details
    )
    with Refusals(table):
        return await flowing(pieces, TYPES[format], attachment(f"{table}.{format}"))


class Refusals:
    """Turn what is wrong with a question into an answer: 400, 404 or 503."""

    def __init__(self, table: str = "") -> None:
        self._table = table

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, LookupError) and not isinstance(error, KeyError | IndexError):
            raise missing("table", self._table[:200]) from None
        if isinstance(error, PermanentError):
            raise ApiError(400, "validation_error", str(error)) from None
        if isinstance(error, Stopped):
            raise ApiError(503, "too_slow", f"{error}; ask for less: more conditions, or another order") from None


async def _ask(
    request: Asked,
    place: str,
    table: str,
    read: Callable[[Question], T],
    *,
    where: str | None = None,
    search: str | None = None,
) -> T:
    found = await _place(request, place)
    with Refusals(table):
        ask = partial(platform(request).tables.ask, found, table, read)
        return await ask(filters=_filters(where), search=(search or "").strip())


async def _place(request: Asked, name: str) -> Place:
    places = await platform(request).tables.places(request.user)
    if name not in places:
        raise missing("place of tables", name, places)
    return places[name]


def _filters(where: str | None) -> list[Filter]:
    try:
        return read_filters(where)
    except (ValueError, msgspec.DecodeError) as error:
        raise wrong("where", f"is not a list of conditions: {error}") from None


def _names(columns: str | None) -> list[str]:
    try:
        return msgspec.json.decode(columns, type=list[str]) if columns else []
    except msgspec.DecodeError as error:
        raise wrong("columns", f"is not a list of names: {error}") from None


ROUTES = [
    list_tables,
    show_table,
    list_rows,
    show_row,
    count_rows,
    show_facet,
    show_statistics,
    download_table,
]
