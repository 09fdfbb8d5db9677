"""Values of every Arrow type come out of MongoDB, ClickHouse and Iceberg as they went in, or as the outputs say."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bson
import pyarrow as pa
import pyarrow.types as is_
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.outputs.mongodb.documents import documents
from penstock.testing.batches import ARROW_TYPES, batches, plain
from penstock.testing.contexts import lend_context
from penstock.testing.servers import ClickhouseServer

from . import test_clickhouse, test_iceberg

NESTED: Sequence[pa.DataType] = (
    pa.list_(pa.struct([("at", pa.timestamp("us")), ("n", pa.uint64())])),
    pa.large_list(pa.date32()),
    pa.struct([("d", pa.decimal128(9, 2)), ("l", pa.list_(pa.binary()))]),
    pa.map_(pa.int64(), pa.list_(pa.float64())),
)
TYPES = [*(kind for name, kind in ARROW_TYPES.items() if name != "timestamp_ns"), *NESTED]
SCALARS = [kind for kind in TYPES if not is_.is_nested(kind)]
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_numbers = itertools.count()


def parts(value: Any, kind: pa.DataType, convert: Any) -> Any:
    """Convert the values within a nested one; maps become dictionaries."""
    if value is None:
        return None
    if is_.is_dictionary(kind):
        return convert(value, kind.value_type)
    if is_.is_map(kind):
        return {key: convert(item, kind.item_type) for key, item in value}
    if is_.is_struct(kind):
        return {field.name: convert(value[field.name], field.type) for field in kind}
    if is_.is_list(kind) or is_.is_large_list(kind):
        return [convert(item, kind.value_type) for item in value]
    return value


def in_mongodb(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if is_.is_map(kind):
        return {str(key): in_mongodb(item, kind.item_type) for key, item in value}
    if is_.is_uint64(kind) and value >= 2**63:
        return bson.Decimal128(str(value))
    if is_.is_decimal(kind):
        return bson.Decimal128(value)
    if is_.is_date(kind):
        return bson.datetime_ms.DatetimeMS((value - _EPOCH.date()).days * 86_400_000)
    if is_.is_timestamp(kind):
        return bson.datetime_ms.DatetimeMS((value.replace(tzinfo=None) - _EPOCH) // datetime.timedelta(milliseconds=1))
    if is_.is_time(kind):
        return value
    if is_.is_duration(kind):
        return value // _MICROSECOND
    return parts(value, kind, in_mongodb)


def in_iceberg(value: Any, kind: pa.DataType) -> Any:
    if value is not None and is_.is_uint64(kind):
        return decimal.Decimal(value)
    if value is not None and is_.is_duration(kind):
        return value // _MICROSECOND
    return parts(value, kind, in_iceberg)


def expected(batch: pa.RecordBatch, convert: Any) -> list[dict[str, Any]]:
    columns = [[convert(each, field.type) for each in batch.column(field.name).to_pylist()] for field in batch.schema]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


OPTIONS = bson.codec_options.CodecOptions(datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS)


@given(batches(TYPES))
def test_documents_of_mongodb_have_the_values_of_the_rows(batch: pa.RecordBatch) -> None:
    for document, row in zip(documents(batch, decimals_as_text=False), expected(batch, in_mongodb), strict=True):
        read = bson.decode(bson.encode(document), OPTIONS)
        times = {name for name, value in row.items() if isinstance(value, datetime.time)}
        for name in times:
            read[name] = datetime.time.fromisoformat(read[name])
        assert plain_all(read) == plain_all(row)


def plain_all(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that compares: nulls are told from what is absent, -0.0 from 0.0."""
    return {name: repr(plain(value)) for name, value in row.items()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


async def write(component: Any, folder: Path, batch: pa.RecordBatch) -> None:
    async with lend_context(folder) as context, component.open(context) as writer:
        await writer.write([batch])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches([*SCALARS, *NESTED[:3]], max_columns=12))
def test_tables_of_iceberg_have_the_values_of_the_rows(lake: Path, batch: pa.RecordBatch) -> None:
    component = test_iceberg.writing(lake, table_name=f"tests.t{next(_numbers)}")
    asyncio.run(write(component, lake, batch))
    found = test_iceberg.table_of(component).scan().to_arrow().to_pylist()
    assert list(map(plain_all, found)) == list(map(plain_all, expected(batch, in_iceberg)))


CLICKHOUSE = [kind for kind in SCALARS if not (is_.is_date(kind) or is_.is_timestamp(kind) or is_.is_duration(kind))]


@pytest.mark.server
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_tables_of_clickhouse_have_the_values_of_the_rows(
    shared_clickhouse_server: ClickhouseServer, lake: Path, data: st.DataObject
) -> None:
    batch = data.draw(batches(CLICKHOUSE, max_columns=12, finite=False))
    table = f"values_{next(_numbers)}"
    numbered = batch.append_column("Row", pa.array(range(batch.num_rows)))
    asyncio.run(write(test_clickhouse.writing(shared_clickhouse_server, table), lake, numbered))
    found = test_clickhouse.read(shared_clickhouse_server, f"(SELECT * FROM {table} ORDER BY `Row`)")
    wanted = [{**row, "Row": at} for at, row in enumerate(expected(batch, lambda value, kind: value))]
    assert list(map(in_clickhouse, found)) == list(map(in_clickhouse, wanted))


def in_clickhouse(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that compares: ClickHouse has one type for texts and bytes, and leaves nulls out."""
    return plain_all(
        {
            name: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            for name, value in row.items()
            if value is not None
        }
    )
