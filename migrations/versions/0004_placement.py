"""Nodes have weights, roles and link addresses; a claim tells what it replaced.

Revision ID: 0004
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; claims return the claim id before theirs."""
    script = Path(__file__).with_name("0004_placement.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Remove them."""
    script = Path(__file__).with_name("0004_placement_down.sql")
    op.get_bind().exec_driver_sql(script.read_text(encoding="utf-8"))
