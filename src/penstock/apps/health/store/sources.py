"""The condition that a source took part in a point: an aggregated bucket joins the names of several by ``|``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ColumnElement, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


def took_part_in(column: str, source: str, *, postgres: bool) -> str:
    """Return the condition as a text; ``source`` is the name of a parameter."""
    find = "strpos" if postgres else "instr"
    source = f"CAST({source} AS text)"
    return f"({column} = {source} OR {find}('|' || {column} || '|', '|' || {source} || '|') > 0)"


class _TookPart(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_TookPart)
def _compile(element: Any, compiler: Any, **options: Any) -> str:
    column, source = (compiler.process(clause, **options) for clause in element.clauses)
    return took_part_in(column, source, postgres=compiler.dialect.name == "postgresql")


def took_part(column: ColumnElement[str], source: str) -> ColumnElement[bool]:
    """Return the condition as an expression."""
    return _TookPart(column, literal(source))
