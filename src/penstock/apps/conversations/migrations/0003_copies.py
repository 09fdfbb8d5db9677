"""Note which files are copies of others, as those in archives are.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from pathlib import PurePath

from alembic import op
from sqlalchemy import text

from penstock.platform.migration import run_statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file, and name the files that are known."""
    connection = op.get_bind()
    run_statements(connection, __file__)
    named = text("UPDATE conversations_files SET name = :name WHERE id = :id")
    for id, path in connection.execute(text("SELECT id, path FROM conversations_files")).all():
        connection.execute(named, {"id": id, "name": PurePath(path).name})
