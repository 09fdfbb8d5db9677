"""Measure the cases one after the other, and print them as one table."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from . import cache, machine, peers, table
from .case import Case, Sample, Unavailable
from .cases import CASES
from .table import Row


def main() -> None:
    """Run what the arguments ask for."""
    wanted = _arguments()
    if wanted.peers:
        try:
            peers.install()
        except Unavailable as error:
            sys.exit(str(error))
    rows = [row for _, group in groupby(_chosen(wanted.only), lambda case: case.group) for row in _run(group, wanted)]
    print("\n" + "\n".join([*_facts(wanted.runs), "", table.as_text(rows), "", *_remarks(rows)]))
    if wanted.write:
        _write(wanted.write, rows, wanted.runs)
    if any(row.missing.startswith("failed") for row in rows):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="a case, or all whose names begin so")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how often each case is measured (default: 5)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page of documentation")
    parser.add_argument("--peers", action="store_true", help="install the peers first, in an environment of their own")
    parser.add_argument("--list", action="store_true", help="list the names of the cases, and end")
    wanted = parser.parse_args()
    if wanted.list:
        print("\n".join(f"{case.name:28} {case.what}" for case in CASES.values()))
        sys.exit()
    return wanted


def _chosen(only: Sequence[str] | None) -> list[Case]:
    chosen = [case for case in CASES.values() if not only or any(case.name.startswith(name) for name in only)]
    if not chosen:
        sys.exit(f"there is no case called {only}; see: python -m benchmarks --list")
    return chosen


def _run(group: Iterator[Case], wanted: argparse.Namespace) -> list[Row]:
    """Measure the cases of a group in turns, so that what else happens on the machine meets them all."""
    rows = [Row(case, [], []) for case in group]
    for turn in range(wanted.runs):
        for row in rows:
            if not row.missing and (row.case.runs is None or turn < row.case.runs):
                _measure(row)
    return rows


def _measure(row: Row) -> None:
    case = row.case
    try:
        if case.warm is not None:
            case.warm()
    except Unavailable as error:
        row.missing = f"not measured: {error}"
        print(f"{case.name:28} {row.missing}", flush=True)
        return
    began = time.perf_counter()
    with _folder() as folder, machine.company() as company:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", case.name, str(folder)],
            capture_output=True,
            text=True,
            cwd=cache.ROOT,
        )
    if done.returncode:
        sys.stderr.write(done.stderr)
        row.missing = f"failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        row.samples.clear()
        return
    sample = Sample(**json.loads(done.stdout.splitlines()[-1]))
    row.samples.append(sample)
    row.company.append(company)
    warning = f"  WARNING: {company.warning}" if company.warning else ""
    cpu = "" if sample.cpu is None else f"{sample.cpu:.2f} s"
    took = f"CPU {cpu:>9} took {time.perf_counter() - began:6.1f} s load {company.load:.2f}"
    print(f"{case.name:28} {sample.value:14.1f} {case.unit:8} {took}{warning}", flush=True)


@contextmanager
def _folder() -> Iterator[Path]:
    """On the disk of the cache, as /tmp may be memory, on which nothing needs to be made durable."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=cache.folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_BEGIN, _END = "<!-- table: written by python -m benchmarks --write -->", "<!-- end of table -->"


def _facts(runs: int) -> list[str]:
    return [*machine.description(), f"Median of up to {runs} runs, each in a process of its own."]


def _remarks(rows: Sequence[Row]) -> list[str]:
    groups = dict.fromkeys(row.case.group for row in rows)
    remarks = [line for group in groups for line in table.known(group)]
    if disturbed := sum(bool(row.warning()) for row in rows):
        remarks.append(f"The machine was busy with other things during {disturbed} of {len(rows)} rows.")
    return remarks


def _write(path: Path, rows: Sequence[Row], runs: int) -> None:
    """Put the table between its marks in the page."""
    text = path.read_text()
    if _BEGIN not in text or _END not in text:
        sys.exit(f"{path} has no place for the table: expected the lines {_BEGIN} and {_END}")
    before, rest = text.split(_BEGIN, 1)
    facts, remarks = ([f"- {line}" for line in lines] for lines in (_facts(runs), _remarks(rows)))
    page = "\n".join([_BEGIN, "", *facts, "", table.as_markdown(rows), "", *remarks, *([""] if remarks else []), _END])
    path.write_text(before + page + rest.split(_END, 1)[1])
