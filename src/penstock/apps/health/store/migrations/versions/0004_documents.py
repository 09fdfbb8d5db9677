"""Keep JSON as jsonb in PostgreSQL, and let parts and quarantine refer to their ingests.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

from penstock.platform.migration import run_statements

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file. In SQLite JSON is a text, and nothing changes."""
    if op.get_bind().dialect.name == "postgresql":
        run_statements(op.get_bind(), __file__)
