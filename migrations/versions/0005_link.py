"""A secret of the fleet, for links between nodes on one machine.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A database that is new gets its secret with its number of shards. Here: 244 bits of
# the operating system's randomness.
_ADD = """
ALTER TABLE durable.cluster ADD COLUMN link_secret text NOT NULL
    DEFAULT gen_random_uuid()::text || gen_random_uuid()::text;
ALTER TABLE durable.cluster ALTER COLUMN link_secret DROP DEFAULT;
"""


def upgrade() -> None:
    """Make the secret."""
    op.get_bind().exec_driver_sql(_ADD)


def downgrade() -> None:
    """Forget it."""
    op.get_bind().exec_driver_sql("ALTER TABLE durable.cluster DROP COLUMN link_secret")
