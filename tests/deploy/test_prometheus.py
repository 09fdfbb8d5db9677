"""The rules and the dashboard, in a real Prometheus that asks for the real metrics."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from ruamel.yaml import YAML

from penstock.apps.health import metrics
from penstock.apps.health.acceptance import Counts
from penstock.apps.health.quality import FINDINGS
from penstock.observe.metrics import StreamMetrics, exposition, registry
from penstock.testing.servers import PrometheusServer, ServerMissing, promtool_program, require_servers

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "health.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
_NAME = re.compile(r"\b(?:health_export|penstock)_[a-z0-9_]+\b")
_SELECTOR = re.compile(r"\b((?:health_export|penstock)_[a-z0-9_]+)\{([^}]*)\}")


def alerts() -> list[dict[str, Any]]:
    groups = YAML(typ="safe").load(RULES)["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """All expressions of rules and panels, with the variables of Grafana filled in."""
    texts = [rule["expr"] for rule in alerts()]
    texts += [target["expr"] for panel in PANELS for target in panel["targets"]]
    texts += [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    return [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in texts]


def promtool(*arguments: str | Path) -> str:
    try:
        program = promtool_program()
    except ServerMissing as missing:
        if require_servers():
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.server
def test_the_rules_and_the_configuration_are_valid() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yaml")


@pytest.mark.server
def test_the_rules_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).parent / "rules_test.yaml")


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]


def test_expressions_use_labels_that_the_metrics_have() -> None:
    collectors: dict[str, Any] = dict(registry._names_to_collectors)
    for expression in expressions():
        for name, matchers in _SELECTOR.findall(expression):
            labels = {*collectors[name]._labelnames, "le", "instance", "job"}
            assert set(re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', "", matchers))) <= labels, expression


def test_rules_and_panels_know_the_findings_there_are() -> None:
    named = {
        finding
        for expression in expressions()
        for listed in re.findall(r'finding=~?"([^"]*)"', expression)
        for finding in listed.split("|")
    }
    assert named | {"quarantined"} == set(FINDINGS)  # The alert on quarantine looks at the points themselves.


def _move() -> None:
    """Move every metric once, so that none is missing for want of labels."""
    metrics.part({"step_count": Counts(received=3, stored=2, quarantined=1)}, 0.1)
    metrics.request("POST", "/api/v1/ingest", 200, 0.1, received=100, sent=10)
    metrics.request("GET", "/api/v1/metrics", 503, 0.1)
    metrics.authenticated("success")
    metrics.note_run("quality", "success", 0.1)
    metrics.expect("quality")
    metrics.waited(0.001)
    metrics.state(users=1, active=1, last_ingest=time.time(), unfinished=0, oldest=0, quarantined=0)
    metrics.quality(dict.fromkeys(FINDINGS, 0), 100)
    stream = StreamMetrics("health")
    stream.read(1)
    stream.written(1, 1, time.perf_counter())
    stream.wal(1)
    stream.up()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(exposition())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with our rules that has asked for our metrics."""
    _move()
    page = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=page.serve_forever, daemon=True)
    thread.start()
    configuration = YAML(typ="safe").load(DEPLOY / "prometheus" / "prometheus.yaml")
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(RULES.parent / name) for name in configuration["rule_files"]]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{page.server_port}"]}]
    file = tmp_path_factory.mktemp("prometheus") / "prometheus.yaml"
    YAML(typ="safe").dump(configuration, file)
    try:
        with PrometheusServer(file) as server:
            yield server.url
    except ServerMissing as missing:
        if require_servers():
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    finally:
        page.shutdown()
        page.server_close()
        thread.join()


def ask(url: str, path: str, **parameters: str) -> Any:
    with urlopen(f"{url}/api/v1/{path}?{urlencode(parameters)}", timeout=60) as answer:
        body = json.load(answer)
    assert body["status"] == "success"
    return body["data"]


@pytest.mark.server
def test_prometheus_has_every_metric_that_is_used(prometheus: str) -> None:
    used = {name for expression in expressions() for name in _NAME.findall(expression)}
    deadline = time.monotonic() + 90
    while missing := used - set(ask(prometheus, "label/__name__/values")):
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)
    assert len(used) >= 30


@pytest.mark.server
def test_prometheus_has_loaded_every_rule_and_evaluates_it(prometheus: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        rules = [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
        if all(rule["health"] == "ok" for rule in rules):
            break
        assert time.monotonic() < deadline, [rule for rule in rules if rule["health"] != "ok"]
        time.sleep(0.2)
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in alerts()}


@pytest.mark.server
def test_prometheus_understands_every_panel(prometheus: str) -> None:
    for expression in expressions():
        ask(prometheus, "query", query=expression)
    variable = DASHBOARD["templating"]["list"][1]["definition"]
    metric = re.fullmatch(r"label_values\((\w+), instance\)", variable)
    assert metric
    deadline = time.monotonic() + 90
    while not (found := ask(prometheus, "query", query=metric[1])["result"]):
        assert time.monotonic() < deadline, f"{metric[1]} was never asked for"
        time.sleep(0.2)
    assert found[0]["metric"]["instance"]


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert max(column for column, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_can_be_drawn() -> None:
    sources = {variable["name"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "datasource"}
    assert (DASHBOARD["uid"], DASHBOARD["schemaVersion"] >= 39, sources) == ("penstock-health", True, {"datasource"})
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries")
        assert panel["title"]
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in (panel, *panel["targets"]):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = YAML(typ="safe").load(provisioning / "datasources" / "prometheus.yaml")["datasources"][0]
    provider = YAML(typ="safe").load(provisioning / "dashboards" / "health.yaml")["providers"][0]
    compose = YAML(typ="safe").load(DEPLOY / "compose.yaml")["services"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert host in compose
    assert port == "9090"
    mounted = [volume.split(":")[1] for volume in compose["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/health.json" in mounted
