"""The options by which requests are admitted, the same for all applications."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import SecretStr

from ...errors import ConfigError
from ...options import Options
from .scopes import MEGABYTE, Limit


class AccessOptions(Options):
    """How requests are admitted."""

    redis_url: SecretStr | None = None
    """Where limits and verified keys are shared by several replicas."""
    trusted_proxies: list[IPv4Network | IPv6Network] = []
    """Whose X-Forwarded-For is believed."""
    by_address: Limit = Limit(
        requests=20_000, bytes=5000 * MEGABYTE, allowance_requests=200_000, allowance_bytes=50_000 * MEGABYTE
    )
    """What all keys together may do from one address."""
    failures: Limit = Limit(requests=100, bytes=100 * MEGABYTE)
    """How often an address may show a wrong key."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> AccessOptions:
        """Read the options that all applications share from variables; raises ConfigError."""
        proxies = environment.get("PENSTOCK_TRUSTED_PROXIES") or environment.get("PENSTOCK_HEALTH_TRUSTED_PROXIES", "")
        try:
            networks = [ip_network(part.strip(), strict=False) for part in proxies.split(",") if part.strip()]
        except ValueError as error:
            raise ConfigError(f"PENSTOCK_TRUSTED_PROXIES: {error}") from None
        url = environment.get("PENSTOCK_REDIS_URL")
        return cls(redis_url=SecretStr(url) if url else None, trusted_proxies=networks)
