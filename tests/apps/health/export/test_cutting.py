from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.apps.health.export import bodies, canonical, cutting, division, plans, structure
from penstock.apps.health.export.slices import Part, Slice, elements

from .exports import EXPORTS, divided, rows
from .parsing import ALL_SHAPES, SAMPLES


def slices(value: Any, **values: Any) -> list[Slice]:
    body = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    parts = divided(body, **values)
    assert parts[0].error is None, parts[0].error
    return [slice for part in parts for slice in part.slices]


def error(body: bytes, **values: Any) -> str:
    [part] = divided(body, **values)
    assert part.slices == []
    assert part.error is not None
    return part.error


def listed(value: Any) -> list[tuple[str, str, str | None, list[Any]]]:
    return [(one.section, one.name, one.units, elements(one.payload)) for one in slices(value)]


STEPS = {"name": "step_count", "units": "count", "data": [{"qty": 1}, {"qty": 2}]}
EXPECTED = [("metrics", "step_count", "count", [{"qty": 1}, {"qty": 2}])]


@pytest.mark.parametrize(
    "export",
    [
        {"data": {"metrics": [STEPS]}},
        {"metrics": [STEPS]},
        {"data": {"metrics": [dict(reversed(STEPS.items()))]}},
        {"data": {"metrics": {"step_count": {"units": "count", "data": [{"qty": 1}, {"qty": 2}]}}}},
        {"data": {}, "metrics": [STEPS]},
        {"data": None, "metrics": [STEPS], "version": "2.0", "exported": 5},
    ],
)
def test_all_forms_of_the_envelope_are_read(export: Any) -> None:
    assert listed(export) == EXPECTED


def test_metrics_may_be_a_map_of_lists() -> None:
    found = slices(
        {"data": {"metrics": {"HKQuantityTypeIdentifierStepCount": [{"qty": 1}], "x": None, "y": {"qty": 1}}}}
    )
    assert [(one.name, one.path, elements(one.payload)) for one in found] == [
        ("HKQuantityTypeIdentifierStepCount", "data.metrics.HKQuantityTypeIdentifierStepCount", [{"qty": 1}]),
        ("y", "data.metrics.y", [{"qty": 1}]),
    ]


@pytest.mark.parametrize(
    "export",
    [
        {"data": {}},
        {"data": None},
        {},
        {"data": {"metrics": [], "workouts": [], "symptoms": None}},
        {"data": {"metrics": [{"name": "basal_body_temperature", "units": "degC", "data": None}]}},
        {"data": {"metrics": [{"name": "basal_body_temperature", "units": "degC"}]}},
    ],
)
def test_l4_an_empty_export_is_one_part_without_slices(export: Any) -> None:
    [part] = divided(json.dumps(export).encode())
    assert (part.slices, part.error) == ([], None)


def test_l19_a_name_that_comes_twice_is_read_twice() -> None:
    found = slices({"data": {"metrics": [STEPS, STEPS]}})
    assert [one.path for one in found] == ["data.metrics[0].data", "data.metrics[1].data"]


def test_a_key_that_comes_twice_is_read_twice() -> None:
    body = b'{"data":{"symptoms":[1],"symptoms":[2]},"data":{"symptoms":[3]}}'
    assert [elements(one.payload) for one in slices(body)] == [[1], [2], [3]]


def test_the_lists_of_a_workout_are_slices_of_their_own_and_know_it() -> None:
    workout = {
        "route": [{"lat": 1}, {"lat": 2}],
        "heartRateData": [{"qty": 1}],
        "heartRateRecovery": None,
        "distance": {"qty": 1, "units": "km"},
        "tags": ["a", "b"],
        "metadata": {"list": [{"a": 1}]},
        "empty": [],
        "id": "W",
        "duration": 5.5,
    }
    found = slices({"data": {"workouts": [None, workout, workout]}})
    assert [(one.section, one.name, one.path, one.first, one.parent_index) for one in found] == [
        ("workouts", "workouts", "data.workouts", 0, None),
        ("workout_route", "route", "data.workouts[1].route", 0, 1),
        ("workout_series", "heartRateData", "data.workouts[1].heartRateData", 0, 1),
        ("workouts", "workouts", "data.workouts", 1, None),
        ("workout_route", "route", "data.workouts[2].route", 0, 2),
        ("workout_series", "heartRateData", "data.workouts[2].heartRateData", 0, 2),
        ("workouts", "workouts", "data.workouts", 2, None),
    ]
    shell = {key: value for key, value in workout.items() if key not in ("route", "heartRateData")}
    assert elements(found[3].payload) == [shell]
    assert found[1].parent is not None
    assert json.loads(found[1].parent) == {"id": "W"}


def test_the_voltages_of_an_ecg_are_a_slice_of_their_own() -> None:
    found = slices({"data": {"ecg": {"start": "x", "voltageMeasurements": [{"voltage": 1}], "other": [{"a": 1}]}}})
    assert [(one.section, elements(one.payload)) for one in found] == [
        ("ecg_voltages", [{"voltage": 1}]),
        ("ecg", [{"start": "x", "other": [{"a": 1}]}]),
    ]


def test_records_of_the_internal_form_are_taken_together() -> None:
    records = [{"type": "HeartRate", "heart_rate": n, "context": [1]} for n in range(5)]
    found = slices({"data": {"metrics": [*records[:3], STEPS, *records[3:]], "workouts": []}})
    assert [(one.section, one.first, one.count) for one in found] == [
        ("internal", 0, 3),
        ("metrics", 0, 2),
        ("internal", 4, 2),
    ]
    assert elements(found[0].payload) == records[:3]


def test_unknown_lists_and_objects_are_kept() -> None:
    found = slices({"data": {"audiograms": [{"a": 1}], "device": {"model": "x"}, "count": 5, "none": None, "void": {}}})
    assert [(one.section, one.path, elements(one.payload)) for one in found] == [
        ("audiograms", "data.audiograms", [{"a": 1}]),
        ("device", "data.device", [{"model": "x"}]),
    ]


@pytest.mark.parametrize(
    ("export", "reason"),
    [
        ({"data": 5}, "expected a list or an object"),
        ({"data": {"symptoms": "none"}}, "expected a list or an object"),
        ({"data": {"metrics": [5]}}, "expected an object with name, units and data"),
        ({"data": {"metrics": [None]}}, "expected an object with name, units and data"),
        ({"data": {"metrics": [{"name": "a", "data": {"qty": 1}}]}}, "expected a list of points"),
        ({"data": {"metrics": [{"data": [{"qty": 1}]}]}}, "the metric has no name"),
    ],
)
def test_what_is_no_list_is_quarantined(export: Any, reason: str) -> None:
    [one] = slices(export)
    assert one.reason == reason
    [row] = rows(divided(json.dumps(export).encode()))
    assert (row["record"], row["reason"]) == ("quarantined", reason)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body ends at byte 0; expected a JSON object"),
        (b"   ", "the body ends at byte 3; expected a JSON object"),
        (b"[]", "at byte 0: expected a JSON object, got '[]'"),
        (b"5", "the body ends at byte 1; expected a JSON object"),
        (b"{", "the body ends at byte 1; expected a key or }"),
        (b'{"data": {"metrics": [{"name": "a", "data": [{"qty": 1}', "the body ends at byte 55; expected the end of"),
        (b'{"data": {}} x', "at byte 12: expected the end of the body, got ' x'"),
        (b'{"data": {}}{}', "at byte 12: expected the end of the body"),
        (b'{"data": {"a": [1,]}}', "at byte 18: expected JSON, got trailing comma"),
        (b'{"data": {"a": [,1]}}', "at byte 16: expected JSON"),
        (b'{"data": {"a": [1 2]}}', "at byte 18: expected JSON"),
        (b'{"data": {"a": [1}}', "at byte 17: expected ]"),
        (b'{"data": {"a": [{]}]}}', "expected"),
        (b'{"a": tru}', "expected JSON"),
        (b'{"a": 1,}', "at byte 8: expected a key and :"),
        (b'{"a" 1}', "expected a key"),
        (b"{1: 2}", "at byte 1: expected a text as key"),
        (b'{"a": }', "at byte 5: expected a value"),
        (b'{"a": 1 "b": 2}', "expected"),
        (b'{"a": "\xff"}', "at byte 7: expected UTF-8, got byte 0xff"),
        (b'{"a": ["\xff"]}', "at byte 8: expected UTF-8, got byte 0xff"),
        (b'{"metrics": [{"name": "a" "data": []}]}', "expected"),
        (b'{"workouts": [{"name": "a", "route": [{}, {]}]}', "expected"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "at most 64 levels of nesting"),
        (b"\x89PNG\r\n", "expected a JSON object"),
        (b"\xff" * 50, "expected"),
        (b"\0" * 50, "expected a JSON object"),
    ],
)
def test_l15_of_a_broken_body_nothing_is_handed_out_and_it_is_said_why(body: bytes, message: str) -> None:
    assert message in error(body)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_l15_no_truncation_is_taken_for_the_whole(data: st.DataObject) -> None:
    body = json.dumps({"data": ALL_SHAPES}, ensure_ascii=False).encode()
    error(body[: data.draw(st.integers(0, len(body) - 1))])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_l15_garbage_never_raises(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"data": data.draw(st.just(ALL_SHAPES) | EXPORTS)}, default=str).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    rows(divided(bytes(body)))


def flat(parts: list[Part]) -> list[tuple[Any, ...]]:
    """All elements of the slices, wherever they were cut."""
    return sorted(
        (one.section, one.name, one.units, one.path, index, one.parent, one.reason, repr(element))
        for part in parts
        for one in part.slices
        for index, element in enumerate(elements(one.payload), one.first)
    )


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 200), st.integers(1, 64))


@settings(deadline=None, max_examples=60)
@given(EXPORTS, SIZES)
def test_any_export_gives_the_same_rows_whatever_the_size_of_parts_and_windows(
    export: Any, sizes: tuple[int, int, int]
) -> None:
    body = json.dumps(export, indent=1 if sizes[0] % 2 else None).encode()
    whole = divided(body)
    with pytest.MonkeyPatch.context() as patch:
        for module in (cutting, plans):
            patch.setattr(module, "MAX_ELEMENTS", sizes[0])
            patch.setattr(module, "MAX_BYTES", sizes[1])
        patch.setattr(division, "MAX_ELEMENTS", sizes[0])
        patch.setattr(division, "PART_BYTES", sizes[1])
        small = divided(body)
        patch.setattr(structure.Structure.__init__, "__defaults__", (sizes[2],))
        patch.setattr(bodies, "_BLOCK", 7)
        patch.setattr(division, "_BLOCK", sizes[2])
        again = divided(body)
    assert small == again
    assert flat(small) == flat(whole)
    for part in small:
        assert sum(one.count or 0 for one in part.slices) <= max(sizes[0], 1)

    def known(found: list[dict[str, Any]]) -> list[str]:
        return sorted(repr({key: one[key] for key in one if key != "ordinal"}) for one in found)

    assert known(rows(small)) == known(rows(whole))


@settings(deadline=None, max_examples=60)
@given(EXPORTS)
def test_every_element_of_any_export_is_received(export: Any) -> None:
    found = rows(divided(json.dumps(export).encode()))
    data = [export] + ([export["data"]] if isinstance(export.get("data"), dict) else [])
    lists = [
        held for each in data for held in (each.get("symptoms"), each.get("stateOfMind")) if isinstance(held, list)
    ]
    for each in data:
        metrics = each.get("metrics")
        lists += list(metrics.values()) if isinstance(metrics, dict) else []
        lists += [metric.get("data") or [] for metric in metrics if metric] if isinstance(metrics, list) else []
    types = {"step_count", "heart_rate", "sleep_analysis", "blood_pressure", "new_one", "weight_body_mass"}
    types |= {"symptoms", "state_of_mind"}
    assert sum(row["type"] in types for row in found) == sum(map(len, lists))


@settings(deadline=None, max_examples=60)
@given(EXPORTS)
def test_the_canonical_hash_does_not_depend_on_the_order_of_keys(export: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(each) for each in value] if isinstance(value, list) else value

    first, second = (divided(json.dumps(each).encode())[0].canonical for each in (export, turned(export)))
    assert first == second is not None


def test_the_canonical_hash_of_a_large_body_is_the_same_too(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"data": ALL_SHAPES}).encode()
    [whole] = divided(body)
    monkeypatch.setattr(canonical, "_SMALL", 10)
    assert divided(body)[0].canonical == whole.canonical
    assert divided(body.replace(b"64.5", b"64.6"))[0].canonical != whole.canonical
    monkeypatch.setattr(canonical, "MAX_HASHED_BYTES", 1000)
    assert divided(body)[0].canonical is None


def test_an_element_too_large_to_be_looked_at_is_quarantined_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MAX_VALUE_BYTES", 1000)
    monkeypatch.setattr(cutting, "MAX_VALUE_BYTES", 1000)
    monkeypatch.setattr(division, "MAX_VALUE_BYTES", 1000)
    monkeypatch.setattr(cutting, "MAX_BYTES", 500)
    monkeypatch.setattr(plans, "MAX_BYTES", 500)
    monkeypatch.setattr(structure.Structure.__init__, "__defaults__", (64,))
    point = {"date": "2026-02-03 07:15:00 +0100", "qty": 1}
    large = point | {"note": "x" * 5000}
    body = {"data": {"metrics": [STEPS | {"data": [point, large, point, large]}], "workouts": [large, {"a": [large]}]}}
    found = rows(divided(json.dumps(body).encode()))
    bad = [(row["path"], row["reason"]) for row in found if row["record"] == "quarantined" and "bytes" in row["reason"]]
    size = len(json.dumps(large))
    assert sorted(bad) == [
        ("data.metrics[0].data[1]", f"the element has {size + 1} bytes; expected at most 1000"),
        ("data.metrics[0].data[3]", f"the element has {size + 1} bytes; expected at most 1000"),
        ("data.workouts[0]", f"the element has {size} bytes; expected at most 1000"),
        ("data.workouts[1].a[0]", f"the element has {size} bytes; expected at most 1000"),
    ]
    assert [row["index"] for row in found if row["record"] == "point"] == [0, 2]


def test_a_body_has_a_limited_number_of_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_CUTS", 10)
    assert "at most 10 lists" in error(json.dumps({"metrics": [STEPS] * 11}).encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_are_read(encoding: str) -> None:
    text = (SAMPLES / "own-synthetic" / "hae_all_shapes.json").read_text()
    assert flat(divided(text.encode(encoding))) == flat(divided(text.encode()))


def test_l2_two_hundred_thousand_points_of_one_type_are_all_there() -> None:
    point = b'{"qty":12.5,"date":"2026-02-03 07:15:00 +0100","source":"Watch A"}'
    body = (
        b'{"data":{"metrics":[{"data":[' + b",".join([point] * 200_000) + b'],"name":"step_count","units":"count"}]}}'
    )
    parts = divided(body, limit=100_000_000)
    assert all(len(one.payload) < 1_100_000 for part in parts for one in part.slices)
    assert sum(one.count or 0 for part in parts for one in part.slices) == 200_000
    assert [one.first for part in parts for one in part.slices] == list(range(0, 200_000, plans.MAX_ELEMENTS))


@pytest.mark.parametrize("coding", ["gzip", ""])
def test_a_compressed_body_has_the_same_parts(coding: str) -> None:
    body = json.dumps({"data": ALL_SHAPES}).encode()
    found = divided(gzip.compress(body), content_encoding=coding)
    assert [part.slices for part in found] == [part.slices for part in divided(body)]
