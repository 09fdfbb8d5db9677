"""Two jobs from file to file: a filter with a projection, and averages over event-time windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import cache, engine, peers, readings
from .case import Case, Sample, Span, Unavailable, measured, peak_memory, rate

_WINDOW = 10_000
_CHUNK = 16 << 20
_JOB1 = "SELECT sensor, ts, temp*1.8+32 AS fahrenheit FROM flow WHERE temp > 20"
_JOB2 = "SELECT window_start, sensor, avg(temp) AS mean FROM flow GROUP BY window_start, sensor"
_ONE_SHOT = {
    "job1": _JOB1,
    "job2": f"SELECT ts - ts % {_WINDOW} AS window_start, sensor, avg(temp) AS mean FROM flow GROUP BY 1, 2",
}
_BUFFER = {
    "type": "tumbling_window",
    "time": "event",
    "interval": "10s",
    "timestamp_field": "ts",
    "timestamp_unit": "ms",
    "out_of_orderness": "2s",
}


def _stream(job: str, source: Path, target: Path) -> dict[str, Any]:
    stream: dict[str, Any] = {
        "id": job,
        "input": {"type": "file", "path": str(source)},
        "pipeline": {"processors": [{"type": "sql", "query": _JOB1 if job == "job1" else _JOB2}]},
        "output": {"type": "file", "path": str(target)},
    }
    return {**stream, "buffer": _BUFFER} if job == "job2" else stream


def _penstock(job: str, rows: int = readings.MILLION) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        source, target = readings.readings(rows), folder / "out.jsonl"
        engine.run(folder, _stream(job, readings.few(folder), folder / "few-out.jsonl"))
        span = engine.run(folder, _stream(job, source, target))
        found = rate(rows, span, **{"rows out": _lines(target)})
        if rows == readings.MILLION:
            _check(job, target)
        return found

    return measure


def _datafusion(job: str, partitions: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        from datafusion import SessionConfig, SessionContext

        def run(source: Path, target: Path) -> Span:
            session = SessionContext(SessionConfig().with_target_partitions(partitions))
            with measured() as span:
                session.register_json("flow", str(source), file_extension=".jsonl")
                session.sql(_ONE_SHOT[job]).write_json(str(target))
            return span

        run(readings.few(folder), folder / "few")
        return rate(readings.MILLION, run(readings.readings(), folder / "out"))

    return measure


def _with_polars() -> Path:
    """Make the readings; raises Unavailable without polars, which users of Penstock need not have."""
    if find_spec("polars") is None:
        raise Unavailable("polars is not installed; it is with `make setup`")
    return readings.readings()


def _polars_lazy(job: str) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import polars as pl

        def run(source: Path, target: Path) -> Span:
            with measured() as span:
                frame = pl.scan_ndjson(source)
                if job == "job1":
                    frame = frame.filter(pl.col("temp") > 20).select(
                        "sensor", "ts", (pl.col("temp") * 1.8 + 32).alias("fahrenheit")
                    )
                else:
                    start = (pl.col("ts") - pl.col("ts") % _WINDOW).alias("window_start")
                    frame = frame.group_by(start, "sensor").agg(pl.col("temp").mean().alias("mean"))
                frame.sink_ndjson(target)
            return span

        run(readings.few(folder), folder / "few-out.jsonl")
        return rate(readings.MILLION, run(readings.readings(), folder / "out.jsonl"))

    return measure


def _polars_chunks(job: str) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        import polars as pl

        def run(source: Path, target: Path) -> Span:
            with measured() as span, target.open("wb") as out:
                parts = [_polars_part(job, pl.read_ndjson(chunk)) for chunk in _chunks(source)] if job == "job2" else []
                if job == "job2":
                    sums = pl.concat(parts).group_by("window_start", "sensor").agg(pl.col("total", "rows").sum())
                    sums.select("window_start", "sensor", mean=pl.col("total") / pl.col("rows")).write_ndjson(out)
                else:
                    for chunk in _chunks(source):
                        _polars_part(job, pl.read_ndjson(chunk)).write_ndjson(out)
                out.flush()
                os.fdatasync(out.fileno())
            return span

        run(readings.few(folder), folder / "few-out.jsonl")
        return rate(readings.MILLION, run(readings.readings(), folder / "out.jsonl"))

    return measure


def _polars_part(job: str, rows: Any) -> Any:
    import polars as pl

    if job == "job1":
        return rows.filter(pl.col("temp") > 20).select("sensor", "ts", (pl.col("temp") * 1.8 + 32).alias("fahrenheit"))
    start = (pl.col("ts") - pl.col("ts") % _WINDOW).alias("window_start")
    return rows.group_by(start, "sensor").agg(total=pl.col("temp").sum(), rows=pl.len())


def _chunks(path: Path) -> Iterator[bytes]:
    """Whole lines, about 16 MiB at a time."""
    with path.open("rb") as file:
        rest = b""
        while data := file.read(_CHUNK):
            end = data.rfind(b"\n") + 1
            yield rest + data[:end]
            rest = data[end:]
        if rest:
            yield rest


def _msgspec_loop(folder: Path) -> Sample:
    import msgspec

    def run(source: Path, target: Path) -> Span:
        decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
        with measured() as span, source.open("rb") as lines, target.open("wb", buffering=1 << 20) as out:
            for line in lines:
                row = decode(line)
                if row["temp"] > 20:
                    out.write(encode({"sensor": row["sensor"], "ts": row["ts"], "fahrenheit": row["temp"] * 1.8 + 32}))
                    out.write(b"\n")
        return span

    run(readings.few(folder), folder / "few-out.jsonl")
    return rate(readings.MILLION, run(readings.readings(), folder / "out.jsonl"))


def _peer(peer: str, job: str) -> Callable[[Path], Sample]:
    return lambda folder: peers.measure(peer, job, readings.readings(), folder / "out.jsonl")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _check(job: str, target: Path) -> None:
    """Compare the result with that of DataFusion over the whole file at once; raises AssertionError."""
    from datafusion import SessionContext

    session = SessionContext()
    session.register_json("flow", str(readings.readings()), file_extension=".jsonl")
    session.register_json("found", str(target), file_extension=".jsonl")
    session.sql(f"CREATE VIEW expected AS {_ONE_SHOT[job]}")
    if job == "job1":
        same = "e.sensor = f.sensor AND e.ts = f.ts AND e.fahrenheit = f.fahrenheit"
        columns = "sensor, ts, fahrenheit, count(*) AS n"
        grouped = {name: f"(SELECT {columns} FROM {name} GROUP BY 1, 2, 3)" for name in ("expected", "found")}
        query = f"SELECT count(*) FROM {grouped['expected']} e FULL JOIN {grouped['found']} f ON {same} AND e.n = f.n"
    else:
        start = "CAST(to_timestamp_millis(e.window_start) AS TIMESTAMP) = CAST(f.window_start AS TIMESTAMP)"
        same = f"e.sensor = f.sensor AND {start}"
        query = f"SELECT count(*) FROM expected e FULL JOIN found f ON {same}"
        wrong = session.sql(f"SELECT count(*) FROM expected e JOIN found f ON {same} WHERE abs(e.mean - f.mean) > 1e-9")
        assert _number(wrong) == 0, "averages differ from those of DataFusion"
    missing = _number(session.sql(f"{query} WHERE e.sensor IS NULL OR f.sensor IS NULL"))
    assert missing == 0, f"{missing} rows differ from those of DataFusion"
    assert _number(session.sql("SELECT count(*) FROM found")) == _number(session.sql("SELECT count(*) FROM expected"))


def _number(frame: Any) -> int:
    return int(frame.collect()[0].column(0)[0].as_py())


def _memory(folder: Path) -> Sample:
    """How much more memory ten times the rows take."""
    large = 10 * readings.MILLION
    peaks = {rows: _peak(folder, rows) for rows in (readings.MILLION, large)}
    (cache.folder() / f"readings-{large}.jsonl").unlink(missing_ok=True)
    notes = {"MB for 1 M rows": peaks[readings.MILLION], "MB for 10 M rows": peaks[large]}
    return Sample(peaks[large] / peaks[readings.MILLION], notes=notes)


def _peak(folder: Path, rows: int) -> float:
    inner = folder / str(rows)
    inner.mkdir()
    program = f"from benchmarks.file_jobs import print_peak; print_peak({rows}, {str(inner)!r})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=cache.ROOT)
    (inner / "out.jsonl").unlink()
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(rows: int, folder: str) -> None:
    """Run the first job over so many rows, and print the most memory it had."""
    inner = Path(folder)
    engine.run(inner, _stream("job1", readings.readings(rows), inner / "out.jsonl"))
    print(json.dumps(peak_memory()))


_TITLES = {
    "job1": "file -> filter, project -> file",
    "job2": "file -> 10 s event-time windows, average of each sensor -> file",
}
_REACH = {"job1": 2.4e6, "job2": 2.2e6}


def _cases(job: str) -> list[Case]:
    def case(name: str, what: str, measure: Callable[[Path], Sample], **more: Any) -> Case:
        full = job + (f"-{name}" if name else "")
        return Case(full, job, what, "rows/s", measure, warm=more.pop("warm", readings.readings), **more)

    found = [
        case("", f"Penstock: {_TITLES[job]}", _penstock(job), reach=_REACH[job]),
        case("datafusion-1", "DataFusion in one shot, 1 partition", _datafusion(job, 1), role="ceiling"),
        case("datafusion-2", "DataFusion in one shot, 2 partitions", _datafusion(job, 2), role="ceiling"),
        case("polars-lazy", "Polars lazy sink in one shot", _polars_lazy(job), role="ceiling", warm=_with_polars),
        case(
            "polars-chunks", "Polars, loop over 16 MiB chunks", _polars_chunks(job), role="ceiling", warm=_with_polars
        ),
    ]
    if job == "job1":
        found.append(case("msgspec", "Python loop with msgspec", _msgspec_loop, role="peer"))
    for peer, what in (("orjson", "Python loop with orjson"), ("bytewax", "bytewax 0.21.1 with orjson")):
        found.append(case(peer, what, _peer(peer, job), role="peer", warm=peers.python))
    return found


CASES = [
    *_cases("job1"),
    *_cases("job2"),
    Case(
        "memory",
        "memory",
        "Penstock: peak memory of the first job, 10 M rows against 1 M",
        "times",
        _memory,
        reach=1.1,
        more_is_better=False,
        runs=1,
        warm=readings.readings,
    ),
]
