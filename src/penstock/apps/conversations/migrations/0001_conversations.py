"""Make the tables of conversations.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

from penstock.platform.migration import run_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file, those of the database at hand."""
    run_statements(op.get_bind(), __file__)
