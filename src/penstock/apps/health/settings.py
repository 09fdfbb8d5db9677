"""The settings of the health service, each an environment variable ``PENSTOCK_HEALTH_<NAME>`` or a named argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator

from ...duration import Duration
from ...errors import ConfigError
from ...options import Options
from ...platform.access.scopes import MEGABYTE, Limit

HOUR = 3600.0
DAY = 86_400.0


class Settings(Options):
    """How the health service runs."""

    data: Path = Path("penstock-data")
    """The folder of raw bodies (`health/raw`) and logs. PENSTOCK_DATA."""
    address: str = "127.0.0.1:8080"
    """Where it listens. PENSTOCK_ADDRESS."""
    database_url: SecretStr = SecretStr("")
    """Where the tables are: sqlite:/// or postgresql://. PENSTOCK_DATABASE_URL."""
    redis_url: SecretStr | None = None
    """Where limits and verified keys are shared by several replicas. PENSTOCK_REDIS_URL."""
    raw_url: str | None = None
    """Where raw bodies are kept; without it, in the data folder."""
    max_body_bytes: int = Field(200 * MEGABYTE, gt=0)
    """The largest body as it arrives, and the largest body once it is decompressed."""
    wait_bytes: int = Field(1 * MEGABYTE, ge=0)
    """Bodies up to this size are answered once they are stored, larger ones with 202 once they are durable."""
    wait: Duration = 5.0
    """How long an answer waits for the points to be stored before it becomes a 202."""
    max_accepting_bytes: int = Field(1000 * MEGABYTE, gt=0)
    """How many bytes of bodies may be arriving at once; beyond that the answer is 503."""
    trusted_proxies: list[IPv4Network | IPv6Network] = []
    """Whose X-Forwarded-For is believed: addresses or networks, separated by commas. Nobody's by default."""
    allowed_origins: list[str] = []
    """Web origins that may call the API from a browser, separated by commas; `*` for all."""
    ingest: Limit = Limit(requests=50, bytes=10 * MEGABYTE, allowance_requests=5000, allowance_bytes=5000 * MEGABYTE)
    """What a key may ingest."""
    read: Limit = Limit(requests=100, bytes=10 * MEGABYTE, allowance_requests=5000, allowance_bytes=100 * MEGABYTE)
    """What a key may read."""
    export: Limit = Limit(requests=10, bytes=10 * MEGABYTE, allowance_requests=100, allowance_bytes=100 * MEGABYTE)
    """How often a key may export."""
    admin: Limit = Limit(requests=100, bytes=10 * MEGABYTE, allowance_requests=1000, allowance_bytes=100 * MEGABYTE)
    """What a key may administer."""
    by_address: Limit = Limit(
        requests=20_000, bytes=5000 * MEGABYTE, allowance_requests=200_000, allowance_bytes=50_000 * MEGABYTE
    )
    """What all keys together may do from one address."""
    failures: Limit = Limit(requests=100, bytes=100 * MEGABYTE)
    """How often an address may show a wrong key."""
    retention_months: int | None = Field(None, gt=0)
    """Months of points that are kept; without it, all are."""
    silence: Duration = 48 * HOUR
    """After how long without a sync a user is reported."""
    quality_interval: Duration = HOUR
    """How often the quality of the data is looked at."""

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return (
            [ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip()]
            if isinstance(value, str)
            else value
        )

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> Settings:
        """Read the settings from the environment; ``given`` ones come first. Raises ConfigError naming the variable.

        A nested one is written with two underscores: ``PENSTOCK_HEALTH_INGEST__REQUESTS``.
        """
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            own = f"PENSTOCK_{name.upper()}" if name in _SHARED else f"PENSTOCK_HEALTH_{name.upper()}"
            if environment.get(own):
                values[name] = environment[own]
            if isinstance(field.default, Limit):
                parts = {part: environment.get(f"{own}__{part.upper()}") for part in Limit.model_fields}
                changed = {part: text for part, text in parts.items() if text}
                if changed:
                    values[name] = field.default.model_dump() | changed
        try:
            return cls.model_validate(values | given)
        except ValidationError as invalid:
            faults = [(error["loc"], str(error["msg"])) for error in invalid.errors(include_input=False)]
            raise ConfigError("; ".join(f"{_variable(loc)}: {message}" for loc, message in faults)) from None


_SHARED = {"data", "address", "database_url", "redis_url"}


def _variable(location: tuple[str | int, ...]) -> str:
    first, *rest = (str(part).upper() for part in location)
    prefix = "PENSTOCK" if first.lower() in _SHARED else "PENSTOCK_HEALTH"
    return "__".join([f"{prefix}_{first}", *rest])
