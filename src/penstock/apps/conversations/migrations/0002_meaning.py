"""Add what tools changed, what is not known of the format, and an index by time.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

from penstock.platform.migration import run_statements

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file, those of the database at hand."""
    run_statements(op.get_bind(), __file__)
