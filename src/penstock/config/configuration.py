"""A configuration: streams and what surrounds them, read from YAML, JSON or TOML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..application import Application, Installation
from ..errors import ConfigError
from ..extras import require
from ..options import Options, is_same
from ..serving.listener import split_address
from ..stream import Source, Stream
from .document import Document, Path_, parse_document, read_document
from .functions import Functions


class Logging(Options):
    """The level, format and destination of the logs."""

    level: Literal["trace", "debug", "info", "warn", "warning", "error"] = "info"
    """The least severe level that is logged, in small or capital letters; any other word means `info`."""
    format: Literal["plain", "json"] = "plain"
    """`plain` for people, or `json` with one object a line."""
    file_path: Path | None = None
    """A file to append to, instead of standard error."""

    _unknown: str = PrivateAttr("")

    @model_validator(mode="wrap")
    @classmethod
    def _read_level(cls, value: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        level = value.get("level") if isinstance(value, dict) else None
        if not isinstance(level, str):
            return build(value)
        known = level.lower() if level.lower() in get_args(cls.model_fields["level"].annotation) else "info"
        logging = build({**value, "level": known})
        logging._unknown = level if known != level.lower() else ""
        return logging

    def notes(self) -> Iterator[str]:
        """Yield what a person should know who wrote this."""
        if self._unknown:
            yield f"logging.level: no level is called {self._unknown!r}, so `info` is taken"


class HealthCheck(Options):
    """The HTTP pages of health and metrics."""

    enabled: bool = True
    """Whether they are served."""
    address: str = "127.0.0.1:8080"
    """The host and port to listen at."""
    health_path: str = "/health"
    """The path of the health of every stream: 200 while all are well, else 503."""
    readiness_path: str = "/readiness"
    """The path of the readiness probe: 200 once every stream has started, and while none has failed."""
    liveness_path: str = "/liveness"
    """The path of the liveness probe: 200 as long as the process answers."""
    api_prefix: str = "/api/v1"
    """The path below which the status pages are."""
    api_token: SecretStr | None = None
    """The bearer token that callers of the status pages must send."""
    cors_origins: list[str] = []
    """The origins whose pages may read the answers (CORS)."""
    node_id: str | None = None
    """The name of this process in the status pages; by default `local-node`."""
    hub_url: str | None = None
    """Accepted without effect: each process is looked after by its own pages."""
    node_token: SecretStr | None = None
    """Accepted without effect, as `hub_url`."""
    agent_lease_ttl_ms: int = Field(15_000, ge=3000)
    """Accepted without effect, as `hub_url`."""

    def notes(self) -> Iterator[str]:
        """Yield what a person should know who wrote this."""
        if self.hub_url is not None:
            yield "health_check.hub_url: nothing is sent to a hub; this process is looked after by its own pages"


class Tracing(Options):
    """OpenTelemetry traces; needs the extra `tracing`."""

    endpoint: str
    """The OTLP/HTTP address that traces are sent to, such as http://127.0.0.1:4318/v1/traces."""
    service_name: str = "penstock"
    """The service name of this process in traces."""


class Configuration(Options):
    """A whole configuration file."""

    functions: list[Functions] = []
    """Python functions that all SQL of the file may call: queries, conditions, expressions."""
    streams: list[Stream] = []
    """The streams, independent of one another; where the list is empty, the process waits for a reload."""
    applications: list[Application] = Field([], min_length=1)
    """The applications, each with streams, tables, routes and pages of its own: a name, or a mapping with options."""
    database: SecretStr | None = None
    """The database of applications: `sqlite:///rows.db` or `postgresql://...`; by default SQLite in the data folder."""
    logging: Logging = Logging()
    """The logs."""
    health_check: HealthCheck = HealthCheck()
    """The pages of health and metrics."""
    tracing: Tracing | None = None
    """The traces."""
    state: str | None = None
    """The store of positions: a SQLite file or a postgresql:// URL; by default a file in the data folder."""
    data: Path = Path("penstock-data")
    """The folder of positions and write-ahead logs."""
    _environment: Mapping[str, str] = PrivateAttr(default_factory=lambda: os.environ)
    _needed: list[Application] = PrivateAttr(default_factory=list)
    _parts: list[_Part] = PrivateAttr(default_factory=list)
    _notes: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _number_streams(self, info: ValidationInfo) -> Configuration:
        """Number the streams that have no `id`, and note the path of this file relative to the data folder."""
        file = str((info.context or {}).get("file", ""))
        place = os.path.relpath(file, self.data) if file else ""
        numbered = [
            one if "id" in one.model_fields_set else one.numbered(at, place) for at, one in enumerate(self.streams)
        ]
        object.__setattr__(self, "streams", numbered)
        return self

    @field_validator("database")
    @classmethod
    def _is_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and url.get_secret_value() and "://" not in url.get_secret_value():
            raise ValueError("expected a url that begins with sqlite:///, duckdb:/// or postgresql://")
        return url

    @model_validator(mode="after")
    def _expect_packages(self) -> Configuration:
        if self.health_check.enabled:
            require("uvicorn", "`health_check`, unless it has `enabled: false`,")
        if self.tracing is not None:
            require("opentelemetry", "`tracing`")
        if self.state is not None and self.state.startswith(("postgresql://", "postgres://")):
            require("psycopg", "`state` in PostgreSQL")
        return self

    @model_validator(mode="after")
    def _belongs_together(self, info: ValidationInfo) -> Configuration:
        self._environment = (info.context or {}).get("environment", os.environ)
        if not self.applications and "streams" not in self.model_fields_set:
            raise ValueError("expected `streams`, `applications` or both")
        _refuse_twice("the application", [application.type_name for application in self.applications])
        self._add_needed()
        self._parts = parts = list(self._find_parts())
        _refuse_twice("the stream id", [stream.id for _, streams, _ in parts for stream in streams])
        self._leave_port_to_streams()
        _refuse_shared_paths(parts)
        health = [("`health_check`", self.health_check.address)] if self.health_check.enabled else []
        _refuse_shared_ports([*((owner, address) for owner, address, _ in _served(parts)), *health])
        self._refuse_owned_tables()
        return self

    def _leave_port_to_streams(self) -> None:
        """Move the pages of health to the next port where nobody chose theirs and a stream listens at the same."""
        if "address" in self.health_check.model_fields_set or self.applications:
            return
        taken = {split_address(address) for _, address, _ in _served(self._parts)}
        host, first = split_address(self.health_check.address)
        ports = {
            port for name, port in taken if name in (host, "localhost", *_ALL_HOSTS) and (name, port) != (host, first)
        }
        free = next(port for port in range(first, 65536) if port not in ports)
        if free != first:
            moved = self.health_check.model_copy(update={"address": f"{host}:{free}"})
            object.__setattr__(self, "health_check", moved)
            self._notes.append(
                f"health_check.address: a stream listens at port {first}, so the pages of health are at {moved.address}"
            )

    def notes(self) -> list[str]:
        """Return what a person should know who wrote this, a line each."""
        found = [*self.logging.notes(), *self.health_check.notes(), *self._notes]
        for stream in self.streams:
            for path, component in stream.components():
                found += [f"{stream.id}.{path}: {note}" for note in component.notes()]
        return found

    def fixed_changes(self, other: Configuration) -> list[str]:
        """Return the options that differ in ``other`` and that take effect only when a process starts."""
        fixed = ("applications", "database", "health_check", "tracing", "state", "data", "logging")
        return [name for name in fixed if not is_same(getattr(self, name), getattr(other, name))]

    @property
    def installation(self) -> Installation:
        """Where the applications keep their data and listen."""
        listed = [*self.applications, *self._needed]
        pages = [replace(page, application=one.type_name) for one in listed for page in one.pages()]
        database = self.database.get_secret_value() if self.database is not None else ""
        scopes = [scope for application in self.all_applications() for scope in application.scopes()]
        return Installation(self.data, self.health_check.address, database, pages, self._environment, scopes)

    def all_applications(self) -> list[Application]:
        """Return the applications of the file, after those that they need."""
        return [*self._needed, *self.applications]

    def _add_needed(self) -> None:
        """Find the applications that others need and that the file does not list; raises ValueError."""
        waiting = list(self.applications)
        while waiting:
            application = waiting.pop(0)
            for name in application.needs(self.installation):
                if name not in [known.type_name for known in self.all_applications()]:
                    added = Application.parse({"type": name})
                    self._needed.insert(0, added)
                    waiting.append(added)

    def _refuse_owned_tables(self) -> None:
        """Raise ValueError if a stream of the file writes to tables that an application owns."""
        owners = {
            space: application.type_name
            for application in self.all_applications()
            for space in application.spaces(self.installation)
        }
        for stream in self.streams:
            for option, output in (("output", stream.output), ("error_output", stream.error_output)):
                for space in output.spaces() if output is not None else ():
                    if space in owners:
                        raise ValueError(
                            f"{option} of the stream {stream.id!r}: the tables in {space} belong to the application "
                            f"{owners[space]!r}, which alone may write them"
                        )

    def all_streams(self) -> list[Stream]:
        """Return the streams of the file and those of its applications."""
        return [stream for _, streams, _ in self._parts for stream in streams]

    def _find_parts(self) -> Iterator[_Part]:
        """Yield the owner, streams and other paths of each stream and application; raises ValueError."""
        yield from ((f"the stream {stream.id!r}", [stream], []) for stream in self.streams)
        for application in self.all_applications():
            owner = f"the application {application.type_name!r}"
            try:
                streams = application.streams(self.installation)
                for stream in streams:
                    stream.written_at(stream.source._replace(application=application.type_name))
            except ConfigError as error:
                raise ValueError(f"{owner}: {error}") from error
            yield owner, streams, [(self.health_check.address, path) for path in application.paths(self.installation)]


_LOOPBACK = {"localhost": "127.0.0.1"}
_ALL_HOSTS = {"0.0.0.0", "::", "*"}

_Part: TypeAlias = tuple[str, Sequence[Stream], Sequence[tuple[str, str]]]
"""Who it is, its streams, and the addresses and paths that it serves beside them."""


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{what} {twice!r} is given twice")


def _refuse_shared_paths(parts: Sequence[_Part]) -> None:
    """Raise ValueError if two applications, or an application and a stream, serve one path."""
    owners: dict[tuple[str, str], str] = {}
    for owner, address, path in _served(parts):
        other = owners.setdefault((address, re.sub(r"\{[^/]*\}", "{}", path)), owner)
        if other != owner and not (other.startswith("the stream") and owner.startswith("the stream")):
            raise ValueError(f"{other} and {owner} both serve {path} at {address}")


def _refuse_shared_ports(listening: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError if two addresses are different spellings of the same port."""
    for (owner, one), (other, two) in combinations(listening, 2):
        (host, port), (host_two, port_two) = split_address(one), split_address(two)
        hosts = {_LOOPBACK.get(host, host), _LOOPBACK.get(host_two, host_two)}
        if one != two and port == port_two != 0 and (len(hosts) == 1 or hosts & _ALL_HOSTS):
            raise ValueError(
                f"{owner} listens at {one} and {other} at {two}, which is the same port: "
                "write the same address for both, or another port for one"
            )


def _served(parts: Sequence[_Part]) -> Iterator[tuple[str, str, str]]:
    for owner, streams, paths in parts:
        for address, path in [*paths, *(served for stream in streams for served in stream.input.served())]:
            yield owner, address, path


def load(path: Path | str, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check a configuration file; raises ConfigError naming file, line, path and what was expected."""
    return build(read_document(Path(path), environment), environment)


def loads(text: str, suffix: str = ".yaml", environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check a configuration from a text; raises ConfigError."""
    return build(parse_document(text, suffix, environment=environment), environment)


def build(document: Document, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Check a document; raises ConfigError for everything that is wrong, one line for each."""
    found = list(document.faults.values())
    if isinstance(document.value, dict):
        try:
            context = {"environment": environment, "file": document.file}
            configuration = Configuration.model_validate(document.value, context=context)
        except ValidationError as invalid:
            found += _explain(document, invalid)
    elif not found:
        raise document.error("expected a mapping with `streams` or `applications`")
    if found:
        found.sort(key=lambda error: error.line or 0)
        raise _Several(found) if len(found) > 1 else found[0] from None
    for index, stream in enumerate(configuration.streams):
        stream.written_at(Source(document.file, document.line(("streams", index))))
    return configuration


class _Several(ConfigError):
    """Several errors of one configuration, a line for each."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.message, path=first.path, line=first.line, file=first.file)
        self.errors = errors
        self.args = ("\n".join(map(str, errors)),)


def _explain(document: Document, invalid: ValidationError) -> Iterator[ConfigError]:
    """Yield an error for each thing that is wrong, but for what a variable that is not filled in may have caused."""
    for error in invalid.errors(include_url=False, include_input=False):
        path: Path_ = _written(document.value, error["loc"])
        if any(path[: len(fault)] == fault[: len(path)] for fault in document.faults):
            continue
        message = str(error["msg"]).removeprefix("Value error, ")
        if error["type"] == "missing":
            message = "required, but not given"
        yield document.error(message[:1].lower() + message[1:], path)


def _written(value: Any, location: tuple[str | int, ...]) -> Path_:
    """Return the part of an error's location that the document has, with one name below it."""
    path: list[str | int] = []
    for part in location:
        in_mapping = isinstance(value, dict) and part in value
        if in_mapping or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value = value[part]
        elif part == "processors" and isinstance(value, list):
            continue
        elif part == location[-1] and isinstance(part, str) and part.isidentifier():
            path.append(part)
            break
        else:
            continue
        path.append(part)
    return tuple(path)
