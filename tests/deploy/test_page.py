"""What the page about operations says is so."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from penstock.apps.health.quality import FINDINGS
from penstock.apps.health.settings import Limit, Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "health-operations.md").read_text()


def test_the_alerts_exist() -> None:
    groups = YAML(typ="safe").load(ROOT / "deploy" / "prometheus" / "rules.yaml")["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    named = set(re.findall(r"`(Health[A-Z]\w+)`", PAGE))
    assert len(named) > 10
    assert named <= alerts


def test_the_variables_exist() -> None:
    fields = Settings.model_fields
    known = {f"PENSTOCK_{name.upper()}" for name in ("data", "address", "database_url", "redis_url", "trusted_proxies")}
    known |= {f"PENSTOCK_HEALTH_{name.upper()}" for name in fields}
    known |= {
        f"PENSTOCK_HEALTH_{name.upper()}__{part.upper()}"
        for name, field in fields.items()
        if isinstance(field.default, Limit)
        for part in Limit.model_fields
    }
    known |= {"PENSTOCK_LOG_FORMAT", "PENSTOCK_LOG_LEVEL"}
    named = set(re.findall(r"PENSTOCK_[A-Z_]*[A-Z]", PAGE))
    assert len(named) > 10
    assert named <= known


def test_the_findings_are_all_explained() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", PAGE[PAGE.index("| finding | means") :], re.MULTILINE)[
        : len(FINDINGS)
    ] == list(FINDINGS)


def test_the_limits_are_those_of_the_settings() -> None:
    settings = Settings()
    for name, title in (
        ("ingest",) * 2,
        ("read",) * 2,
        ("export",) * 2,
        ("admin",) * 2,
        ("by_address", "all keys of an address"),
    ):
        limit: Limit = getattr(settings, name)
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {title} |"))
        numbers = [
            int(number.replace(",", "")) * {"MB": 10**6, "GB": 10**9, "requests": 1}[unit]
            for number, unit in re.findall(r"([\d,]+) (requests|MB|GB)", row)
        ]
        assert numbers == [limit.requests, limit.bytes, limit.allowance_requests, limit.allowance_bytes]
