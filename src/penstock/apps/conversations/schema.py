"""The tables of conversations, for SQLite and PostgreSQL alike: the one definition of them for statements."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from ...platform.columns import SERIAL, Key, Moment

OWNER = "conversations"
"""The schema of PostgreSQL, and the end of the name of the SQLite file, in which the tables are."""
SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "conversations_schema_version"

metadata = MetaData()

files = Table(
    "conversations_files",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("host", Key, nullable=False),
    Column("path", Key, nullable=False),
    Column("name", Key, nullable=False),  # the last part of the path
    Column("same_as", SERIAL),  # the file that holds its lines, where it is a copy of one
    Column("owner", Text, nullable=False),  # the person whose agent wrote it
    Column("project", Key, nullable=False),
    Column("generation", Integer, nullable=False, default=0),  # how often it was written anew
    Column("last_row", BigInteger, nullable=False, default=-1),  # of this generation
    UniqueConstraint("host", "path"),
)

lines = Table(
    "conversations_lines",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("file_id", SERIAL, nullable=False),
    Column("generation", Integer, nullable=False),  # in which it was last there
    Column("row", BigInteger, nullable=False),  # its place among the lines of the file
    Column("digest", LargeBinary, nullable=False),
    Column("type", Key, nullable=False),
    Column("subtype", Text, nullable=False),
    Column("kind", Key, nullable=False),
    Column("uuid", Key),
    Column("parent", Key),
    Column("session", Key),
    Column("agent", Key),
    Column("is_sidechain", Boolean, nullable=False),
    Column("at", Moment, nullable=False),
    Column("read_at", Moment, nullable=False),
    Column("is_at_given", Boolean, nullable=False),  # else `at` is that of the line before, or when it was read
    Column("model", Text),
    Column("tools", Text),  # the tools it calls, each between spaces
    Column("paths", Text),  # the files that these read or change, each between line breaks
    Column("leaf", Key),  # of a summary that no session has claimed yet
    Column("text", Text, nullable=False),  # what is searched
    Column("line", LargeBinary, nullable=False),  # byte for byte
)

sessions = Table(
    "conversations_sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("host", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("cwd", Text),
    Column("branch", Text),
    Column("version", Text),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("prompts", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),
    Column("title", Text),
    Column("title_rank", SmallInteger, nullable=False),
    Column("title_at", Moment),
)

responses = Table(
    "conversations_responses",
    metadata,
    Column("key", Key, primary_key=True),  # of the message and the request
    Column("message", Key),
    Column("session", Key),
    Column("project", Key, nullable=False),
    Column("at", Moment, nullable=False),
    Column("model", Text),
    Column("is_sidechain", Boolean, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("cache_write_5m", BigInteger, nullable=False),
    Column("cache_write_1h", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cost_usd", Float),
)

calls = Table(
    "conversations_calls",
    metadata,
    Column("id", Key, primary_key=True),
    Column("session", Key),
    Column("project", Key),
    Column("name", Key),  # none as long as only the result is there
    Column("called_at", Moment),
    Column("ended_at", Moment),
    Column("is_error", Boolean),
    Column("path", Text),  # the file that it reads or changes
    Column("added", BigInteger),  # lines of files; of the result where it says so, else of the arguments
    Column("removed", BigInteger),
)

drift = Table(
    "conversations_drift",
    metadata,
    Column("what", Key, primary_key=True),
    Column("name", Key, primary_key=True),
    Column("lines", BigInteger, nullable=False),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("version", Text),  # of the agent, in the latest line
    Column("session", Key),  # of the latest line
)
