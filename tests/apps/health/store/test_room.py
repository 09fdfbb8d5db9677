"""How much room a point takes in PostgreSQL, and that nothing of what was received is lost by it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from penstock.apps.health.export.division import divide
from penstock.apps.health.export.points import parse
from penstock.apps.health.export.slices import pack
from penstock.apps.health.schema import points

from .conftest import Stored
from .factory import accepted

_MOST = 150
"""Bytes of a point, with its share of indexes and of the texts beside it."""
_DAYS = 20
_SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relname LIKE 'health_compact%' AND relkind = 'r' AND pg_relation_size(oid) > 0
"""


@pytest.fixture(scope="module")
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    opened = Stored(request.getfixturevalue("shared_postgres_server").create_database(postgis=True))
    yield opened
    opened.close()


def rows_of(metrics: list[dict[str, Any]]) -> pa.Table:
    """Return the rows that the parser makes of metrics, without those of parts."""
    return pa.Table.from_batches(_parts(metrics)).filter(pc.field("record") == "point")


def _parts(metrics: list[dict[str, Any]]) -> list[pa.RecordBatch]:
    body = json.dumps({"data": {"metrics": metrics}}, ensure_ascii=False).encode()
    return [parse(pack(one)) for one in divide(accepted(), lambda: io.BytesIO(body), len(body))]


def minutes(name: str, unit: str, count: int, source: str, **numbers: float) -> dict[str, Any]:
    """Return a metric as a phone sends it, a point a minute, with all digits that its numbers have."""
    random, begin = Random(name), datetime(2025, 1, 1, tzinfo=UTC)
    data = [
        {"date": f"{begin + timedelta(minutes=n):%Y-%m-%d %H:%M:%S} +0100", "source": source}
        | {key: least + random.random() * 9 for key, least in numbers.items()}
        for n in range(count)
    ]
    return {"name": name, "units": unit, "data": data}


@pytest.mark.slow
def test_a_point_takes_at_most_150_bytes_indexes_included(stored: Stored) -> None:
    many = _DAYS * 1440
    source = "Anna’s Apple\N{NO-BREAK SPACE}Watch|Anna’s iPhone"
    sent = [
        minutes("active_energy", "kJ", many, source, qty=1),
        minutes("basal_energy_burned", "kJ", many, source, qty=1),
        minutes("step_count", "count", many, source, qty=5),
        minutes("walking_running_distance", "mi", many, source, qty=0.01),
        minutes("heart_rate", "count/min", many // 4, source, Avg=61, Min=52, Max=70),
    ]
    stored.write(*_parts(sent))
    [(count,)] = stored.rows(text("SELECT count(*) FROM health_points"))
    [(size,)] = stored.rows(text(_SIZE))
    assert count == sum(len(metric["data"]) for metric in sent)
    each = float(size) / count
    print(f"{each:.1f} bytes a point, of {count} points")
    assert each <= _MOST


_NUMBERS = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0.1, 100),
    st.sampled_from([0, 0.0, -0.0, 57, 57.0, 1e-4, 99999999999999.9, 1e15, 0.1 + 0.2, 5e-324]),
)
_TEXTS = st.sampled_from(
    [
        *("2025-03-30 01:59:00 +0100", "2025-10-26 02:30:00 +0200", "2025-01-01 12:00:00 AM +0000"),
        *("1888-01-01 00:00:00 +0000", "2025-01-01 00:00:00 -0330", "2025-01-01T00:00:00Z"),
        *("0001-01-02 00:00:00 +0000", "2025-06-01 00:00:00 +0000"),
    ]
)
_ELEMENTS = st.fixed_dictionaries(
    {"date": _TEXTS},
    optional={
        **dict.fromkeys(("qty", "Avg", "Min", "Max"), _NUMBERS),
        **dict.fromkeys(("start", "end"), _TEXTS),
        "source": st.sampled_from(["Watch", 'a "qty":5, b', "x\x01y", "é\u202f", "", "\\", "%s $1"]),
        "note": st.text(max_size=5),
        "units": st.sampled_from(["count", "mi", None, ""]),
    },
)
_METRICS = st.sampled_from([("step_count", "count"), ("walking_running_distance", "mi"), ("heart_rate", "bpm")])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_METRICS, st.lists(_ELEMENTS, max_size=30))
def test_what_was_received_is_read_as_it_came(
    stored: Stored, metric: tuple[str, str], elements: list[Mapping[str, Any]]
) -> None:
    stored.database.call(lambda c: c.execute(text("TRUNCATE health_compact_points, health_compact_metrics CASCADE")))
    stored.database.call(lambda c: c.execute(text("TRUNCATE health_history, health_metrics, health_quarters")))
    sent = [{"name": metric[0], "units": metric[1], "data": [dict(one) for one in elements]}]
    rows = rows_of(sent)
    stored.write(*_parts(sent))
    names = ["metric", "time", "end_time", "source", "kind", "ordinal", "value", "minimum", "maximum", "unit"]
    names += ["original", "original_unit", "offset_minutes", "period"]
    found = stored.rows(select(*(points.c[name] for name in names)))
    expected = [tuple(row.values()) for row in rows.select(names).to_pylist()]
    assert _written(found) == _written(expected)


def _written(rows: list[tuple[Any, ...]]) -> set[tuple[str, ...]]:
    """Return rows as texts: zeros are told apart by their signs, times are not by the class of their zone."""
    return {tuple(str(value) if isinstance(value, datetime) else repr(value) for value in row) for row in rows}
