"""The file input: its forms, the formats it reads, and resuming."""

from __future__ import annotations

import gzip
import io
import json
import resource
import time
import tracemalloc
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.component import Input
from penstock.errors import ConfigError, PermanentError
from penstock.inputs.file import File
from penstock.metadata import VALUE
from penstock.testing.suites.inputs import InputSuite

from .files import Reading

NUMBERS = [{"n": number} for number in range(20)]
LINES = "".join(f'{{"n":{number}}}\n' for number in range(20))


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def avro(rows: list[dict[str, Any]], schema: Any = None, **options: Any) -> bytes:
    written = io.BytesIO()
    fields = [{"name": "n", "type": "long"}]
    fastavro.writer(written, schema or {"type": "record", "name": "r", "fields": fields}, rows, **options)
    return written.getvalue()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), written, **options)
    return written.getvalue()


def arrow(rows: list[dict[str, Any]], *, stream: bool = False, batch_rows: int = 4) -> bytes:
    written, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(written, table.schema) as file:
        file.write_table(table, batch_rows)
    return written.getvalue()


CONTENTS = {
    "lines.json": LINES.encode(),
    "lines.jsonl": LINES.encode(),
    "unended.ndjson": LINES.rstrip("\n").encode(),
    "array.json": json.dumps(NUMBERS).encode(),
    "pretty-array.json": json.dumps(NUMBERS, indent=2).encode(),
    "pretty-objects.json": "\n".join(json.dumps(row, indent=2) for row in NUMBERS).encode(),
    "marked.json": b"\xef\xbb\xbf" + LINES.encode(),
    "lines.json.gz": gzip.compress(LINES.encode()),
    "members.json.gz": gzip.compress(LINES[:80].encode()) + gzip.compress(LINES[80:].encode()),
    "lines.json.zst": zstd(LINES.encode()),
    "table.csv": b"n\n" + b"".join(b"%d\n" % number for number in range(20)),
    "table.csv.gz": gzip.compress(b"n\r\n" + b"".join(b"%d\r\n" % number for number in range(20))),
    "table.tsv": b"n\n" + b"".join(b"%d\n" % number for number in range(20)),
    "rows.parquet": parquet(NUMBERS, row_group_size=7),
    "rows.avro": avro(NUMBERS, sync_interval=10),
    "packed.avro": avro(NUMBERS, codec="deflate"),
    "rows.arrow": arrow(NUMBERS),
    "rows.feather": arrow(NUMBERS),
    "stream.ipc": arrow(NUMBERS, stream=True),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


class TestFile(InputSuite):
    """Lines of one file, several to a delivery."""

    @pytest.fixture
    def component(self, tmp_path: Path) -> Input:
        (tmp_path / "lines.json").write_text(LINES)
        return File(path=str(tmp_path / "lines.json"), chunk_size=32)


class TestFolder(InputSuite):
    """Many small files, spread over the checkpoints."""

    checkpointed = False  # by several checkpoints: what is acked behind a gap may be saved
    limited = False  # the limit is that of each checkpoint

    @pytest.fixture
    def component(self, folder: Path) -> Input:
        for row in NUMBERS:
            (folder / f"{row['n']:02}.json").write_text(json.dumps(row))
        return File(path=str(folder))


class TestParquet(InputSuite):
    """Row groups and slices of them."""

    @pytest.fixture
    def component(self, tmp_path: Path) -> Input:
        (tmp_path / "rows.parquet").write_bytes(CONTENTS["rows.parquet"])
        return File(path=str(tmp_path / "rows.parquet"), batch_rows=3)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "file", "input_type": {"type": "json", "path": "a"}},
        {"type": "file", "input_type": {"type": "csv", "path": "a"}, "query": {"query": "SELECT * FROM flow"}},
        {"type": "file", "input_type": {"type": "parquet", "path": "a"}, "query": {"query": "SELECT 1", "table": "t"}},
        {
            "type": "file",
            "input_type": {
                "type": "avro",
                "path": "a",
                "store": {"type": "s3", "bucket_name": "b", "access_key_id": "k", "secret_access_key": "s"},
            },
        },
        {"type": "file", "path": "data/*.json", "format": "auto", "follow": True, "poll_interval": "1s"},
        {"type": "file", "path": "s3://bucket/a/*.json"},
        {"type": "file", "path": "a.bin", "framing": "length_delimited", "codec": "json"},
        *({"type": kind, "path": "a"} for kind in ("csv", "json", "parquet", "avro", "arrow")),
    ],
)
def test_every_form_is_accepted(options: dict[str, Any]) -> None:
    config = Input.parse(options)
    assert isinstance(config, File)
    assert config.path
    assert config.input_type is None
    if config.store is None:
        assert Input.parse({"type": "file", **config.model_dump(mode="json")}) == config


def test_the_short_form_sets_the_format() -> None:
    assert Input.parse({"type": "csv", "path": "a"}).model_dump()["format"] == "csv"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input_type": {"type": "json", "path": "a", "store": {"type": "hdfs", "url": "x"}}}, "hdfs is not supported"),
        ({"input_type": {"type": "json", "path": "a"}, "path": "b"}, "not both"),
        ({"path": ""}, "expected a path"),
        ({"path": "{a}/{a}.json"}, "used twice"),
        ({"path": "a", "format": "parquet", "framing": "whole"}, "has no framing"),
        ({"path": "a", "query": {"query": "SELECT 1"}, "follow": True}, "cannot be combined"),
        ({"path": "a", "start": "end"}, "needs follow"),
        ({"path": "a", "pattern": "b"}, "unknown key"),
        ({}, "Field required"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Input.parse({"type": "file", **options})


@pytest.mark.parametrize("name", CONTENTS)
async def test_reads_every_format(folder: Path, name: str) -> None:
    (folder / name).write_bytes(CONTENTS[name])
    assert await Reading({"path": str(folder / name)}, folder.parent).all() == NUMBERS


@pytest.mark.parametrize("name", CONTENTS)
async def test_resumes_at_every_boundary(folder: Path, name: str) -> None:
    (folder / name).write_bytes(CONTENTS[name])
    reading = Reading({"path": str(folder), "chunk_size": 24, "batch_rows": 3}, folder.parent)
    read: list[Any] = []
    for _ in range(60):
        rows = await reading.all(most=1)
        if not rows:
            break
        read += rows
    assert read == NUMBERS


@pytest.mark.parametrize("name", ["lines.json", "rows.parquet", "lines.json.gz", "rows.avro"])
async def test_what_was_not_acked_comes_again(folder: Path, name: str) -> None:
    (folder / name).write_bytes(CONTENTS[name])
    reading = Reading({"path": str(folder), "chunk_size": 24, "batch_rows": 3}, folder.parent)
    acked = await reading.all(most=2)
    await reading.all(most=3, ack=False)
    assert acked + await reading.all() == NUMBERS


async def test_reads_files_in_the_order_of_their_paths(folder: Path) -> None:
    for name in ("b/1.json", "a.json", "b.json", "a/2.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps({"from": name}))
    rows = await Reading({"path": str(folder)}, folder.parent).all()
    assert [row["from"] for row in rows] == ["a/2.json", "a.json", "b/1.json", "b.json"]


async def test_a_file_that_appears_before_the_others_is_read_too(folder: Path) -> None:
    (folder / "b.json").write_text('{"n":1}')
    reading = Reading({"path": str(folder)}, folder.parent)
    assert await reading.all() == [{"n": 1}]
    (folder / "a.json").write_text('{"n":2}')
    assert await reading.all() == [{"n": 2}]


async def test_only_what_was_appended_is_read_the_next_time(folder: Path) -> None:
    file = folder / "a.json"
    file.write_text('{"n":1}\n')
    reading = Reading({"path": str(file)}, folder.parent)
    assert await reading.all() == [{"n": 1}]
    assert await reading.all() == []
    with file.open("a") as appended:
        appended.write('{"n":2}\n')
    assert await reading.all() == [{"n": 2}]


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.parquet"])
async def test_a_rewritten_file_is_read_from_its_start(folder: Path, name: str) -> None:
    write = {"a.json": lambda r: "".join(f"{json.dumps(x)}\n" for x in r).encode(), "a.parquet": parquet}.get(
        name, lambda r: ("n\n" + "".join(f"{x['n']}\n" for x in r)).encode()
    )
    (folder / name).write_bytes(write(NUMBERS[:3]))
    reading = Reading({"path": str(folder)}, folder.parent)
    assert await reading.all() == NUMBERS[:3]
    (folder / name).write_bytes(write(NUMBERS[5:]))
    assert await reading.all() == NUMBERS[5:]


async def test_a_renamed_file_is_still_the_same_file(folder: Path) -> None:
    (folder / "a.json").write_text(LINES)
    reading = Reading({"path": str(folder)}, folder.parent)
    assert await reading.all() == NUMBERS
    (folder / "a.json").rename(folder / "z.json")
    assert await reading.all() == []


async def test_a_file_rotated_while_nothing_ran_is_finished_first(folder: Path) -> None:
    log = folder / "app.log"
    log.write_text("1\n")
    reading = Reading({"path": str(log)}, folder.parent)
    assert await reading.all() == [b"1"]
    with log.open("a") as file:
        file.write("2\n")
    log.rename(folder / "app.log.1")
    log.write_text("3\n")
    assert await reading.all() == [b"2", b"3"]


async def test_placeholders_and_paths_are_told(folder: Path) -> None:
    for table in ("orders", "users"):
        (folder / table).mkdir()
        (folder / table / "2024-05.json").write_text('{"n":1}\n{"n":2}\n')
    told = await Reading({"path": f"{folder}/{{table}}/{{year}}-*.json"}, folder.parent).origins()
    assert told == [
        (
            {"path": f"{folder}/{table}/2024-05.json", "name": "2024-05.json", "table": table, "year": "2024"},
            offset,
        )
        for table in ("orders", "users")
        for offset in (0, 1)
    ]


async def test_offsets_count_the_rows_of_each_file_over_chunks_and_restarts(folder: Path) -> None:
    (folder / "a.json").write_text(LINES)
    reading = Reading({"path": str(folder), "chunk_size": 24}, folder.parent)
    first = await reading.all(most=2)
    assert [offset for _, offset in await reading.origins()] == list(range(len(first), 20))


async def test_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.json").write_text('{"n":1}')
    monkeypatch.chdir(folder)
    for path in ("a.json", "*.json", ".", "./*.json", "{name_of}.json", "**/*.json"):
        assert await Reading({"path": path}, folder.parent).all() == [{"n": 1}]


async def test_hidden_unfinished_and_foreign_files_of_a_folder_are_left_alone(folder: Path) -> None:
    for name in ("a.json", ".a.json", "b.json.tmp", "c.json.part", "README.md", "_SUCCESS", "d.json~"):
        (folder / name).write_text('{"n":1}')
    reading = Reading({"path": str(folder)}, folder.parent)
    assert {ext["name"] for ext, _ in await reading.origins()} == {"a.json"}
    told = await Reading({"path": f"{folder}/*"}, folder.parent).origins()
    assert {ext["name"] for ext, _ in told} == {"a.json", "README.md", "_SUCCESS"}


async def test_a_name_with_braces_that_exists_is_meant_literally(folder: Path) -> None:
    (folder / "{a}.json").write_text('{"n":1}')
    (folder / "b.json").write_text('{"n":2}')
    assert await Reading({"path": f"{folder}/{{a}}.json"}, folder.parent).all() == [{"n": 1}]


@pytest.mark.parametrize("pattern", ["missing.json", "*.json", "missing/*.json", "{a}/b.json"])
async def test_nothing_to_read_is_a_clear_error(folder: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="no file matches") as caught:
        await Reading({"path": f"{folder}/{pattern}"}, folder.parent).all()
    assert pattern in str(caught.value)


async def test_an_empty_folder_is_no_error(folder: Path) -> None:
    assert await Reading({"path": str(folder)}, folder.parent).all() == []


async def test_a_file_we_may_not_read_is_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.json").write_text('{"n":1}')
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"permission denied: .*a\.json"):
        await Reading({"path": str(folder)}, folder.parent).all()


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.txt", "a.json.gz", "a.parquet", "a.arrow", "a.avro"])
async def test_a_file_without_rows_delivers_nothing_and_is_done(folder: Path, name: str) -> None:
    schema = pa.schema([("n", pa.int64())])
    empty = {"a.parquet": b"", "a.arrow": b"", "a.avro": avro([]), "a.csv": b"n\n", "a.json.gz": gzip.compress(b"")}
    (folder / name).write_bytes(empty.get(name, b""))
    if name == "a.parquet":
        pq.write_table(schema.empty_table(), folder / name)
    if name == "a.arrow":
        with pa.ipc.new_file(str(folder / name), schema):
            pass
    (folder / "b.json").write_text('{"n":1}')
    reading = Reading({"path": str(folder)}, folder.parent)
    assert await reading.all() == [{"n": 1}]
    places = [place for saved in reading.store.positions.values() for place in saved["position"].values()]
    assert len(places) == 2
    assert all(place[-1] for place in places), "both files are noted as read to their end"


DAMAGED = {
    "cut.parquet": CONTENTS["rows.parquet"][:-30],
    "garbage.parquet": b"PAR1" + b"\x00garbage" * 40 + b"PAR1",
    "empty.parquet": b"",
    "cut.arrow": CONTENTS["rows.arrow"][:-30],
    "garbage.arrow": b"garbage" * 50,
    "garbage.avro": b"garbage" * 50,
    "cut.avro": CONTENTS["packed.avro"][:-20],
    "half-header.avro": CONTENTS["packed.avro"][:20],
    "open.json": b'[{"n": 1}, {"n": 2}',
    "more.json": b'[{"n": 1}] {"n": 2}',
    "garbage.json.gz": b"garbage",
    "garbage.csv.zst": b"garbage",
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_file_is_refused_by_name_and_the_others_are_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(DAMAGED[name])
    (folder / "z.json").write_text('{"n":7}')
    reading = Reading({"path": str(folder)}, folder.parent)
    rows = await reading.all()
    failures = [row[1] for row in rows if isinstance(row, tuple)]
    assert len(failures) == 1
    assert name in failures[0]
    assert rows[-1] == {"n": 7}
    assert await reading.all() == [], "it is not refused again while it stays as it is"


async def test_what_was_before_a_cut_is_read(folder: Path) -> None:
    rows = [{"n": number, "text": f"{number * 7919 % 1000003:x}" * 9} for number in range(20_000)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    (folder / "cut.json.gz").write_bytes(gzip.compress(text)[:-40_000])
    read = await Reading({"path": str(folder)}, folder.parent).all()
    assert isinstance(read[-1], tuple)
    assert "cut.json.gz" in read[-1][1]
    assert 5_000 < len(read) < 20_000
    assert read[:-1] == rows[: len(read) - 1]


async def test_a_damaged_row_group_does_not_hide_the_next(folder: Path) -> None:
    rows = [{"n": number} for number in range(3000)]
    whole = bytearray(parquet(rows, row_group_size=1000, compression="none", use_dictionary=False))
    with pq.ParquetFile(io.BytesIO(bytes(whole))) as file:
        start = file.metadata.row_group(1).column(0).data_page_offset
    whole[start : start + 12] = b"\xff" * 12
    (folder / "a.parquet").write_bytes(whole)
    read = await Reading({"path": str(folder)}, folder.parent).all()
    assert [row for row in read if isinstance(row, dict)] == rows[:1000] + rows[2000:]
    assert sum(isinstance(row, tuple) for row in read) == 1


async def test_a_damaged_avro_block_does_not_hide_the_next(folder: Path) -> None:
    rows = [{"n": number} for number in range(3000)]
    whole = bytearray(avro(rows, sync_interval=1000))
    whole[2000:2008] = b"\xff" * 8
    (folder / "a.avro").write_bytes(whole)
    read: list[Any] = []
    refused = 0
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        delivery = await reader.read()
        assert delivery.decoder is not None
        payloads = delivery.batch.column(VALUE)
        for index in range(len(payloads)):
            try:
                read += delivery.decoder(payloads.slice(index, 1)).to_pylist()
            except PermanentError:
                refused += 1
    assert refused == 1
    assert read[0] == rows[0]
    assert read[-1] == rows[-1]
    assert 2000 < len(read) < 3000


async def test_avro_types_come_from_its_schema(folder: Path) -> None:
    kinds = {
        "id": "long",
        "small": "int",
        "real": ["null", "double"],
        "text": ["null", "string"],
        "raw": "bytes",
        "at": {"type": "long", "logicalType": "timestamp-micros"},
        "day": {"type": "int", "logicalType": "date"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        "tags": {"type": "array", "items": "string"},
        "marks": {"type": "map", "values": "long"},
        "kind": {"type": "enum", "name": "kinds", "symbols": ["A", "B"]},
        "inner": {"type": "record", "name": "inside", "fields": [{"name": "x", "type": "float"}]},
        "number": ["null", "int", "double"],
    }
    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in kinds.items()]}
    import datetime as dt
    from decimal import Decimal

    row = {
        "id": 2**40,
        "small": 3,
        "real": None,
        "text": None,
        "raw": b"\x00\xff",
        "at": dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC),
        "day": dt.date(2024, 1, 2),
        "price": Decimal("12.34"),
        "tags": ["a"],
        "marks": {"b": 1},
        "kind": "B",
        "inner": {"x": 0.5},
        "number": 3,
    }
    (folder / "a.avro").write_bytes(avro([row], schema))
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        delivery = await reader.read()
        assert delivery.decoder is not None
        batch = delivery.decoder(delivery.batch.column(VALUE))
    assert batch.to_pylist() == [{**row, "marks": [("b", 1)], "number": 3.0}]
    assert batch.schema.field("real").type == pa.float64()
    assert batch.schema.field("small").type == pa.int32()


async def test_csv_fields_may_hold_line_breaks_and_chunks_do_not_cut_them(folder: Path) -> None:
    rows = [{"n": number, "text": f'say "{number}",\nthen stop'} for number in range(50)]
    doubled = [(row["n"], str(row["text"]).replace('"', '""')) for row in rows]
    quoted = "".join(f'{number},"{text}"\n' for number, text in doubled)
    (folder / "a.csv").write_text("n,text\n" + quoted)
    for chunk in (16, 40, 100, 1 << 20):
        assert await Reading({"path": str(folder), "chunk_size": chunk}, folder.parent).all() == rows


async def test_csv_options(folder: Path) -> None:
    (folder / "a.csv").write_text("1;a\n2;b\n")
    options = {"path": str(folder), "delimiter": ";", "header": False}
    rows = await Reading(options, folder.parent).all()
    assert rows == [{"column_1": 1, "column_2": "a"}, {"column_1": 2, "column_2": "b"}]


async def test_csv_files_with_different_headers(folder: Path) -> None:
    (folder / "a.csv").write_text("x,y\n1,2\n")
    (folder / "b.csv").write_text("y,x,x,\n3,4,5,6\n")
    rows = await Reading({"path": str(folder)}, folder.parent).all()
    assert rows == [{"x": 1, "y": 2}, {"y": 3, "x": 4, "x_2": 5, "column_4": 6}]


async def test_r7_the_schema_of_json_is_not_that_of_its_first_record(folder: Path) -> None:
    (folder / "a.json").write_text('{"n":1}\n{"n":2.5,"late":"yes"}\n')
    rows = await Reading({"path": str(folder)}, folder.parent).all()
    assert rows == [{"n": 1.0, "late": None}, {"n": 2.5, "late": "yes"}]


async def test_r9_a_codec_of_a_file_is_used(folder: Path) -> None:
    (folder / "a.log").write_text('{"n":1}\n{"n":2}\n')
    assert await Reading({"path": str(folder), "codec": "json"}, folder.parent).all() == [{"n": 1}, {"n": 2}]


async def test_length_delimited_and_whole_payloads(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"\x00\x00\x00\x01a\x00\x00\x00\x02bc")
    options = {"path": f"{folder}/*", "format": "text"}
    reading = Reading({**options, "framing": "length_delimited"}, folder.parent)
    assert await reading.all() == [b"a", b"bc"]
    whole = await Reading({**options, "framing": "whole", "chunk_size": 16}, folder.parent).all()
    assert whole == [b"\x00\x00\x00\x01a\x00\x00\x00\x02bc"]
    (folder / "a.bin").write_bytes(b"\x00\x00\x00\x01a\x00\x00\x00\x02b")
    rows = await Reading({**options, "framing": "length_delimited"}, folder.parent).all()
    assert rows[0] == b"a"
    assert "ends within a frame" in rows[1][1]


async def test_only_the_columns_that_are_read_are_decoded(folder: Path) -> None:
    rows = [{"n": 1, "unused": "x"}]
    (folder / "a.parquet").write_bytes(parquet(rows))
    (folder / "b.arrow").write_bytes(arrow(rows))
    read = await Reading({"path": str(folder)}, folder.parent).all(columns=frozenset({"n"}))
    assert read == [{"n": 1}, {"n": 1}]


async def test_a_line_longer_than_a_chunk(folder: Path) -> None:
    long = {"n": "x" * 100_000}
    (folder / "a.json").write_text(f'{{"n":"a"}}\n{json.dumps(long)}\n{{"n":"b"}}\n')
    rows = await Reading({"path": str(folder), "chunk_size": 64}, folder.parent).all()
    assert rows == [{"n": "a"}, long, {"n": "b"}]


async def test_a_bad_first_line_does_not_make_the_file_one_document(folder: Path) -> None:
    (folder / "a.json").write_text('{"n": 1\n{"n":2}\n{"n":3}\n')
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        delivery = await reader.read()
        assert delivery.batch.column(VALUE).to_pylist() == [b'{"n": 1\n', b'{"n":2}\n', b'{"n":3}\n']


async def test_elements_of_an_array_that_are_no_objects_reach_the_decoder(folder: Path) -> None:
    (folder / "a.json").write_text('[1, {"n": 2}, "three, [", null]')
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        delivery = await reader.read()
    payloads = [payload.strip() for payload in delivery.batch.column(VALUE).to_pylist()]
    assert payloads == [b"1", b'{"n": 2}', b'"three, ["', b"null"]


async def test_a_list_to_a_line_is_no_array(folder: Path) -> None:
    (folder / "a.json").write_text('[{"n":1},{"n":2}]\n[{"n":3}]\n')
    assert await Reading({"path": str(folder)}, folder.parent).all() == [{"n": 1}, {"n": 2}, {"n": 3}]


async def test_a_large_array_is_read_in_bounded_memory(folder: Path) -> None:
    row = json.dumps({"n": 1, "text": "x" * 80})
    with (folder / "a.json").open("w") as file:
        file.write("[" + ",\n ".join([row] * 300_000) + "]")
    size = (folder / "a.json").stat().st_size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        tracemalloc.start()
        while count < 300_000:
            delivery = await reader.read()
            count += delivery.batch.num_rows
            await delivery.ack()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert count == 300_000
    assert size > 28 << 20
    assert peak < 20 << 20
    assert grown < 100 << 20


async def test_positions_stay_small_and_cheap_with_many_files(folder: Path) -> None:
    files = 3000
    for number in range(files):
        (folder / f"{number:05}.json").write_text('{"n":1}\n')
    reading = Reading({"path": str(folder)}, folder.parent)
    started = time.process_time()
    async with reading.opened() as (_, reader):
        largest = 0
        for _ in range(files):
            delivery = await reader.read()
            largest = max(largest, len(delivery.positions()[next(iter(delivery.positions()))]["position"]))
            await delivery.ack()
    assert time.process_time() - started < 20
    assert largest <= 16  # files to a position, however many there are
    assert await reading.all() == []


async def test_places_of_deleted_files_are_forgotten(folder: Path) -> None:
    for number in range(200):
        (folder / f"{number}.json").write_text('{"n":1}\n')
    reading = Reading({"path": str(folder)}, folder.parent)
    await reading.all()
    for file in folder.iterdir():
        file.unlink()
    for number in range(200, 300):
        (folder / f"{number}.json").write_text('{"n":2}\n{"n":2}\n')
    assert await reading.all() == [{"n": 2}] * 200
    places = [place for saved in reading.store.positions.values() for place in saved["position"]]
    assert len(places) <= 101  # and the index


async def test_progress_counts_the_bytes_of_all_files(folder: Path) -> None:
    (folder / "a.json").write_text(LINES)
    (folder / "b.parquet").write_bytes(CONTENTS["rows.parquet"])
    total = len(LINES) + len(CONTENTS["rows.parquet"])
    async with Reading({"path": str(folder)}, folder.parent).opened() as (_, reader):
        assert (reader.progress().done, reader.progress().total) == (0, total)
        for _ in range(4):
            await (await reader.read()).ack()
        assert (reader.progress().done, reader.progress().total) == (total, total)
