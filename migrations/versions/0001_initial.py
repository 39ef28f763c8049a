"""The tables, and the functions that claim, fence, load and commit.

Revision ID: 0001
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create schema ``durable`` from empty."""
    script = Path(__file__).with_name("0001_initial.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Drop all of it: there is nothing before the first revision."""
    op.execute("DROP SCHEMA durable CASCADE")
