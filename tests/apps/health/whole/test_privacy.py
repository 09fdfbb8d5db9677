"""What one user has is nothing that another can see, change or find, by any route that there is."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest

from .exports import shapes, steps
from .service import Phone, Service, until

SECRET = "Zanzibar"
"""A word that is in what the first user has, and in nothing else."""
STEPS = 54321.125
HERS = "2026-02-03 07:15:00 +0100"


@pytest.fixture(scope="module")
def _prepared() -> dict[str, tuple[Phone, Phone, dict[str, list[str]]]]:
    return {}


@pytest.fixture
def both(
    service: Service, _prepared: dict[str, tuple[Phone, Phone, dict[str, list[str]]]]
) -> tuple[Phone, Phone, dict[str, list[str]]]:
    """One who has everything, another, and what the parameters of paths are of what the first has."""
    if service.address not in _prepared:
        owner, stranger = service.phone(f"{SECRET}-owner", name=f"{SECRET}-key"), service.phone()
        _prepared[service.address] = (owner, stranger, _fill(owner))
        stranger.send(steps((HERS, 4), source="Other"))
    return _prepared[service.address]


def _fill(owner: Phone) -> dict[str, list[str]]:
    """Send all shapes, each source and name with a word by which it is known, and characteristics."""
    export = shapes()["data"]
    for metric in export["metrics"]:
        for point in metric["data"] or []:
            point["source"] = SECRET
    export["metrics"].append({"name": "level_of_something", "units": "count", "data": [{"date": HERS, "qty": 1}]})
    export["metrics"].append({"name": "step_count", "units": "count", "data": [{"date": SECRET, "qty": 1}]})
    for workout in export["workouts"]:
        workout["name"] = SECRET
    told = owner.send({"data": export}, automation_name=SECRET)
    owner.send(steps((HERS, STEPS), source=SECRET))
    condition = json.dumps({"medical_conditions": [SECRET]}).encode()
    put = owner.call("PUT", "/api/v1/user/characteristics", condition, content_type="application/json")
    assert put.status == 200
    workouts = [workout["id"] for workout in owner.get("/api/v1/workouts")["data"]]
    [ecg] = {row["parent"] for row in owner.points("ecg_voltage")}
    held = [str(point["id"]) for point in owner.get("/api/v1/quarantine")["data"]]
    assert held
    return {
        "ingest_id": [told["id"]],
        "payload_id": [told["id"]],
        "point": held,
        "name": ["level_of_something", "step_count", "workouts", "workout_route", "ecg_voltage"],
        "what": ["all", "step_count", "workouts", "nutrition", "level_of_something"],
        "kind": ["activity", "workouts", "symptoms"],
        "workout": [*workouts, ecg],
        "metric": ["heart_rate", "ecg_voltage"],
        "metric_type": ["heart_rate"],
        "key": [owner.key_id, owner.key[:12]],
    }


def _paths(document: Any, method: str, values: dict[str, list[str]], *, named: bool = False) -> list[str]:
    """Return all paths of a method with the values of the first user in them; ``named``: those that have such."""
    found = []
    for path, item in document["paths"].items():
        if method in item:
            names = re.findall("{(.*?)}", path)
            for chosen in product(*(values[name] for name in names)) if names or not named else ():
                found.append(path.format(**dict(zip(names, chosen, strict=True))))
    return found


def _seen(phone: Phone, path: str) -> str:
    answer = phone.call("GET", path)
    assert answer.status < 500, (path, answer.content[:500])
    return answer.content.decode("utf-8", "replace")


def test_no_route_shows_what_another_user_has(both: tuple[Phone, Phone, dict[str, list[str]]]) -> None:
    owner, stranger, values = both
    paths = _paths(owner.get("/api/v1/openapi.json"), "get", values)
    assert len(paths) > 50
    shown = 0
    for path in paths:
        own, others = _seen(owner, path), _seen(stranger, path)
        shown += SECRET in own
        assert not [said for said in (SECRET.lower(), str(STEPS)) if said in others.lower()], path
    assert shown >= 15


def test_no_cursor_of_another_user_is_taken(both: tuple[Phone, Phone, dict[str, list[str]]]) -> None:
    owner, stranger, _ = both
    for path in ("/api/v1/ingests", "/api/v1/metrics/step_count", "/api/v1/workouts", "/api/v1/quarantine"):
        cursor = owner.get(path, limit=1)["next_cursor"]
        if cursor is not None:
            answer = stranger.call("GET", f"{path}?limit=1&cursor={cursor}")
            assert SECRET.lower() not in answer.content.decode().lower()
            assert answer.status in (200, 400)


def test_nothing_of_another_user_can_be_changed(both: tuple[Phone, Phone, dict[str, list[str]]]) -> None:
    owner, stranger, values = both
    document = owner.get("/api/v1/openapi.json")
    before = owner.stored()
    others = [
        (method, path)
        for method in ("post", "put", "patch", "delete")
        for path in _paths(document, method, values, named=True)
    ]
    assert len(others) >= 7
    for method, path in others:
        answer = stranger.call(method.upper(), path, b"{}", content_type="application/json")
        assert answer.status in (400, 404), (method, path, answer.content[:500])
    assert owner.stored() == before
    assert owner.get("/api/v1/me")["data"]["key"] == owner.key_id
    assert owner.outcome(values["ingest_id"][0])["attempt"] == 1


def test_without_a_key_nothing_is_shown_but_what_is_public(
    service: Service, both: tuple[Phone, Phone, dict[str, list[str]]]
) -> None:
    nobody, document = Phone(service.address, ""), both[0].get("/api/v1/openapi.json")
    public = {path for path, item in document["paths"].items() if item.get("get", {}).get("security") == [{}]}
    assert public == {"/api/v1/docs", "/health/live", "/ready", "/health/ready", "/api/v1/status"}
    for path in _paths(document, "get", both[2]):
        answer = nobody.call("GET", path)
        assert answer.status == (200 if path in public else 401), path
        assert SECRET not in answer.content.decode()
    for method in ("post", "put", "patch", "delete"):
        for path in _paths(document, method, both[2]):
            answer = nobody.call(method.upper(), path, b"{}")
            assert answer.status == 401, (method, path)
            assert answer.json["error"]


def test_a_key_can_do_what_its_scopes_say_and_nothing_else(service: Service) -> None:
    whole = service.phone()
    allowed = {"ingest": set[str](), "read": set[str](), "export": set[str](), "admin": set[str]()}
    paths = ("/api/v1/metrics", "/api/v1/export/all", "/api/v1/auth/keys")
    for scope, reached in allowed.items():
        phone = service.phone(whole.user, [scope])
        reached |= {path for path in paths if phone.call("GET", path).status == 200}
        if phone.call("POST", "/api/v1/ingest", b"{}").status == 200:
            reached.add("ingest")
    assert allowed == {"ingest": {"ingest"}, "read": {paths[0]}, "export": {paths[1]}, "admin": {paths[2]}}


def test_l17_keys_are_made_listed_rotated_and_revoked_by_the_api_and_audited(service: Service) -> None:
    admin = service.phone()
    made = admin.post("/api/v1/auth/keys", {"name": "tablet", "scopes": ["read"]}, 201)["data"]
    tablet = Phone(service.address, made["key"])
    assert tablet.get("/api/v1/me")["data"]["scopes"] == ["read"]
    turned = admin.post(f"/api/v1/auth/keys/{made['id']}/rotate", {"overlap": "1h"}, 201)["data"]
    other = Phone(service.address, turned["key"])
    assert {tablet.call("GET", "/api/v1/me").status, other.call("GET", "/api/v1/me").status} == {200}
    for one in (made, turned):
        assert admin.call("DELETE", f"/api/v1/auth/keys/{one['id']}").status == 200
    assert [phone.call("GET", "/api/v1/me").status for phone in (tablet, other)] == [401, 401]
    listed = admin.get("/api/v1/auth/keys")["data"]
    assert {key["state"] for key in listed if key["name"] == "tablet"} == {"revoked"}
    assert made["key"] not in str(listed)
    assert made["key"] not in service.log
    wanted = {"api_key_created", "api_key_rotated", "api_key_revoked"}
    assert wanted <= _audited(admin, wanted)


def _audited(admin: Phone, wanted: set[str]) -> set[str]:
    def found() -> Any:
        actions = {row["action"] for row in admin.get("/api/v1/admin/audit", limit=100)["data"]}
        return actions if wanted <= actions else None

    actions: set[str] = until(found, "the audit has been written")
    return actions
