"""Values of DuckDB that Arrow has no type for: asked for as text, at any depth, or refused where they do not fit.

DuckDB would hand them out as something else: an interval or a large number wrapped around, bits as bytes of its own, an
infinite time as one of the year 294247, a time of day without its zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import duckdb
from duckdb.sqltypes import DuckDBPyType

from .source import Field, quoted, text

MAX_HOURS = 2_562_046
"""Hours whose nanoseconds fit into 64 bits."""
MAX_DECIMAL = 10**38 - 1
"""The greatest number of 38 digits."""
_AS_TEXT = ("TIME WITH TIME ZONE", "BIT", "UHUGEINT", "BIGNUM")
_NESTED = ("list", "array", "struct", "map", "union")
_Condition = Callable[[str], str]


def guard(statement: str, fields: Sequence[Field]) -> str:
    """Return the query so that what Arrow has no type for comes as text, and what its types cannot hold fails."""
    replaced = [
        f"{expression} AS {quoted(field.name)}"
        for field in fields
        if (expression := _guarded(field)) != quoted(field.name)
    ]
    if not replaced:
        return statement
    return f"SELECT * REPLACE ({', '.join(replaced)}) FROM ({statement})"  # noqa: S608 - the user's query, names quoted


def _guarded(field: Field) -> str:
    column = quoted(field.name)
    if not field.declared:  # the text of a position, which was added to the query
        return column
    kind = duckdb.sqltype(field.declared)
    readable = _readable(kind)
    expression = column if readable == str(kind) else f"CAST({column} AS {readable})"
    cases = ""
    for what, is_beyond in _beyond(kind):
        message = f"column {field.name} holds {what}: cast it to VARCHAR in the query"
        cases += f"WHEN {is_beyond(column)} THEN error({text(message)}) "
    return f"CASE {cases}ELSE {expression} END" if cases else expression


def _readable(kind: DuckDBPyType) -> str:
    """Return the type, of the same shape, that Arrow can hold."""
    if str(kind) in _AS_TEXT:
        return "VARCHAR"
    if kind.id not in _NESTED:
        return str(kind)
    parts = {name: part for name, part in kind.children if isinstance(part, DuckDBPyType)}
    changed = {name: _readable(part) for name, part in parts.items()}
    if all(changed[name] == str(part) for name, part in parts.items()):
        return str(kind)
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{quoted(name)} {part}' for name, part in changed.items())})"
    if kind.id == "map":
        return f"MAP({changed['key']}, {changed['value']})"
    if kind.id == "list":
        return f"{changed['child']}[]"
    return f"{changed['child']}[{dict(kind.children)['size']}]" if kind.id == "array" else "VARCHAR"


def _beyond(kind: DuckDBPyType, depth: int = 0) -> Iterator[tuple[str, _Condition]]:
    """Yield what a value may be that Arrow cannot hold, and the condition of that, given its expression."""
    declared, at = str(kind), f"x{depth}"
    if kind.id in _NESTED:
        for name, part in kind.children if kind.id != "union" else ():
            if isinstance(part, DuckDBPyType):
                for what, condition in _beyond(part, depth + 1):
                    yield what, _within(kind.id, name, at, condition, f"{part}[]")
    elif declared == "INTERVAL":
        yield "an interval beyond 292 years", lambda value: f"abs(datepart('hour', {value})) > {MAX_HOURS}"
    elif declared == "HUGEINT":
        yield "more than 38 digits", lambda value: f"{value} NOT BETWEEN -{MAX_DECIMAL} AND {MAX_DECIMAL}"
    elif declared == "DATE" or declared.startswith("TIMESTAMP"):
        yield "an infinite time", lambda value: f"isinf({value})"


def _within(kind: str, name: str, at: str, condition: _Condition, elements: str) -> _Condition:
    """Return whether the condition is true of a part of a value."""
    if kind == "struct":
        return lambda value: f"coalesce({condition(f'struct_extract({value}, {text(name)})')}, false)"

    def of_some(value: str) -> str:
        found = {"map": f"map_{name}s({value})", "array": f"CAST({value} AS {elements})"}.get(kind, value)
        return f"len(list_filter({found}, lambda {at}: {condition(at)})) > 0"

    return of_some
