"""What a key may be good for: scopes that applications declare, each with its limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from ...errors import ConfigError
from ...options import Options

MEGABYTE = 1_000_000
ANY = "any"
"""What a route says that a key of any scope may call."""


class Limit(Options):
    """What one key, or one address, may do: a sliding hour, and an allowance for each sliding day beyond it."""

    requests: int = Field(gt=0)
    """Requests in any hour."""
    bytes: int = Field(gt=0)
    """Bytes of bodies in any hour."""
    allowance_requests: int = Field(0, ge=0)
    """Requests in any day beyond those of the hours: the backfill allowance."""
    allowance_bytes: int = Field(0, ge=0)
    """Bytes in any day beyond those of the hours."""


DEFAULT_LIMIT = Limit(requests=100, bytes=10 * MEGABYTE, allowance_requests=5000, allowance_bytes=100 * MEGABYTE)


class Scope(NamedTuple):
    """A right that a key may have, named ``application.right``."""

    name: str
    description: str
    limit: Limit = DEFAULT_LIMIT
    """How often it may be used."""
    is_default: bool = False
    """Whether a key has it for which no scope was asked: to send, not to read."""
    is_of_things: bool = False
    """Whether sensors use it, many times a second: the limit of all keys of one address does not count it."""
    aliases: tuple[str, ...] = ()
    """Shorter names by which it may be asked for, and was stored by older versions."""
    tables: Literal["none", "own", "all"] = "none"
    """Which rows of its application's tables may be looked at: those with the caller's `user_id`, or all."""


OPERATOR = Scope(
    "operator",
    "Change the whole process: its log level, jobs, streams, and the keys of all users.",
    Limit(requests=10_000, bytes=100 * MEGABYTE, allowance_requests=50_000),
)
"""The scope of the platform itself."""


class Scopes:
    """The scopes of all applications of an installation."""

    def __init__(self, declared: Iterable[Scope]) -> None:
        self._declared = {scope.name: scope for scope in (*declared, OPERATOR)}
        self._names = {alias: scope.name for scope in self._declared.values() for alias in (scope.name, *scope.aliases)}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order in which they were declared."""
        return tuple(self._declared)

    @property
    def declared(self) -> tuple[Scope, ...]:
        """All scopes, in the order in which they were declared."""
        return tuple(self._declared.values())

    def of_application(self, application: str) -> tuple[str, ...]:
        """Return the names of the scopes of one application."""
        return tuple(name for name in self._declared if name.startswith(f"{application}."))

    def asked(self, names: Iterable[str], application: str = "") -> tuple[str, ...]:
        """Return the scopes that were asked for by any of their names; raises ConfigError for unknown ones.

        For none, those of a device that sends: to ``application`` if that is given, else to all.
        """
        wanted = {self.resolve(name) for name in names if name.strip()}
        if not wanted:
            of = self.of_application(application) if application else self.names
            return tuple(name for name in of if self._declared[name].is_default)
        return tuple(name for name in self._declared if name in wanted)

    def resolve(self, name: str) -> str:
        """Return the full name of a scope; raises ConfigError if there is none."""
        found = self._names.get(name.strip().lower())
        if found is None:
            raise ConfigError(f"there is no scope {name.strip()[:64]!r}; expected some of {', '.join(self.names)}")
        return found

    def limit(self, name: str) -> Limit:
        """Return the limit of a scope."""
        scope = self._declared.get(name)
        return scope.limit if scope is not None else DEFAULT_LIMIT

    def is_of_things(self, name: str) -> bool:
        """Tell whether sensors use a scope, many times a second."""
        scope = self._declared.get(name)
        return scope is not None and scope.is_of_things

    def limits(self, given: Mapping[str, Mapping[str, int]] | None) -> dict[str, dict[str, int]]:
        """Check limits of a key's own, by scope, and return them by full names; raises ConfigError."""
        found: dict[str, dict[str, int]] = {}
        for name, parts in (given or {}).items():
            resolved = self.resolve(name)
            narrowed(self.limit(resolved), parts, name)
            found[resolved] = dict(parts)
        return found


def narrowed(limit: Limit, parts: Mapping[str, int], name: str = "") -> Limit:
    """Return ``limit`` with other ``parts``; raises ConfigError for parts that it does not have or that cannot be."""
    from pydantic import ValidationError

    values: dict[str, Any] = limit.model_dump() | dict(parts)
    try:
        return Limit.model_validate(values)
    except ValidationError as invalid:
        fault = invalid.errors(include_input=False)[0]
        raise ConfigError(f"limit {name}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def local(name: str, application: str) -> str:
    """Return a scope as the routes of ``application`` name it; the opposite of ``qualified``."""
    return name.removeprefix(f"{application}.")


def qualified(name: str, application: str) -> str:
    """Return the full name of a scope as a route of ``application`` calls it: its own without the application."""
    return name if name in (ANY, OPERATOR.name) or "." in name else f"{application}.{name}"
