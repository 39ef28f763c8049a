"""A secret of the fleet, for links between nodes on one machine.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# gen_random_uuid() is made of random bytes of the operating system: 244 bits in all.
_ADD = """
ALTER TABLE durable.cluster ADD COLUMN link_secret text NOT NULL
    DEFAULT gen_random_uuid()::text || gen_random_uuid()::text
"""


def upgrade() -> None:
    """Make the secret."""
    op.get_bind().exec_driver_sql(_ADD)


def downgrade() -> None:
    """Forget it."""
    op.get_bind().exec_driver_sql("ALTER TABLE durable.cluster DROP COLUMN link_secret")
