"""User-defined functions: Python functions and classes that SQL calls by name.

A decorator makes one known to all SQL of the process: queries, conditions, expressions::

    from penstock import udf

    @udf.scalar
    def shout(text: str) -> str:
        return text.upper() + "!"

    @udf.aggregate
    class Spread:
        def __init__(self) -> None:
            self.values: list[float] = []

        def add(self, value: float) -> None:
            self.values.append(value)

        def result(self) -> float:
            return max(self.values) - min(self.values)

    @udf.window
    def change(values: list[float]) -> list[float]:
        return [0.0, *(b - a for a, b in pairwise(values))]

A configuration makes them known by ``functions``. The types of arguments and results are those of the annotations, or
Arrow's own by ``takes`` and ``returns``.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import count
from typing import Any, Literal, TypeVar, overload

import pyarrow as pa

from .errors import PermanentError

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_TYPES: Mapping[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime: pa.timestamp("us"),
    date: pa.date32(),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
}
"""The Arrow type of each Python type that an annotation may name."""
_known: dict[str, Function] = {}
_version = 0

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def keeping_functions(read: Callable[[], T]) -> T:
    """Return what ``read`` returns; if it raises, the functions that it declared are forgotten."""
    global _version
    before = dict(_known)
    try:
        return read()
    except BaseException:
        if _known != before:
            _known.clear()
            _known.update(before)
            _version += 1
        raise


@dataclass(frozen=True, slots=True)
class Function:
    """A function that SQL calls by its name."""

    name: str
    kind: Literal["scalar", "aggregate", "window"]
    call: Callable[..., Any]
    takes: tuple[pa.DataType, ...]
    returns: pa.DataType
    by_column: bool = False
    """It is called with Arrow arrays, and returns one."""
    with_nulls: bool = False
    """It is called for nulls too."""
    is_volatile: bool = False
    """It may return another value for the same arguments."""

    def register(self, session: Any) -> None:
        """Make it known to a session of DataFusion; raises ValueError if its name is that of a function of SQL."""
        if any(self.name in names for names in (session.udfs(), session.udafs(), session.udwfs())):
            raise ValueError(f"{self.name}() is a function of SQL already: give yours another name")
        import datafusion

        volatility = "volatile" if self.is_volatile else "immutable"
        takes = list(self.takes)
        if self.kind == "scalar":
            session.register_udf(datafusion.udf(self._scalar, takes, self.returns, volatility, self.name))
        elif self.kind == "aggregate":
            made = datafusion.udaf(self._accumulator(), takes, self.returns, [pa.int64()], volatility, self.name)
            session.register_udaf(made)
        else:
            session.register_udwf(datafusion.udwf(self._evaluator(), takes, self.returns, volatility, self.name))

    def _scalar(self, *arrays: pa.Array) -> pa.Array:
        if self.by_column:
            return self._array(self._called(*arrays), len(arrays[0]))
        rows = zip(*(array.to_pylist() for array in arrays), strict=True)
        return self._array([self._called(*row) if self._takes(row) else None for row in rows], len(arrays[0]))

    def _takes(self, values: Sequence[Any]) -> bool:
        return self.with_nulls or None not in values

    def _called(self, *values: Any) -> Any:
        try:
            return self.call(*values)
        except (Exception, SystemExit) as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> PermanentError:
        return PermanentError(f"{self.name}() raised {type(error).__name__}: {error}")

    def _array(self, found: Any, rows: int) -> pa.Array:
        try:
            array = found if isinstance(found, pa.Array | pa.ChunkedArray) else pa.array(found, self.returns)
            array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
            array = array if array.type == self.returns else array.cast(self.returns)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise PermanentError(f"{self.name}() returned what is not {self.returns}: {error}") from error
        if len(array) != rows:
            raise PermanentError(f"{self.name}() returned {len(array)} values for {rows} rows")
        return array

    def _accumulator(self) -> type:
        from datafusion import Accumulator

        function, parts, numbers = self, dict[int, Any](), count()

        class Accumulating(Accumulator):
            """The rows of one group so far."""

            def __init__(self) -> None:
                self._part = function._called()

            def update(self, *arrays: pa.Array) -> None:
                for row in zip(*(array.to_pylist() for array in arrays), strict=True):
                    if function._takes(row):
                        _guarded(function, self._part.add, *row)

            def merge(self, states: Any) -> None:
                for number in states[0].to_pylist():
                    other = parts.pop(number)
                    if not hasattr(self._part, "merge"):
                        raise PermanentError(f"{function.name}() has to add up parts: give it merge(self, other)")
                    _guarded(function, self._part.merge, other)

            def state(self) -> list[pa.Scalar]:
                number = next(numbers)
                parts[number] = self._part
                return [pa.scalar(number, pa.int64())]

            def evaluate(self) -> pa.Scalar:
                return function._array([_guarded(function, self._part.result)], 1)[0]

        return Accumulating

    def _evaluator(self) -> type:
        from datafusion.user_defined import WindowEvaluator

        function = self

        class Evaluating(WindowEvaluator):
            """The rows of one partition."""

            def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
                given = values if function.by_column else [array.to_pylist() for array in values]
                return function._array(function._called(*given), num_rows)

        return Evaluating


def _guarded(function: Function, method: Callable[..., Any], *values: Any) -> Any:
    try:
        return method(*values)
    except (Exception, SystemExit) as error:
        raise function._failure(error) from error


@overload
def scalar(function: F, /) -> F: ...
@overload
def scalar(
    *,
    name: str | None = None,
    takes: Sequence[pa.DataType] | None = None,
    returns: pa.DataType | None = None,
    by_column: bool = False,
    volatile: bool = False,
) -> Callable[[F], F]: ...
def scalar(function: Any = None, /, **options: Any) -> Any:
    """Make a function known to SQL that returns one value for each row.

    It is not called where an argument is null, unless its annotation says that it may be (``str | None``): the result
    is null there. What it raises refuses the row. With ``by_column`` it is called with Arrow arrays, once for many
    rows, and returns one. With ``volatile`` it is called anew each time, whatever its arguments.
    """
    return _decorate("scalar", function, options)


@overload
def aggregate(function: F, /) -> F: ...
@overload
def aggregate(
    *, name: str | None = None, takes: Sequence[pa.DataType] | None = None, returns: pa.DataType | None = None
) -> Callable[[F], F]: ...
def aggregate(function: Any = None, /, **options: Any) -> Any:
    """Make a class known to SQL of which each group of rows has an instance.

    ``add`` is called with the arguments of each row, but for rows with a null where no annotation allows it, and
    ``result`` at the end. ``merge`` adds another instance, where there is such a method.
    """
    return _decorate("aggregate", function, options)


@overload
def window(function: F, /) -> F: ...
@overload
def window(
    *,
    name: str | None = None,
    takes: Sequence[pa.DataType] | None = None,
    returns: pa.DataType | None = None,
    by_column: bool = False,
) -> Callable[[F], F]: ...
def window(function: Any = None, /, **options: Any) -> Any:
    """Make a function known to SQL that is given the values of a whole partition, in its order, and returns as many."""
    return _decorate("window", function, options)


def functions() -> Mapping[str, Function]:
    """Return all functions that are known, by name."""
    return dict(_known)


def version() -> int:
    """Return a number that grows whenever a function becomes known."""
    return _version


def forget(name: str) -> None:
    """Make a function unknown again."""
    _known.pop(name, None)


def _decorate(kind: Literal["scalar", "aggregate", "window"], function: Any, options: dict[str, Any]) -> Any:
    if function is None:
        return lambda decorated: _decorate(kind, decorated, options)
    name = options.get("name") or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", function.__name__).lower()
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for SQL: expected small letters, digits and _")
    if options.get("by_column") and not (options.get("takes") and options.get("returns")):
        raise ValueError(f"{name}(): with `by_column` give the Arrow types, as `takes` and `returns`")
    taken, returned, nullable = _signature(kind, function, name, options)
    if not taken:
        raise ValueError(f"{name}() takes no argument: expected one at least")
    global _version
    _version += 1
    _known[name] = Function(
        name,
        kind,
        function,
        taken,
        returned,
        bool(options.get("by_column")),
        nullable,
        bool(options.get("volatile")),
    )
    return function


def _signature(
    kind: str, function: Any, name: str, options: Mapping[str, Any]
) -> tuple[tuple[pa.DataType, ...], pa.DataType, bool]:
    """Return the types of arguments and result, and whether an argument may be null."""
    takes, returns = options.get("takes"), options.get("returns")
    if takes is not None and returns is not None:
        return tuple(takes), returns, False
    if kind == "aggregate":
        if not (hasattr(function, "add") and hasattr(function, "result")):
            raise ValueError(f"{name}() is an aggregate: expected a class with add(self, ...) and result(self)")
        adding, result = typing.get_type_hints(function.add), typing.get_type_hints(function.result)
        hints = {**{key: hint for key, hint in adding.items() if key != "return"}, "return": result.get("return")}
        parameters = list(inspect.signature(function.add).parameters)[1:]
    else:
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
    wanted = {} if takes is not None else {key: hints.get(key) for key in parameters}
    found = [_arrow_type(hint, name, f"argument {key}", kind == "window") for key, hint in wanted.items()]
    returned = returns or _arrow_type(hints.get("return"), name, "the result", kind == "window")[0]
    return tuple(takes or [each for each, _ in found]), returned, any(nullable for _, nullable in found)


def _arrow_type(hint: Any, name: str, what: str, is_list: bool) -> tuple[pa.DataType, bool]:
    """Return the Arrow type of an annotation, and whether it allows for None."""
    if is_list and typing.get_origin(hint) is list:
        return _arrow_type(typing.get_args(hint)[0], name, what, False)
    options = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not types.NoneType]
        if len(options) == 1:
            return _arrow_type(options[0], name, what, is_list)[0], True
    if typing.get_origin(hint) is list:
        return pa.list_(_arrow_type(typing.get_args(hint)[0], name, what, False)[0]), False
    if hint in _TYPES and not is_list:
        return _TYPES[hint], False
    expected = "a list of one of" if is_list else "one of"
    names = ", ".join(kind.__name__ for kind in _TYPES)
    raise ValueError(f"{name}(): annotate {what} with {expected} {names}, or give `takes` and `returns`")
