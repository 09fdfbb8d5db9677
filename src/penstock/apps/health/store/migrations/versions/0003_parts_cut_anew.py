"""Store unfinished ingests from their beginning: their bodies are cut into other parts than before.

What of them is stored already is found again, and counted as unchanged.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UNFINISHED = "(SELECT id FROM health_ingests WHERE state IN ('accepted', 'processing'))"


def upgrade() -> None:
    """Forget which parts were stored, and what became of their points."""
    op.execute(f"DELETE FROM health_parts WHERE ingest_id IN {_UNFINISHED}")  # noqa: S608
    op.execute(f"DELETE FROM health_quarantine WHERE resolved_at IS NULL AND ingest_id IN {_UNFINISHED}")  # noqa: S608
    op.execute(
        "UPDATE health_ingests SET state = 'accepted', parts = 0, received = 0, stored = 0, updated = 0, "
        "unchanged = 0, quarantined = 0, types = NULL, warnings = NULL WHERE state = 'processing'"
    )
