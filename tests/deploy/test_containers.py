"""The image, the compose file and the manifests: against their schemas, and against what Penstock really has.

No container is started here: there need not be a daemon where the tests run.
"""

import fnmatch
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from penstock.apps.health.settings import Settings
from penstock.config.configuration import HealthCheck

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.28", "1.31", "1.36")
"""The oldest Kubernetes that is meant, one between, and a new one."""


def read(path: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(path))


COMPOSE = read(DEPLOY / "compose.yaml")[0]
OBJECTS = {(one["kind"], one["metadata"]["name"]): one for path in MANIFESTS for one in read(path)}
POD = OBJECTS["StatefulSet", "penstock"]["spec"]["template"]
CONTAINERS = [*POD["spec"]["initContainers"], *POD["spec"]["containers"]]


def program(name: str, *arguments: str | Path) -> None:
    """Run a checker that is installed with the development tools."""
    path = Path(sys.executable).parent / name
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_its_schema() -> None:
    program("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_dockerfile_has_no_faults() -> None:
    program("hadolint", DEPLOY / "Dockerfile")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_manifests_fit_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    for one in read(path):
        kubernetes_validate.validate(one, version, strict=True)


def test_a_manifest_that_does_not_fit_is_refused() -> None:
    service = OBJECTS["Service", "penstock"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**service, "spec": {**service["spec"], "prots": []}}, VERSIONS[0], strict=True)


def test_what_the_image_is_built_from_is_there_and_reaches_the_build() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!"]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in shlex.split(line)[:-1]
    ]
    assert {"src", "pyproject.toml", "requirements.lock"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source
    assert ignored[0] == "*"
    readme = re.search(r'^readme = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert readme
    assert readme[1] in copied


def test_the_image_installs_only_what_is_locked_and_runs_as_nobody() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "--no-deps --no-build-isolation" in DOCKERFILE
    backend = re.search(r'^requires = \["(\w+)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert backend
    assert re.search(rf"^{backend[1]}==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    instructions = re.findall(r"^(USER|CMD|VOLUME|HEALTHCHECK) ?(.*)$", DOCKERFILE, re.MULTILINE)
    user = [value for name, value in instructions if name == "USER"][-1]
    assert user.split(":")[0].isdigit()
    assert user.split(":")[0] != "0"
    assert ("CMD", '["penstock", "up", "--address", "0.0.0.0:8080"]') in instructions


def test_the_commands_exist() -> None:
    asked = [container["command"] for container in CONTAINERS] + [COMPOSE["services"]["migrate"]["command"]]
    commands = {tuple(words[:2]) for words in asked}
    assert commands == {("penstock", "migrate"), ("penstock", "up")}
    for _, name in commands:
        done = subprocess.run([sys.executable, "-m", "penstock", name, "--help"], capture_output=True, check=True)
        assert name == "migrate" or b"--address" in done.stdout


def test_probes_ask_pages_there_are() -> None:
    pages = HealthCheck()
    container = POD["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {page["path"] for page in asked.values()} == {pages.liveness_path, pages.readiness_path}
    assert asked["readinessProbe"]["path"] == pages.readiness_path
    assert all(ports[page["port"]] == 8080 for page in asked.values())
    assert "http://127.0.0.1:8080/health/ready" in DOCKERFILE


def environment(*objects: tuple[str, str]) -> dict[str, str]:
    return {
        name: value
        for key in objects
        for field in ("data", "stringData")
        for name, value in OBJECTS[key].get(field, {}).items()
    }


def test_the_variables_are_those_that_the_service_reads() -> None:
    given = environment(("ConfigMap", "penstock"), ("Secret", "penstock"))
    composed = {
        name: re.sub(r"\$\{(\w+):?[-?]?([^}]*)\}", r"\2", value)
        for name, value in COMPOSE["services"]["penstock"]["environment"].items()
    }
    known = {f"PENSTOCK_{name.upper()}" for name in ("data", "address", "database_url", "redis_url", "inbox")}
    known |= {f"PENSTOCK_HEALTH_{name.upper()}" for name in Settings.model_fields}
    for variables in (given, composed):
        assert set(variables) <= known
        settings = Settings.of(variables)
        assert settings.database_url.get_secret_value().startswith("postgresql://penstock:")
        assert settings.redis_url is not None
        assert settings.trusted_proxies == []
    referred = {
        (kind, source[key]["name"])
        for container in CONTAINERS
        for source in container["envFrom"]
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret"))
        if key in source
    }
    assert referred == {("ConfigMap", "penstock"), ("Secret", "penstock")}


def test_no_secret_is_written_down() -> None:
    secret = environment(("Secret", "penstock"))
    assert all("REPLACE" in value for value in secret.values())
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "health.env.example").read_text().splitlines()
        if line and line[0] != "#"
    )
    needed = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert needed == {name for name in example if name.endswith("PASSWORD")}
    assert all(example[name] == "" for name in needed)
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert used == set(example)


def test_the_pods_are_found_by_what_is_about_them() -> None:
    labels = POD["metadata"]["labels"]
    state = OBJECTS["StatefulSet", "penstock"]["spec"]
    assert state["selector"]["matchLabels"] == labels
    assert ("Service", state["serviceName"]) in OBJECTS
    assert OBJECTS["Service", state["serviceName"]]["spec"]["clusterIP"] == "None"
    for key in (("Service", "penstock"), ("Service", "penstock-pods")):
        assert OBJECTS[key]["spec"]["selector"] == labels
        assert OBJECTS[key]["spec"]["ports"][0]["targetPort"] == "http"
    assert OBJECTS["PodDisruptionBudget", "penstock"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["NetworkPolicy", "penstock"]["spec"]["podSelector"]["matchLabels"] == labels


def test_pods_may_do_no_more_than_they_must() -> None:
    spec = POD["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" in DOCKERFILE
    assert spec["automountServiceAccountToken"] is False
    claims = {claim["metadata"]["name"] for claim in OBJECTS["StatefulSet", "penstock"]["spec"]["volumeClaimTemplates"]}
    volumes = claims | {volume["name"] for volume in spec["volumes"]}
    for container in CONTAINERS:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}


def test_the_compose_file_mounts_what_is_there_and_shows_nothing_to_the_network() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (
                name,
                source,
            )
        for port in service.get("ports", []):
            assert re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port).startswith("127.0.0.1:")
        for other in service.get("depends_on", {}):
            assert other in services
    assert services["penstock"]["read_only"] is True
    targets = read(DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"][0]["static_configs"][0]["targets"]
    assert [target.split(":")[0] in services for target in targets] == [True]
