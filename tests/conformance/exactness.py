"""Values of every type, and what each of them is: the same thing whatever type or text holds it."""

from __future__ import annotations

import base64
import json
import re
from datetime import date
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DAY = 86_400 * 10**9
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_TIME = re.compile(
    r"(?:(?P<year>[+-]?\d{4,})-(?P<month>\d\d)-(?P<day>\d\d))?[T ]?"
    r"(?:(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?"
    r"(?P<era> BC| \(BC\))?"
)
_DURATION = re.compile(
    r"PT(?:(?P<hours>-?\d+)H)?(?:(?P<minutes>-?\d+)M)?(?:(?P<sign>-?)(?P<seconds>\d+)(?:\.(?P<fraction>\d+))?S)?"
)


def edges(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers, above all those at the limits of what others can hold."""
    special = [
        0,
        1,
        -1,
        2**31,
        2**53 - 1,
        2**53,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        -(2**63),
        -(2**53) - 1,
        low,
        high,
    ]
    return st.one_of(st.integers(low, high), st.sampled_from([value for value in special if low <= value <= high]))


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Any]:
    from decimal import Decimal, localcontext

    def scaled(value: int) -> Any:
        with localcontext() as context:
            context.prec = 90
            return Decimal(value).scaleb(-scale)

    return edges(-(10**precision) + 1, 10**precision - 1).map(scaled)


def _ticks(kind: pa.DataType) -> st.SearchStrategy[int]:
    """Times within the years 1 to 9999, and beyond."""
    second = 10**9 // UNITS[kind.unit]
    return st.one_of(
        st.integers(-62_135_596_800 * second, 253_402_300_799 * second)
        if kind.unit != "ns"
        else edges(-(2**62), 2**62),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.sampled_from([0, -1, 1, 253_402_300_800 * second if kind.unit != "ns" else 1, 2**62, -(2**62)]),
    )


def kinds() -> dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """Every type that is tried, with its values as Arrow takes them."""
    found: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {}
    for size in (8, 16, 32, 64):
        found[f"int{size}"] = getattr(pa, f"int{size}")(), edges(-(2 ** (size - 1)), 2 ** (size - 1) - 1)
        found[f"uint{size}"] = getattr(pa, f"uint{size}")(), edges(0, 2**size - 1)
    doubles = st.one_of(
        st.floats(), st.sampled_from([-0.0, 5e-324, 2.0**53, 1e22, 1e300, 0.1, float("nan"), float("inf")])
    )
    found["float64"] = pa.float64(), doubles
    found["float32"] = pa.float32(), st.floats(width=32)
    found["float16"] = pa.float16(), st.floats(width=16)
    for precision, scale in ((9, 2), (20, 0), (38, 0), (38, 38), (76, 10)):
        kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        found[str(kind)] = kind, _decimals(precision, scale)
    found["bool"] = pa.bool_(), st.booleans()
    texts = st.one_of(
        st.text(), st.sampled_from(["", " ", "a\nb", '"', "\\", "NULL", "1e5", "\x00", "é\u2028", "x" * 70_000])
    )
    texts = texts.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text))
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        found[str(kind)] = kind, texts
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        found[str(kind)] = kind, st.one_of(st.binary(), st.sampled_from([b"", b"\xff", b"\x00", b"text"]))
    found["binary[4]"] = pa.binary(4), st.binary(min_size=4, max_size=4)
    for unit in UNITS:
        for kind in (pa.timestamp(unit), pa.timestamp(unit, "UTC"), pa.timestamp(unit, "Europe/Berlin")):
            found[str(kind)] = kind, _ticks(kind)
        found[str(pa.duration(unit))] = pa.duration(unit), edges(-(2**63), 2**63 - 1)
    found["date32"] = pa.date32(), st.one_of(st.integers(-719_162, 2_932_896), edges(-(2**31), 2**31 - 1))
    found["date64"] = pa.date64(), st.integers(-719_162, 2_932_896).map(lambda day: day * 86_400_000)
    for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")):
        found[str(kind)] = kind, st.integers(0, DAY // UNITS[kind.unit] - 1)
    found["list of int64"] = pa.list_(pa.int64()), st.lists(st.none() | edges(-(2**63), 2**63 - 1), max_size=3)
    found["struct"] = (
        pa.struct([("a", pa.uint64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": edges(0, 2**64 - 1), "b": texts}),
    )
    found["map"] = (
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(st.text("abc"), edges(-(2**63), 2**63 - 1)).map(lambda value: list(value.items())),
    )
    found["dictionary"] = pa.dictionary(pa.int32(), pa.string()), texts
    return found


def array_of(value: Any, kind: pa.DataType) -> pa.Array:
    """The value as an array of one; times are given as their ticks."""
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.array([value], pa.int32()).cast(kind)
    if pa.types.is_temporal(kind):
        return pa.array([value], pa.int64()).cast(kind)
    return pa.array([value], kind)


def meaning(array: pa.Array) -> Any:
    """What the one value of an array is: equal for equal values of any type, null for none."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return meaning(array.cast(kind.value_type))
    if array.null_count:
        return None
    if pa.types.is_date32(kind):
        return "time", array.cast(pa.int32())[0].as_py() * DAY
    if pa.types.is_date64(kind):
        return "time", array.cast(pa.int64())[0].as_py() * 10**6
    if pa.types.is_timestamp(kind):
        return "time", array.cast(pa.int64())[0].as_py() * UNITS[kind.unit]
    if pa.types.is_time(kind):
        return "clock", array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())[0].as_py() * UNITS[kind.unit]
    if pa.types.is_duration(kind):
        return "duration", array.cast(pa.int64())[0].as_py() * UNITS[kind.unit]
    value = array[0].as_py()
    if kind == pa.month_day_nano_interval() and not value.months:
        return "duration", value.days * DAY + value.nanoseconds
    if pa.types.is_boolean(kind):
        return value
    if pa.types.is_floating(kind):
        return number(float(value))
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return Fraction(value)
    if pa.types.is_nested(kind):
        return plain(array[0])
    return value


def plain(scalar: pa.Scalar) -> Any:
    value = scalar.as_py()
    return dict(value) if pa.types.is_map(scalar.type) else value


def number(value: float) -> Any:
    """A float as the number that it is; those that are none by their names."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    return "-0" if str(value) == "-0.0" else Fraction(value)


def is_same(given: pa.Array, found: pa.Array) -> bool:
    """Whether what was found is the value that was given, in its own type or written as text."""
    expected, actual = meaning(given), meaning(found)
    if expected == actual and type(expected) is type(actual):
        return True
    if isinstance(actual, bool) or expected is None or actual is None:
        return False
    if pa.types.is_decimal(given.type) and pa.types.is_floating(found.type):
        return Fraction(repr(found[0].as_py())) == expected
    if pa.types.is_floating(given.type) and isinstance(actual, Fraction) and isinstance(expected, Fraction):
        return given.cast(pa.float64())[0].as_py() == float(actual) or _narrow(given, float(actual))
    if isinstance(actual, bytes):
        try:
            actual = actual.decode()
        except UnicodeDecodeError:
            return False
    if isinstance(actual, dict) and isinstance(expected, dict):  # the keys of other rows are null
        return {key: value for key, value in actual.items() if value is not None} == {
            key: value for key, value in expected.items() if value is not None
        }
    if isinstance(actual, list) and isinstance(expected, dict):  # a map as its entries
        return {entry["key"]: entry["value"] for entry in actual} == expected
    if isinstance(actual, list):
        return bool(actual == expected)
    if not isinstance(actual, str):
        return False
    return _is_written(given, expected, actual)


def _narrow(given: pa.Array, actual: float) -> bool:
    """Whether a number is that of a narrow float as it is written, ``0.1`` for the float32 next to it."""
    import numpy as np

    numpy = {"halffloat": np.float16, "float": np.float32}.get(str(given.type))
    return numpy is not None and float(numpy(actual)) == float(given[0].as_py())


def _is_written(given: pa.Array, expected: Any, text: str) -> bool:
    kind = given.type
    if isinstance(expected, bytes):
        encoded = base64.b64encode(expected).decode()
        return text == (expected.decode() if expected.decode(errors="ignore").encode() == expected else encoded)
    if isinstance(expected, bool):
        return text in ("true", "1", "t") if expected else text in ("false", "0", "f")
    if isinstance(expected, Fraction):
        if not _NUMBER.fullmatch(text):
            return False
        if pa.types.is_floating(kind):
            return number(float(text)) == expected or _narrow(given, float(text))
        return Fraction(text) == expected
    if isinstance(expected, tuple) and expected[0] == "duration":
        found = _DURATION.fullmatch(text)
        if found is None:
            return False
        ticks = int(found["seconds"] or 0) * 10**9 + int((found["fraction"] or "").ljust(9, "0"))
        whole = int(found["hours"] or 0) * 60 + int(found["minutes"] or 0)
        return bool(expected[1] == whole * 60 * 10**9 + (-ticks if found["sign"] else ticks))
    if isinstance(expected, tuple):
        return expected[1] == _nanoseconds(text)
    if isinstance(expected, (dict, list)):
        try:
            return bool(json.loads(text) == json.loads(json.dumps(expected)))
        except ValueError:
            return False
    return bool(text == expected)


def _nanoseconds(text: str) -> int | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    ticks = 0
    if found["year"] is not None:
        year = int(found["year"])
        year = 1 - year if found["era"] else year
        moved = year % 400 + 400
        ticks += (date(moved, int(found["month"]), int(found["day"])).toordinal() - 719_163) * DAY
        ticks += (year - moved) // 400 * 146_097 * DAY
    ticks += (int(found["hour"] or 0) * 3600 + int(found["minute"] or 0) * 60 + int(found["second"] or 0)) * 10**9
    ticks += int((found["fraction"] or "").ljust(9, "0"))
    if (zone := found["zone"]) and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:] if len(zone) > 3 else 0) * 60
        ticks -= (offset if zone[0] == "+" else -offset) * 10**9
    return ticks
