"""Keep the points in PostgreSQL by numbers, with the texts that many of them share in tables beside them.

What was received of points stays in their rows as it was; of points that come from now on, only what differs.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

from penstock.platform.migration import run_statements

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the statements that stand beside this file. SQLite keeps its table."""
    if op.get_bind().dialect.name == "postgresql":
        run_statements(op.get_bind(), __file__)
