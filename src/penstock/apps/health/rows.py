"""What a part of an export becomes between the parser and the store: one Arrow batch of records."""

from __future__ import annotations

import pyarrow as pa

POINT, WORKOUT, SERIES, ROUTE, QUARANTINED, PART = "point", "workout", "series", "route", "quarantined", "part"
"""The values of ``record``. Each but ``part`` is one received element; each batch has exactly one
``part``, its last row.

The ``part`` row carries in ``fields`` a JSON object:
``{"part": 0, "last": true, "received": {"step_count": 3, ...}, "accepted": {...Accepted...}, "error": null,
"format": "v2", "canonical": "<sha256>" or null}``. ``received`` counts the elements of this part by ``type``; the store
adds up stored + updated + unchanged + quarantined of each type and refuses a part whose sums differ.
``error`` is why the whole body could not be read (the state of the ingest is then ``failed``), else null.
"""

TIME = pa.timestamp("us", "UTC")

ROWS = pa.schema(
    [
        pa.field("record", pa.string(), nullable=False),
        pa.field("ingest", pa.string()),  # UUID of the ingest, in every row
        pa.field("user", pa.int64()),
        pa.field("type", pa.string()),  # what it is counted as: step_count, workouts, workout_route, symptoms ...
        pa.field("index", pa.int64()),  # its place in its list of the body
        pa.field("metric", pa.string()),  # point: canonical name; series: name of the series; workout: its name
        pa.field("time", TIME),  # start, in UTC
        pa.field("end_time", TIME),  # end; equal to time where there is none; of a bucket, that of its period
        pa.field("source", pa.string()),  # normalised; "" where there is none
        pa.field(
            "kind", pa.string()
        ),  # what tells apart points of one time: sleep stage, symptom, id ...; "" if nothing
        pa.field("ordinal", pa.int32()),  # 0, 1 ... for different points of the same key in one part
        pa.field("parent", pa.string()),  # series and route: id of the workout or ECG; workout: its own id
        pa.field("value", pa.float64()),  # in `unit`
        pa.field("period", pa.int32()),  # point: how many seconds are summed up in it; null for a sample
        pa.field("minimum", pa.float64()),
        pa.field("maximum", pa.float64()),
        pa.field("unit", pa.string()),  # canonical unit of value, minimum, maximum
        pa.field("fields", pa.string()),  # JSON of what else it says, numbers in canonical units; null if nothing
        pa.field(
            "original", pa.string()
        ),  # JSON of the element as received, keys sorted; workouts without their arrays
        pa.field("original_unit", pa.string()),
        pa.field("offset_minutes", pa.int32()),  # of the local time that was sent; null where it was UTC or unknown
        pa.field("warnings", pa.string()),  # JSON list of {"warning": "suspicious_value", "message": ...}; null if none
        pa.field("latitude", pa.float64()),  # route
        pa.field("longitude", pa.float64()),
        pa.field("altitude", pa.float64()),
        pa.field("reason", pa.string()),  # quarantined: why
        pa.field("payload", pa.string()),  # quarantined: the element as received, JSON (or text that is none)
        pa.field("path", pa.string()),  # quarantined: where in the body, for example data.metrics[3].data[17]
    ]
)
"""The schema of a part. Texts hold no NUL character; numbers are finite."""
