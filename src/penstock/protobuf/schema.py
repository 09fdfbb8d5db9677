"""Protobuf schemas: .proto files as they are compiled, and the Arrow type of each field."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ..errors import ConfigError

COMPILE_TIMEOUT = 60.0
"""How long the compiler may take, in seconds."""
MAX_ERRORS = 5
"""How many errors of the compiler are told."""
JSON_TYPES = frozenset(f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue"))
"""Messages that stand for JSON."""
WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Messages that stand for a value that may be null."""
TIMESTAMP, DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
_F = FieldDescriptor
_SCALARS: dict[int, pa.DataType] = {
    _F.CPPTYPE_DOUBLE: pa.float64(),
    _F.CPPTYPE_FLOAT: pa.float32(),
    _F.CPPTYPE_INT32: pa.int32(),
    _F.CPPTYPE_INT64: pa.int64(),
    _F.CPPTYPE_UINT32: pa.uint32(),
    _F.CPPTYPE_UINT64: pa.uint64(),
    _F.CPPTYPE_BOOL: pa.bool_(),
    _F.CPPTYPE_ENUM: pa.int32(),
}


class Message:
    """A compiled message. One for all configurations that name the same message of the same files."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.make = message_factory.GetMessageClass(descriptor)
        self.schema = columns(descriptor)
        self.has_required = any(
            field.is_required for one in (descriptor, *_inner(descriptor).values()) for field in one.fields
        )

    def __deepcopy__(self, memo: Any) -> Message:
        return self


class Source(NamedTuple):
    """What is compiled: the text of a file, or files with the time at which each was changed."""

    text: str
    files: tuple[tuple[Path, int], ...]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, text: str, inputs: Sequence[str], includes: Sequence[str]) -> Source:
        """Find the files, all of a folder if one is named; raises ConfigError if there are none."""
        files = [path for name in inputs for path in _proto_files(name)]
        found = [Path(name) if Path(name).is_dir() else Path(name).parent for name in inputs]
        folders = [Path(name) for name in includes] or found
        return cls(text, tuple((path, path.stat().st_mtime_ns) for path in files), tuple(dict.fromkeys(folders)))


@lru_cache(maxsize=256)
def find_message(source: Source, message_type: str) -> Message:
    """Return a message of what is compiled; raises ConfigError, with the line of what cannot be compiled."""
    pool, names = _compile(source)
    try:
        return Message(pool.FindMessageTypeByName(message_type))
    except KeyError:
        known = ", ".join(names) or "none"
        raise ConfigError(f"no message is called {message_type!r}; there is {known}") from None


def compile_text(text: str, imports: Sequence[tuple[str, str]]) -> Any:
    """Return the messages of a text, which imports files of the names and texts given.

    Raises ConfigError if it does not compile, and ValueError for a name that is not that of a file in a folder.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-protobuf-") as folder:
        for name, imported in imports:
            path = Path(folder, name)
            if not path.resolve().is_relative_to(Path(folder).resolve()):
                raise ValueError(f"{name!r} is imported, which is not the name of a file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(imported)
        return _compile.__wrapped__(Source(text, (), (Path(folder),)))[0]


def find_message_at(pool: Any, indexes: Sequence[int]) -> Message:
    """Return a message of a text by its place: its index in the file, then in the message around it, and so on.

    Raises ConfigError if there is none.
    """
    file = descriptor_pb2.FileDescriptorProto()
    pool.FindFileByName("proto").CopyToProto(file)
    siblings, name = file.message_type, file.package
    for index in indexes:
        if not 0 <= index < len(siblings):
            raise ConfigError(f"the schema has no message at {list(indexes)}")
        name = f"{name}.{siblings[index].name}".lstrip(".")
        siblings = siblings[index].nested_type
    return Message(pool.FindMessageTypeByName(name))


def place_of(message: Message) -> tuple[int, ...]:
    """Return where a message is in its file, as ``find_message_at`` takes it."""
    found: list[int] = []
    one: Descriptor | None = message.descriptor
    while one is not None:
        around = one.containing_type
        siblings = around.nested_types if around is not None else one.file.message_types_by_name.values()
        found.append([each.full_name for each in siblings].index(one.full_name))
        one = around
    return tuple(reversed(found))


def arrow_type(field: FieldDescriptor) -> pa.DataType:
    """Return the type of a field as a column: lists, maps and structs for what is repeated, keyed or nested."""
    if entry := map_entry(field):
        return pa.map_(single_type(entry[0]), single_type(entry[1]))
    return pa.list_(single_type(field)) if field.is_repeated else single_type(field)


def map_entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor] | None:
    """Return the key and the value of a map; None for any other field."""
    message = field.message_type
    if message is None or not message.GetOptions().map_entry:
        return None
    return message.fields_by_name["key"], message.fields_by_name["value"]


def is_json(message: Descriptor) -> bool:
    """Tell whether a message is read as JSON text: because it stands for JSON, or because it may contain itself."""
    return message.full_name in JSON_TYPES or message.full_name in _inner(message)


def columns(message: Descriptor) -> pa.Schema:
    """Return the columns of a message; raises ConfigError if it has none because it contains itself."""
    if is_json(message):
        raise ConfigError(f"the message {message.full_name!r} contains itself, so that it has no columns")
    return pa.schema([pa.field(field.name, arrow_type(field)) for field in message.fields])


def single_type(field: FieldDescriptor) -> pa.DataType:
    """Return the type of one value of a field, which may be repeated."""
    if field.cpp_type == _F.CPPTYPE_STRING:
        return pa.binary() if field.type == _F.TYPE_BYTES else pa.string()
    message = field.message_type
    if message is None:
        return _SCALARS[field.cpp_type]
    if message.full_name == TIMESTAMP:
        return pa.timestamp("ns", "UTC")
    if message.full_name == DURATION:
        return pa.duration("ns")
    if message.full_name in WRAPPERS:
        return single_type(message.fields_by_name["value"])
    return pa.string() if is_json(message) else pa.struct(list(columns(message)))


def _inner(message: Descriptor) -> dict[str, Descriptor]:
    """Return all messages that it may contain, at any depth, by their full names; itself only if it may."""
    found: dict[str, Descriptor] = {}
    waiting = [message]
    while waiting:
        inner = [field.message_type for field in waiting.pop().fields if field.message_type is not None]
        new = [one for one in inner if one.full_name not in found]
        found |= {one.full_name: one for one in new}
        waiting += new
    return found


def _proto_files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(path.rglob("*.proto"))
        if not found:
            raise ConfigError(f"no .proto file is in the folder {name}")
        return found
    if not path.is_file():
        raise ConfigError(f"there is no file or folder {name}")
    return [path]


@lru_cache(maxsize=64)
def _compile(source: Source) -> tuple[Any, list[str]]:
    """Return all messages, and the names of those at the top of a file.

    It is done in a process of its own, as the compiler writes its errors to the standard error of whoever calls it.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-protobuf-") as scratch:
        compiled = Path(scratch, "compiled")
        paths = [str(path) for path, _ in source.files]
        if source.text:
            paths.append(str(Path(scratch, "proto")))
            Path(paths[-1]).write_text(source.text)
        options = [*(f"-I{folder}" for folder in (*source.folders, *[scratch][: bool(source.text)]))]
        options += ["--include_imports", f"--descriptor_set_out={compiled}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *options, *paths]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"the .proto files were not compiled within {COMPILE_TIMEOUT:g} s") from None
        if done.returncode:
            said = done.stderr.strip().replace(f"{scratch}/", "").splitlines()[:MAX_ERRORS]
            raise ConfigError(f"the .proto files do not compile: {'; '.join(said)}")
        files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    prefixes = [(file, f"{file.package}." if file.package else "") for file in files]
    return pool, sorted(prefix + message.name for file, prefix in prefixes for message in file.message_type)
