"""What a query of a person may call and read: each engine's own parser or catalogue decides, not a list of words."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ...errors import PermanentError

READ_ONLY = "expected one query, such as SELECT ...; nothing can be changed here"

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LOOKING = {"table_info", "table_xinfo", "table_list", "index_list", "index_info"}
_FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
_SCHEMA_TABLES = {"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"}


def sqlite_guard(hidden: Mapping[str, Collection[str]]) -> Callable[..., int]:
    """Return an authorizer that allows reading, without the tables that are ``hidden``, by database."""

    def allow(action: int, first: str | None, second: str | None, database: str | None, _: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            is_hidden = first in hidden.get(database or "", ()) or (first in _SCHEMA_TABLES and database in hidden)
            return sqlite3.SQLITE_DENY if is_hidden else sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        if action in _READING or (action == sqlite3.SQLITE_PRAGMA and first in _LOOKING):
            return sqlite3.SQLITE_OK
        # This is how SQLite declares its functions that return tables.
        declares = action == sqlite3.SQLITE_UPDATE and first == "sqlite_master"
        return sqlite3.SQLITE_OK if declares else sqlite3.SQLITE_DENY

    return allow


_PLAIN_NAME = re.compile(r"\w+")
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"}
_ALLOWED_VOLATILE = {"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error"}
_FORBIDDEN_SCALARS = {"getenv", "current_setting", "getvariable", "json_execute_serialized_sql", "query", "query_table"}


def check_duckdb(connection: Any, sql: str, hidden: Collection[str]) -> None:
    """Refuse all but one SELECT over tables that are there, by functions that reach nothing; raises PermanentError."""
    [(text,)] = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    parsed = json.loads(text)
    if parsed.get("error"):
        message = str(parsed.get("error_message", ""))
        raise PermanentError(READ_ONLY if "Only SELECT" in message else message or READ_ONLY)
    if len(parsed["statements"]) != 1:
        raise PermanentError("expected one query")
    tables = {
        name.lower()
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    }
    volatile = {
        name
        for (name,) in connection.execute(
            "SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
        ).fetchall()
    }
    refused = (volatile - _ALLOWED_VOLATILE) | _FORBIDDEN_SCALARS
    nodes = list(_nodes(parsed["statements"][0]))
    # A name that could be a file's is none of a subquery: where that is not in scope, the file would be read.
    named = {str(one["key"]).lower() for node in nodes for one in (node.get("cte_map") or {}).get("map", ())}
    if not all(_PLAIN_NAME.fullmatch(name) for name in named):
        raise PermanentError("the name of a subquery has letters, digits and _ only")
    for node in nodes:
        kind = node.get("type")
        name = str(node.get("function_name", "")).lower()
        if kind == "BASE_TABLE":
            table = str(node.get("table_name") or (node.get("qualified_name") or {}).get("path", [""])[-1]).lower()
            if table in hidden or table not in tables | named:
                raise PermanentError(f"there is no table {table[:200]!r}")
        elif kind == "TABLE_FUNCTION":
            function = str((node.get("function") or {}).get("function_name", "")).lower()
            if function not in _TABLE_FUNCTIONS:
                raise PermanentError(f"the function {function[:100]!r} is not for queries here")
        elif kind == "SHOW_REF" or kind == "COPY":
            raise PermanentError(READ_ONLY)
        if name and kind == "FUNCTION" and name in refused:
            raise PermanentError(f"the function {name[:100]!r} is not for queries here")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


_TOKENS = re.compile(
    r"""
    (?P<skip> \s+ | --[^\n\r]* | /\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/ )
  | (?P<string> (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' )
  | (?P<dollar> \$(?P<tag>(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?)\$.*?\$(?P=tag)\$ )
  | (?P<number> \d[\w.]* )
  | (?P<name> "(?:[^"]|"")*" | [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
  | (?P<other> . )
    """,
    re.X | re.S,
)
_ALLOWED_POSTGRES = {
    "random", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "statement_timestamp", "now",
    "setseed",
}  # fmt: skip
_QUERIES = {"select", "with", "values", "table"}
_CATALOGUES = ("pg_", "_pg_")
_ALLOWED_CATALOGUES = {"pg_typeof", "pg_size_pretty", "pg_catalog", "pg_relation_size", "pg_total_relation_size"}


def names_of(sql: str) -> list[tuple[str, bool]]:
    """Return the names of a statement of PostgreSQL as it reads them, and whether ``(`` follows; raises PermanentError.

    What this could read otherwise than the server is refused: names by code points and comments within comments.
    """
    names: list[tuple[str, bool]] = []
    last: str | None = None
    for token in _TOKENS.finditer(sql):
        if token["skip"] is not None:
            continue
        if last is not None:
            names.append((last, token["other"] == "("))
            last = None
        if (name := token["name"]) is not None:
            last = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
        text = token[0]
        if text == "/" and sql.startswith("/*", token.start()):
            raise PermanentError("a comment within a comment is not read here")
        if text.lower() == "u" and sql.startswith("&", token.end()):
            raise PermanentError("names and texts by code points (U&) are not read here")
        if text in ("'", '"', "\\") or (token["number"] and sql.startswith("'", token.end())):
            raise PermanentError("a quote is not closed, or follows a number")
    return [*names, (last, False)] if last is not None else names


def check_postgres(connection: Any, sql: str) -> None:
    """Refuse functions that do more than compute, and catalogues of the server; raises PermanentError.

    A read-only transaction forbids writes, and the role forbids the tables of others; functions that read files, send
    statements, wait for locks or change settings are volatile, and are told by the server's own list of functions.
    """
    names = names_of(sql)
    if not names or names[0][0] not in _QUERIES:
        raise PermanentError(READ_ONLY)
    for name, _ in names:
        if name.startswith(_CATALOGUES) and name not in _ALLOWED_CATALOGUES:
            raise PermanentError(f"{name[:100]!r} belongs to the server and is not read here")
    called = sorted({name for name, is_called in names if is_called} - _ALLOWED_POSTGRES)
    found = connection.execute(
        "SELECT proname FROM pg_proc WHERE proname = ANY(%s) AND (provolatile = 'v' OR prosecdef) LIMIT 1", [called]
    ).fetchone()
    if found is not None:
        raise PermanentError(f"the function {found[0][:100]!r} is not for queries here")
