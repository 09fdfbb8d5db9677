"""Make the tables.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file, those of the database at hand."""
    file = Path(__file__).with_suffix(f".{op.get_bind().dialect.name}.sql")
    for statement in file.read_text().split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
