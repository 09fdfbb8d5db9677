"""Whose a position is: of one file, stream and input; a run says from where it reads, and why."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

STREAM = """\
streams:
  - {id}input: {{type: {kind}}}
    output: {{type: stdout, codec: json}}
    {more}
health_check: {{enabled: false}}
"""


def write(path: Path, *, id: str = "", kind: str = "file, path: in.jsonl, codec: json", more: str = "") -> str:
    path.write_text(STREAM.format(id=f"id: {id}\n    " if id else "", kind=kind, more=more))
    return path.name


def numbers(text: str) -> list[int]:
    return [json.loads(line)["n"] for line in text.splitlines()]


def fill(folder: Path, name: str, *ns: int) -> None:
    with (folder / name).open("a") as file:
        file.writelines(f'{{"n": {n}}}\n' for n in ns)


def test_an_input_with_an_end_is_read_again_by_the_next_run(penstock, tmp_path: Path) -> None:
    fill(tmp_path, "in.jsonl", 1, 2, 3)
    file = write(tmp_path / "a.yaml")
    first = penstock("run", file)
    assert (first.returncode, numbers(first.stdout)) == (0, [1, 2, 3])
    assert "stream-0: reads from the beginning: nothing that was read is noted" in first.stderr
    fill(tmp_path, "in.jsonl", 4)
    for _ in range(2):
        again = penstock("run", file)
        assert (again.returncode, numbers(again.stdout)) == (0, [1, 2, 3, 4])
        assert (
            "reads from the beginning: a run has read it to the end, and without `id` it is read anew" in again.stderr
        )


def test_with_an_id_only_what_is_new_is_read(penstock, tmp_path: Path) -> None:
    fill(tmp_path, "in.jsonl", 1, 2, 3)
    file = write(tmp_path / "a.yaml", id="numbers")
    assert numbers(penstock("run", file).stdout) == [1, 2, 3]
    nothing = penstock("run", file)
    assert nothing.stdout == ""
    assert "numbers: reads on behind what earlier runs have written; there is nothing new" in nothing.stderr
    fill(tmp_path, "in.jsonl", 4)
    assert numbers(penstock("run", file).stdout) == [4]


def test_files_without_ids_in_one_folder_share_no_position(penstock, tmp_path: Path) -> None:
    kinds = [f"generate, context: {{n: {n}}}, interval: 1ms, count: {n}, codec: json" for n in (3, 5)]
    for count, kind in zip((3, 5), kinds, strict=True):
        for more in ("", "checkpoint: state"):
            done = penstock("run", write(tmp_path / f"{count}.yaml", kind=kind, more=more))
            assert (done.returncode, numbers(done.stdout)) == (0, [count] * count), done.stderr


def test_with_rows_and_position_in_one_transaction_it_is_the_same(penstock, tmp_path: Path) -> None:
    fill(tmp_path, "in.jsonl", 1, 2, 3)
    text = write(tmp_path / "a.yaml", more="checkpoint: output")
    (tmp_path / text).write_text(
        (tmp_path / text)
        .read_text()
        .replace("{type: stdout, codec: json}", '{type: sql, url: "sqlite:///out.db", table_name: t}')
    )
    for run in (1, 2):
        assert penstock("run", text).returncode == 0
        with closing(sqlite3.connect(tmp_path / "out.db")) as database:
            assert database.execute("SELECT count(*) FROM t").fetchone() == (3 * run,)


def test_a_changed_input_is_not_read_from_the_position_of_the_other(penstock, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "in.db")) as database:
        database.execute("CREATE TABLE a AS SELECT 1 AS n UNION ALL SELECT 2")
        database.execute("CREATE TABLE b AS SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3")
        database.commit()
    for table, expected in (("a", [1, 2]), ("b", [1, 2, 3])):
        kind = f'sql, url: "sqlite:///in.db", select_sql: "SELECT n FROM {table}"'
        done = penstock("run", write(tmp_path / "a.yaml", kind=kind))
        assert numbers(done.stdout) == expected, done.stderr


def test_the_log_of_an_earlier_version_goes_to_the_first_stream_that_asks(tmp_path: Path) -> None:
    from penstock.config.configuration import load

    a, b = (load(tmp_path / write(tmp_path / f"{name}.yaml", more="durability: {}")).streams[0] for name in "ab")
    assert (a.id, b.id) == ("stream-0", "stream-0")
    assert a.identity != b.identity
