"""Know the period of a point and which share of it counts, and keep the priority of sources.

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
    """Run the statements that stand beside this file; the store then counts what is there, see ``store.counting``."""
    run_statements(op.get_bind(), __file__)
