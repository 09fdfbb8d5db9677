"""What payloads of a registered schema are, and how rows become them."""

from __future__ import annotations

import json
from typing import Any, Protocol

import pyarrow as pa

from ...clients.schema_registry import Registered
from ...component import Codec
from ...delivery import Batch, Decoder
from ...errors import ConfigError, PermanentError
from .framing import read_place, write_place


class Format(Protocol):
    """How payloads are read and written."""

    def read(self, bodies: pa.BinaryArray, message_type: str | None, infer: Decoder | None) -> Batch:
        """Return a row for each payload; raises PermanentError."""
        ...

    def write(self, batch: Batch, message_type: str | None) -> tuple[bytes, pa.BinaryArray]:
        """Return what stands before each payload, and the payloads; raises PermanentError."""
        ...


def make_format(schema: Registered, number: int) -> Format:
    """Return the format of a schema; raises PermanentError if it cannot be understood."""
    try:
        if schema.kind == "AVRO":
            return _Avro(schema)
        if schema.kind == "JSON":
            return _Json()
        if schema.kind == "PROTOBUF":
            return _Protobuf(schema)
    except ModuleNotFoundError as missing:
        package = str(missing.name).partition(".")[0]
        raise ConfigError(
            f"schema {number} is {schema.kind}, for which the package {package!r} is missing"
        ) from missing
    except (ValueError, ConfigError, RecursionError) as error:
        raise PermanentError(f"schema {number} cannot be understood: {str(error)[:300]}") from error
    raise PermanentError(f"schema {number} is of the unknown kind {schema.kind!r}")


class _Avro:
    def __init__(self, schema: Registered) -> None:
        known: dict[str, Any] = {}
        for _, text in schema.references:
            _note_names(json.loads(text), "", known)
        whole = _with_definitions(json.loads(schema.text), "", known, set())
        self._codec = Codec.find("avro").model_validate({"schema": whole})

    def read(self, bodies: pa.BinaryArray, message_type: str | None, infer: Decoder | None) -> Batch:
        return self._codec.decode(bodies)

    def write(self, batch: Batch, message_type: str | None) -> tuple[bytes, pa.BinaryArray]:
        return b"", self._codec.encode(batch)


class _Json:
    def __init__(self) -> None:
        self._codec = Codec.find("json")()

    def read(self, bodies: pa.BinaryArray, message_type: str | None, infer: Decoder | None) -> Batch:
        return (infer or self._codec.decode)(bodies)

    def write(self, batch: Batch, message_type: str | None) -> tuple[bytes, pa.BinaryArray]:
        return b"", self._codec.encode(batch)


class _Protobuf:
    def __init__(self, schema: Registered) -> None:
        from ...protobuf.schema import compile_text

        self._pool = compile_text(schema.text, schema.references)
        self._messages: dict[tuple[int, ...], Any] = {}
        self._message((0,))

    def _message(self, place: tuple[int, ...]) -> Any:
        from ...protobuf.schema import find_message_at

        if place not in self._messages:
            try:
                self._messages[place] = find_message_at(self._pool, place)
            except ConfigError as error:
                raise PermanentError(str(error)) from error
        return self._messages[place]

    def read(self, bodies: pa.BinaryArray, message_type: str | None, infer: Decoder | None) -> Batch:
        from ...protobuf import read_payloads

        runs: list[tuple[tuple[int, ...], list[bytes]]] = []
        for body in bodies.to_pylist():
            place, begin = read_place(body)
            if not runs or runs[-1][0] != place:
                runs.append((place, []))
            runs[-1][1].append(body[begin:])
        parts = []
        for place, some in runs:
            message = self._message(place)
            if message_type is not None and message.descriptor.full_name != message_type:
                raise PermanentError(f"this is a {message.descriptor.full_name}; expected a {message_type}")
            parts.append(read_payloads(message, pa.array(some, pa.binary())))
        if len(parts) == 1:
            return parts[0]
        from ..arrow import unite

        return unite([pa.Table.from_batches([part]) for part in parts])

    def write(self, batch: Batch, message_type: str | None) -> tuple[bytes, pa.BinaryArray]:
        from ...protobuf import write_payloads
        from ...protobuf.schema import Message, place_of

        message = self._message((0,))
        if message_type is not None:
            try:
                message = Message(self._pool.FindMessageTypeByName(message_type))
            except KeyError:
                raise ConfigError(f"the schema has no message {message_type!r}", path="codec.message_type") from None
        return write_place(place_of(message)), write_payloads(message, batch)


_NAMED = ("record", "error", "enum", "fixed")


def _full_name(schema: dict[str, Any], namespace: str) -> str:
    name = str(schema.get("name", ""))
    around = str(schema.get("namespace") or namespace)
    return name if "." in name or not around else f"{around}.{name}"


def _note_names(schema: Any, namespace: str, known: dict[str, Any]) -> None:
    """Note the definitions in an Avro schema by their full names."""
    if isinstance(schema, list):
        for one in schema:
            _note_names(one, namespace, known)
    if not isinstance(schema, dict):
        return
    if schema.get("type") in _NAMED:
        name = _full_name(schema, namespace)
        namespace = name.rpartition(".")[0]
        known.setdefault(name, {**schema, "name": name})
    for inner in _inner(schema):
        _note_names(inner, namespace, known)


def _inner(schema: dict[str, Any]) -> list[Any]:
    fields = [one.get("type") for one in schema.get("fields") or () if isinstance(one, dict)]
    return [*fields, schema.get("items"), schema.get("values"), schema.get("type") if "fields" not in schema else None]


def _with_definitions(schema: Any, namespace: str, known: dict[str, Any], defined: set[str]) -> Any:
    """Return an Avro schema with the definitions it refers to, each where it is first named."""
    if isinstance(schema, list):
        return [_with_definitions(one, namespace, known, defined) for one in schema]
    if isinstance(schema, str):
        names = [name for name in (f"{namespace}.{schema}" if namespace else schema, schema) if name in known]
        if not names or names[0] in defined:
            return names[0] if names else schema
        return _with_definitions(known[names[0]], namespace, known, defined)
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    if schema.get("type") in _NAMED:
        name = _full_name(schema, namespace)
        namespace = name.rpartition(".")[0]
        found["name"] = name
        defined.add(name)
    if isinstance(schema.get("fields"), list):
        found["fields"] = [
            {**one, "type": _with_definitions(one["type"], namespace, known, defined)} for one in schema["fields"]
        ]
    for key in ("items", "values"):
        if key in schema:
            found[key] = _with_definitions(schema[key], namespace, known, defined)
    if not isinstance(schema.get("type"), str) and "type" in schema:
        found["type"] = _with_definitions(schema["type"], namespace, known, defined)
    return found
