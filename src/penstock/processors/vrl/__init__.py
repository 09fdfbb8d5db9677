"""Run a program of VRL, the Vector Remap Language, on each row."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, model_validator

from ...absence import mark, shapes_of, without
from ...component import Codec, Process, Processor
from ...context import Context
from ...delivery import Batch, Decoder, learns
from ...errors import ConfigError, PermanentError
from ...metadata import ABSENT, EXT, PREFIX
from ...runtime.decoding import destinations
from .program import Aborted, Program, compile_program

_INTEGERS = range(-(2**63), 2**63)
_LAST_DIGIT = 4e-16
_MISSING = object()
_ASSIGNS_ROOT = re.compile(r"(?<![\w\])}\"])\.\s*(?:,\s*\w+\s*)?=(?![=~])")
"""An assignment to the event itself, by which alone it can become an array."""
_encode_lines = msgspec.json.Encoder().encode_lines


class Vrl(Processor, type="vrl"):
    """Run a program of VRL, the Vector Remap Language, on each row.

    The row is the event ``.``, its columns are the fields; what the program makes of it is the row that goes on. An
    array makes several rows, an empty one none, and ``abort`` drops the row. Columns that the program leaves as they
    are keep their types and every digit; those that it changes or makes are typed as by the codec ``json``. Times
    come as text in ISO 8601. A field that the program deletes is absent, a null stays null, and metadata is kept.

    What a program may fail at is that row's error, with the line. A program that does not compile, or calls a function
    that asks this machine or others for something (``get_env_var``, ``http_request``), is refused when the stream is
    built. Integers are 64-bit. VRL lets them wrap around; here ``+``, ``-``, ``*``, ``abs`` and ``to_int`` fail where a
    result does not fit, which ``??`` and ``, err =`` can handle, and else it is the row's error. (Not checked is an
    operation on what may itself fail, as ``to_int(.a) + 1 ?? 0``.) A result that is infinite refuses its row. A
    fraction that is copied may differ in the last of its 17 digits.

    Example::

        type: vrl
        statement: |
          .user = downcase!(.user)
          .size = to_int!(.size) * 1024
          del(.password)
    """

    extra: ClassVar[str] = "vrl"

    statement: str = Field(min_length=1)
    """The program."""
    timezone: str = "UTC"
    """The time zone of texts that do not tell theirs."""
    drop_on_abort: bool = True
    """Whether `abort` drops a row; if not, it refuses it."""
    allow_host: bool = False
    """Whether the program may ask for variables of the environment, the name of the host, and other servers."""
    _program: Program = PrivateAttr()

    @model_validator(mode="after")
    def _compile(self) -> Vrl:
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"timezone: no zone is called {self.timezone!r}") from None
        try:
            self._program = compile_program(self.statement, self.timezone, allow_host=self.allow_host)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        """Yield a process that learns the types of what the program makes, as long as it is open."""
        decoder = Codec.find("json")().decoder()

        def process(batch: Batch) -> Sequence[Batch]:
            if EXT not in batch.schema.names or not learns(decoder):
                return self._remapped(batch, decoder)
            parts = destinations(batch)
            return [made for to, part in parts for made in self._remapped(part, decoder.apart(to))]

        yield process

    def process(self, batch: Batch) -> Sequence[Batch]:
        """Run the program on each row of one batch by itself."""
        return self._remapped(batch, Codec.find("json")().decoder())

    def row_wise(self) -> bool:
        """Tell that a batch may be halved to find the row that the program fails at."""
        return True

    def multiplies(self) -> bool:
        """Tell whether the program may make an array of a row."""
        return _ASSIGNS_ROOT.search(self.statement) is not None

    def columns_read(self) -> frozenset[str] | None:
        """Return None: what the program does not name is kept."""
        return None

    def reads_metadata(self) -> bool:
        """Tell whether the program names a ``__meta_*`` column."""
        return PREFIX in self.statement

    def _remapped(self, batch: Batch, decoder: Decoder) -> list[Batch]:
        events = _events(batch, self._program.fields)
        made, origins = self._run(events)
        if not made:
            return []
        whole = len(origins) == batch.num_rows == len(set(origins))
        kept = batch if whole else batch.take(pa.array(origins))
        changed = _changed(events if whole else [events[at] for at in origins], made)
        return [_merge(kept, changed, made, decoder)] if changed else [kept]

    def _run(self, events: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
        """Return what becomes of the events, and for each which of them it comes of."""
        made: list[dict[str, Any]] = []
        origins: list[int] = []
        run = self._program.run
        for at, event in enumerate(events):
            try:
                found = run(event)
            except Aborted as aborted:
                if not self.drop_on_abort:
                    raise PermanentError(f"the program aborted: {aborted}") from None
                continue
            several = found if isinstance(found, list) else [found]
            made += several
            origins += [at] * len(several)
        for one in made:
            if not isinstance(one, dict):
                raise PermanentError(f"the program made {_kind(one)} of the row; expected objects")
        return made, origins


def _events(batch: Batch, named: frozenset[str] | None) -> list[dict[str, Any]]:
    """Return the rows as the program is given them, each with the columns that it may name."""
    if named is None:
        names = [name for name in batch.schema.names if not name.startswith(PREFIX)]
    else:
        names = [name for name in batch.schema.names if name in named and name != ABSENT]
    if not names:
        return [{} for _ in range(batch.num_rows)]
    events = _plain_rows(batch.select(names))
    if events is None:
        texts = Codec.find("json")().encode(batch.select(names)).to_pylist()
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        nothing = dict.fromkeys(names)
        events = [{**nothing, **decode(text)} for text in texts]
    shapes = shapes_of(batch)
    for name in names:
        lacking = shapes.lacking(name) if shapes is not None else None
        for at in np.flatnonzero(lacking) if lacking is not None else ():
            del events[at][name]
        if _has_wide_integers(batch.schema.field(name).type):
            _refuse_wide(name, (event.get(name) for event in events))
    return events


def _plain_rows(batch: Batch) -> list[dict[str, Any]] | None:
    """Return the rows as they are, where each value is one of JSON; None where that is not so."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        kind = field.type
        if pa.types.is_floating(kind):
            if not pc.all(pc.is_finite(column), min_count=0).as_py():
                return None
        elif not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            return None
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]


def _has_wide_integers(kind: pa.DataType) -> bool:
    if pa.types.is_uint64(kind) or pa.types.is_decimal(kind):
        return True
    return any(_has_wide_integers(kind.field(at).type) for at in range(kind.num_fields))


def _refuse_wide(name: str, values: Iterator[Any]) -> None:
    """Raise PermanentError for an integer of more than 64 bits, which the library would round."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif type(value) is int and value not in _INTEGERS:
            raise PermanentError(f"column `{name}`: {value} is more than the 64 bits of an integer of VRL")


def _refuse_infinite(name: str, values: Iterator[Any]) -> None:
    """Raise PermanentError for a number beyond a float, such as of the text 1e400, which JSON would write as null."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, float) and not math.isfinite(value):
            raise PermanentError(f"column `{name}`: expected a finite number, the program made {value}")


def _changed(sources: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> list[str]:
    """Return the fields that are not in each row what they were, those that were there first."""
    names = dict.fromkeys(name for keys in dict.fromkeys(map(tuple, [*sources[:1], *made, *sources])) for name in keys)
    return [name for name in names if not name.startswith(PREFIX) and not _is_kept(name, sources, made)]


def _is_kept(name: str, sources: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> bool:
    for before, after in zip(sources, made, strict=True):
        one, two = before.get(name, _MISSING), after.get(name, _MISSING)
        if one is not two and not _is_same(one, two):
            return False
    return True


def _is_same(one: Any, two: Any) -> bool:
    """Tell whether a value came back as it was given; the library may round the last digit of a fraction."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return one == two or math.isclose(one, two, rel_tol=_LAST_DIGIT)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_is_same(value, two[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(two) and all(map(_is_same, one, two))
    return bool(one == two)


def _merge(batch: Batch, changed: Sequence[str], made: Sequence[dict[str, Any]], decoder: Decoder) -> Batch:
    """Put the changed fields in the place of those that they were, and new ones behind."""
    for name in changed:
        _refuse_infinite(name, (row.get(name) for row in made))
    text = _encode_lines([{name: row[name] for name in changed if name in row} for row in made])
    decoded = decoder(pa.array([text], pa.binary()))
    found = {name: decoded.column(name) for name in changed if any(name in row for row in made)}
    columns: dict[str, pa.Array] = {}
    for name in batch.schema.names:
        if name in found:
            columns[name] = _as_before(found[name], batch.schema.field(name).type)
        elif name not in changed and name != ABSENT:
            columns[name] = batch.column(name)
    columns |= {name: array for name, array in found.items() if name not in columns}
    shapes = shapes_of(batch)
    masks = {}
    for name in columns:
        if name in found:
            masks[name] = np.array([name not in row for row in made])
        elif shapes is not None and (lacking := shapes.lacking(name)) is not None:
            masks[name] = lacking
    kept = {field.name: field for field in batch.schema if field.name not in found}
    schema = pa.schema([kept.get(name) or pa.field(name, array.type) for name, array in columns.items()])
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(made), pa.struct([])))
    merged = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    return mark(without(merged), masks)


def _as_before(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the values in the type that the column had, where it holds them exactly."""
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    are_numbers = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    are_times = pa.types.is_string(array.type) and pa.types.is_temporal(kind)
    if array.type == kind or not ((numbers and are_numbers) or are_times):
        return array
    if are_times:  # the zone that the library writes behind a time
        array = pc.replace_substring_regex(array, " UTC$", "Z" if getattr(kind, "tz", None) else "")
    try:
        cast = array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return array
    return cast if are_times or cast.cast(array.type).equals(array) else array


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "an integer", float: "a float", str: "a string"}
    return names.get(type(value), "an array")
