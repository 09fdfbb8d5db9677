"""The file jobs in other systems. Runs in the environment of the peers, so it imports nothing of ours.

``python peer_jobs.py PEER JOB IN OUT`` prints what it took as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

WINDOW, DISORDER = 10_000, 2_000


def orjson_job1(source: str, target: str) -> None:
    loads, dumps = orjson.loads, orjson.dumps
    with open(source, "rb") as lines, open(target, "wb", buffering=1 << 20) as out:
        for line in lines:
            row = loads(line)
            if row["temp"] > 20:
                out.write(dumps({"sensor": row["sensor"], "ts": row["ts"], "fahrenheit": row["temp"] * 1.8 + 32}))
                out.write(b"\n")


def orjson_job2(source: str, target: str) -> None:
    loads, dumps = orjson.loads, orjson.dumps
    windows: dict[int, dict[str, list[float]]] = {}
    newest, next_end = 0, None
    with open(source, "rb") as lines, open(target, "wb", buffering=1 << 20) as out:

        def close(start: int) -> None:
            for sensor, (total, count) in windows.pop(start).items():
                out.write(dumps({"window_start": start, "sensor": sensor, "mean": total / count}))
                out.write(b"\n")

        for line in lines:
            row = loads(line)
            time_ = row["ts"]
            start = time_ - time_ % WINDOW
            found = windows.setdefault(start, {}).setdefault(row["sensor"], [0.0, 0])
            found[0] += row["temp"]
            found[1] += 1
            if time_ > newest:
                newest = time_
                if next_end is None:
                    next_end = start + WINDOW
                while newest - DISORDER >= next_end:
                    if next_end - WINDOW in windows:
                        close(next_end - WINDOW)
                    next_end += WINDOW
        for start in sorted(windows):
            close(start)


def bytewax_job1(source: str, target: str) -> None:
    import bytewax.operators as op
    from bytewax.connectors.files import FileSink, FileSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    def work(line: str) -> tuple[str, str] | None:
        row = orjson.loads(line)
        if row["temp"] <= 20:
            return None
        made = {"sensor": row["sensor"], "ts": row["ts"], "fahrenheit": row["temp"] * 1.8 + 32}
        return "", orjson.dumps(made).decode()

    flow = Dataflow("job1")
    lines = op.input("read", flow, FileSource(source, batch_size=1000))
    op.output("write", op.filter_map("work", lines, work), FileSink(target))
    run_main(flow)


def bytewax_job2(source: str, target: str) -> None:
    import bytewax.operators as op
    from bytewax.connectors.files import FileSink, FileSource
    from bytewax.dataflow import Dataflow
    from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
    from bytewax.testing import run_main

    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    def parse(line: str) -> tuple[str, tuple[int, float]]:
        row = orjson.loads(line)
        return row["sensor"], (row["ts"], row["temp"])

    def add(found: list[float], row: tuple[int, float]) -> list[float]:
        found[0] += row[1]
        found[1] += 1
        return found

    def merge(one: list[float], other: list[float]) -> list[float]:
        return [one[0] + other[0], one[1] + other[1]]

    def write(item: tuple[str, tuple[int, list[float]]]) -> tuple[str, str]:
        sensor, (window, (total, count)) = item
        made = {"window_start": window * WINDOW, "sensor": sensor, "mean": total / count}
        return sensor, orjson.dumps(made).decode()

    flow = Dataflow("job2")
    lines = op.input("read", flow, FileSource(source, batch_size=1000))
    clock = EventClock(
        ts_getter=lambda row: epoch + timedelta(milliseconds=row[0]),
        wait_for_system_duration=timedelta(milliseconds=DISORDER),
    )
    windower = TumblingWindower(length=timedelta(milliseconds=WINDOW), align_to=epoch)
    folded = fold_window("fold", op.map("parse", lines, parse), clock, windower, lambda: [0.0, 0], add, merge)
    op.output("write", op.map("encode", folded.down, write), FileSink(target))
    run_main(flow)


JOBS = {
    ("orjson", "job1"): orjson_job1,
    ("orjson", "job2"): orjson_job2,
    ("bytewax", "job1"): bytewax_job1,
    ("bytewax", "job2"): bytewax_job2,
}


def main() -> None:
    peer, job, source, target = sys.argv[1:]
    if peer == "bytewax":
        import bytewax.operators.windowing  # noqa: F401 - what is imported is not measured
    Path(target).touch()
    cpu, began = time.process_time(), time.perf_counter()
    JOBS[peer, job](source, target)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    with open(source, "rb") as file:
        rows = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    with open(target, "rb") as file:
        written = sum(1 for _ in file)
    print(json.dumps({"value": rows / seconds, "cpu": cpu, "rss": peak, "notes": {"rows out": written}}))


if __name__ == "__main__":
    main()
