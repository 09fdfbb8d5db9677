import asyncio
import errno
import gzip
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import obstore
import obstore.store
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from penstock.clients import disk
from penstock.clock import Clock
from penstock.component import Output, TransactionalWriter
from penstock.errors import ConfigError, ConnectionLost, PermanentError, RowsRejected, TransientError
from penstock.metadata import Origin, attach
from penstock.outputs.file import File, formats, journal, lines, paths, tails
from penstock.outputs.file.objects import ObjectWriter
from penstock.outputs.file.paths import Template, segment
from penstock.testing.batches import rows_of
from penstock.testing.clock import StandingClock
from penstock.testing.contexts import lend_context
from penstock.testing.suites import OutputSuite


def batch(*ids: int, **more: Any) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64()), **more})


def values(*payloads: bytes) -> pa.RecordBatch:
    return pa.record_batch({"__value__": pa.array(payloads, pa.binary())})


async def write(output: File, *units: pa.RecordBatch | list[pa.RecordBatch]) -> None:
    async with lend_context(Path("unused")) as context, output.open(context) as writer:
        for unit in units:
            await writer.write(unit if isinstance(unit, list) else [unit])


def ids(*files: Path) -> list[int]:
    return [json.loads(line)["id"] for file in files for line in file.read_bytes().splitlines()]


def visible(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


# Formats


async def test_json_lines_are_appended_and_leave_metadata_out(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    rows = attach(batch(1, 2), Origin("test"))
    await write(File(path=str(path)), rows, [batch(3), batch(), batch(4)])
    await write(File(path=str(path)), batch(5))
    assert ids(path) == [1, 2, 3, 4, 5]
    assert b"__meta" not in path.read_bytes()
    assert visible(tmp_path) == ["new/out.json"]


@pytest.mark.parametrize(("ending", "read"), [("gz", "gzip"), ("zst", "zstd")])
async def test_compressed_lines_are_appended_as_members(tmp_path: Path, ending: str, read: str) -> None:
    path = tmp_path / f"out.jsonl.{ending}"
    for number in range(3):
        await write(File(path=str(path)), batch(number))
    with pa.input_stream(str(path), compression=read) as stream:
        assert [json.loads(line)["id"] for line in stream.read().splitlines()] == [0, 1, 2]


def wide() -> pa.RecordBatch:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901)
    return pa.record_batch(
        {
            "id": pa.array([1, None], pa.int64()),
            "small": pa.array([1, None], pa.uint8()),
            "large": pa.array([2**40, None], pa.uint64()),
            "half": pa.array([1.5, None], pa.float16()),
            "text": ['a,"b"\n', ""],
            "none": pa.array([None, "x"]),
            "nothing": pa.nulls(2),
            "kind": pa.array(["x", None]).dictionary_encode(),
            "at": pa.array([at, None], pa.timestamp("ns")),
            "zoned": pa.array([at.replace(tzinfo=UTC), None], pa.timestamp("us", "Europe/Paris")),
            "day": pa.array([at.date(), None]),
            "time": pa.array([at.time(), None]),
            "span": pa.array([timedelta(seconds=1), None]),
            "price": pa.array([Decimal("1.23"), None]),
            "view": pa.array(["v", None], pa.string_view()),
            "list": pa.array([[1, 2], None]),
            "struct": pa.array([{"a": 1, "b": [None, "x"]}, None]),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
        }
    )


async def test_csv_holds_every_type_and_tells_null_from_empty(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    await write(File(path=str(path)), wide())
    assert path.read_bytes().count(b"id") == 1
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
    )
    first, second = table.to_pylist()
    assert (first["text"], first["none"], second["text"], second["none"]) == ('a,"b"\n', None, "", "x")
    assert (first["id"], second["id"], first["price"]) == (1, None, 1.23)
    assert json.loads(first["list"]) == [1, 2]
    assert json.loads(first["struct"])["a"] == 1
    assert second["struct"] is None
    assert first["map"] is not None


async def test_avro_holds_every_type(tmp_path: Path) -> None:
    path = tmp_path / "out.avro"
    await write(File(path=str(path)), wide())
    with path.open("rb") as file:
        first, second = fastavro.reader(file)
    assert (first["id"], first["large"], first["small"], first["half"]) == (1, 2**40, 1, 1.5)
    assert first["zoned"].replace(tzinfo=None) == datetime(2026, 1, 2, 3, 4, 5, 678901)
    assert (first["list"], first["kind"], first["price"]) == ([1, 2], "x", Decimal("1.23"))
    assert first["map"] == [{"key": "k", "value": 1}]
    assert second["struct"] is None or second["struct"] == {"a": None, "b": None}


async def test_what_avro_cannot_hold_is_refused_and_not_wrapped_around(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="avro cannot hold"):
        await write(File(path=str(tmp_path / "out.avro")), pa.record_batch({"n": pa.array([2**63], pa.uint64())}))
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "compression"),
    [("out.parquet", "auto"), ("out.parquet", "snappy"), ("out.arrow", "auto"), ("out.arrow", "zstd")],
)
async def test_a_container_format_gets_a_whole_file_with_each_write(
    tmp_path: Path, name: str, compression: str
) -> None:
    output = File.model_validate({"path": str(tmp_path / name), "compression": compression})
    await write(output, [wide(), wide()], wide())
    await write(output, wide())
    read = pq.read_table if name.endswith("parquet") else pyarrow.feather.read_table
    stem, ending = name.split(".")
    assert visible(tmp_path) == [f"{stem}-000002.{ending}", f"{stem}-000003.{ending}", name]
    assert read(str(tmp_path / name)).num_rows == 4
    assert read(str(tmp_path / name)).column("text").to_pylist() == ['a,"b"\n', ""] * 2
    assert read(str(tmp_path / f"{stem}-000003.{ending}")).num_rows == 2


async def test_batches_of_different_schemas_get_files_of_their_own(tmp_path: Path) -> None:
    await write(File(path=str(tmp_path / "o.parquet")), [batch(1), batch(2, name=["x"]), batch(3)])
    assert pq.read_table(str(tmp_path / "o.parquet"))["id"].to_pylist() == [1, 3]
    assert pq.read_table(str(tmp_path / "o-000002.parquet"))["name"].to_pylist() == ["x"]


async def test_payloads_are_written_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    await write(File(path=str(path)), values(b"\xff", b"", b"x\n"))
    assert path.read_bytes() == b"\xff\n\nx\n"


async def test_a_payload_with_a_line_break_is_refused_where_it_would_become_two(tmp_path: Path) -> None:
    with pytest.raises(RowsRejected) as caught:
        await write(File(path=str(tmp_path / "out.txt")), values(b"a", b"b\nc", b"d\n"))
    assert list(caught.value.reasons) == [1]
    output = File.model_validate({"path": str(tmp_path / "out.bin"), "framing": "length_delimited"})
    await write(output, values(b"b\nc"))
    assert (tmp_path / "out.bin").read_bytes() == b"\0\0\0\x03b\nc"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path": "a.paquet"}, "cannot tell the format"),
        ({"path": "a.parquet", "codec": "json"}, "holds rows"),
        ({"path": "a.parquet", "rotate": {"rows": 1}}, "file of its own"),
        ({"path": "a.csv", "compression": "snappy"}, "cannot be compressed"),
        ({"path": "a.json", "framing": "whole"}, "whole"),
        ({"path": "a.csv", "framing": "length_delimited"}, "framing"),
        ({"path": "a.json", "rotate": {}}, "at least one"),
        ({"path": "a/{}.json"}, "name of a column"),
        ({"path": "a/{b"}, "expected '}'"),
        ({"path": "s3://b/a.json", "mode": "overwrite"}, "files of this machine"),
        ({"path": "a.json", "formt": "csv"}, "did you mean 'format'"),
    ],
)
def test_options_that_do_not_agree_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Output.parse({"type": "file", **options})


# CSV and changing columns


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_csv_refuses_a_local_time_that_would_wrap_around(value: int) -> None:
    times = pa.array([value], pa.timestamp("ns", "Europe/Berlin"))
    with pytest.raises(PermanentError, match="local time in Europe/Berlin is out of range"):
        formats.csv(pa.record_batch({"at": times}), header=False)


async def test_csv_writes_its_header_once_and_a_new_column_begins_a_new_file(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "out.csv"))
    both = pa.record_batch({"b": ["x"], "id": pa.array([2], pa.int64())})
    await write(output, [batch(1, b=["w"]), both], batch(3))
    await write(output, batch(4), [batch(5, c=["new"]), batch(6)])
    await write(output, batch(7))
    assert (tmp_path / "out.csv").read_text() == '"id","b"\n1,"w"\n2,"x"\n3,\n4,\n'
    assert (tmp_path / "out-000002.csv").read_text() == '"id","c"\n5,"new"\n6,\n7,\n'


async def test_the_header_of_a_compressed_csv_file_is_found_again(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "out.csv.gz"))
    await write(output, batch(1))
    await write(output, batch(2))
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == b'"id"\n1\n2\n'


# Torn tails


@pytest.mark.parametrize(
    ("name", "whole", "torn"),
    [
        ("a.json", b'{"id":1}\n', b'{"id":2,"x'),
        ("a.txt", b"one\n", b"tw"),
        ("a.csv", b'"id"\n1\n', b'"open\nquote'),
        ("a.csv", b'"id","t"\n1,"a\nb"\n', b'2,"c""\n\n'),
        ("a.csv", b"", b'"i'),
        ("a.jsonl.gz", gzip.compress(b'{"id":1}\n') * 2, gzip.compress(b'{"id":2}\n')[:-4]),
        ("a.jsonl.gz", gzip.compress(b'{"id":1}\n'), b"\x1f"),
    ],
    ids=["json", "text", "csv-quote", "csv-newline", "csv-header", "gzip-member", "gzip-byte"],
)
async def test_a_torn_tail_is_cut_and_kept_aside(
    tmp_path: Path, name: str, whole: bytes, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    path.write_bytes(whole + torn)
    row = batch(9) if b'"t"' not in whole else batch(9, t=["z"])
    await write(File(path=str(path)), row)
    clean = tmp_path / "clean" / name
    clean.parent.mkdir()
    clean.write_bytes(whole)
    await write(File(path=str(clean)), row)
    assert path.read_bytes() == clean.read_bytes()
    assert (tmp_path / f"{name}.torn").read_bytes() == torn
    assert f"cut {len(torn)} bytes" in caplog.text


async def test_a_torn_zstd_frame_is_cut(tmp_path: Path) -> None:
    output, path = File(path=str(tmp_path / "a.jsonl.zst")), tmp_path / "a.jsonl.zst"
    await write(output, *(batch(*range(n, n + 5000)) for n in (0, 5000)))
    whole = path.read_bytes()
    await write(output, batch(-1))
    last = path.read_bytes()[len(whole) :]
    for cut in range(1, len(last)):
        path.write_bytes(whole + last[:cut])
        with path.open("rb") as file:
            assert tails.zstd(file.fileno(), len(whole) + cut) == len(whole)
    await write(output, batch(7))
    with pa.input_stream(str(path), compression="zstd") as stream:
        assert [json.loads(line)["id"] for line in stream.read().splitlines()] == [*range(10000), 7]


async def test_a_torn_frame_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\0\0\0\x01x\0\0\0\x09half")
    await write(File.model_validate({"path": str(path), "framing": "length_delimited"}), values(b"y"))
    assert path.read_bytes() == b"\0\0\0\x01x\0\0\0\x01y"


async def test_a_last_line_that_somebody_left_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"id":1}\n{"id":2}')
    await write(File(path=str(path)), batch(3))
    assert ids(path) == [1, 2, 3]
    assert visible(tmp_path) == ["a.json"]


def test_the_last_newline_is_found_far_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x\n" + b"y" * 200_000)
    with path.open("rb") as file:
        assert tails.lines(file.fileno(), 200_002) == 2


# Disks that are full, folders that are closed


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel write up to ``size`` bytes of a file and then fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
async def test_a_write_the_disk_has_no_room_for_leaves_nothing_and_can_be_repeated(tmp_path: Path, name: str) -> None:
    path, rows = tmp_path / name, batch(*range(20_000))
    async with lend_context(tmp_path) as context, File(path=str(path)).open(context) as writer:
        await writer.write([batch(1)])
        before = path.read_bytes()
        with file_size_limit(50_000), pytest.raises(TransientError, match="File too large"):
            await writer.write([rows])
        assert path.read_bytes() == before
        await writer.write([rows])
        await writer.write([batch(2)])
    assert path.read_bytes().count(b"\n") == 20_002 + (name == "a.csv")


async def test_a_full_disk_takes_back_what_the_same_write_added_to_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, 10

    def full(opened: int, data: Any) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(opened, bytes(data)[:left])
        left -= written
        return written

    rows = batch(1, 2, k=["a", "b"])
    async with lend_context(tmp_path) as context, File(path=str(tmp_path / "{k}.json")).open(context) as writer:
        monkeypatch.setattr(os, "write", full)
        left = 25
        with pytest.raises(TransientError, match="No space left"):
            await writer.write([rows])
        monkeypatch.setattr(os, "write", real)
        assert (tmp_path / "a.json").read_bytes() == b""
        assert (tmp_path / "b.json").read_bytes() == b""
        await writer.write([rows])
    assert (ids(tmp_path / "a.json"), ids(tmp_path / "b.json")) == ([1], [2])


async def test_a_part_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = batch(*(chance.randrange(2**62) for _ in range(10_000)))
    async with lend_context(tmp_path) as context, File(path=str(tmp_path / "a.parquet")).open(context) as writer:
        with file_size_limit(20_000), pytest.raises(TransientError):
            await writer.write([rows])
        assert list(tmp_path.iterdir()) == []
        await writer.write([rows])
    assert pq.read_table(str(tmp_path / "a.parquet")).num_rows == 10_000


async def test_a_refused_folder_or_file_is_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        await write(File(path=str(tmp_path / "file" / "a.json")), batch(1))
    (tmp_path / "a.json").mkdir()
    with pytest.raises(PermanentError, match="Is a directory"):
        await write(File(path=str(tmp_path / "a.json")), batch(1))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="permission denied"):
        await write(File(path=str(tmp_path / "b.json")), batch(1))


# Rotation


async def test_a_new_file_is_begun_after_so_many_rows(tmp_path: Path) -> None:
    output = File.model_validate({"path": str(tmp_path / "a.json"), "rotate": {"rows": 3}})
    await write(output, batch(1, 2), batch(3, 4), batch(5), [batch(6, 7), batch(8)])
    assert ids(tmp_path / "a.json") == [1, 2, 3, 4]
    assert ids(tmp_path / "a-000002.json") == [5, 6, 7]
    assert ids(tmp_path / "a-000003.json") == [8]
    await write(output, batch(9))
    assert ids(tmp_path / "a-000004.json") == [9]


async def test_a_new_file_is_begun_after_so_many_bytes_counted_across_restarts(tmp_path: Path) -> None:
    output = File.model_validate({"path": str(tmp_path / "a.csv"), "rotate": {"bytes": 20}})
    for number in range(10):
        await write(output, batch(100 + number))
    files = [tmp_path / name for name in ("a.csv", "a-000002.csv", "a-000003.csv")]
    assert [len(file.read_text().split()) - 1 for file in files] == [4, 4, 2]
    assert all(file.read_text().startswith('"id"\n') for file in files)


async def test_a_new_file_is_begun_after_so_much_time(tmp_path: Path) -> None:
    clock = StandingClock()
    output = File.model_validate({"path": str(tmp_path / "a.json"), "rotate": {"every": "1h"}})
    async with lend_context(tmp_path, clock=clock) as context, output.open(context) as writer:
        await writer.write([batch(1)])
        clock.now += 3599
        await writer.write([batch(2)])
        clock.now += 1
        await writer.write([batch(3)])
    assert (ids(tmp_path / "a.json"), ids(tmp_path / "a-000002.json")) == ([1, 2], [3])


async def test_a_path_with_the_date_follows_the_clock(tmp_path: Path) -> None:
    clock = StandingClock(datetime(2026, 2, 3, 23, 59, 59, tzinfo=UTC).timestamp())
    for name in ("%Y-%m-%d.json", "%Y-%m-%d.parquet"):
        output = File.model_validate({"path": str(tmp_path / name)})
        async with lend_context(tmp_path, clock=clock) as context, output.open(context) as writer:
            await writer.write([batch(1)])
            clock.now += 1
            await writer.write([batch(2)])
            clock.now -= 1
    names = [f"2026-02-0{day}{ending}" for day in (3, 4) for ending in (".json", ".parquet")]
    assert visible(tmp_path) == names


# Paths


async def test_rows_go_to_the_file_of_their_value(tmp_path: Path) -> None:
    rows = batch(1, 2, 3, 4, 5, k=["b", "a", "b", None, ""], n=pa.array([1, 1, 1, 2, 2]))
    await write(File(path=str(tmp_path / "n={n}" / "k={k}.json")), rows, rows.slice(1, 1))
    assert visible(tmp_path) == [
        "n=1/k=a.json",
        "n=1/k=b.json",
        "n=2/k=__HIVE_DEFAULT_PARTITION__.json",
        "n=2/k=__empty__.json",
    ]
    assert ids(tmp_path / "n=1/k=b.json", tmp_path / "n=1/k=a.json") == [1, 3, 2, 2]


async def test_values_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    evil = [
        "../../etc/x",
        "..",
        ".",
        "/abs",
        "a\0b",
        "a/../../b",
        "C:\\x",
        ".hidden",
        "~",
        "é" * 300,
        "v-000002",
        "%2e",
    ]
    base = tmp_path / "base"
    await write(File(path=str(base / "{k}" / "d.json")), batch(*range(len(evil)), k=evil))
    assert len(visible(base)) == len(evil)
    assert visible(tmp_path) == [f"base/{name}" for name in visible(base)]
    assert all(len(name) <= 130 for name in visible(base))
    assert len({segment(value) for value in evil}) == len(evil)


async def test_times_in_a_path_are_those_of_writing(tmp_path: Path) -> None:
    template = Template("/x%%/out-%Y/%m-%d/{k}.json")
    assert template.folder == "/x%"
    [(path, _)] = template.split(batch(1, k=["%Y"]), datetime(2026, 3, 4, tzinfo=UTC))
    assert path == "/x%/out-2026/03-04/%25Y.json"


async def test_a_column_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="needs the column 'k'; there are id"):
        await write(File(path=str(tmp_path / "{k}.json")), batch(1))
    with pytest.raises(PermanentError, match="as text, which list"):
        await write(File(path=str(tmp_path / "{k}.json")), batch(1, k=[[1]]))


async def test_a_partition_reads_metadata_only_if_it_names_it(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "{__meta_source}.json"))
    assert output.reads_metadata()
    await write(output, attach(batch(1), Origin("kafka")))
    assert ids(tmp_path / "kafka.json") == [1]


async def test_more_partitions_than_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "OPEN_FILES", 3)
    rows = batch(*range(20), k=[str(n) for n in range(20)])
    await write(File(path=str(tmp_path / "{k}.json")), rows, rows)
    assert all(ids(tmp_path / f"{n}.json") == [n, n] for n in range(20))


# Modes, sharing


async def test_overwrite_begins_anew_once_in_a_process(tmp_path: Path) -> None:
    for name in ("a.json", "a-000002.json"):
        (tmp_path / name).write_text('{"id":0}\n')
    output = File(path=str(tmp_path / "a.json"), mode="overwrite")
    await write(output, batch(1))
    await write(output, batch(2))
    assert visible(tmp_path) == ["a.json"]
    assert ids(tmp_path / "a.json") == [1, 2]
    await write(File(path=str(tmp_path / "a.json"), mode="overwrite"), batch(3))
    assert ids(tmp_path / "a.json") == [3]


async def test_error_refuses_a_file_that_is_there(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "a.parquet"), mode="error")
    await write(output, batch(1))
    await write(output, batch(2))
    with pytest.raises(ConfigError, match="is there already"):
        await write(File(path=str(tmp_path / "a.parquet"), mode="error"), batch(3))


async def test_several_streams_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.csv")

    async def run(first: int) -> None:
        await write(File(path=path), *(batch(first + n) for n in range(50)))

    await asyncio.gather(run(0), run(100), run(200))
    text = (tmp_path / "a.csv").read_text().splitlines()
    assert text[0] == '"id"'
    assert sorted(map(int, text[1:])) == [base + n for base in (0, 100, 200) for n in range(50)]


async def test_a_file_that_was_moved_away_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    async with lend_context(tmp_path) as context, File(path=str(path)).open(context) as writer:
        await writer.write([batch(1)])
        path.rename(tmp_path / "a.old")
        await writer.write([batch(2)])
    assert (ids(tmp_path / "a.old"), ids(path)) == ([1], [2])


async def test_unfinished_parts_of_dead_writers_are_removed_and_those_of_live_ones_kept(tmp_path: Path) -> None:
    dead, alive = (tmp_path / f".{letter * 32}.part" for letter in "ab")
    dead.touch()
    with alive.open("wb") as file:
        disk.lock(file.fileno(), "alive")
        await write(File(path=str(tmp_path / "a.parquet")), batch(1))
    assert not dead.exists()
    assert alive.exists()


# Rows and positions together


async def save(output: File, rows: pa.RecordBatch, position: int) -> None:
    async with lend_context(Path("unused")) as context, output.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        await writer.write_and_save([rows], {"s": position})


async def position(output: File) -> Any:
    async with lend_context(Path("unused")) as context, output.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        return await writer.load("s")


async def test_positions_are_kept_beside_the_file(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "a.json"))
    assert await position(output) is None
    await save(output, batch(1), 1)
    await save(output, batch(2), 2)
    assert await position(output) == 2
    assert (tmp_path / ".a.json.checkpoint").exists()
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        await writer.save({"other": {"x": 1}})
        assert await writer.load("other") == {"x": 1}
        assert await writer.load("s") == 2
    assert ids(tmp_path / "a.json") == [1, 2]


SCRIPT = """
import asyncio, sys, time
from pathlib import Path
import pyarrow as pa
from penstock.component import Output
from penstock.testing.contexts import lend_context

async def main():
    output = Output.parse({"type": "file", "path": sys.argv[1]})
    async with lend_context(Path(".")) as context, output.open(context) as writer:
        at = await writer.load("s") or 0
        started = at
        while True:
            ids = list(range(at, at + 50))
            half = pa.record_batch({"id": ids[:20], "k": [str(i % 3) for i in ids[:20]]})
            rest = pa.record_batch({"id": ids[20:], "k": [str(i % 3) for i in ids[20:]]})
            await writer.write_and_save([half, rest], {"s": at + 50})
            if at == started:
                print("ready", flush=True)
            at += 50

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.parametrize("name", ["a.json", "k={k}/a.csv", "a.jsonl.gz", "k={k}/a.parquet"])
def test_each_row_is_there_once_however_often_the_process_is_killed(tmp_path: Path, name: str) -> None:
    chance = random.Random(7)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / name)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.02, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    saved = asyncio.run(position(File(path=str(tmp_path / name))))
    found: list[int] = []
    for file in [tmp_path / name for name in visible(tmp_path)]:
        assert file.suffix != ".torn"
        if file.suffix == ".parquet":
            found += pq.read_table(str(file), partitioning=None)["id"].to_pylist()
        elif file.suffix == ".csv":
            found += [int(line.split(",")[0]) for line in file.read_text().splitlines()[1:]]
        else:
            data = file.read_bytes()
            text = gzip.decompress(data) if file.suffix == ".gz" else data
            found += [json.loads(line)["id"] for line in text.splitlines()]
    assert saved
    assert sorted(found) == list(range(saved))


async def test_rows_whose_position_was_not_saved_are_cut_off(tmp_path: Path) -> None:
    output, path = File(path=str(tmp_path / "a.json")), tmp_path / "a.json"
    await save(output, batch(1), 1)
    log = tmp_path / ".a.json.checkpoint"
    log.write_bytes(log.read_bytes() + b'{"positions":{},"files":{"a.json":9},"complete":[]}\n{"positions":{"s":')
    path.write_bytes(path.read_bytes() + b'{"id":2}\n{"id":')
    assert await position(output) == 1
    assert ids(path) == [1]
    await save(output, batch(2), 2)
    assert ids(path) == [1, 2]


async def test_what_others_added_between_runs_is_not_cut_off(tmp_path: Path) -> None:
    output, path = File(path=str(tmp_path / "a.json")), tmp_path / "a.json"
    await save(output, batch(1), 1)
    path.write_bytes(path.read_bytes() + b'{"id":77}\n')
    await save(output, batch(2), 2)
    await write(output, batch(3))
    await save(output, batch(4), 4)
    assert ids(path) == [1, 77, 2, 3, 4]


async def test_a_failed_commit_takes_the_rows_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, path = File(path=str(tmp_path / "a.json")), tmp_path / "a.json"
    real = os.pwrite
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        await writer.write_and_save([batch(1)], {"s": 1})

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(TransientError):
            await writer.write_and_save([batch(2)], {"s": 2})
        assert ids(path) == [1]
        monkeypatch.setattr(os, "pwrite", real)
        await writer.write_and_save([batch(2)], {"s": 2})
    assert ids(path) == [1, 2]
    assert await position(output) == 2


async def test_a_part_whose_position_was_not_saved_is_removed(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "a.parquet"))
    await save(output, batch(1), 1)
    log = tmp_path / ".a.parquet.checkpoint"
    log.write_bytes(log.read_bytes() + b'{"positions":{},"files":{"a-000002.parquet":null},"complete":[]}\n')
    (tmp_path / "a-000002.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert await position(output) == 1
    assert visible(tmp_path) == ["a.parquet"]


async def test_a_second_process_cannot_take_the_positions(tmp_path: Path) -> None:
    output = File(path=str(tmp_path / "a.json"))
    async with lend_context(tmp_path) as context, output.open(context) as first:
        assert isinstance(first, TransactionalWriter)
        await first.write_and_save([batch(1)], {"s": 1})
        async with output.open(context) as second:
            assert isinstance(second, TransactionalWriter)
            with pytest.raises(ConnectionLost, match="by another stream or process"):
                await second.load("s")
        await first.write_and_save([batch(2)], {"s": 2})
    assert ids(tmp_path / "a.json") == [1, 2]


async def test_the_journal_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_BYTES", 500)
    output = File(path=str(tmp_path / "a.json"))
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        for number in range(50):
            await writer.write_and_save([batch(number)], {"s": number})
    assert (tmp_path / ".a.json.checkpoint").stat().st_size < 1000
    assert await position(output) == 49
    assert ids(tmp_path / "a.json") == list(range(50))


async def test_overwrite_forgets_the_positions_too(tmp_path: Path) -> None:
    await save(File(path=str(tmp_path / "a.json")), batch(1), 1)
    assert await position(File(path=str(tmp_path / "a.json"), mode="overwrite")) is None
    assert visible(tmp_path) == []


def test_numbered_names_are_found_again(tmp_path: Path) -> None:
    for name in ("a.json", "a-000002.json", "a-1000000.json", "a-2.json", "a-000009.json.torn", "b-000010.json"):
        (tmp_path / name).touch()
    assert paths.numbers(str(tmp_path / "a.json"), ".json") == [1, 2, 1000000]
    assert paths.last_number(str(tmp_path / "missing" / "a.json"), ".json") == 0


# What every output promises


def files_of(path: Path, ending: str) -> list[Path]:
    numbers = paths.numbers(str(path), ending)
    return [Path(paths.numbered(str(path), ending, number)) for number in numbers]


def never_fits() -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array([None, (1, 2, 3)], pa.month_day_nano_interval())})


class JsonSuite(OutputSuite):
    transactional = True
    rejects_rows = True
    ending = ".json"
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def component(self, tmp_path: Path) -> Output:
        return Output.parse({"type": "file", "path": str(tmp_path / f"rows{self.ending}"), **self.options})

    async def read_back(self, component: Output) -> list[dict[str, Any]]:
        assert isinstance(component, File)
        text = b""
        for file in files_of(Path(component.path), self.ending):
            with pa.input_stream(str(file), compression="detect") as stream:
                text += stream.read()
        return [json.loads(line) for line in text.splitlines()]

    def with_bad_row(self) -> tuple[pa.RecordBatch, set[int]]:
        return values(b'{"id":1}', b'{"id":\n2}', b'{"id":3}'), {1}

    def written(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        if "__value__" in batch.schema.names:
            return [json.loads(value) for value in batch["__value__"].to_pylist()]
        return super().written(batch)

    def refused(self) -> pa.RecordBatch:
        return self.with_bad_row()[0]


class TestJsonFile(JsonSuite):
    pass


class TestRotatedFile(JsonSuite):
    options: ClassVar[dict[str, Any]] = {"rotate": {"rows": 2}}


class TestGzippedFile(JsonSuite):
    ending = ".jsonl.gz"


class TestCsvFile(OutputSuite):
    transactional = True
    refused_types = frozenset({"binary"})

    @pytest.fixture
    def component(self, tmp_path: Path) -> Output:
        return Output.parse({"type": "file", "path": str(tmp_path / "rows.csv")})

    async def read_back(self, component: Output) -> list[dict[str, Any]]:
        assert isinstance(component, File)
        convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        tables = [
            pyarrow.csv.read_csv(file, convert_options=convert) for file in files_of(Path(component.path), ".csv")
        ]
        return [row for table in tables for row in table.to_pylist()]

    def refused(self) -> pa.RecordBatch:
        return pa.record_batch({"id": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})


class PartsSuite(OutputSuite):
    transactional = True
    ending = ".parquet"

    @pytest.fixture
    def component(self, tmp_path: Path) -> Output:
        return Output.parse({"type": "file", "path": str(tmp_path / f"rows{self.ending}")})

    async def read_back(self, component: Output) -> list[dict[str, Any]]:
        assert isinstance(component, File)
        return [row for file in files_of(Path(component.path), self.ending) for row in self.rows(file)]

    def rows(self, file: Path) -> list[dict[str, Any]]:
        return rows_of(pq.read_table(str(file)))

    def refused(self) -> pa.RecordBatch:
        return never_fits()


class TestParquetFile(PartsSuite):
    pass


class TestArrowFile(PartsSuite):
    ending = ".arrow"

    def rows(self, file: Path) -> list[dict[str, Any]]:
        return rows_of(pyarrow.feather.read_table(str(file)))

    def refused(self) -> pa.RecordBatch:
        return self.sample(0, 1).rename_columns(["k", "name", "value"])

    async def test_a_failed_write_saves_no_position(self) -> None:  # type: ignore[override]
        """Arrow holds whatever a batch holds."""


class TestAvroFile(PartsSuite):
    ending = ".avro"
    lacks = {"test_any_column_name_is_only_a_name": "Avro allows letters, digits and _ in a name: others are refused"}

    def rows(self, file: Path) -> list[dict[str, Any]]:
        with file.open("rb") as opened:
            return [dict(row) for row in fastavro.reader(opened)]


# Object stores


@pytest.fixture
def bucket(s3_endpoint: str) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket_name": "penstock",
        "endpoint": s3_endpoint,
        "access_key_id": "test",
        "secret_access_key": "test",
        "region": "us-east-1",
        "allow_http": True,
    }


def objects(store: Any, prefix: str) -> dict[str, bytes]:
    found = [entry["path"] for page in obstore.list(store, prefix) for entry in page]
    return {path: bytes(obstore.get(store, path).bytes()) for path in sorted(found)}


@pytest.mark.server
async def test_each_write_puts_whole_objects(bucket: dict[str, Any]) -> None:
    for name in ("{k}.json", "r.csv.gz", "r.parquet"):
        output = Output.parse({"type": "file", "store": bucket, "path": f"whole/{name}"})
        assert isinstance(output, File)
        await write(output, [batch(1, k=["a"]), batch(2, k=["b"])], batch(3, k=["a"]))
        assert output.store is not None
        found = objects(output.store.connect(), "whole")
        if name == "{k}.json":
            assert [path[:8] for path in found] == ["whole/a-", "whole/a-", "whole/b-"]
            assert sorted(json.loads(data)["id"] for data in found.values()) == [1, 2, 3]
        elif name == "r.csv.gz":
            texts = [gzip.decompress(data) for path, data in found.items() if path.endswith(".csv.gz")]
            assert texts == [b'"id","k"\n1,"a"\n2,"b"\n', b'"id","k"\n3,"a"\n']
        else:
            tables = [pq.read_table(pa.BufferReader(d)) for path, d in found.items() if path.endswith(".parquet")]
            assert [table["id"].to_pylist() for table in tables] == [[1, 2], [3]]


async def test_a_put_that_comes_again_puts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    store = obstore.store.MemoryStore()
    writer = ObjectWriter(File(path="s3://b/x/{k}.json"), store, "x/{k}.json", Clock())
    real, calls = obstore.put_async, 0

    async def put(store: Any, path: str, data: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("the connection broke")
        return await real(store, path, data)

    monkeypatch.setattr(obstore, "put_async", put)
    rows = [batch(1, 2, k=["a", "b"])]
    with pytest.raises(TransientError, match="putting x/b-"):
        await writer.write(rows)
    assert len(objects(store, "x")) == 1
    await writer.write(rows)
    assert sorted(json.loads(data)["id"] for data in objects(store, "x").values()) == [1, 2]
    calls = 0
    with pytest.raises(TransientError):
        await writer.write([batch(3, 4, k=["a", "b"])])
    await writer.write([batch(3, k=["a"])])
    await writer.close()
    assert sorted(json.loads(data)["id"] for data in objects(store, "x").values()) == [1, 2, 3]


async def test_a_store_that_cannot_be_reached_may_be_back_later() -> None:
    store = {"type": "s3", "bucket_name": "b", "endpoint": "http://127.0.0.1:9", "allow_http": True}
    keys = {"access_key_id": "k", "secret_access_key": "hidden-key", "region": "us-east-1"}
    output = Output.parse({"type": "file", "path": "a.json", "store": {**store, **keys}})
    assert isinstance(output, File)
    with pytest.raises(TransientError, match="putting a-") as caught:
        await write(output, batch(1))
    assert "hidden-key" not in str(caught.value) + repr(output)


def test_a_folder_that_another_thread_makes_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = tmp_path / "new", disk.os.path.isdir

    def made_meanwhile(path: str) -> bool:
        found = asked(path)
        folder.mkdir(exist_ok=True)
        return found

    monkeypatch.setattr(disk.os.path, "isdir", made_meanwhile)
    disk.make_folder(str(folder))
    monkeypatch.undo()
    assert folder.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        disk.make_folder(str(tmp_path / "file"))
