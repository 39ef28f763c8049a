"""Views of what agents plan: schedules, queue, dead letters; an index for them.

Revision ID: 0006
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index and the views."""
    script = Path(__file__).with_name("0006_work.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Remove them."""
    op.get_bind().exec_driver_sql(
        "DROP VIEW durable.schedules, durable.queue, durable.dead_letters;"
        "DROP INDEX durable.kv_of_work"
    )
