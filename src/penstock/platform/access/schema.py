"""The tables of users, keys, sessions, saved queries and the audit."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

from ..columns import SERIAL, Moment

SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "penstock_schema_version"
OWNER = "platform"
"""Whose tables they are: the schema of PostgreSQL, or the file of SQLite, of that name."""

metadata = MetaData()
users = Table(
    "penstock_users",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

keys = Table(
    "penstock_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", ForeignKey("penstock_users.id"), nullable=False, index=True),
    Column("prefix", Text, nullable=False, unique=True),  # how the key begins: pen_1a2b3c4d
    Column("hash", Text, nullable=False),  # Argon2id
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # JSON list: ["health.ingest", "inbox.send"]
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    Column("replaced_by", Text),  # the key that a rotation made
    Column("limits", Text),  # JSON: {"health.ingest": {"requests": ..}, ..}, in place of those of the scopes
)

sessions = Table(
    "penstock_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", ForeignKey("penstock_users.id"), nullable=False),
    Column("hash", Text, nullable=False, unique=True),  # SHA-256 of the token
    Column("key_id", ForeignKey("penstock_keys.id")),  # the key it was begun with, and ends with
    Column("scopes", Text, nullable=False),  # JSON list
    Column("created_at", Moment, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    Column("idle_ttl", Integer, nullable=False),  # seconds
    Column("expires_at", Moment, nullable=False),
    Column("revoked_at", Moment),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
)

links = Table(
    "penstock_links",
    metadata,
    Column("hash", Text, primary_key=True),  # SHA-256 of the token
    Column("user_id", ForeignKey("penstock_users.id"), nullable=False),
    Column("scopes", Text, nullable=False),  # JSON list
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
)

queries = Table(
    "penstock_queries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", ForeignKey("penstock_users.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("place", Text, nullable=False),  # the database it is about
    Column("sql", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("user_id", "name"),
)

audit = Table(
    "penstock_audit",
    metadata,
    Column("id", Text, primary_key=True),  # a UUID of version 7
    Column("time", Moment, nullable=False),
    Column("user_id", SERIAL),
    Column("key_id", Text),
    Column("action", Text, nullable=False),  # authentication_success, ingest_accepted, api_key_created ...
    Column("outcome", Text, nullable=False),  # success, refused, failed
    Column("resource", Text),
    Column("address", Text),
    Column("user_agent", Text),
    Column("request_id", Text),
    Column("details", Text),  # JSON
    Index("penstock_audit_user", "user_id", "time"),
    Index("penstock_audit_time", "time"),
)
