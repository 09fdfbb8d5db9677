"""Components: values that a configuration names by ``type``, each found in the folder of its kind or by entry point."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic_core import core_schema

from .extras import MissingPackage
from .metadata import PREFIX
from .options import Options


def entry_points(group: str) -> importlib.metadata.EntryPoints:
    """Return the entry points of a group; those of all packages are read once."""
    found: importlib.metadata.EntryPoints = _entry_points(tuple(sys.path)).select(group=group)
    return found


@lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> Any:  # its type differs between versions of Python
    return importlib.metadata.entry_points()


class Component(Options):
    """A thing a configuration names by ``type``: found as ``<kind>/<type>.py`` or by entry point."""

    _known: ClassVar[dict[str, type[Component]]]
    _package: ClassVar[str]
    _singular: ClassVar[str]
    """What one of this kind is called."""
    type_name: ClassVar[str] = ""
    """The ``type`` by which configurations name it."""
    extra: ClassVar[str] = ""
    """The extra that brings the packages which all uses of it import; empty if the core is enough."""

    name: str | None = None
    """A name of your own for logs, metrics and joins."""

    def __init_subclass__(cls, *, package: str = "", type: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if package:
            cls._known, cls._package, cls._singular = {}, package, cls.__name__.lower()
        elif type:
            cls.type_name = type

    @classmethod
    def __pydantic_init_subclass__(cls, *, type: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if type:  # Not before the class is whole: another thread may find it, and does not wait for its module then.
            cls._known[type] = cls

    @classmethod
    def find(cls, type: str) -> type[Self]:
        """Return the component called ``type``; raises ValueError with the nearest name if there is none."""
        if type not in cls._known and type.isidentifier():
            module = f"penstock.{cls._package}.{type}"
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as missing:
                absent = missing.name in (module, f"penstock.{cls._package}")
                if not absent and str(missing.name).startswith("penstock."):
                    raise
                if not absent:
                    raise cls._lacks(type, missing) from missing
                for entry in entry_points(f"penstock.{cls._package}").select(name=type):
                    try:
                        entry.load()
                    except ModuleNotFoundError as lacking:
                        raise cls._lacks(type, lacking, entry) from lacking
        if type not in cls._known:
            close = difflib.get_close_matches(type, cls.names(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(cls.names())}"
            raise ValueError(f"no {cls._singular} is called {type!r}{hint}")
        return cls._known[type]  # type: ignore[return-value]

    @classmethod
    def _lacks(
        cls, type: str, missing: ModuleNotFoundError, entry: importlib.metadata.EntryPoint | None = None
    ) -> MissingPackage:
        package = str(missing.name).partition(".")[0]
        distribution = entry.dist.name if entry is not None and entry.dist is not None else "penstock"
        return MissingPackage(package, f"{cls._singular} {type!r}", distribution)

    @classmethod
    def installed(cls) -> dict[str, type[Component]]:
        """Return all components of this kind whose packages are installed, by name."""
        found = {}
        for name in cls.names():
            with suppress(ValueError):
                found[name] = cls.find(name)
        return found

    @classmethod
    def names(cls) -> list[str]:
        """Return all names of this kind that a configuration may use."""
        plugins = {entry.name for entry in entry_points(f"penstock.{cls._package}")}
        return sorted({*cls.modules(), *plugins, *cls._known})

    @classmethod
    def modules(cls) -> list[str]:
        """Return the names of this kind that have a module of their own in this package."""
        package = importlib.util.find_spec(f"penstock.{cls._package}")
        if package is None:  # All are found by entry point.
            return []
        found = pkgutil.iter_modules(package.submodule_search_locations)
        return sorted(module.name for module in found if not module.name.startswith("_"))

    @classmethod
    def aliases(cls) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Return the names of this kind that stand for another one with some options given.

        Each package of components declares them as ``ALIASES``.
        """
        if importlib.util.find_spec(f"penstock.{cls._package}") is None:
            return {}
        package = importlib.import_module(f"penstock.{cls._package}")
        found: Mapping[str, tuple[str, Mapping[str, Any]]] = package.ALIASES
        return found

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Build a component of this kind from a mapping with a ``type``, or from a type's bare name."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise ValueError(f"expected a mapping with a `type`, one of {', '.join(cls.names())}")
        rest = {key: option for key, option in value.items() if key != "type"}
        type_name, implied = cls.aliases().get(value["type"], (value["type"], {}))
        return cls.find(type_name).model_validate({**implied, **rest})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        if "_known" not in cls.__dict__:
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        if "_known" not in cls.__dict__:
            return super().__get_pydantic_json_schema__(core, handler)
        return {"x-component": cls._package}

    def notes(self) -> Sequence[str]:
        """Return what a person should know who wrote these options, a line each."""
        return self._ignored

    def reads_metadata(self) -> bool:
        """Tell whether this component reads any ``__meta_*`` column; by default, whether its options name one."""
        return PREFIX in self.model_dump_json(fallback=str)


def _dump(component: Component) -> dict[str, Any]:
    return {"type": component.type_name, **component.model_dump(mode="json", exclude_unset=True)}
