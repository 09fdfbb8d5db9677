"""Optional packages: which extra brings a package, and the error when it is not installed."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from .errors import ConfigError

_DISTRIBUTIONS = {"google": "protobuf", "grpc-tools": "grpcio-tools"}
"""Packages that are imported by another name than they are installed by."""
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+).*;.*\bextra == ['\"](?P<extra>[\w.-]+)['\"]")


class MissingPackage(ConfigError, ValueError):
    """A package is not installed. It is a ValueError too, so that a validator which raises it has its line named."""

    def __init__(self, package: str, needed_by: str, distribution: str = "penstock") -> None:
        extra = extra_of(package, distribution)
        source = f"{distribution}[{extra}]" if extra else package.replace("_", "-")
        super().__init__(
            f"{needed_by} needs the package {package!r}, which is not installed: pip install {_quote(source)}"
        )


def require(package: str, needed_by: str) -> None:
    """Raise MissingPackage unless ``package`` can be imported. It is looked for, not imported."""
    if find_spec(package) is None:
        raise MissingPackage(package, needed_by)


def extra_of(package: str, distribution: str = "penstock") -> str | None:
    """Return the smallest extra of ``distribution`` that brings an importable package; None if no extra does."""
    wanted = _normalize(package)
    wanted = _DISTRIBUTIONS.get(wanted, wanted)
    try:
        found = [match for line in requires(distribution) or () if (match := _REQUIREMENT.fullmatch(line))]
    except PackageNotFoundError:
        return None
    sizes = Counter(match["extra"] for match in found)
    names = [(_normalize(match["name"]), match["extra"]) for match in found]
    # argon2 is imported from argon2-cffi
    bringing = [extra for name, extra in names if name == wanted or name.startswith(f"{wanted}-")]
    return min(bringing, key=lambda extra: sizes[extra], default=None)


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _quote(source: str) -> str:
    """A shell would expand the brackets of an extra."""
    return f"'{source}'" if "[" in source else source
