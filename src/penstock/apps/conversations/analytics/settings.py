"""Where the lake and the warehouse are, as variables of the environment say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError

from ....errors import ConfigError
from ....options import Options


class Settings(Options):
    """The settings of analytics, named as claude-analytics names them."""

    warehouse_path: Path
    """The folder of the lake."""
    catalog_name: str = "penstock"
    catalog_type: Literal["sql", "rest"] = "sql"
    catalog_uri: SecretStr | None = None
    namespace: str = "analytics"
    table_name: str = "conversations"
    duckdb_path: Path
    """The file of the warehouse."""
    duckdb_threads: Annotated[int, Field(ge=1, le=32)] = 2
    batch_size: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """How many lines are read at once."""
    timezone: str = "UTC"
    """Whose days and hours the models mean."""


_VARIABLES = {
    "ICEBERG_WAREHOUSE_PATH": "warehouse_path",
    "ICEBERG_CATALOG_NAME": "catalog_name",
    "ICEBERG_CATALOG_TYPE": "catalog_type",
    "ICEBERG_CATALOG_URI": "catalog_uri",
    "ICEBERG_NAMESPACE": "namespace",
    "ICEBERG_TABLE_NAME": "table_name",
    "DUCKDB_PATH": "duckdb_path",
    "DUCKDB_THREADS": "duckdb_threads",
    "ANALYTICS_BATCH_SIZE": "batch_size",
    "ANALYTICS_TIMEZONE": "timezone",
}


def read_settings(data: Path, environment: Mapping[str, str]) -> Settings:
    """Return the settings of an installation; raises ConfigError."""
    given: dict[str, object] = {
        "warehouse_path": data.absolute() / "lake",
        "duckdb_path": data.absolute() / "analytics.duckdb",
    }
    given |= {name: environment[variable] for variable, name in _VARIABLES.items() if environment.get(variable)}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = next((v for v, n in _VARIABLES.items() if n == wrong["loc"][0]), str(wrong["loc"][0]))
        raise ConfigError(f"{name}: {wrong['msg']}") from None
    try:
        ZoneInfo(settings.timezone)
    except (ValueError, OSError, LookupError):
        expected = "expected a time zone such as Europe/Berlin"
        raise ConfigError(f"ANALYTICS_TIMEZONE: {expected}, not {settings.timezone!r}") from None
    return settings
