"""All cases, in the order of the table."""

from __future__ import annotations

from . import (
    brokers,
    console,
    conversations,
    file_jobs,
    generated,
    health,
    http_ingest,
    joins,
    kafka,
    messages,
    nexmark,
    postgres_cdc,
    sinks,
    sql_batches,
    sql_output,
    start_up,
    windows,
    write_ahead_log,
)
from .case import Case

_MODULES = (
    file_jobs,
    generated,
    windows,
    joins,
    nexmark,
    http_ingest,
    sql_output,
    sql_batches,
    messages,
    postgres_cdc,
    brokers,
    sinks,
    kafka,
    write_ahead_log,
    start_up,
    health,
    conversations,
    console,
)
CASES: dict[str, Case] = {case.name: case for module in _MODULES for case in module.CASES}
