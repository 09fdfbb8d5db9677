"""What Alembic runs to bring the tables up to date, over the connection it is lent."""

from __future__ import annotations

from alembic import context

from penstock.apps.health.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="health_schema_version",
)
with context.begin_transaction():
    context.run_migrations()
