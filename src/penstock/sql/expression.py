"""Values of options that may differ for each row: a constant, or an SQL expression over the columns of the batch."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import core_schema

from .. import udf
from ..delivery import Batch
from ..errors import ConfigError, PermanentError
from ..metadata import EXT, SCHEMA

if TYPE_CHECKING:
    from .query import PreparedQuery

_EXT_ENTRY = re.compile(rf"\s*{EXT}\s*\[\s*'([^'\\]*)'\s*\]\s*")
"""An entry of the metadata, as in ``__meta_ext['table']``: looked up by Arrow, so that it needs no query engine."""
_EXT_TYPE = SCHEMA.field(EXT).type
_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "number"},
        {
            "type": "object",
            "properties": {"type": {"const": "value"}, "value": {"type": ["string", "number"]}},
            "required": ["type", "value"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"type": {"const": "expr"}, "expr": {"type": "string"}, "value": {"type": "string"}},
            "required": ["type"],
            "oneOf": [{"required": ["expr"]}, {"required": ["value"]}],
            "additionalProperties": False,
        },
    ],
    "examples": ["readings", {"type": "expr", "expr": "concat('readings/', sensor)"}],
}


class Expr:
    """A text for each row: ``Expr("readings")`` for all rows, ``Expr(sql="lower(sensor)")`` computed for each.

    Written as ``topic: readings``, or ``topic: {type: expr, expr: "lower(sensor)"}``. Raises ValueError for SQL
    that is not an expression of one row.
    """

    __slots__ = ("_ext_key", "constant", "sql")

    constant: str | None
    """The text of all rows, if it is the same for all."""
    sql: str | None
    """The SQL expression, if the text differs."""
    _ext_key: str | None

    def __init__(self, constant: str | int | float | None = None, *, sql: str | None = None) -> None:
        if (constant is None) == (sql is None):
            raise ValueError("expected either a constant or an SQL expression")
        object.__setattr__(self, "constant", None if constant is None else str(constant))
        object.__setattr__(self, "sql", sql)
        entry = _EXT_ENTRY.fullmatch(sql or "")
        object.__setattr__(self, "_ext_key", entry and entry[1])
        if sql is not None and entry is None:
            _prepared(sql, udf.version())

    def evaluate(self, batch: Batch) -> pa.StringArray:
        """Return one text for each row, null where it is null; raises PermanentError if it cannot be computed."""
        if self.sql is None:
            return pa.repeat(pa.scalar(self.constant, pa.string()), batch.num_rows)
        ext = batch.schema.get_field_index(EXT)
        if self._ext_key is not None and ext >= 0 and batch.schema.field(ext).type == _EXT_TYPE:
            return pc.map_lookup(batch.column(ext), pa.scalar(self._ext_key), "first")
        found = [part.column(0) for part in _prepared(self.sql, udf.version()).run(batch)]
        texts = found[0] if len(found) == 1 else pa.concat_arrays(found) if found else pa.nulls(0, pa.string())
        if len(texts) != batch.num_rows:
            raise PermanentError(f"{self.sql!r} has {len(texts)} results for {batch.num_rows} rows; expected one each")
        return texts if texts.type == pa.string() else pc.cast(texts, pa.string())

    def columns_read(self) -> frozenset[str] | None:
        """Return a superset of the columns it reads; None if that cannot be told."""
        if self._ext_key is not None:
            return frozenset({EXT})
        return frozenset() if self.sql is None else _prepared(self.sql, udf.version()).columns_read()

    @classmethod
    def parse(cls, value: Any) -> Expr:
        """Read what a configuration holds; raises ValueError with what was expected."""
        if isinstance(value, cls):
            return value
        if _is_text(value):
            return cls(value)
        if isinstance(value, dict):
            kind, rest = value.get("type"), {key: entry for key, entry in value.items() if key != "type"}
            if kind == "value" and rest.keys() == {"value"} and _is_text(rest["value"]):
                return cls(rest["value"])
            if kind == "expr" and (rest.keys() == {"expr"} or rest.keys() == {"value"}):
                sql = next(iter(rest.values()))
                if isinstance(sql, str):
                    return cls(sql=sql)
        raise ValueError(
            f"expected a text, a number, {{type: value, value: ...}} or {{type: expr, expr: <SQL expression>}}, "
            f"not {value!r}"
        )

    def dump(self) -> str | dict[str, str]:
        """Return what a configuration would hold."""
        return {"type": "expr", "expr": self.sql} if self.sql is not None else str(self.constant)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(cls.dump)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return dict(_SCHEMA)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an Expr cannot be changed: {name}")

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: Any) -> Expr:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Expr.parse, (self.dump(),))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and (self.constant, self.sql) == (other.constant, other.sql)

    def __hash__(self) -> int:
        return hash((self.constant, self.sql))

    def __repr__(self) -> str:
        return f"Expr(sql={self.sql!r})" if self.sql is not None else f"Expr({self.constant!r})"


def _is_text(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


@lru_cache(maxsize=256)
def _prepared(sql: str, version: int) -> PreparedQuery:
    """Prepare an expression, anew once other functions are known."""
    from .query import PreparedQuery  # DataFusion takes 50 MB, and most options are constants
    from .statement import check_expression

    check_expression(sql)
    try:
        return PreparedQuery(f"SELECT CAST(({sql}\n) AS VARCHAR) AS value FROM flow")  # noqa: S608
    except ConfigError as error:
        reason = error.message.partition(", in the query")[0]
        raise ValueError(f"not an SQL expression: {reason}, in {sql!r}") from error
