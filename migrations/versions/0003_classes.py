"""Classes belong to apps and can be renamed, deleted and transferred; views to look in.

Revision ID: 0003
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, the log of class migrations, the purge and the views."""
    script = Path(__file__).with_name("0003_classes.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Remove them; classes of one name in several apps don't fit the older schema."""
    script = Path(__file__).with_name("0003_classes_down.sql")
    op.get_bind().exec_driver_sql(script.read_text(encoding="utf-8"))
