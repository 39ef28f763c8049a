"""Wakes after an owner fell are written down; who takes owners down is put aside.

Revision ID: 0008
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of trials, its functions and the view of what is quarantined."""
    script = Path(__file__).with_name("0008_trials.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Remove them; what was quarantined is woken again."""
    op.get_bind().exec_driver_sql(
        "DROP VIEW durable.quarantine;"
        "DROP FUNCTION durable.begin_trials(integer[], uuid[]);"
        "DROP FUNCTION durable.end_trials(integer[], uuid[]);"
        "DROP TABLE durable.trial"
    )
