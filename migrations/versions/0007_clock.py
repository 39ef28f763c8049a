"""The database has one clock, which tests may stop.

Revision ID: 0007
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the clock; what asks for alarms asks it."""
    script = Path(__file__).with_name("0007_clock.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Remove them."""
    script = Path(__file__).with_name("0007_clock_down.sql")
    op.get_bind().exec_driver_sql(script.read_text(encoding="utf-8"))
