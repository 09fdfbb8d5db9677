"""Make the table of the queries that people keep.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

from penstock.platform.migration import run_statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file, those of the database at hand."""
    run_statements(op.get_bind(), __file__)
